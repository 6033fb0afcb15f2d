"""Rot: bytes of a directory's files change. Which records are still whole is known from the files as they were before.

Nothing here uses the code that reads damaged files. The files are read while they are intact. A record is lost if one
of its bytes changes; otherwise it is whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from gcount.core.format.checkpoint import Cells, Detached, Entries, Head, Names, Parts, Record, decode_record
from gcount.core.format.frames import MARK, read_frame
from gcount.core.format.log_records import CHECKPOINT_MAGIC, HEADER_BYTES, Scan, decode_header
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.keyed import Keyed, Settlement
from gcount.storage.checkpoints import SUFFIX as CHECKPOINT_SUFFIX
from gcount.storage.log import SUFFIX, sequence_of
from tests.simulation.campaign.recorder import read_by_a_start

Files = dict[str, bytes]
Hits = dict[str, set[int]]
"""The offsets of the bytes that rot, by file."""


@dataclass
class Left:
    """What is still whole after rot.

    Args:
        batches: the whole batches, in the order in which a start reads them. What is left of a checkpoint is one.
        lives: the incarnations that whole records name as this node's.
        damaged: whether anything is lost that a start reads, also a header.
        torn: whether only the newest batches are lost, so that a start takes the damage for a torn tail.
    """

    batches: list[Batch] = field(default_factory=list)
    lives: set[bytes] = field(default_factory=set)
    damaged: bool = False
    torn: bool = False


def some_hits(files: Files, random: Random) -> Hits:
    """Choose some bytes of files that a start reads, rarely of others: many or few, near to each other or not."""
    read = read_by_a_start(files)
    hits: Hits = {}
    for _ in range(random.choice((1, 1, 2, 3))):
        late = random.random() < 0.5  # near the newest batches, which no other node has
        name = read[-1] if late else random.choice(read if random.random() < 0.9 else sorted(files))
        if not files[name]:
            continue
        first, end = (len(files[name]) // 2 if late else 0), len(files[name])
        start = random.randrange(first, end) if random.random() < 0.92 else random.randrange(HEADER_BYTES) % end
        length = random.choice((1, 1, 4, 60, 60 if late else 400))
        hits.setdefault(name, set()).update(range(start, min(start + length, len(files[name]))))
    return hits


def rotten(data: bytes, hits: set[int], random: Random) -> bytes:
    """A file's bytes after some of them have rotted."""
    changed = bytearray(data)
    for offset in sorted(hits):
        changed[offset] ^= random.randint(1, 255)
    return bytes(changed)


def left_of(files: Files, hits: Hits) -> Left:
    """What is still whole when some bytes of an intact directory rot."""
    names = read_by_a_start(files)
    checkpoint_rots = bool(names) and not names[0].endswith(SUFFIX) and bool(hits.get(names[0]))
    left = _covered(files, hits, names) if checkpoint_rots else Left()
    for name in names:
        hit = hits.get(name, set())
        if name.endswith(SUFFIX):
            _segment(left, files[name], hit, live=name == names[-1])
        else:
            _checkpoint(left, files[name], hit)
    return left


def _covered(files: Files, hits: Hits, read: list[str]) -> Left:
    """What is whole in files that a checkpoint covers and a crash has left: a start ignores them, a repair does not."""
    left = Left()
    for name in sorted(files.keys() - set(read)):
        with suppress(ValueError):  # it has rotted before, and no start has read it
            if sequence_of(name):
                _segment(left, files[name], hits.get(name, set()), live=False)
            elif sequence_of(name, CHECKPOINT_SUFFIX):
                _checkpoint(left, files[name], hits.get(name, set()))
    return Left(left.batches, left.lives)


def batches_in(data: bytes) -> Iterator[tuple[int, int, Batch]]:
    """Each batch of an intact segment, with the offsets of its beginning and its end."""
    scan, start = Scan(data, decode_header(data).first_batch), HEADER_BYTES
    for batch in scan:
        yield start, scan.end, batch
        start = scan.end


def _touches(hits: set[int], start: int, end: int) -> bool:
    return any(start <= offset < end for offset in hits)


def _segment(left: Left, data: bytes, hits: set[int], *, live: bool) -> None:
    if _touches(hits, 0, HEADER_BYTES):
        left.damaged = True
    else:
        left.lives.add(decode_header(data).incarnation)
    before, first_lost, whole_behind = left.damaged, False, False
    for start, end, batch in batches_in(data):
        if _touches(hits, start, end):
            left.damaged = first_lost = True
            continue
        whole_behind = whole_behind or first_lost
        left.batches.append(batch)
        if batch.identity is not None:
            left.lives.update((batch.identity.incarnation, *batch.identity.retired))
    left.torn = live and first_lost and not whole_behind and not before


def _checkpoint(left: Left, data: bytes, hits: set[int]) -> None:
    left.damaged = left.damaged or bool(hits)
    if not _touches(hits, 0, HEADER_BYTES):
        left.lives.add(decode_header(data, CHECKPOINT_MAGIC).incarnation)
    columns = Columns()
    detached: dict[tuple[bytes, int, int], list[Delta | None]] = {}  # the pieces of each delta; None: lost
    offset = data.find(MARK, HEADER_BYTES)
    while offset >= 0:
        payload, end = read_frame(data, offset)
        record, whole = decode_record(payload), not _touches(hits, offset, end)
        offset = data.find(MARK, end)
        if isinstance(record, Detached):
            for piece in record.deltas:
                pieces = detached.setdefault((piece.incarnation, piece.after, piece.upto), [])
                pieces.append(piece if whole else None)
        elif whole:
            columns.take(record)
        else:
            columns.lose(record)
    if columns.head is not None:
        left.lives.update((columns.head.identity.incarnation, *columns.head.identity.retired))
    deltas = columns.deltas()
    for delta, pieces in detached.items():
        if None not in pieces:
            who, after, upto = delta
            cells, keyed = dict[str, int](), Keyed()
            for piece in filter(None, pieces):
                cells |= piece.cells
                keyed.merge(piece.keyed or Keyed())
            deltas.append(Delta(who, after if columns.has_settlements else upto, upto, cells, keyed or None))
    left.batches.append(Batch(0, deltas))


@dataclass
class Columns:
    """The columns of a checkpoint of which some records are lost."""

    head: Head | None = None
    names: dict[int, str] = field(default_factory=dict)
    cells: dict[bytes, list[Cells]] = field(default_factory=dict)
    entries: dict[bytes, list[Entries]] = field(default_factory=dict)
    parts: dict[tuple[bytes, bytes], list[Parts]] = field(default_factory=dict)  # by settler and column
    broken: set[bytes] = field(default_factory=set)  # incarnations of which a record or a name is lost
    lost: set[tuple[bytes, bytes]] = field(default_factory=set)  # settlers and columns of which parts are lost

    def take(self, record: Record) -> None:
        """Take a record that is whole."""
        match record:
            case Head():
                self.head = record
            case Names():
                self.names.update(enumerate(record.names, start=record.first))
            case Cells():
                self.cells.setdefault(record.incarnation, []).append(record)
            case Entries():
                self.entries.setdefault(record.incarnation, []).append(record)
            case Parts():
                self.parts.setdefault((record.settler, record.column), []).append(record)

    def lose(self, record: Record) -> None:
        """Note a record that is lost."""
        match record:
            case Cells() | Entries():
                self.broken.add(record.incarnation)
            case Parts():
                self.broken.add(record.settler)
                self.lost.add((record.settler, record.column))

    def deltas(self) -> list[Delta]:
        """Each column as a delta from version 0 on. If a part of it is lost, the rest is one delta behind a gap."""
        cells = {who: self._named(records, who) for who, records in self.cells.items()}
        keyed: defaultdict[bytes, Keyed] = defaultdict(Keyed)
        versions = {who: records[0].version for who, records in (self.cells | self.entries).items()}
        for who, entries in self.entries.items():
            keyed[who].entries.update((key, (n, version)) for record in entries for key, n, version in record.entries)
        for (who, column), parts in self.parts.items():
            keyed[who].settled[column] = Settlement(parts[0].until, parts[0].upto, self._named(parts, who))
            versions[who] = max(parts[0].version, versions.get(who, 0))
        self._break()
        return [
            Delta(who, version if who in self.broken else 0, version, cells.get(who, {}), keyed[who] or None)
            for who, version in versions.items()
        ]

    @property
    def has_settlements(self) -> bool:
        """Whether all settlements are left, once `deltas` was called. A delta behind a gap may lack what they cover."""
        return self.head is not None and not self.broken & {settler for settler, _ in self.head.settlers}

    def _named(self, records: Sequence[Cells | Parts], who: bytes) -> dict[str, int]:
        named: dict[str, int] = {}
        for piece in records:
            indexes, words, _ = piece.words()
            for index, n in zip(indexes or range(piece.first, piece.first + piece.count), words, strict=True):
                if n and index in self.names:
                    named[self.names[index]] = n
                elif n:
                    self.broken.add(who)
        return named

    def _break(self) -> None:
        """A column lacks what is settled: without the settlement, it is not whole either.

        Nor is one that has settled the same column, as it may not have counted these ids.
        """
        if self.head is None or self.lost - self.parts.keys():  # which columns were settled is not known any more
            self.broken |= self.cells.keys() | self.entries.keys() | {settler for settler, _ in self.parts}
        more = self.broken
        while more:
            settled = {column for settler, column in self.parts if settler in self.broken}
            again = {settler for settler, column in self.parts if column in settled}
            more = (settled | again) - self.broken
            self.broken |= more
