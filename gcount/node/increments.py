"""The one way in for increments: what every door asks for, whether it can wait or not."""

from collections.abc import Callable

import trio

from gcount.cluster.context import Context
from gcount.cluster.hold_gate import HoldGate
from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.minting import Minting
from gcount.core.state.increments import Asked, Outcome, changes, grown, refused, unchanged
from gcount.errors import DiskFull, IncarnationLimitReached


class Increments:
    """Counts on a node that has recovered.

    Args:
        context: what the parts of the node share.
        guard: the right to the incarnation.
        minting: begins a new one.
        gate: holds increments while counters are read.
        serving_since: when the node had recovered, in seconds of `trio.current_time()`.
    """

    def __init__(
        self, context: Context, guard: IdentityGuard, minting: Minting, gate: HoldGate, serving_since: float
    ) -> None:
        self._replica = context.replica
        self._committer = context.committer
        self._news = context.news
        self._stopping = context.stopping
        self._guard = guard
        self._minting = minting
        self._gate = gate
        self._holds = gate.holds
        self._confirm_until = serving_since + context.replica.options.confirm_within

    def submit(self, asked: Asked, tell: Callable[[Outcome], None]) -> bool:
        """Count, unless something has to be waited for but the disk.

        Args:
            asked: see `gcount.core.state.increments`.
            tell: called once with what came of it, in the instant in which it is on disk and visible, or refused; that
                is before this returns when nothing is to be changed. It must not raise.

        Returns:
            False when it has to wait for a hold, or for the node's right to its incarnation: nothing was done, and
            `run` waits.
        """
        if not changes(asked):
            tell(self._now(asked))
            return True
        if self._holds and self._holds.keep_any(grown(asked), trio.current_time()):
            return False
        if not self._guard.may_continue:
            return False
        self._committer.stage(asked, tell)
        return True

    async def run(self, asked: Asked) -> Outcome:
        """Count; what has to be waited for, is: a hold, at the start the members' confirmations, the disk.

        Returns:
            What came of it. When it is cancelled while it waits for the disk, it counts nevertheless, or not.
        """
        told: list[Outcome] = []
        done = trio.Event()

        def tell(outcome: Outcome) -> None:
            assert not told, "what was asked has one outcome"
            told.append(outcome)
            done.set()

        if not self.submit(asked, tell):
            if self._holds:
                await self._gate.wait_unheld(grown(asked))
            try:
                await self._confirm_identity()
            except (DiskFull, IncarnationLimitReached) as refusal:
                return refused(asked, refusal, self._replica.counters.total)
            # No await since the confirmation: nothing can have spoken against the incarnation meanwhile.
            # Holds are not looked at again: those that began meanwhile are not waited for.
            self._committer.stage(asked, tell)
        await done.wait()
        return told[0]

    def _now(self, asked: Asked) -> Outcome:
        replica = self._replica
        return unchanged(asked, replica.counters.total, {replica.identity.incarnation: replica.version})

    async def _confirm_identity(self) -> None:
        guard, stopping = self._guard, self._stopping
        if guard.may_continue:
            return
        with stopping.ends(self._confirm_until):
            while not (stopping.is_set or guard.claim.reason or guard.may_continue):
                await self._news.wait()
        guard.give_up()
        await self._minting.mint_if_due()
