"""What is left of a damaged checkpoint.

An incarnation's column is as good as before if all of it is whole, names included. Of any other one the cells that can
be read are true, each was once durable; but to claim the column's version would hide what can't be read. So they are
detached (see `detached_deltas.py`): behind a gap that reaches up to that version. Likewise a delta that was detached
already, of which not all pieces are there: nothing says any more what had changed up to its version.

A crash may have left some of what the checkpoint covers, older checkpoints and segments. What is whole there is joined,
too: after the repair nothing reads it, and the next start removes it.
"""

from collections.abc import Iterator

from gcount.core.format.checkpoint import Aside, Capture, Cells, Head, Names, Record, decode_record, encode_record, span
from gcount.core.format.frames import MARK, read_frame
from gcount.core.format.log_records import CHECKPOINT_MAGIC, Header, decode_header
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.replica import Replica


class CheckpointSalvage:
    """All that can be read of a checkpoint's bytes.

    Args:
        data: the whole file.

    Attributes:
        header: None if it can't be read.
        identity: whose it was, as far as anything in it tells.
        next_batch: the batch up to which the log had been synced when it was made, as far as anything tells.
        tells_reach: whether that is how far it was, or nothing is left that it could have reached; else it may hold
            what came later.
        covered: what is left of all that it covers, the oldest first; none until somebody has looked.
    """

    def __init__(self, data: bytes) -> None:
        self._heads: list[Head] = []
        self._names: dict[int, str] = {}
        self._cells: dict[bytes, dict[int, Cells]] = {}  # by incarnation and first index
        self._aside: dict[tuple[bytes, int, int], _Kept] = {}
        for record in _find_records(data):
            self._take(record)
        self.covered: list[Batch] = []
        self.header = _header(data)
        self.identity = self._heads[0].identity if self._heads else None
        self.next_batch = self._heads[0].next_batch if self._heads else 1
        self.tells_reach = bool(self._heads) or not (self._cells or self._aside)
        if self.header is not None and not self._heads:
            self.identity = Identity(self.header.node, self.header.incarnation)
            self.next_batch = self.header.first_batch

    def batch(self) -> Batch:
        """All that is left of it alone, as if it had been committed at once."""
        membership = self._heads[-1].membership if self._heads else None
        deltas = [*map(self._column, self._cells), *(kept.delta() for kept in self._aside.values())]
        return Batch(self.next_batch - 1, deltas, self.identity, membership)

    def fill(self, replica: Replica) -> None:
        """Bring a blank replica to where it was, as far as possible."""
        for batch in (*self.covered, self.batch()):
            replica.apply(batch)

    def _column(self, incarnation: bytes) -> Delta:
        """A column as a delta: from version 0 if it is whole, else from its own, which says that all before is lost."""
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
            case Aside():
                for piece, size in record.sized():
                    self._aside.setdefault(span(piece), _Kept(piece)).add(piece, size)


class _Kept:
    """What is there of a delta that was detached.

    Args:
        piece: any of it.
    """

    def __init__(self, piece: Delta) -> None:
        self._incarnation, self._after, self._upto = span(piece)
        self._cells: dict[str, int] = {}
        self._size: int | None = None

    def add(self, piece: Delta, size: int | None) -> None:
        """One more piece; and how many cells the whole has, if the checkpoint says so."""
        self._cells.update(piece.cells)
        self._size = size

    def delta(self) -> Delta:
        """As it was if it is whole; else from its own end, which says that all before is lost."""
        whole = len(self._cells) == self._size
        return Delta(self._incarnation, self._after if whole else self._upto, self._upto, self._cells)


def rebuilt(remains: CheckpointSalvage, live: Header, next_batch: int, options: Options = DEFAULTS) -> bytes:
    """A whole checkpoint that holds what is left of one.

    Args:
        remains: of the old one.
        live: the header of the segment with which the log goes on.
        next_batch: up to which the log will reach.
        options: sizes of its records.
    """
    replica = Replica(Identity(live.node, live.incarnation), 0, options)
    remains.fill(replica)
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
