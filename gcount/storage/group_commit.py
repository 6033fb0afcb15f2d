"""Group commit: one task writes and syncs all that waits, again and again; everybody else only waits for it.

Durability lives here and never in a request handler, which its client can cancel at any moment.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from operator import sub

import structlog
import trio

from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta, Digest
from gcount.core.state.identity import Identity
from gcount.core.state.increments import Asked, Outcome, refused
from gcount.core.state.membership import Membership
from gcount.core.state.staging import Before, Staged
from gcount.core.state.writer import Writer
from gcount.errors import DiskFull
from gcount.observe.metrics import Metrics
from gcount.storage.disk import FULL, shortage
from gcount.storage.log import Log

PROBE_AFTER = 1.0  # seconds between two attempts to write to a full disk
LOOK_AFTER = 1.0  # seconds without a batch until it is seen whether the log is still in its place

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Commit:
    """The fate of one batch, for those who wait for it.

    Attributes:
        failure: why it was dropped; None when it was not, or is still under way.
        before: known when it is settled: the values of all counters without this node's part of it.
        position: known when it is settled: what a replica has to know to hold that part; empty if it was dropped.
    """

    __slots__ = ("_callbacks", "_done", "before", "failure", "position")

    def __init__(self) -> None:
        self.failure: DiskFull | None = None
        self.before: Before
        self.position: Digest
        self._done = trio.Event()
        self._callbacks: list[Callable[[Commit], None]] = []

    def add_done_callback(self, tell: Callable[[Commit], None]) -> None:
        """Have something called in the instant in which the batch becomes visible, or is dropped.

        Args:
            tell: called with this commit, in the order in which they were added. It must not raise.
        """
        assert not self._done.is_set(), "nothing joins a batch whose fate is known"
        self._callbacks.append(tell)

    async def wait(self) -> None:
        """Return when the batch is durable and visible.

        Raises:
            DiskFull: it was dropped.
        """
        await self._done.wait()
        if self.failure is not None:
            raise DiskFull(str(self.failure))

    @property
    def failed(self) -> bool:
        """Whether it was dropped."""
        return self.failure is not None

    def settle(self, failure: DiskFull | None, before: Before, position: Digest) -> None:
        """Tell and wake all who wait; see the attributes."""
        assert not self._done.is_set(), "a batch has one fate"
        self.failure, self.before, self.position = failure, before, position
        for tell in self._callbacks:
            tell(self)
        self._done.set()


class Committer:
    """Stages what arrives and commits it in groups.

    Args:
        writer: where it is staged, and becomes visible in its replica.
        log: where it is made durable.
        metrics: what is counted.
    """

    def __init__(self, writer: Writer, log: Log, metrics: Metrics) -> None:
        self.full: str | None = None  # why a batch could not be written; None when all could for PROBE_AFTER
        self._failed_at = -inf
        self._writer = writer
        self._replica = writer.replica
        self._pending = writer.pending
        self._log = log
        self._metrics = metrics
        self._piggyback_delay = writer.replica.options.piggyback_delay
        self._next = Commit()
        self._flying: Commit | None = None
        self._wake = trio.Event()
        self._waiting = trio.CancelScope()
        self._due = inf  # when what waits for company is committed without it

    def stage(self, asked: Asked, tell: Callable[[Outcome], None]) -> None:
        """Stage what was asked for one batch, in order and without an await in between, and wait for nothing.

        Args:
            asked: see `gcount.core.state.increments`.
            tell: called with what came of it in the instant in which the batch becomes visible, or is dropped. It must
                not raise.
        """
        self._next.add_done_callback(partial(_answer, asked, self._writer.stage(asked), tell))
        self._wake.set()

    def _values_before(self, amounts: dict[str, int]) -> Before:
        """The values of all counters before this node's part of the batch that became visible."""
        counters = self._replica.counters
        values = map(sub, counters.totals_of(amounts), amounts.values())
        return Before(zip(amounts, values, strict=True), counters.total)

    def take(self, deltas: list[Delta], *, urgent: bool = False) -> Commit:
        """Stage deltas of a peer; those that can't be taken are left out.

        Unless they are urgent nobody waits for them but their sender's next push, so for a moment they wait for others
        to share the sync.
        """
        for delta in deltas:
            self._writer.stage_delta(delta)
        if urgent:
            return self._soon()
        self._due = min(self._due, trio.current_time() + self._piggyback_delay)
        self._waiting.deadline = min(self._waiting.deadline, self._due)
        return self._next

    def adopt(self, membership: Membership) -> Commit:
        """Stage a membership; one that does not win changes nothing."""
        self._writer.stage_membership(membership)
        return self._soon()

    def mint(self, identity: Identity) -> Commit:
        """Stage a new identity."""
        self._writer.stage_identity(identity)
        return self._soon()

    def close(self, incarnation: bytes) -> Commit | None:
        """Stage what closes the gaps of an incarnation; None when there is nothing to close."""
        return self._soon() if self._writer.stage_closing(incarnation) else None

    def flush(self) -> Commit | None:
        """The newest batch that is on its way to the disk, which sets out at once; None when all is durable."""
        return self._soon() if self._pending.staging else self._flying

    async def run(self, committed: Callable[[Batch], None]) -> None:
        """Commit group after group, for ever.

        Args:
            committed: called, without an await in between, after each commit.

        Raises:
            DiskFailed: the process has to end; what still waits is not answered.
        """
        while True:
            # A full disk is tried again though nobody asks: a balancer may send nothing to a node that is not ready.
            pause = trio.current_time() + (PROBE_AFTER if self.full else LOOK_AFTER)
            with trio.CancelScope(deadline=min(self._due, pause)) as self._waiting:
                await self._wake.wait()
            if not (self.full or self._wake.is_set() or self._due <= trio.current_time()):
                await self._log.look()
                continue
            self._wake, self._due = trio.Event(), inf
            await self._commit_all(committed)

    def _soon(self) -> Commit:
        self._wake.set()
        return self._next

    async def _commit_all(self, committed: Callable[[Batch], None]) -> None:
        assert self._flying is None, "one batch in flight"
        commit, self._next, staging = self._next, Commit(), self._pending.staging
        self._flying = commit
        failure: DiskFull | None = None
        if self._pending.staging or self.full:
            failure = await self._commit_batch(committed)
        # No await from here on: what the sync made durable becomes visible before anybody else runs.
        self._flying = None
        assert self._pending.batch is None, "a batch whose fate is told is not in flight"
        if failure is not None:
            commit.settle(failure, self._values_before({}), {})
            return
        self._metrics.increments.inc(staging.increments)
        identity = self._replica.identity
        commit.settle(None, self._values_before(staging.amounts), {identity.incarnation: self._replica.version})

    async def _commit_batch(self, committed: Callable[[Batch], None]) -> DiskFull | None:
        batch = self._writer.seal()
        started = trio.current_time()
        try:
            size = await self._log.append(batch, batch.identity or self._replica.identity)
        except DiskFull as error:
            self._writer.abort()
            self._metrics.disk_full.inc()
            self._report_full(str(error))
            return error
        self._writer.commit()
        self._metrics.committed(batch, size, trio.current_time() - started)
        self._report_full(None)
        committed(batch)
        return None

    def _report_full(self, reason: str | None) -> None:
        """Nearly full, a disk has room for small batches and none for large ones: that is one time, not many."""
        now = trio.current_time()
        if reason:
            if not self.full:
                logger.error(shortage(reason), reason=reason, effect="increments are refused until there is room")
            self.full, self._failed_at = reason, now
        elif self.full and now >= self._failed_at + PROBE_AFTER:
            event = "disk has room again" if self.full == FULL else "log writable again"
            logger.info(event, effect="increments are taken")
            self.full = None


def _answer(asked: Asked, staged: Staged, tell: Callable[[Outcome], None], commit: Commit) -> None:
    if commit.failure is not None:
        refusal = DiskFull(str(commit.failure))  # of its own, as in `Commit.wait`: it may be raised
        tell(refused(asked, refusal, commit.before.__getitem__))
    else:
        values = staged.values(commit.before)
        assert len(values) == len(staged.names), "an outcome has one value for each counter that was asked for"
        tell(Outcome(values, commit.position, staged.refused))
