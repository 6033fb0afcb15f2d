"""Salvages what is left of a damaged checkpoint.

A column of which every cell, entry, part and name can be read is as good as before. In any other column what can be
read is true, as it was durable once. But claiming the column's version would hide what can't be read. So that is
detached (see detached_deltas.py), behind a gap that reaches up to that version. The same is done with a delta that was
detached already and lacks a piece.

A column lacks the entries that settlements have covered. It is only whole together with these settlements: where no
other node knows them, its version would claim ids that are neither entries nor parts here. So it is detached, too, if
the column of an incarnation that has settled it is. So are the columns of others that have settled the same column, as
they may cover ids that were counted for another column. A delta that was detached already may lack such ids as well.

A crash may have left older checkpoints and segments that the damaged checkpoint covers. What is whole in them is
joined, too, because nothing reads them after the repair and the next start removes them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from gcount.core.format.checkpoint import (
    Capture,
    Cells,
    Detached,
    Entries,
    Head,
    Names,
    Parts,
    Record,
    decode_record,
    encode_record,
    span,
)
from gcount.core.format.frames import MARK, read_frame
from gcount.core.format.log_records import CHECKPOINT_MAGIC, Header, decode_header
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.detached_deltas import remainder
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.replica import Replica


class CheckpointSalvage:
    """All that can be read of a damaged checkpoint.

    Args:
        data: the bytes of the whole file.

    Attributes:
        header: None if it can't be read.
        identity: the identity of the node that wrote it; None if no record says it.
        next_batch: the first batch that the checkpoint does not hold; a lower bound if only the header says it.
        knows_reach: whether `next_batch` is exact, or nothing is left that could have come after it. Otherwise the
            checkpoint may hold later batches.
        covered: what is left of older files that it covers, the oldest first. The caller fills it.
    """

    def __init__(self, data: bytes) -> None:
        self._heads: list[Head] = []
        self._names: dict[int, str] = {}
        self._cells: dict[bytes, dict[int, Cells]] = {}  # by incarnation and first index
        self._entries: dict[bytes, dict[int, Entries]] = {}  # the same
        self._parts: dict[tuple[bytes, bytes], dict[int, Parts]] = {}  # by settler and column, and first place
        self._detached: dict[tuple[bytes, int, int], _Pieces] = {}
        for record in _find_records(data):
            self._take(record)
        self.covered: list[Batch] = []
        self.header = _header(data)
        self.identity = self._heads[0].identity if self._heads else None
        self.next_batch = self._heads[0].next_batch if self._heads else 1
        self.knows_reach = bool(self._heads) or not (self._cells or self._entries or self._parts or self._detached)
        if self.header is not None and not self._heads:
            self.identity = Identity(self.header.node, self.header.incarnation)
            self.next_batch = self.header.first_batch

    def batch(self) -> Batch:
        """All that is left of the checkpoint itself, as one batch."""
        head, whole = self._heads[-1] if self._heads else None, self._whole()
        incarnations = dict.fromkeys([*self._cells, *self._entries, *(settler for settler, _ in self._parts)])
        deltas = [self._column(each, whole=each in whole) for each in incarnations]
        settled = head is not None and all(settler in whole for settler, _ in head.settlers)
        deltas += [pieces.delta(settled=settled) for pieces in self._detached.values()]
        membership, floor = (head.membership, head.floor) if head else (None, None)
        return Batch(self.next_batch - 1, deltas, self.identity, membership, floor)

    def fill(self, replica: Replica) -> None:
        """Join all that is left to a blank replica."""
        for batch in (*self.covered, self.batch()):
            replica.apply(batch)

    def _whole(self) -> set[bytes]:
        """The incarnations of whose columns all is left. Only the head says what there was."""
        if not self._heads:
            return set()
        head, settled = self._heads[0], Counter(settler for settler, _ in self._parts)
        if any(settled[settler] != count for settler, count in head.settlers):
            return set()  # nobody knows which columns were settled there
        left = {
            incarnation
            for incarnation, version, length in head.columns
            if self._named(self._cells.get(incarnation, {}))[1] == length
            and (incarnation not in head.holders or _is_whole(self._entries.get(incarnation, {})))
        }
        for (settler, _), records in self._parts.items():
            if self._named(records)[1] != next(iter(records.values())).length:
                left.discard(settler)
        while broken := left & self._resting_on_lost(left):
            left -= broken
        return left

    def _resting_on_lost(self, left: set[bytes]) -> set[bytes]:
        """The columns of which a settlement is lost, and those that have settled them again."""
        lost = {column for settler, column in self._parts if settler not in left}
        return lost | {settler for settler, column in self._parts if column in lost}

    def _column(self, incarnation: bytes, *, whole: bool) -> Delta:
        """A column as a delta: from version 0 if it is whole, else a remainder of that."""
        cells, entries = self._cells.get(incarnation, {}), self._entries.get(incarnation, {})
        keyed = Keyed()
        for record in entries.values():
            keyed.entries.update({key: (total, version) for key, total, version in record.entries})
        versions = [record.version for record in cells.values()] + [record.version for record in entries.values()]
        for (settler, column), records in self._parts.items():
            if settler == incarnation:
                some = next(iter(records.values()))
                versions.append(some.version)
                keyed.settled[column] = Settlement(some.until, some.upto, self._named(records)[0])
        found = Delta(incarnation, 0, max(versions), self._named(cells)[0], keyed or None)
        return found if whole else remainder(found)

    def _named(self, records: Mapping[int, Cells | Parts]) -> tuple[dict[str, int], int]:
        """The numbers above 0 by name; and how many words there are, or -1 if one or a name is known to be missing."""
        found, end, whole = dict[str, int](), 0, bool(records)
        for first in sorted(records):
            whole = whole and first == end
            end = first + records[first].count
            words = records[first].words()
            for index, n in zip(words.indexes or range(first, end), words.cells, strict=True):
                name = self._names.get(index)
                if n and name is not None:
                    found[name] = n
                whole = whole and (name is not None or not n)
        return found, end if whole else -1

    def _take(self, record: Record) -> None:
        match record:
            case Head():
                self._heads.append(record)
            case Names():
                self._names.update(enumerate(record.names, start=record.first))
            case Cells():
                self._cells.setdefault(record.incarnation, {})[record.first] = record
            case Entries():
                self._entries.setdefault(record.incarnation, {})[record.first] = record
            case Parts():
                self._parts.setdefault((record.settler, record.column), {})[record.first] = record
            case Detached():
                for piece, size in record.sized():
                    self._detached.setdefault(span(piece), _Pieces(piece)).add(piece, size)


class _Pieces:
    """The pieces of one detached delta that are left.

    Args:
        piece: any piece of it.
    """

    def __init__(self, piece: Delta) -> None:
        self._incarnation, self._after, self._upto = span(piece)
        self._cells: dict[str, int] = {}
        self._keyed = Keyed()
        self._size: int | None = None

    def add(self, piece: Delta, size: int | None) -> None:
        """Take one more piece, and the size of the whole delta if the checkpoint says it."""
        self._cells.update(piece.cells)
        if piece.keyed is not None:
            self._keyed.merge(piece.keyed)
        self._size = size

    def delta(self, *, settled: bool) -> Delta:
        """The delta as it was if it is whole, else a remainder of it.

        Args:
            settled: whether all settlements are left, which it may need.
        """
        found = Delta(self._incarnation, self._after, self._upto, self._cells, self._keyed or None)
        return found if settled and found.size == self._size else remainder(found)


def _is_whole(records: Mapping[int, Entries]) -> bool:
    """Whether these are all records of a column's entries."""
    end, last = 0, False
    for first in sorted(records):
        if last or first != end:
            return False
        end, last = first + len(records[first].entries), records[first].last
    return last


def rebuilt(salvage: CheckpointSalvage, live: Header, next_batch: int, options: Options = DEFAULTS) -> bytes:
    """The bytes of a whole checkpoint that holds what is left of a damaged one.

    Args:
        salvage: what is left.
        live: the header of the segment with which the log will go on.
        next_batch: the number of the batch that will follow in the log.
        options: sizes of the records.
    """
    replica = Replica(Identity(live.node, live.incarnation), 0, options)
    salvage.fill(replica)
    replica.next_batch = min(replica.next_batch, next_batch)
    capture = Capture(replica, live)
    return capture.header.encode(CHECKPOINT_MAGIC) + b"".join(encode_record(record) for record in capture.records())


def _header(data: bytes) -> Header | None:
    try:
        return decode_header(data, CHECKPOINT_MAGIC)
    except ValueError:
        return None


def _find_records(data: bytes) -> Iterator[Record]:
    offset = data.find(MARK)
    while offset >= 0:
        try:
            payload, end = read_frame(data, offset)
            record = decode_record(payload)
            if isinstance(record, Cells | Parts):
                record.words()
        except ValueError:
            offset = data.find(MARK, offset + 1)
            continue
        yield record
        offset = data.find(MARK, end)
