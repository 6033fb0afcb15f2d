"""Checkpoints in the data directory, which keep the log short: made while the node works, loaded at a start.

    data/1/00000012.checkpoint       covers all segments below 12, so that they are not needed any more
           00000012.log  00000013.log  ...

The order of operations; each ends before the next one begins:

    1. capture the state at one instant; S is the segment that is live then (or the one before it)
    2. write and sync S.checkpoint.new
    3. rename it to S.checkpoint, and sync the directory
    4. remove the segments below S and older checkpoints, and sync the directory

A crash before 3 leaves a file that nothing reads. The next start removes it first, as it may take the space that the
start needs. After 3 nothing reads the files of 4, so it does not matter which of them are left after a crash. The next
start removes them, but only after it has synced the directory itself: before that, the rename of 3 may not be durable.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain

import structlog
import trio

from gcount.core.format.checkpoint import Capture, encode_record
from gcount.core.format.checkpoint_reader import Reader, Restore
from gcount.core.format.log_records import CHECKPOINT_MAGIC
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.replica import Replica
from gcount.errors import DiskFailed, DiskFull, LogDamaged
from gcount.observe.metrics import Metrics
from gcount.observe.progress import Progress
from gcount.storage.disk import Disk, File, sync_or_fail
from gcount.storage.live_segment import UNFINISHED
from gcount.storage.log import Base, Log, sequence_of

SUFFIX = ".checkpoint"

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


def checkpoint_name(sequence: int) -> str:
    """The name of the checkpoint that covers all segments with a lower number."""
    return f"{sequence:08d}{SUFFIX}"


@dataclass(frozen=True)
class CheckpointStatistics:
    """The newest checkpoint.

    Args:
        size: its size in bytes; 0 when there is none.
        made: when this process made it, in seconds of trio's clock; None when an earlier process did.
    """

    size: int
    made: float | None


class Checkpoints:
    """The checkpoints of one data directory.

    Args:
        disk: the directory.
        log: the log in the same directory.
        metrics: counts checkpoints.
        options: when a checkpoint is made, and how many of its bytes are written in one step.

    Attributes:
        size: the size of the newest checkpoint in bytes; 0 when there is none.
        sequence: the first segment that the newest checkpoint does not cover.
        made: as in `CheckpointStatistics`.
    """

    def __init__(self, disk: Disk, log: Log, metrics: Metrics, options: Options = DEFAULTS) -> None:
        self.size = 0
        self.sequence = 1
        self.made: float | None = None
        self._disk = disk
        self._log = log
        self._metrics = metrics
        self._options = options
        self._refused = False
        self._measured = 0  # the size in bytes of the last checkpoint that met a full disk; 0 after one succeeded

    def statistics(self) -> CheckpointStatistics:
        """The newest checkpoint at this instant."""
        return CheckpointStatistics(self.size, self.made)

    async def load(self, replica: Replica) -> Base:
        """Restore a blank replica from the newest checkpoint, if there is one.

        Returns:
            Where in the log the replay has to begin.

        Raises:
            LogDamaged: the checkpoint can't be read.
            DiskFailed: the disk fails.
        """
        size, newest = await self._disk.attempt(self._find)
        if size is None:
            return Base()
        name = checkpoint_name(self.sequence)
        reader, restore, piece = Reader(self._options), Restore(replica), self._options.checkpoint_read_bytes
        report = partial(Progress(self._options.progress_interval).report, file=name, of=newest, size=size)
        self.size, last = 0, False
        try:
            while not last:
                data = await self._disk.attempt(partial(self._disk.fetch, name, self.size, piece))
                self.size, last = self.size + len(data), len(data) < piece
                for record in reader.feed(data, last=last):
                    restore.take(record)
                    report(offset=reader.offset, counters=len(replica.counters))
                    await trio.lowlevel.checkpoint()
            restore.finish()
            if reader.header is None or reader.header.sequence != self.sequence:
                raise ValueError("its header belongs to another file")
        except ValueError as error:
            raise LogDamaged(self._disk.describe(name), reader.offset, str(error)) from error
        return Base(self.sequence, reader.header.first_batch, replica.next_batch)

    def _find(self) -> tuple[int | None, str | None]:
        """Remove unfinished checkpoints, which may take the space that the start needs, and find the newest one.

        Returns:
            The size of the newest checkpoint, None when there is none; and the name of the last segment.
        """
        names = self._disk.names()
        for name in names:
            if sequence_of(name, SUFFIX + UNFINISHED):
                self._disk.remove(name)
        self.sequence = max((sequence_of(name, SUFFIX) or 1 for name in names), default=1)
        name = checkpoint_name(self.sequence)
        newest = max(filter(sequence_of, names), key=lambda name: sequence_of(name) or 0, default=None)
        return self._disk.size(name) if name in names else None, newest

    async def tidy(self) -> None:
        """Remove the files that nothing reads any more.

        It may be called only after the log's recovery, which synced the directory: then the checkpoint is durable.
        """
        await self._disk.attempt(self._remove_others)

    async def run(self, replica: Replica) -> None:
        """Make a checkpoint whenever the log has grown enough, for ever.

        Raises:
            DiskFailed: the process has to end.
        """
        floor, factor = self._options.checkpoint_floor_bytes, self._options.checkpoint_factor
        while True:
            while self._log.closed_bytes(self.sequence) <= max(floor, factor * self.size):
                await self._log.wait_closed()
            try:
                await self.make(replica)
                self._refused = False
            except DiskFull as error:
                self._metrics.checkpoints_failed.inc()
                if not self._refused:
                    logger.warning(
                        "checkpoint failed",
                        reason=str(error),
                        effect="the log grows until a checkpoint succeeds; the node tries again",
                    )
                self._refused = True
                await trio.sleep(self._options.checkpoint_retry)

    async def make(self, replica: Replica) -> None:
        """Make a checkpoint now.

        Raises:
            DiskFull: there is no space, or no descriptor for its file. Nothing was changed.
            DiskFailed: the process has to end.
        """
        started = trio.current_time()
        # The state and the live segment have to be of one instant, so there is no await between the two.
        capture = Capture(replica, self._log.live)
        self._check(capture, replica)
        encoded = _Encoded(capture)
        try:
            await self._require_space(capture.guess)
            try:
                await self._write(checkpoint_name(capture.header.sequence), encoded)
            except DiskFull:
                # The estimate was too low. With the true size, no attempt fills the disk again before there is space.
                self._measured = await encoded.measure()
                raise
        finally:
            capture.close()
        self.size, self.sequence, self.made = encoded.size, capture.header.sequence, trio.current_time()
        self._measured = 0
        self._metrics.checkpoint_made(self.made - started)
        logger.info("checkpoint", counters=capture.head.names, bytes=self.size, seconds=round(self.made - started, 3))
        with suppress(DiskFull):  # nothing reads what is left; the next checkpoint or start removes it
            await self._disk.attempt(self._remove_others, background=True)
            self._log.forget(self.sequence)

    def _check(self, capture: Capture, replica: Replica) -> None:
        """Assert, at the instant of the capture, that it holds all that it covers, and only what is durable."""
        covered, version = capture.header, replica.counters.version
        assert self.sequence <= covered.sequence <= self._log.live.sequence, "a checkpoint covers closed segments only"
        assert covered.first_batch <= capture.head.next_batch, "a checkpoint holds all batches that it covers"
        assert capture.head.next_batch == replica.next_batch, "a checkpoint holds no batch that is not durable"
        assert all(at == version(who) for who, at, _ in capture.head.columns), "a checkpoint holds only what is durable"

    def _check_recovered(self, others: list[str]) -> None:
        """Assert that nothing is removed before the log is recovered, nor the live segment."""
        assert not others or self.sequence <= self._log.live.sequence, "what is removed is behind the live segment"

    async def _require_space(self, guess: int) -> None:
        """Raise `DiskFull` before anything is written, if the checkpoint and another segment would not both fit."""
        needed = max(guess, self.size, self._measured)
        free = await self._disk.attempt(self._disk.free_bytes, background=True)
        if free < needed + self._options.segment_bytes:
            raise DiskFull(f"the checkpoint needs about {needed} bytes besides the log, and the disk is nearly full")

    async def _write(self, name: str, encoded: "_Encoded") -> None:
        file = await self._disk.attempt(partial(self._disk.create, name + UNFINISHED), background=True)
        try:
            await self._fill(file, encoded)
            await self._disk.attempt(partial(sync_or_fail, file.sync), background=True)
            await self._disk.attempt(partial(self._publish, name), background=True)
        except BaseException:
            # The unfinished file may be what fills the disk. On a disk that fails, the first error says most.
            with trio.CancelScope(shield=True), suppress(DiskFailed, DiskFull):
                await self._disk.attempt(partial(self._disk.remove, name + UNFINISHED), background=True)
            raise
        finally:
            file.close()

    async def _fill(self, file: File, encoded: "_Encoded") -> None:
        piece, unsynced = bytearray(), 0
        for data in encoded.blocks:
            piece += data
            if len(piece) >= self._options.checkpoint_write_bytes:
                unsynced += len(piece)
                await self._disk.attempt(partial(file.write, bytes(piece)), background=True)
                piece.clear()
            else:
                await trio.lowlevel.checkpoint()
            if unsynced >= self._options.checkpoint_sync_bytes:
                unsynced = 0
                await self._disk.attempt(partial(sync_or_fail, file.sync), background=True)
        await self._disk.attempt(partial(file.write, bytes(piece)), background=True)

    def _publish(self, name: str) -> None:
        self._disk.rename(name + UNFINISHED, name)
        sync_or_fail(self._disk.sync_names)

    def _remove_others(self) -> None:
        """Remove older checkpoints, and the segments that the newest one covers."""
        keep = checkpoint_name(self.sequence)
        others = [name for name in self._disk.names() if self._is_other(name) and name != keep]
        self._check_recovered(others)
        for name in others:
            self._disk.remove(name)
        if others:
            sync_or_fail(self._disk.sync_names)

    def _is_other(self, name: str) -> bool:
        if sequence_of(name, SUFFIX):
            return True
        sequence = sequence_of(name)
        return sequence is not None and sequence < self.sequence


class _Encoded:
    """The bytes of a checkpoint, made when they are asked for.

    Attributes:
        blocks: the blocks of the file, in order.
        size: the size of the blocks that were asked for so far, in bytes.
    """

    def __init__(self, capture: Capture) -> None:
        self.size = 0
        self.blocks = self._encode(capture)

    def _encode(self, capture: Capture) -> Iterator[bytes]:
        for data in chain([capture.header.encode(CHECKPOINT_MAGIC)], map(encode_record, capture.records())):
            self.size += len(data)
            yield data

    async def measure(self) -> int:
        """The size of the whole file in bytes. The blocks that were not asked for yet are made and dropped."""
        for _ in self.blocks:
            await trio.lowlevel.checkpoint()
        return self.size
