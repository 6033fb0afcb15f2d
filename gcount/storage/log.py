"""The log: an append-only sequence of segments; what it holds survives anything but the loss of the disk.

    data/1/00000001.log  00000002.log  ...  00000007.log        (only the last one is live: it alone may end in a torn
    write)

Invariants:
- A segment gets its name by a rename after its header was synced, and the directory is synced before anything is
  appended to it.
- A batch is one write and one sync; the next one is written only after that sync returned. So only the newest batch can
  be torn.
- What a start replayed from the live segment counts for nothing until this start has written and synced it anew: a
  process that saw its sync fail may have left pages that look written and never reach the disk.
- The file never holds anything behind the last good batch when a new one is written.
- A batch counts only if, after its sync, the live segment is still the file at its path: a directory that was deleted,
  moved or replaced is one that no start will read.

What a checkpoint covers (see `checkpoints.py`) need not be there: then the log begins with a later segment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec
import structlog
import trio

from gcount.core.format.log_records import Damage, Header, Scan, decode_header, encode_batch
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.identity import Identity
from gcount.errors import DiskFailed, LogDamaged, NotInPlace
from gcount.observe.progress import Progress
from gcount.storage.disk import SHORTAGES, Disk, File, sync_or_fail

SUFFIX = ".log"
UNFINISHED = ".new"

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


def segment_name(sequence: int) -> str:
    """The name of a segment's file."""
    return f"{sequence:08d}{SUFFIX}"


def sequence_of(name: str, suffix: str = SUFFIX) -> int | None:
    """The number of the segment, or of another kind of file, that has this name; None when it is none."""
    digits = name.removesuffix(suffix)
    if not digits.isascii() or not digits.isdigit() or f"{int(digits[:18]):08d}{suffix}" != name or int(digits) == 0:
        return None
    return int(digits)


class Base(msgspec.Struct, frozen=True):
    """Where a log begins.

    Args:
        sequence: its first segment.
        first_batch: the first batch in that.
        next_batch: the batch up to which it reaches at least: those before had been synced.
    """

    sequence: int = 1
    first_batch: int = 1
    next_batch: int = 1


@dataclass(frozen=True)
class LogStatistics:
    """A log at one instant.

    Args:
        size: of all segments, in bytes.
        segments: how many there are.
        free_bytes: how much room the disk has left.
    """

    size: int
    segments: int
    free_bytes: int


class Log:
    """The log of one data directory; made by `recover`, then only appended to.

    Args:
        disk: the directory.
        options: sizes of segments, and of what is done in one go.
    """

    def __init__(self, disk: Disk, options: Options = DEFAULTS) -> None:
        self._disk = disk
        self._options = options
        self._segment_bytes = options.segment_bytes
        self._brief_bytes = options.brief_bytes
        self._live: File | None = None
        self._head = Header(b"", b"", 0, 0)
        self._live_size = 0
        self._next_batch = 1
        self._closed: dict[int, int] = {}  # the sizes of all other segments
        self._another = trio.Event()

    @property
    def size(self) -> int:
        """The size of all segments."""
        return sum(self._closed.values()) + self._live_size

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return len(self._closed) + (self._head.sequence > 0)

    @property
    def next_batch(self) -> int:
        """The number of the batch that is appended next."""
        return self._next_batch

    @property
    def live(self) -> Header:
        """The header of the live segment: at any instant it and later ones hold each batch not committed yet."""
        return self._head

    def closed_bytes(self, sequence: int) -> int:
        """The size of all closed segments from one on."""
        return sum(size for number, size in self._closed.items() if number >= sequence)

    async def wait_closed(self) -> None:
        """Return when one more segment was closed."""
        await self._another.wait()

    def forget(self, sequence: int) -> None:
        """The segments before one were removed."""
        self._closed = {number: size for number, size in self._closed.items() if number >= sequence}

    def statistics(self) -> LogStatistics:
        """What it takes on the disk now."""
        return LogStatistics(self.size, self.segments, self._disk.free_bytes())

    async def recover(self, apply: Callable[[Batch], None], base: Base | None = None) -> Header | None:
        """Read all batches, in order, and make the live segment durable anew.

        Args:
            apply: called with each batch. What it builds may be shown to nobody before this returns.
            base: where the log begins, if not with the first segment of all; what is before that is left alone.

        Returns:
            The header of the first segment; None for an empty directory, in which `begin` has to be called.

        Raises:
            LogDamaged: something that was synced can't be read; nothing was changed.
            DiskFull: there is no room to write the live segment anew; nothing was changed.
            DiskFailed: the disk fails.
        """
        base, progress = base or Base(), Progress(self._options.progress_interval)
        names = [name for name in await self._disk.attempt(self._disk.names) if name.endswith(SUFFIX)]
        names = [name for name in names if (sequence_of(name) or base.sequence) >= base.sequence]
        if not names and base.sequence > 1:
            raise LogDamaged(self._disk.describe(segment_name(base.sequence)), 0, "the segment is missing")
        first: Header | None = None
        next_batch = base.first_batch
        self._closed = {}
        for sequence, name in enumerate(names, start=base.sequence):
            if name != segment_name(sequence):
                missing = self._disk.describe(segment_name(sequence))
                raise LogDamaged(missing, 0, f"the segment is missing, and {name} is in its place")
            data = await self._disk.attempt(partial(self._disk.fetch, name))
            header = _check_header(self._disk.describe(name), data, sequence, next_batch)
            first = first or header
            scan = Scan(data, next_batch)
            tell = partial(progress.tell, file=name, of=names[-1], size=len(data))
            await _replay(scan, apply, tell, self._options.replay_slice)
            next_batch = self._next_batch = scan.next_batch
            live = sequence == base.sequence + len(names) - 1
            if scan.damage:
                _judge(self._disk.describe(name), len(data), scan.damage, live=live)
            if live and next_batch < base.next_batch:
                reason = f"the log ends before batch {base.next_batch - 1}, which the checkpoint holds"
                raise LogDamaged(self._disk.describe(name), scan.end, reason)
            if live:
                await self._disk.attempt(partial(self._put_live, sequence, data[: scan.end]))
            else:
                self._closed[sequence] = len(data)
        return first

    async def begin(self, identity: Identity) -> None:
        """Make the first segment of an empty directory.

        Raises:
            DiskFull: there is no room.
            DiskFailed: the disk fails.
        """
        head = Header(identity.node, identity.incarnation, 1, 1).encode()
        await self._disk.attempt(partial(self._put_live, 1, head))

    async def append(self, batch: Batch, identity: Identity) -> int:
        """Write a batch and sync it: when this returns, it is durable.

        Args:
            batch: numbered one higher than the one before.
            identity: for the header, should the batch begin a new segment.

        Returns:
            How many bytes were written.

        Raises:
            DiskFull: there was no room, or no descriptor for a new segment; the log is as it was before.
            NotInPlace: the live segment is no longer the file at its path; the process has to end.
            DiskFailed: a sync failed, or a write for another reason, or cutting back; the process has to end.
        """
        assert batch.number == self._next_batch, f"batch {batch.number} follows {self._next_batch - 1}"
        data = encode_batch(batch, self._options)
        sequence, size = self._head.sequence, self._live_size
        try:
            brief = size < self._segment_bytes and len(data) <= self._brief_bytes
            await self._disk.attempt(partial(self._append, batch.number, identity, data), brief=brief)
        finally:
            if self._head.sequence > sequence:
                assert self._head.sequence == sequence + 1, "a batch begins one segment at most"
                self._closed[sequence] = size
                another, self._another = self._another, trio.Event()
                another.set()
        self._next_batch += 1
        return len(data)

    async def look(self) -> None:
        """See whether the live segment is still in its place, as each append does.

        Raises:
            NotInPlace: it is not: the process has to end.
            DiskFailed: that can't be told.
        """
        await self._disk.attempt(self._look)

    def close(self) -> None:
        """Let go of the live segment."""
        if self._live is not None:
            self._live.close()
            self._live = None

    def _append(self, number: int, identity: Identity, data: bytes) -> None:
        if self._live_size >= self._segment_bytes:
            assert self._head.first_batch <= number, "segments follow each other in the order of their batches"
            header = Header(identity.node, identity.incarnation, self._head.sequence + 1, number)
            self._put_live(header.sequence, header.encode())
        live = self._live
        if live is None:
            raise DiskFailed("the log is closed")
        try:
            live.write(data)
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            self._cut_back(live)
            raise
        sync_or_fail(live.sync)
        self._live_size += len(data)
        self._look()

    def _look(self) -> None:
        name = segment_name(self._head.sequence)
        if self._live is None:
            raise DiskFailed("the log is closed")
        try:
            in_place = self._disk.holds(name, self._live)
        except OSError as error:  # whatever it is: what was synced can't be refused any more
            raise DiskFailed(
                f"{self._disk.describe(name)} can't be looked at: {error.strerror}; "
                "the next start recovers what was acknowledged"
            ) from error
        if not in_place:
            raise NotInPlace(self._disk.describe(name))

    def _cut_back(self, live: File) -> None:
        """A partial record must not stay, or all that is written behind it would be unreadable."""
        try:
            live.truncate(self._live_size)
            live.sync()
        except OSError as error:
            raise DiskFailed(
                f"a partial write could not be cut back: {error.strerror}; the next start does it"
            ) from error

    def _put_live(self, sequence: int, data: bytes) -> None:
        """Make a whole file durable under a segment's name, and go on appending to it."""
        head, name = decode_header(data), segment_name(sequence)
        assert head.sequence == sequence, "a segment's header names its place"
        fresh = self._disk.create(name + UNFINISHED)
        try:
            fresh.write(data)
            sync_or_fail(fresh.sync)
            self._disk.rename(name + UNFINISHED, name)
        except OSError:  # the segment that was live still is
            fresh.close()
            self._disk.remove(name + UNFINISHED)
            raise
        sync_or_fail(self._disk.sync_names)
        self.close()
        self._live = fresh
        self._head = head
        self._live_size = len(data)


async def _replay(scan: Scan, apply: Callable[[Batch], None], tell: Callable[..., None], slice_: int) -> None:
    cells = 0
    for batch in scan:
        apply(batch)
        cells += 5
        for delta in batch.deltas:
            cells += len(delta.cells)
        if cells > slice_:  # /ping is answered meanwhile
            cells = 0
            tell(offset=scan.end)
            await trio.lowlevel.checkpoint()


def _check_header(name: str, data: bytes, sequence: int, first_batch: int) -> Header:
    try:
        header = decode_header(data)
    except ValueError as error:
        raise LogDamaged(name, 0, str(error)) from error
    if (header.sequence, header.first_batch) != (sequence, first_batch):
        found = f"it begins segment {header.sequence} at batch {header.first_batch}"
        raise LogDamaged(name, 0, f"{found}, but segment {sequence} at batch {first_batch} is due")
    return header


def _judge(name: str, size: int, damage: Damage, *, live: bool) -> None:
    if not (live and damage.torn):
        raise LogDamaged(name, damage.offset, damage.reason)
    logger.warning(
        "torn tail removed", file=name, offset=damage.offset, bytes=size - damage.offset, reason=damage.reason
    )
