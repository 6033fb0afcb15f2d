"""Checkpoints: the whole state of a replica at one instant, captured in records while the replica goes on changing.

    checkpoint = header | frame | frame | ...           (header and frames as in a segment, see log_records.py)
    payloads   = head, names ..., cells ..., detached ..., end                                  in this order

A checkpoint is exact: it holds each column at its version, to the cell. So it is equal to whole deltas from version 0,
and the rest of the log is joined to it as always, also where rot left gaps in that log.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from itertools import repeat

import msgspec

from gcount.core.format.chunks import pack
from gcount.core.format.frames import frame
from gcount.core.format.log_records import Header
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica

_NAME_GUESS = 32  # bytes of a name and its head, for an estimate of the size
_SWAPPED = sys.byteorder == "big"


class Head(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first record: what the checkpoint holds.

    Args:
        next_batch: the number of the first batch that the checkpoint does not hold. All batches before it had been
            synced.
        identity: the identity of the node that wrote it.
        membership: the node's membership at that instant.
        names: the number of counters.
        columns: for each incarnation its id, its version, and the number of cells in its column, zeros included.
    """

    next_batch: int
    identity: Identity
    membership: Membership
    names: int
    columns: list[tuple[bytes, int, int]]


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

    def words(self) -> tuple[array[int], array[int], array[int]]:
        """Indexes (none for a dense column), cells and stamps.

        Raises:
            ValueError: their number is not `count`.
        """
        blank = bytes(8 * self.count)
        cells, stamps = (_words(data or blank) for data in (self.cells, self.stamps))
        indexes = _words(self.indexes)
        if not len(cells) == len(stamps) == self.count or len(indexes) not in (0, self.count):
            raise ValueError(f"{len(cells)} cells and {len(stamps)} stamps were found where {self.count} were expected")
        return indexes, cells, stamps


class Detached(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Pieces of detached deltas (see detached_deltas.py).

    Args:
        deltas: the next pieces. A delta may be cut into several pieces in records that follow each other.
        sizes: for each piece the number of cells in its whole delta, from which a repair sees whether all pieces are
            left. Empty in checkpoints of former versions.
    """

    deltas: list[Delta]
    sizes: list[int] = []

    def sized(self) -> Iterator[tuple[Delta, int | None]]:
        """Each piece with the number of cells in its whole delta; None where the checkpoint does not say it."""
        return zip(self.deltas, self.sizes or repeat(None, len(self.deltas)), strict=True)


class End(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The last record; without it the checkpoint is cut off.

    Args:
        records: the number of records before it.
        names: the number of names in them.
        cells: the number of cells in them, zeros included.
    """

    records: int
    names: int
    cells: int


Record = Head | Names | Cells | Detached | End

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
        self._detached = replica.detached.deltas()
        self.header = Header(replica.identity.node, replica.identity.incarnation, live.sequence, live.first_batch)
        self.head = Head(
            replica.next_batch,
            replica.identity,
            replica.membership,
            len(replica.counters),
            [(incarnation, column.version, column.length) for incarnation, column in self._columns.items()],
        )

    @property
    def guess(self) -> int:
        """An estimate of the checkpoint's size, in bytes."""
        detached = sum(len(delta.cells) for delta in self._detached)
        words = sum((3 if column.sparse else 2) * column.length for column in self._columns.values())
        return (self.head.names + detached) * _NAME_GUESS + 8 * words

    def close(self) -> None:
        """Release what was frozen. Nothing may be read from the capture afterwards."""
        self._counters.thaw()

    def records(self) -> Iterator[Record]:
        """All records, without the header. Each one is made when it is asked for."""
        records, names, cells = 0, 0, 0
        for record in self._contents():
            yield record
            records += 1
            names += len(record.names) if isinstance(record, Names) else 0
            cells += record.count if isinstance(record, Cells) else 0
        yield End(records, names, cells)

    def _contents(self) -> Iterator[Record]:
        options = self._options
        yield self.head
        for start in range(0, self.head.names, options.record_names):
            end = min(start + options.record_names, self.head.names)
            yield Names(start, self._counters.names(start, end))
        for incarnation, column in self._columns.items():
            first = 0
            while first < column.length or first == 0:  # an empty column gets one record, for its version
                indexes, *words = column.read(options.record_cells)
                cells, stamps = map(_bytes_unless_blank, words)
                count = len(words[0])
                yield Cells(incarnation, column.version, first, count, cells, stamps, _bytes(indexes))
                first += max(1, count)
        if self._detached:
            sizes = {span(delta): len(delta.cells) for delta in self._detached}
            for chunk in pack(self._detached, options.frame_bytes, options.chunk_deltas):
                yield Detached(chunk, [sizes[span(piece)] for piece in chunk])


def span(delta: Delta) -> tuple[bytes, int, int]:
    """The key of a detached delta: different for any two deltas, and the same for all pieces of one."""
    return delta.incarnation, delta.after, delta.upto


def _words(data: bytes) -> array[int]:
    """Words of this machine's byte order."""
    words = array("Q", data)
    if _SWAPPED:
        words.byteswap()
    return words


def _bytes_unless_blank(words: array[int]) -> bytes:
    return _bytes(words) if any(words) else b""


def _bytes(words: array[int]) -> bytes:
    if _SWAPPED:
        words = words[:]
        words.byteswap()
    return words.tobytes()
