"""Checkpoints: a whole replica as it was at one instant, in records that are captured while it goes on changing.

    checkpoint = header | frame | frame | ...           (header and frames as in a segment, see records.py)
    payloads   = head, names ..., cells ..., aside ..., end                                     in this order

What it holds is exact, to the cell: each column at its version. So a checkpoint is nothing but whole deltas from
version 0, and what the log has beyond it is joined as always; also where rot left gaps in that log.
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

_NAME_GUESS = 32  # bytes of a name with its head, for a first idea of a size
_SWAPPED = sys.byteorder == "big"


class Head(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Whose state it is.

    Args:
        next_batch: the number of the first batch that it does not hold; all before it had been synced.
        identity: who wrote it.
        membership: as it was.
        names: how many counters.
        columns: each incarnation with its version and how many cells its column has, those that are 0 included.
    """

    next_batch: int
    identity: Identity
    membership: Membership
    names: int
    columns: list[tuple[bytes, int, int]]


class Names(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The next names, in the order in which they became known.

    Args:
        first: the index of the first one.
        names: some of them.
    """

    first: int
    names: list[str]


class Cells(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The next cells of a column (see columns.py).

    Args:
        incarnation: whose.
        version: of the whole column.
        first: the place of the first one.
        count: how many.
        cells: 64-bit words, little endian; none when all of them are 0.
        stamps: the versions of their last changes, alike.
        indexes: of a sparse column, alike; none when it is dense: then they are the places.
    """

    incarnation: bytes
    version: int
    first: int
    count: int
    cells: bytes
    stamps: bytes
    indexes: bytes = b""

    def words(self) -> tuple[array[int], array[int], array[int]]:
        """Indexes (none of a dense column), cells and stamps.

        Raises:
            ValueError: they are not as many as they have to be.
        """
        blank = bytes(8 * self.count)
        cells, stamps = (_words(data or blank) for data in (self.cells, self.stamps))
        indexes = _words(self.indexes)
        if not len(cells) == len(stamps) == self.count or len(indexes) not in (0, self.count):
            raise ValueError(f"{len(cells)} cells and {len(stamps)} stamps were found where {self.count} were expected")
        return indexes, cells, stamps


class Aside(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Pieces of what is detached (see `detached_deltas.py`).

    Args:
        deltas: the next pieces; a delta may be cut into several, of records that follow each other.
        sizes: how many cells the whole delta has of which each of them is a piece: so what is left of a damaged
            checkpoint tells whether all pieces are there. None in the checkpoints of former versions.
    """

    deltas: list[Delta]
    sizes: list[int] = []

    def sized(self) -> Iterator[tuple[Delta, int | None]]:
        """Each piece, with the size of the whole as far as it is known."""
        return zip(self.deltas, self.sizes or repeat(None, len(self.deltas)), strict=True)


class End(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The mark at the end.

    Args:
        records: how many there are before it.
        names: how many names are in them.
        cells: how many cells, those that are 0 included.
    """

    records: int
    names: int
    cells: int


Record = Head | Names | Cells | Aside | End

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """A record in its frame."""
    return frame(_encoder.encode(record))


def decode_record(payload: bytes) -> Record:
    """What a frame holds.

    Raises:
        ValueError: it is none of the records.
    """
    record: Record = _decoder.decode(payload)  # msgspec's errors are ValueErrors
    if isinstance(record, Head) and not record.identity.valid():
        raise ValueError("a record holds an identity of a wrong length")
    if isinstance(record, Aside) and len(record.sizes) not in (0, len(record.deltas)):
        raise ValueError(f"{len(record.sizes)} sizes were found where {len(record.deltas)} were expected")
    return record


class Capture:
    """A replica as it is now.

    Args:
        replica: it may go on changing; only one capture at a time.
        live: the header of a segment that holds, with all later ones, each batch that is not in the replica yet.
    """

    def __init__(self, replica: Replica, live: Header) -> None:
        self._options = replica.options
        self._counters = replica.counters
        self._columns = replica.counters.freeze()
        self._aside = replica.detached.deltas()
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
        """About how many bytes it will take."""
        aside = sum(len(delta.cells) for delta in self._aside)
        words = sum((3 if column.sparse else 2) * column.length for column in self._columns.values())
        return (self.head.names + aside) * _NAME_GUESS + 8 * words

    def close(self) -> None:
        """It will not be read any further."""
        self._counters.thaw()

    def records(self) -> Iterator[Record]:
        """All records but the header; what each of them is made of is only read when its turn has come."""
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
            while first < column.length or first == 0:
                indexes, *words = column.read(options.record_cells)
                cells, stamps = map(_bytes_unless_blank, words)
                count = len(words[0])
                yield Cells(incarnation, column.version, first, count, cells, stamps, _bytes(indexes))
                first += max(1, count)
        if self._aside:
            sizes = {span(delta): len(delta.cells) for delta in self._aside}
            for parcel in pack(self._aside, options.frame_bytes, options.chunk_deltas):
                yield Aside(parcel, [sizes[span(piece)] for piece in parcel])


def span(delta: Delta) -> tuple[bytes, int, int]:
    """What tells a delta that is detached from all others, and is the same for all its pieces."""
    return delta.incarnation, delta.after, delta.upto


def _words(data: bytes) -> array[int]:
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
