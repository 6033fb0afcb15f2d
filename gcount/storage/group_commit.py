"""Group commit: one task writes and syncs all that waits, again and again; everybody else only waits for it.

Durability lives here and never in a request handler, which its client can cancel at any moment.
"""

from collections.abc import Callable, Sequence
from math import inf
from operator import add, sub

import structlog
import trio

from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.errors import DiskFull, Refusal
from gcount.observe.metrics import Metrics
from gcount.storage.disk import FULL, shortage
from gcount.storage.log import Log

RIDE = 0.005  # seconds that deltas of peers wait for the next commit before they start one
PROBE_AFTER = 1.0  # seconds between two attempts to write to a full disk
LOOK_AFTER = 1.0  # seconds without a batch until it is seen whether the log is still in its place

Amounts = Sequence[tuple[str, int]]
"""Names, each with what to add."""

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Commit:
    """The fate of one batch, for those who wait for it.

    Attributes:
        increments: how many of them are in the batch.
    """

    __slots__ = ("_done", "_failure", "_then", "increments")

    def __init__(self) -> None:
        self.increments = 0
        self._done = trio.Event()
        self._failure: DiskFull | None = None
        self._then: list[Callable[[DiskFull | None, dict[str, int]], None]] = []

    def then(self, tell: Callable[[DiskFull | None, dict[str, int]], None]) -> None:
        """Have something called in the instant in which the batch becomes visible, or is dropped.

        Args:
            tell: called with why it was dropped, and with `resolve`'s values. It must not raise.
        """
        self._then.append(tell)

    async def wait(self) -> None:
        """Return when the batch is durable and visible.

        Raises:
            DiskFull: it was dropped.
        """
        await self._done.wait()
        if self._failure is not None:
            raise DiskFull(str(self._failure))

    @property
    def failed(self) -> bool:
        """Whether it was dropped."""
        return self._failure is not None

    def resolve(self, failure: DiskFull | None, before: dict[str, int]) -> None:
        """Tell and wake all who wait.

        Args:
            failure: why the batch was dropped.
            before: the values of this node's counters in it, without what this node added.
        """
        self._failure = failure
        for tell in self._then:
            tell(failure, before)
        self._done.set()


class Committer:
    """Stages what arrives and commits it in groups.

    Args:
        replica: where it is staged and becomes visible.
        log: where it is made durable.
        metrics: what is counted.
    """

    def __init__(self, replica: Replica, log: Log, metrics: Metrics) -> None:
        self.full: str | None = None  # why a batch could not be written; None when all could for PROBE_AFTER
        self._failed_at = -inf
        self._replica = replica
        self._log = log
        self._metrics = metrics
        self._next = Commit()
        self._flying: Commit | None = None
        self._wake = trio.Event()
        self._waiting = trio.CancelScope()
        self._due = inf  # when what waits for company is committed without it

    async def increment_many(self, amounts: Amounts, together: Sequence[range] = ()) -> list[int | Refusal]:
        """Stage many increments for one batch, in order and without an await in between, then wait for it.

        Args:
            amounts: names, each with what to add; 0 is there to know the value at its place in the order.
            together: places among them, in order, of which all are taken or none.

        Returns:
            For each the value after what was staged up to it, or why it was refused.

        Raises:
            DiskFull: the batch was dropped.
        """
        replica = self._replica
        staged: list[int | Refusal] = []
        for places in together:
            staged += self._stage(amounts[len(staged) : places.start])
            staged += self._stage_together(amounts[places.start : places.stop])
        staged += self._stage(amounts[len(staged) :] if together else amounts)
        answers: list[int | Refusal] = []

        def tell(failure: DiskFull | None, before: dict[str, int]) -> None:
            if failure is None:
                for n, (name, _) in zip(staged, amounts, strict=True):
                    value = before[name] if name in before else replica.counters.total(name)
                    answers.append(n if isinstance(n, Refusal) else n + value)

        self._next.then(tell)
        await self._soon().wait()
        return answers

    def _stage(self, amounts: Amounts) -> list[int | Refusal]:
        replica = self._replica
        staged: list[int | Refusal] = []
        for name, amount in amounts:
            try:
                staged.append(replica.stage_increment(name, amount) if amount else replica.amounts.get(name, 0))
                self._next.increments += 1 if amount else 0
            except Refusal as refusal:
                staged.append(refusal)
        return staged

    def _stage_together(self, amounts: Amounts) -> Sequence[int | Refusal]:
        try:
            staged = self._replica.stage_together(amounts)
        except Refusal as refusal:
            return [refusal] * len(amounts)
        self._next.increments += sum(amount > 0 for _, amount in amounts)
        return staged

    def increment_each(
        self, names: Sequence[str], amount: int, tell: Callable[[Sequence[int] | DiskFull], None]
    ) -> bool:
        """Stage an amount for each of many names for one batch, in a fraction of the time, and wait for nothing.

        Args:
            names: valid ones, in their order; at least one.
            amount: at least 1.
            tell: called with the value after each in the instant in which they become visible, or with why they did
                not. It must not raise.

        Returns:
            False when a limit is so near that `increment_many` has to look at each: nothing was changed.
        """
        staged = self._replica.stage_each(names, amount)
        if staged is None:
            return False

        def commit(failure: DiskFull | None, before: dict[str, int]) -> None:
            if failure is not None:
                tell(failure)
                return
            if isinstance(staged, range):  # of one counter only
                value = before[names[0]]
                tell(range(staged.start + value, staged.stop + value, amount))
            else:
                tell([*map(add, staged, map(before.__getitem__, names))])

        self._next.increments += len(names)
        self._next.then(commit)
        self._soon()
        return True

    def _values_before(self, amounts: dict[str, int]) -> dict[str, int]:
        """The values of counters before this node's part of the batch that became visible.

        The order in which increments are staged is the order in which they count. So the answer to one is this and
        what was staged up to it: no two get the same answer.
        """
        return dict(zip(amounts, map(sub, self._replica.counters.totals_of(amounts), amounts.values()), strict=True))

    def take(self, deltas: list[Delta], *, urgent: bool = False) -> Commit:
        """Stage deltas of a peer; those that can't be taken are left out.

        Unless they are urgent nobody waits for them but their sender's next push, so for a moment they wait for others
        to share the sync.
        """
        for delta in deltas:
            self._replica.stage_delta(delta)
        if urgent:
            return self._soon()
        self._due = min(self._due, trio.current_time() + RIDE)
        self._waiting.deadline = min(self._waiting.deadline, self._due)
        return self._next

    def adopt(self, membership: Membership) -> Commit:
        """Stage a membership; one that does not win changes nothing."""
        self._replica.stage_membership(membership)
        return self._soon()

    def mint(self, identity: Identity) -> Commit:
        """Stage a new identity."""
        self._replica.stage_identity(identity)
        return self._soon()

    def hurry(self) -> Commit | None:
        """The newest batch that is on its way to the disk, which sets out at once; None when all is durable."""
        return self._soon() if self._replica.anything_staged else self._flying

    async def run(self, committed: Callable[[Batch], None]) -> None:
        """Commit group after group, for ever.

        Args:
            committed: called, without an await in between, after each commit.

        Raises:
            DiskFailed: the process has to end; whoever still waits is not answered.
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
        commit, self._next, amounts = self._next, Commit(), self._replica.amounts
        self._flying = commit
        failure: DiskFull | None = None
        if self._replica.anything_staged or self.full:
            failure = await self._commit_batch(committed)
        # No await from here on: what the sync made durable becomes visible before anybody else runs.
        self._flying = None
        self._metrics.increments.inc(0 if failure else commit.increments)
        commit.resolve(failure, {} if failure else self._values_before(amounts))

    async def _commit_batch(self, committed: Callable[[Batch], None]) -> DiskFull | None:
        batch = self._replica.seal()
        started = trio.current_time()
        try:
            size = await self._log.append(batch, batch.identity or self._replica.identity)
        except DiskFull as error:
            self._replica.abort()
            self._metrics.disk_full.inc()
            self._report_full(str(error))
            return error
        self._replica.commit()
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
