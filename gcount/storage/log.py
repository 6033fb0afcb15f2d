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
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import structlog
import trio

from gcount.core.records import Batch, Damage, Header, Identity, Scan, decode_header, encode_batch
from gcount.errors import DiskFailed, DiskFull, LogDamaged
from gcount.storage.disk import FULL, Disk, File

SEGMENT_BYTES = 16 * 1024 * 1024  # the next segment begins when the live one has passed this
SUFFIX = ".log"
UNFINISHED = ".new"
_CELLS_A_SLICE = 5_000  # replayed between two looks at the event loop

T = TypeVar("T")

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


def segment_name(sequence: int) -> str:
    """The name of a segment's file."""
    return f"{sequence:08d}{SUFFIX}"


class Log:
    """The log of one data directory; made by `recover`, then only appended to.

    Args:
        disk: the directory.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._live: File | None = None
        self._sequence = 0
        self._live_size = 0
        self._closed_bytes = 0

    @property
    def size(self) -> int:
        """The size of all segments."""
        return self._closed_bytes + self._live_size

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return self._sequence

    def free_bytes(self) -> int:
        """How much room the disk has left."""
        return self._disk.free_bytes()

    async def recover(self, apply: Callable[[Batch], None]) -> Header | None:
        """Read all batches, in order, and make the live segment durable anew.

        Args:
            apply: called with each batch. What it builds may be shown to nobody before this returns.

        Returns:
            The header of the first segment; None for an empty directory, in which `begin` has to be called.

        Raises:
            LogDamaged: something that was synced can't be read; nothing was changed.
            DiskFull: there is no room to write the live segment anew; nothing was changed.
            DiskFailed: the disk fails.
        """
        names = [name for name in await self._run(self._disk.names) if name.endswith(SUFFIX)]
        first: Header | None = None
        next_batch = 1
        self._closed_bytes = 0
        for sequence, name in enumerate(names, start=1):
            if name != segment_name(sequence):
                missing = self._disk.describe(segment_name(sequence))
                raise LogDamaged(missing, 0, f"the segment is missing, {name} stands in its place")
            data = await self._run(partial(self._disk.read, name))
            header = _check_header(self._disk.describe(name), data, sequence, next_batch)
            first = first or header
            scan = Scan(data, next_batch)
            await _replay(scan, apply)
            next_batch = scan.next_batch
            live = sequence == len(names)
            if scan.damage:
                _judge(self._disk.describe(name), len(data), scan.damage, live=live)
            if live:
                await self._run(partial(self._put_live, sequence, data[: scan.end]))
            else:
                self._closed_bytes += len(data)
        return first

    async def begin(self, identity: Identity) -> None:
        """Make the first segment of an empty directory.

        Raises:
            DiskFull: there is no room.
            DiskFailed: the disk fails.
        """
        head = Header(identity.node, identity.incarnation, 1, 1).encode()
        await self._run(partial(self._put_live, 1, head))

    async def append(self, batch: Batch, identity: Identity) -> int:
        """Write a batch and sync it: when this returns, it is durable.

        Args:
            batch: numbered one higher than the one before.
            identity: for the header, should the batch begin a new segment.

        Returns:
            How many bytes were written.

        Raises:
            DiskFull: there was no room; the log is as it was before.
            DiskFailed: a sync failed, or a write for another reason, or cutting back; the process has to end.
        """
        data = encode_batch(batch)
        await self._run(partial(self._append, batch.number, identity, data))
        return len(data)

    def close(self) -> None:
        """Let go of the live segment."""
        if self._live is not None:
            self._live.close()
            self._live = None

    async def _run(self, operation: Callable[[], T]) -> T:
        try:
            return await self._disk.run(operation)
        except OSError as error:
            if error.errno in FULL:
                raise DiskFull("the disk is full") from error
            raise DiskFailed(
                f"the disk failed: {error.strerror or error}; the next start recovers what was acknowledged"
            ) from error

    def _append(self, number: int, identity: Identity, data: bytes) -> None:
        if self._live_size >= SEGMENT_BYTES:
            self._rotate(Header(identity.node, identity.incarnation, self._sequence + 1, number))
        live = self._live
        if live is None:
            raise DiskFailed("the log is closed")
        try:
            live.write(data)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._cut_back(live)
            raise
        self._sync(live.sync)
        self._live_size += len(data)

    def _cut_back(self, live: File) -> None:
        """A partial record must not stay, or all that is written behind it would be unreadable."""
        try:
            live.truncate(self._live_size)
            live.sync()
        except OSError as error:
            raise DiskFailed(
                f"a partial write could not be cut back: {error.strerror}; the next start does it"
            ) from error

    def _rotate(self, header: Header) -> None:
        closed_bytes = self._live_size
        self._put_live(header.sequence, header.encode())
        self._closed_bytes += closed_bytes

    def _put_live(self, sequence: int, data: bytes) -> None:
        """Make a whole file durable under a segment's name, and open it for appending."""
        name = segment_name(sequence)
        fresh = self._disk.create(name + UNFINISHED)
        try:
            fresh.write(data)
        except OSError:
            fresh.close()
            self._disk.remove(name + UNFINISHED)
            raise
        self._sync(fresh.sync)
        fresh.close()
        self._disk.rename(name + UNFINISHED, name)
        self._sync(self._disk.sync_names)
        self.close()
        self._live = self._disk.append(name)
        self._sequence = sequence
        self._live_size = len(data)

    @staticmethod
    def _sync(sync: Callable[[], None]) -> None:
        """Even want of space is fatal in a sync: the pages that failed may be lost and yet look written."""
        try:
            sync()
        except OSError as error:
            raise DiskFailed(
                f"a sync failed: {error.strerror}; the next start recovers what was acknowledged"
            ) from error


async def _replay(scan: Scan, apply: Callable[[Batch], None]) -> None:
    cells = 0
    for batch in scan:
        apply(batch)
        cells += 10 + sum(len(delta.cells) for delta in batch.deltas)
        if cells > _CELLS_A_SLICE:  # /ping is answered meanwhile
            cells = 0
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
    logger.warning("torn tail cut", file=name, offset=damage.offset, bytes=size - damage.offset, reason=damage.reason)
