"""Group commit: one task writes and syncs all that waits as one batch, again and again.

All other tasks only wait for it. No request handler writes or syncs, because its client can cancel it at any moment.
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
from gcount.core.state.membership import Membership
from gcount.core.writes.id_changes import NO_CHANGES, IdChanges
from gcount.core.writes.increments import Asked, Outcome, refused
from gcount.core.writes.pushes import stage_push
from gcount.core.writes.staging import Before, Staged, Staging
from gcount.core.writes.writer import Writer
from gcount.errors import DiskFull
from gcount.observe.metrics import Metrics
from gcount.storage.disk import FULL, shortage
from gcount.storage.log import Log

PROBE_AFTER = 1.0  # seconds between two attempts to write to a full disk
LOOK_AFTER = 1.0  # seconds without a batch after which the committer checks that the log is still in its place

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Commit:
    """The outcome of one batch, for the tasks that wait for it.

    Attributes:
        failure: why the batch was dropped; None when it was not, or is still under way.
        before: set by `settle`: the values of all counters without this node's increments of the batch.
        position: set by `settle`: a replica whose digest reaches it holds these increments; empty if the batch was
            dropped.
        ids: set by `settle`: what the batch changed of ids.
    """

    __slots__ = ("_callbacks", "_done", "before", "failure", "ids", "position")

    def __init__(self) -> None:
        self.failure: DiskFull | None = None
        self.ids = NO_CHANGES
        self.before: Before
        self.position: Digest
        self._done = trio.Event()
        self._callbacks: list[Callable[[Commit], None]] = []

    def add_done_callback(self, callback: Callable[[Commit], None]) -> None:
        """Add a function that is called at the instant at which the batch becomes visible, or is dropped.

        Args:
            callback: is called with this commit, after the callbacks that were added before it. It must not raise.
        """
        self._callbacks.append(callback)

    async def wait(self) -> None:
        """Return when the batch is durable and visible.

        Raises:
            DiskFull: the batch was dropped.
        """
        await self._done.wait()
        if self.failure is not None:
            raise DiskFull(str(self.failure))

    @property
    def failed(self) -> bool:
        """Whether the batch was dropped."""
        return self.failure is not None

    def settle(self, failure: DiskFull | None, before: Before, position: Digest, ids: IdChanges = NO_CHANGES) -> None:
        """Call all callbacks and wake all waiting tasks. The arguments are the attributes of this class."""
        assert not self._done.is_set(), "a batch is settled once"
        self.failure, self.before, self.position, self.ids = failure, before, position, ids
        for callback in self._callbacks:
            callback(self)
        self._done.set()


class Committer:
    """Stages what arrives and commits it in groups.

    Args:
        writer: stages increments, and makes them visible in its replica.
        log: the log in which they become durable.
        metrics: counts them.

    Attributes:
        full: why a batch could not be written; None when all batches could for `PROBE_AFTER` seconds.
    """

    def __init__(self, writer: Writer, log: Log, metrics: Metrics) -> None:
        self.full: str | None = None
        self._failed_at = -inf
        self._writer = writer
        self._replica = writer.replica
        self._pending = writer.pending
        self._log = log
        self._metrics = metrics
        self._piggyback_delay = writer.replica.options.piggyback_delay
        self._next = Commit()  # of the batch that is being staged
        self._in_flight: Commit | None = None  # of the batch that is being written
        self._wake = trio.Event()
        self._waiting = trio.CancelScope()
        self._due = inf  # when deltas that wait for increments are committed without any

    def stage(self, asked: Asked, callback: Callable[[Outcome], None]) -> None:
        """Stage the items of a request for one batch, in order and with no await in between. This does not wait.

        Args:
            asked: the request; see `gcount.core.writes.increments`.
            callback: is called with the outcome at the instant at which the batch becomes visible, or is dropped. It
                must not raise.
        """
        self._next.add_done_callback(partial(_answer, asked, self._writer.stage(asked), callback))
        self._wake.set()

    def _values_before(self, staged: Staging) -> Before:
        """The values of all counters without the increments of the batch that just became visible."""
        counters, amounts = self._replica.counters, staged.amounts
        values = map(sub, counters.totals_of(amounts), amounts.values())
        before = Before(zip(amounts, values, strict=True), counters.total)
        if staged.ids is not NO_CHANGES:
            before.leave_out(amounts, staged.ids)
        return before

    def take(
        self, deltas: list[Delta], *, urgent: bool = False, needs: Digest | None = None, member: bool = True
    ) -> Commit:
        """Stage deltas of a peer. Those that can't be taken are left out.

        Args:
            deltas: whole deltas.
            urgent: whether a client waits for them. Otherwise only the next push of their sender waits, so they wait a
                moment for increments to share a sync with.
            needs: the settlements without which none of them is taken; see pushes.py.
            member: whether the peer is a member.
        """
        stage_push(self._writer, deltas, needs or {}, member=member)
        if urgent:
            return self._soon()
        # `run` may be waiting already, so its deadline is brought forward, too.
        self._due = min(self._due, trio.current_time() + self._piggyback_delay)
        self._waiting.deadline = min(self._waiting.deadline, self._due)
        return self._next

    def adopt(self, membership: Membership) -> Commit:
        """Stage a membership. It changes nothing if the present one wins over it."""
        self._writer.stage_membership(membership)
        return self._soon()

    def mint(self, identity: Identity) -> Commit:
        """Stage a new identity."""
        self._writer.stage_identity(identity)
        return self._soon()

    def close(self, incarnation: bytes) -> Commit | None:
        """Stage the delta that closes the gaps of an incarnation; None when there is nothing to close."""
        return self._soon() if self._writer.stage_closing(incarnation) else None

    def promise(self, floor: int) -> Commit | None:
        """Stage the promise to take no id with a time up to here any more; None when it was given already.

        Args:
            floor: in seconds since 1970.
        """
        return self._soon() if self._writer.stage_floor(floor) else None

    def settle_ids(self, until: Callable[[], int | None]) -> Commit:
        """Ask for a settlement of ids; see `Writer.stage_settlement`."""
        self._writer.stage_settlement(until)
        return self._soon()

    def flush(self) -> Commit | None:
        """Commit at once what is staged, without waiting for it.

        Returns:
            The commit after which all that was taken so far is durable; None when it is durable already.
        """
        return self._soon() if self._pending.staging else self._in_flight

    async def run(self, committed: Callable[[Batch], None]) -> None:
        """Commit group after group, for ever.

        Args:
            committed: is called after each commit, with no await in between.

        Raises:
            DiskFailed: the process has to end. Waiting requests are not answered.
        """
        while True:
            # A full disk is tried again without any request: a balancer may send none to a node that is not ready.
            pause = trio.current_time() + (PROBE_AFTER if self.full else LOOK_AFTER)
            with trio.CancelScope(deadline=min(self._due, pause)) as self._waiting:
                await self._wake.wait()
            if not (self.full or self._wake.is_set() or self._due <= trio.current_time()):
                await self._log.look()  # an idle node has to notice, too, that its directory was moved away
                continue
            self._wake, self._due = trio.Event(), inf
            await self._commit_all(committed)

    def _soon(self) -> Commit:
        self._wake.set()
        return self._next

    async def _commit_all(self, committed: Callable[[Batch], None]) -> None:
        assert self._in_flight is None, "one batch in flight"
        # From here on requests are staged for the next batch, whose commit they get.
        commit, self._next, staging = self._next, Commit(), self._pending.staging
        self._in_flight = commit
        failure: DiskFull | None = None
        if self._pending.staging or self.full:  # on a full disk an empty batch finds out whether there is space again
            failure = await self._commit_batch(committed)
        # No await from here on: what the sync made durable is visible, and answered, before any other task runs.
        self._in_flight = None
        assert self._pending.batch is None, "a batch is in flight until its fate is known"
        if failure is not None:
            commit.settle(failure, self._values_before(Staging()), {})
            return
        self._metrics.increments.inc(staging.increments)
        identity = self._replica.identity
        position = {identity.incarnation: self._replica.version}
        commit.settle(None, self._values_before(staging), position, staging.ids)

    async def _commit_batch(self, committed: Callable[[Batch], None]) -> DiskFull | None:
        """Write, sync and apply one batch; returns why it was dropped, if it was."""
        batch = self._writer.seal()
        if not (self.full or batch.deltas or batch.identity or batch.membership or batch.floor is not None):
            self._writer.abort()  # ids that were known by then, or nothing to settle
            return None
        started = trio.current_time()
        try:
            size = await self._log.append(batch, batch.identity or self._replica.identity)
        except DiskFull as error:
            self._writer.abort()
            self._metrics.disk_full.inc()
            self._report_full(str(error))
            return error
        self._writer.commit()  # durable before visible: only after the sync in `append`
        self._metrics.committed(batch, size, trio.current_time() - started)
        self._report_full(None)
        committed(batch)
        return None

    def _report_full(self, reason: str | None) -> None:
        """Log when batches begin to be refused, and when they are taken again.

        A disk that is nearly full takes small batches and refuses large ones. So it counts as full until no batch was
        refused for `PROBE_AFTER` seconds, and the log has one line for that time, not many.
        """
        now = trio.current_time()
        if reason:
            if not self.full:
                logger.error(shortage(reason), reason=reason, effect="increments are refused until there is space")
            self.full, self._failed_at = reason, now
        elif self.full and now >= self._failed_at + PROBE_AFTER:
            event = "disk has space again" if self.full == FULL else "log writable again"
            logger.info(event, effect="increments are taken")
            self.full = None


def _answer(asked: Asked, staged: Staged, callback: Callable[[Outcome], None], commit: Commit) -> None:
    if commit.failure is not None:
        refusal = DiskFull(str(commit.failure))  # a new one for each caller, as in `Commit.wait`: it may be raised
        callback(refused(asked, refusal, commit.before.__getitem__))
    else:
        values = staged.values(commit.before)
        assert len(values) == len(staged.names), "an outcome has a value for each counter that was asked for"
        ids = staged.ids
        if ids is None:
            callback(Outcome(values, commit.position, staged.refused))
        else:
            position, replayed = ids.position(commit.ids, commit.position), ids.replayed(commit.ids)
            callback(Outcome(values, position, staged.refused, replayed))
