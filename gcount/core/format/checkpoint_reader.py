"""Restores a replica from the bytes of a checkpoint (see checkpoint.py). Any error in them stops it."""

from collections import Counter
from collections.abc import Iterator

from gcount.core.format.checkpoint import Cells, Detached, End, Entries, Head, Names, Parts, Record, decode_record
from gcount.core.format.frames import read_frame
from gcount.core.format.log_records import CHECKPOINT_MAGIC, HEADER_BYTES, Header, decode_header
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.replica import Replica


class Reader:
    """Cuts the bytes of a checkpoint, which come in pieces of any size, into records.

    Args:
        options: how large a record may be.

    Attributes:
        header: the header, once enough bytes for it came.
        offset: where the record begins that was read last, or that could not be read.
    """

    def __init__(self, options: Options = DEFAULTS) -> None:
        self._record_bytes = options.record_bytes
        self.header: Header | None = None
        self.offset = 0
        self._rest = b""  # what came and was not read yet
        self._end = 0  # its offset in the file

    def feed(self, data: bytes, *, last: bool) -> Iterator[Record]:
        """Take bytes of the file, and return the records that are complete now.

        Args:
            data: the next bytes of the file.
            last: whether the file ends with them.

        Raises:
            ValueError: the bytes at `offset` are no record.
        """
        rest, at, begin = self._rest + data, 0, self._end
        if self.header is None and (last or len(rest) >= HEADER_BYTES):
            self.header = decode_header(rest, CHECKPOINT_MAGIC)
            at = HEADER_BYTES
        while len(rest) - at >= self._record_bytes or (last and at < len(rest)):
            self.offset = begin + at
            payload, at = read_frame(rest, at)
            yield decode_record(payload)
        self._rest, self._end = rest[at:], begin + at
        if last:
            self.offset = self._end


class Restore:
    """Fills a blank replica with the records of a checkpoint.

    Args:
        replica: a replica that knows nothing yet.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._head: Head | None = None
        self._records = 0
        self._cells = 0
        self._entries = Counter[bytes]()  # by incarnation
        self._open: set[bytes] = set()  # the incarnations of which more entries have to come
        self._parts = 0
        self._lengths: dict[tuple[bytes, bytes], int] = {}  # of parts, by settler and column
        self._ended = False

    def take(self, record: Record) -> None:
        """Take the next record.

        Raises:
            ValueError: the record can't follow those that were taken before.
        """
        if self._ended or isinstance(record, Head) != (self._head is None):
            raise ValueError("a record is out of place")
        counters = self.replica.counters
        match record:
            case Head():
                self._begin(record)
            case Names():
                if record.first != len(counters) or self._cells:
                    raise ValueError(f"name {record.first} was found where name {len(counters)} was expected")
                counters.restore_names(record.names)
            case Cells():
                counters.restore_cells(record.incarnation, record.version, record.first, *record.words())
                self._cells += record.count
            case Entries():
                self._take_entries(record)
            case Parts():
                self._take_parts(record)
            case Detached():
                for delta in record.deltas:
                    self.replica.detached.keep(delta)
            case End():
                self._ended = True
                self._check(record)
        self._records += 1

    def finish(self) -> None:
        """Check that all records were taken.

        Raises:
            ValueError: the end mark is missing.
        """
        if not self._ended:
            raise ValueError("the checkpoint is cut off")

    def _begin(self, head: Head) -> None:
        self._head = head
        self.replica.identity = head.identity
        self.replica.membership = head.membership
        self.replica.next_batch = head.next_batch
        self.replica.floor = head.floor
        self._open = {*head.holders}

    def _take_entries(self, record: Entries) -> None:
        holder = record.incarnation
        place = record.first, record.version
        if holder not in self._open or place != (self._entries[holder], self.replica.counters.version(holder)):
            raise ValueError(f"entries from {record.first} on of an incarnation are out of place")
        self.replica.counters.restore_entries(holder, record.entries)
        self._entries[holder] += len(record.entries)
        if record.last:
            self._open.discard(holder)

    def _take_parts(self, record: Parts) -> None:
        head = record.settler, record.column, record.until, record.upto
        self.replica.counters.settlements.restore(head, record.version, record.first, record.words())
        self._parts += record.count
        self._lengths[head[:2]] = record.length

    def _check(self, end: End) -> None:
        counters = self.replica.counters
        found = self._records, len(counters), self._cells, self._entries.total(), self._parts
        if found != (end.records, end.names, end.cells, end.entries, end.parts) or self._head is None:
            raise ValueError(f"{found} records, names, cells, entries and parts were read, but the end mark says {end}")
        if self._head.columns != counters.lengths() or self._head.names != end.names:
            raise ValueError("the incarnations differ from those in the first record")
        settlers = [*Counter(settler for settler, _ in self._lengths).items()]
        lengths = {(settler, column): len(one.parts.cells) for settler, column, one in counters.settlements.items()}
        if self._open or self._head.settlers != settlers or self._lengths != lengths:
            raise ValueError("the entries and settlements differ from those in the first record")
