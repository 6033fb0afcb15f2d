"""The log: an append-only sequence of segments. What it holds survives anything but the loss of the disk.

    data/1/00000001.log  00000002.log  ...  00000007.log        (the last one is live; only it may end in a torn write)

Invariants:
- A segment gets its name by a rename after its header was synced, and the directory is synced before anything is
  appended to it.
- A batch is one write and one sync. The next batch is written only after that sync returned, so only the newest batch
  can be torn.
- A start does not rely on what it read from the live segment until it has written and synced the segment anew. A
  process whose sync failed may have left pages in memory that look written and never reach the disk.
- When a batch is written, nothing is in the file behind the batch before.
- A batch counts only if, after its sync, the live segment is still the file at its path. If the directory was deleted,
  moved or replaced, no start will read what was written there.
- Nothing is appended to a segment of a former format; the next batch begins a new one.

Segments that a checkpoint covers (see checkpoints.py) may be missing; then the log begins with a later segment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec
import structlog
import trio

from gcount.core.format.log_records import Damage, Header, Scan, decode_header, encode_batch, is_former_format
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.identity import Identity
from gcount.errors import LogDamaged
from gcount.observe.progress import Progress
from gcount.storage.disk import Disk
from gcount.storage.live_segment import LiveSegment

SUFFIX = ".log"

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


def segment_name(sequence: int) -> str:
    """The name of a segment's file."""
    return f"{sequence:08d}{SUFFIX}"


def sequence_of(name: str, suffix: str = SUFFIX) -> int | None:
    """The number in the name of a segment, or of another kind of file; None when the name is not of that kind."""
    digits = name.removesuffix(suffix)
    if not digits.isascii() or not digits.isdigit() or f"{int(digits[:18]):08d}{suffix}" != name or int(digits) == 0:
        return None
    return int(digits)


class Base(msgspec.Struct, frozen=True):
    """Where the replay of a log begins.

    Args:
        sequence: the number of the first segment.
        first_batch: the number of the first batch in it.
        next_batch: all batches before this number had been synced, so the log has to reach it.
    """

    sequence: int = 1
    first_batch: int = 1
    next_batch: int = 1


@dataclass(frozen=True)
class LogStatistics:
    """A log at one instant.

    Args:
        size: the size of all segments, in bytes.
        segments: the number of segments.
        free_bytes: the free space of the disk, in bytes.
    """

    size: int
    segments: int
    free_bytes: int


class Log:
    """The log of one data directory. After `recover` it is only appended to.

    Args:
        disk: the directory.
        options: sizes of segments and of steps.

    Attributes:
        next_batch: the number of the batch that is appended next.
    """

    def __init__(self, disk: Disk, options: Options = DEFAULTS) -> None:
        self._disk = disk
        self._options = options
        self._segment_bytes = options.segment_bytes
        self._brief_bytes = options.brief_bytes
        self._live = LiveSegment(disk)
        self._head = Header(b"", b"", 0, 0)
        self._most = 0  # bytes: once the live segment has so many, the next batch begins a new one
        self.next_batch = 1
        self._closed: dict[int, int] = {}  # the sizes of all other segments
        self._another = trio.Event()

    @property
    def size(self) -> int:
        """The size of all segments, in bytes."""
        return sum(self._closed.values()) + self._live.size

    @property
    def segments(self) -> int:
        """The number of segments."""
        return len(self._closed) + (self._head.sequence > 0)

    @property
    def live(self) -> Header:
        """The header of the live segment. This segment and later ones hold every batch that is not committed yet."""
        return self._head

    def closed_bytes(self, sequence: int) -> int:
        """The size of all closed segments from a number on, in bytes."""
        return sum(size for number, size in self._closed.items() if number >= sequence)

    async def wait_closed(self) -> None:
        """Return when the next segment is closed."""
        await self._another.wait()

    def forget(self, sequence: int) -> None:
        """Note that the segments below a number were removed."""
        self._closed = {number: size for number, size in self._closed.items() if number >= sequence}

    def statistics(self) -> LogStatistics:
        """The sizes at this instant."""
        return LogStatistics(self.size, self.segments, self._disk.free_bytes())

    async def recover(self, apply: Callable[[Batch], None], base: Base | None = None) -> Header | None:
        """Read all batches, in order, and make the live segment durable anew.

        Args:
            apply: is called with each batch. Nothing that it builds may leave the node before this returns.
            base: where the log begins, if not with its first segment. Segments before that are not read.

        Returns:
            The header of the first segment; None for an empty directory, in which `begin` has to be called.

        Raises:
            LogDamaged: something that was synced can't be read. Nothing was changed.
            DiskFull: there is no space to write the live segment anew. Nothing was changed.
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
            report = partial(progress.report, file=name, of=names[-1], size=len(data))
            await _replay(scan, apply, report, self._options.replay_slice)
            next_batch = self.next_batch = scan.next_batch
            live = sequence == base.sequence + len(names) - 1
            if scan.damage:
                _judge(self._disk.describe(name), len(data), scan.damage, live=live)
            # A log that ends before the checkpoint has lost synced batches. Their numbers must not be used again.
            if live and next_batch < base.next_batch:
                reason = f"the log ends before batch {base.next_batch - 1}, which the checkpoint holds"
                raise LogDamaged(self._disk.describe(name), scan.end, reason)
            if live:  # see the invariants: only from here on, what was read counts
                await self._disk.attempt(partial(self._put_live, sequence, data[: scan.end]))
            else:
                self._closed[sequence] = len(data)
        return first

    async def begin(self, identity: Identity) -> None:
        """Make the first segment of an empty directory.

        Raises:
            DiskFull: there is no space.
            DiskFailed: the disk fails.
        """
        head = Header(identity.node, identity.incarnation, 1, 1).encode()
        await self._disk.attempt(partial(self._put_live, 1, head))

    async def append(self, batch: Batch, identity: Identity) -> int:
        """Write a batch and sync it. When this returns, the batch is durable.

        Args:
            batch: its number is one higher than that of the batch before.
            identity: is written to the header if the batch begins a new segment.

        Returns:
            How many bytes were written.

        Raises:
            DiskFull: there was no space, or no descriptor for a new segment. The log is as it was before.
            NotInPlace: the live segment is no longer the file at its path. The process has to end.
            DiskFailed: a sync failed, a write failed for another reason, or a partial write could not be cut back. The
                process has to end.
        """
        assert batch.number == self.next_batch, f"batch {batch.number} follows {self.next_batch - 1}"
        data = encode_batch(batch, self._options)
        sequence, size = self._head.sequence, self._live.size
        try:
            brief = size < self._most and len(data) <= self._brief_bytes
            await self._disk.attempt(partial(self._append, batch.number, identity, data), brief=brief)
        finally:  # also when the batch did not fit: the new segment may have been begun before that
            if self._head.sequence > sequence:
                assert self._head.sequence == sequence + 1, "a batch begins one segment at most"
                self._closed[sequence] = size
                another, self._another = self._another, trio.Event()
                another.set()
        self.next_batch += 1
        return len(data)

    async def look(self) -> None:
        """Check that the live segment is still the file at its path, as each append does.

        Raises:
            NotInPlace: it is not. The process has to end.
            DiskFailed: that can't be found out.
        """
        await self._disk.attempt(self._live.look)

    def close(self) -> None:
        """Close the live segment."""
        self._live.close()

    def _append(self, number: int, identity: Identity, data: bytes) -> None:
        if self._live.size >= self._most:
            assert self._head.first_batch <= number, "segments follow each other in the order of their batches"
            header = Header(identity.node, identity.incarnation, self._head.sequence + 1, number)
            self._put_live(header.sequence, header.encode())
        self._live.append(data)

    def _put_live(self, sequence: int, data: bytes) -> None:
        """Make a whole segment durable, and append to it from now on."""
        head = decode_header(data)
        assert head.sequence == sequence, "a segment's header names its place"
        self._live.put(segment_name(sequence), data)
        self._head = head
        self._most = 0 if is_former_format(data) else self._segment_bytes


async def _replay(scan: Scan, apply: Callable[[Batch], None], report: Callable[..., None], slice_: int) -> None:
    cells = 0
    for batch in scan:
        apply(batch)
        cells += 5  # a batch costs about as much as so many cells
        for delta in batch.deltas:
            cells += delta.size
        if cells > slice_:  # let the event loop answer /ping meanwhile
            cells = 0
            report(offset=scan.end)
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
    """Let only a torn tail of the live segment pass; any other damage was synced, so it is rot and stops the start."""
    if not (live and damage.torn):
        raise LogDamaged(name, damage.offset, damage.reason)
    logger.warning(
        "torn tail removed", file=name, offset=damage.offset, bytes=size - damage.offset, reason=damage.reason
    )
