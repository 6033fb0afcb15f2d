"""Salvages what is left of a damaged checkpoint.

A column of which every cell and every name can be read is as good as before. In any other column the cells that can be
read are true, as each was durable once. But claiming the column's version would hide the cells that can't be read. So
these cells are detached (see detached_deltas.py), behind a gap that reaches up to that version. The same is done with a
delta that was detached already and lacks a piece.

A crash may have left older checkpoints and segments that the damaged checkpoint covers. What is whole in them is
joined, too, because nothing reads them after the repair and the next start removes them.
"""

from collections.abc import Iterator

from gcount.core.format.checkpoint import (
    Capture,
    Cells,
    Detached,
    Head,
    Names,
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
from gcount.core.state.identity import Identity
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
        self._detached: dict[tuple[bytes, int, int], _Pieces] = {}
        for record in _find_records(data):
            self._take(record)
        self.covered: list[Batch] = []
        self.header = _header(data)
        self.identity = self._heads[0].identity if self._heads else None
        self.next_batch = self._heads[0].next_batch if self._heads else 1
        self.knows_reach = bool(self._heads) or not (self._cells or self._detached)
        if self.header is not None and not self._heads:
            self.identity = Identity(self.header.node, self.header.incarnation)
            self.next_batch = self.header.first_batch

    def batch(self) -> Batch:
        """All that is left of the checkpoint itself, as one batch."""
        membership = self._heads[-1].membership if self._heads else None
        deltas = [*map(self._column, self._cells), *(pieces.delta() for pieces in self._detached.values())]
        return Batch(self.next_batch - 1, deltas, self.identity, membership)

    def fill(self, replica: Replica) -> None:
        """Join all that is left to a blank replica."""
        for batch in (*self.covered, self.batch()):
            replica.apply(batch)

    def _column(self, incarnation: bytes) -> Delta:
        """A column as a delta: from version 0 if it is whole, else from its own version to itself.

        Such a delta is behind a gap for every replica that knows less, so that it is detached.
        """
        slices, cells = self._cells[incarnation], dict[str, int]()
        version, whole, end = next(iter(slices.values())).version, True, 0
        for first in sorted(slices):
            whole = whole and first == end
            end = first + slices[first].count
            indexes, words, _ = slices[first].words()
            for index, n in zip(indexes or range(first, end), words, strict=True):
                name = self._names.get(index)
                if n and name is not None:
                    cells[name] = n
                whole = whole and (name is not None or not n)
        # Only the head says how long the column was: without it, cells could be missing at its end.
        columns = self._heads[0].columns if self._heads else []
        whole = whole and (incarnation, version, end) in columns
        return Delta(incarnation, 0 if whole else version, version, cells)

    def _take(self, record: Record) -> None:
        match record:
            case Head():
                self._heads.append(record)
            case Names():
                self._names.update(enumerate(record.names, start=record.first))
            case Cells():
                self._cells.setdefault(record.incarnation, {})[record.first] = record
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
        self._size: int | None = None

    def add(self, piece: Delta, size: int | None) -> None:
        """Take one more piece, and the number of cells in the whole delta if the checkpoint says it."""
        self._cells.update(piece.cells)
        self._size = size

    def delta(self) -> Delta:
        """The delta as it was if it is whole; else from its last version to itself, as for a column."""
        whole = len(self._cells) == self._size
        return Delta(self._incarnation, self._after if whole else self._upto, self._upto, self._cells)


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
            if isinstance(record, Cells):
                record.words()
        except ValueError:
            offset = data.find(MARK, offset + 1)
            continue
        yield record
        offset = data.find(MARK, end)
