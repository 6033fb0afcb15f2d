"""The one way in for increments, for every protocol, whether the caller can wait or not."""

from collections.abc import Callable

import trio

from gcount.cluster.context import Context
from gcount.cluster.hold_gate import HoldGate
from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.minting import Minting
from gcount.core.writes.increments import Asked, Outcome, changes, grown, refused, unchanged
from gcount.errors import DiskFull, IncarnationLimitReached


class Increments:
    """Counts on a node that has recovered.

    Args:
        context: what the parts of the node share.
        guard: guards the right to the incarnation.
        minting: begins a new incarnation.
        gate: lets increments wait while their counters are read.
        serving_since: when the node had recovered, in seconds of trio's clock.
    """

    def __init__(
        self, context: Context, guard: IdentityGuard, minting: Minting, gate: HoldGate, serving_since: float
    ) -> None:
        self._replica = context.replica
        self._committer = context.committer
        self._ids = context.ids
        self._news = context.news
        self._stopping = context.stopping
        self._guard = guard
        self._minting = minting
        self._gate = gate
        self._holds = gate.holds
        self._confirm_until = serving_since + context.replica.options.confirm_within

    def submit(self, asked: Asked, callback: Callable[[Outcome], None]) -> bool:
        """Take a request, unless it has to wait for anything but the disk.

        Args:
            asked: the request; see `gcount.core.writes.increments`.
            callback: is called once with the outcome, at the instant at which the increments are on disk and visible,
                or refused. If the request changes nothing, that is before this returns. It must not raise.

        Returns:
            False when the request has to wait for a hold, or for the node's right to its incarnation. Nothing was done
            then, and the caller can use `run`, which waits.
        """
        if not changes(asked, self._ids.durable):
            callback(self._now(asked))
            return True
        # There are almost never any holds, so this is one look at an empty dict.
        if self._holds and self._holds.any_held(grown(asked), trio.current_time()):
            return False
        if not self._guard.may_continue:
            return False
        self._committer.stage(asked, callback)
        return True

    async def run(self, asked: Asked) -> Outcome:
        """Take a request and wait: for holds, after a start for the members' confirmations, and for the disk.

        If this is cancelled while it waits for the disk, the request may be counted or not.

        Args:
            asked: the request; see `gcount.core.writes.increments`.

        Returns:
            The outcome; increments are on disk then, unless refused.
        """
        outcomes: list[Outcome] = []
        done = trio.Event()

        def callback(outcome: Outcome) -> None:
            assert not outcomes, "a request has one outcome"
            outcomes.append(outcome)
            done.set()

        if not self.submit(asked, callback):
            if self._holds:
                await self._gate.wait_unheld(grown(asked))
            try:
                await self._confirm_identity()
            except (DiskFull, IncarnationLimitReached) as refusal:
                return refused(asked, refusal, self._replica.counters.total)
            # There is no await since the confirmation, so the incarnation is still right. Holds that began meanwhile
            # are not waited for, or constant reads could keep an increment waiting for ever.
            self._committer.stage(asked, callback)
        await done.wait()
        return outcomes[0]

    def _now(self, asked: Asked) -> Outcome:
        replica = self._replica
        position = {replica.identity.incarnation: replica.version}
        return unchanged(asked, replica.counters.total, self._ids.position(asked, position))

    async def _confirm_identity(self) -> None:
        guard, stopping = self._guard, self._stopping
        if guard.may_continue:
            return
        with stopping.ends(self._confirm_until):
            while not (stopping.is_set or guard.claim.reason or guard.may_continue):
                await self._news.wait()
        guard.give_up()
        await self._minting.mint_if_due()
