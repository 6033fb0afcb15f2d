"""Checkpoints: the whole state of a replica at one instant, captured in records while the replica goes on changing.

    checkpoint = header | frame | frame | ...           (header and frames as in a segment, see log_records.py)
    payloads   = head, names ..., cells ..., entries ..., parts ..., detached ..., end          in this order

A checkpoint is exact: it holds each column at its version, to the cell and to the entry. So it is equal to whole deltas
from version 0, and the rest of the log is joined to it as always, also where rot left gaps in that log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, repeat

import msgspec

from gcount.core.format.chunks import pack
from gcount.core.format.frames import frame
from gcount.core.format.log_records import Header
from gcount.core.format.words import Words, pieces, unpack
from gcount.core.state.buckets import Shared
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica

_NAME_GUESS = 32  # bytes of a name and its head, for an estimate of the size
_ENTRY_GUESS = 80  # bytes of a key, its total and its version


class Head(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first record: what the checkpoint holds.

    Args:
        next_batch: the number of the first batch that the checkpoint does not hold. All batches before it had been
            synced.
        identity: the identity of the node that wrote it.
        membership: the node's membership at that instant.
        names: the number of counters.
        columns: for each incarnation its id, its version, and the number of cells in its column, zeros included.
        floor: the node takes no id with a time up to here any more; None while ids were not in use.
        holders: the incarnations of which there are entries.
        settlers: for each incarnation that has settled anything, its id and of how many columns.
    """

    next_batch: int
    identity: Identity
    membership: Membership
    names: int
    columns: list[tuple[bytes, int, int]]
    floor: int | None = None
    holders: list[bytes] = []
    settlers: list[tuple[bytes, int]] = []


class Names(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The next names, in the order in which they became known.

    Args:
        first: the index of the first name.
        names: the names.
    """

    first: int
    names: list[str]


class Cells(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The next cells of a column (see columns.py).

    Args:
        incarnation: the incarnation of the column.
        version: the version of the whole column.
        first: the place of the first cell.
        count: the number of cells.
        cells: the cells as 64-bit words, little endian; empty when all of them are 0.
        stamps: the versions of their last changes, in the same form.
        indexes: the indexes of a sparse column, in the same form; empty for a dense one, where they equal the places.
    """

    incarnation: bytes
    version: int
    first: int
    count: int
    cells: bytes
    stamps: bytes
    indexes: bytes = b""

    def words(self) -> Words:
        """Indexes (none for a dense column), cells and stamps.

        Raises:
            ValueError: their number is not `count`.
        """
        return unpack(self.count, self.indexes, self.cells, self.stamps)


class Entries(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The next entries of a column (see entries.py).

    Args:
        incarnation: the incarnation of the column.
        version: the version of the whole column.
        first: how many entries of the column are in records before.
        last: whether this is the column's last record of this kind.
        entries: key, total and version of each entry.
    """

    incarnation: bytes
    version: int
    first: int
    last: bool
    entries: list[tuple[str, int, int]]


class Parts(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The next parts of what one incarnation has settled of the column of another one (see settlements.py).

    Args:
        settler: the incarnation that has settled.
        column: the incarnation of the column that was settled.
        until: up to which time of ids.
        upto: up to which version of the column.
        version: the settler's version at its last change of this.
        length: the number of all parts of it, zeros included.
        first: the place of the first part.
        count: the number of parts.
        parts: the parts, in the form of a column's cells.
        stamps: the settler's versions at their last changes, in the same form.
        indexes: as of a column's cells.
    """

    settler: bytes
    column: bytes
    until: int
    upto: int
    version: int
    length: int
    first: int
    count: int
    parts: bytes
    stamps: bytes
    indexes: bytes = b""

    def words(self) -> Words:
        """Indexes (none if they equal the places), parts and stamps.

        Raises:
            ValueError: their number is not `count`.
        """
        return unpack(self.count, self.indexes, self.parts, self.stamps)


class Detached(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Pieces of detached deltas (see detached_deltas.py).

    Args:
        deltas: the next pieces. A delta may be cut into several pieces in records that follow each other.
        sizes: for each piece the size of its whole delta, from which a repair sees whether all pieces are left. Empty
            in checkpoints of former versions.
    """

    deltas: list[Delta]
    sizes: list[int] = []

    def sized(self) -> Iterator[tuple[Delta, int | None]]:
        """Each piece with the size of its whole delta; None where the checkpoint does not say it."""
        return zip(self.deltas, self.sizes or repeat(None, len(self.deltas)), strict=True)


class End(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The last record; without it the checkpoint is cut off.

    Args:
        records: the number of records before it.
        names: the number of names in them.
        cells: the number of cells in them, zeros included.
        entries: the number of entries in them.
        parts: the number of parts in them, zeros included.
    """

    records: int
    names: int
    cells: int
    entries: int = 0
    parts: int = 0


Record = Head | Names | Cells | Entries | Parts | Detached | End

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """A record in its frame."""
    return frame(_encoder.encode(record))


def decode_record(payload: bytes) -> Record:
    """The record in the payload of a frame.

    Raises:
        ValueError: the payload is none of the records.
    """
    record: Record = _decoder.decode(payload)  # msgspec's errors are ValueErrors
    if isinstance(record, Head) and not record.identity.valid():
        raise ValueError("a record holds an identity of a wrong length")
    if isinstance(record, Detached) and len(record.sizes) not in (0, len(record.deltas)):
        raise ValueError(f"{len(record.sizes)} sizes were found where {len(record.deltas)} were expected")
    return record


class Capture:
    """The state of a replica at the instant of the call.

    Args:
        replica: may go on changing meanwhile. It can have only one capture at a time.
        live: the header of a segment. This segment and all later ones hold every batch that the replica lacks now.
    """

    def __init__(self, replica: Replica, live: Header) -> None:
        self._options = replica.options
        self._counters = replica.counters
        self._columns = replica.counters.freeze()
        self._entries = replica.counters.entries.share()
        self._settled = replica.counters.settlements.freeze()
        self._detached = replica.detached.deltas()
        self.header = Header(replica.identity.node, replica.identity.incarnation, live.sequence, live.first_batch)
        self.head = Head(
            replica.next_batch,
            replica.identity,
            replica.membership,
            len(replica.counters),
            [(incarnation, column.version, column.length) for incarnation, column in self._columns.items()],
            replica.floor,
            replica.counters.entries.holders,
            [*Counter(one.settler for one in self._settled).items()],
        )

    @property
    def guess(self) -> int:
        """An estimate of the checkpoint's size, in bytes."""
        detached = sum(delta.size for delta in self._detached)
        columns = [*self._columns.values(), *(one.parts for one in self._settled)]
        words = sum((3 if column.sparse else 2) * column.length for column in columns)
        return (self.head.names + detached) * _NAME_GUESS + len(self._entries) * _ENTRY_GUESS + 8 * words

    def close(self) -> None:
        """Release what was frozen. Nothing may be read from the capture afterwards."""
        self._counters.thaw()
        self._counters.settlements.thaw()
        self._entries = Shared([])

    def records(self) -> Iterator[Record]:
        """All records, without the header. Each one is made when it is asked for."""
        records, counts = 0, Counter[type]()
        for record in chain([self.head], self._names(), self._cells(), self._held(), self._parts(), self._behind()):
            yield record
            records += 1
            match record:
                case Names(names=found) | Entries(entries=found):
                    counts[type(record)] += len(found)
                case Cells(count=count) | Parts(count=count):
                    counts[type(record)] += count
        yield End(records, counts[Names], counts[Cells], counts[Entries], counts[Parts])

    def _names(self) -> Iterator[Record]:
        size, names = self._options.record_names, self.head.names
        for start in range(0, names, size):
            yield Names(start, self._counters.names(start, min(start + size, names)))

    def _cells(self) -> Iterator[Record]:
        for incarnation, column in self._columns.items():
            for first, count, indexes, cells, stamps in pieces(column, self._options.record_cells):
                yield Cells(incarnation, column.version, first, count, cells, stamps, indexes)

    def _held(self) -> Iterator[Record]:
        """The entries. Of each column one piece is held back, so that the last one is known when it is yielded."""
        columns, places = self._columns, Counter[bytes]()
        ahead: dict[bytes, list[tuple[str, int, int]]] = {holder: [] for holder in self.head.holders}
        for holder, piece in self._entries.columns(self._options.record_names):
            before, ahead[holder] = ahead[holder], piece
            if before:
                yield Entries(holder, columns[holder].version, places[holder], False, before)
                places[holder] += len(before)
        for holder, piece in ahead.items():
            yield Entries(holder, columns[holder].version, places[holder], True, piece)

    def _parts(self) -> Iterator[Record]:
        for one in self._settled:
            of = one.settler, one.column, one.until, one.version, one.parts.version, one.parts.length
            for first, count, indexes, parts, stamps in pieces(one.parts, self._options.record_cells):
                yield Parts(*of, first, count, parts, stamps, indexes)

    def _behind(self) -> Iterator[Record]:
        if self._detached:
            sizes = {span(delta): delta.size for delta in self._detached}
            for chunk in pack(self._detached, self._options.frame_bytes, self._options.chunk_deltas):
                yield Detached(chunk, [sizes[span(piece)] for piece in chunk])


def span(delta: Delta) -> tuple[bytes, int, int]:
    """The key of a detached delta: different for any two deltas, and the same for all pieces of one."""
    return delta.incarnation, delta.after, delta.upto
