"""The one way in for increments: what every door asks for, whether it can wait or not."""

from collections.abc import Callable

import trio

from gcount.cluster.local import Local
from gcount.core.state.increments import Asked, Outcome, changes, grown, refused, unchanged
from gcount.errors import DiskFull, IncarnationLimitReached

CONFIRM_WITHIN = 1.0  # seconds after the start in which increments wait for the members' confirmations


class Increments:
    """Counts on a node that has recovered.

    Args:
        local: the node.
        serving_since: when it had recovered, in seconds of `trio.current_time()`.
        stopping: whether the process is about to end, so that nothing waits for other nodes any more.
    """

    def __init__(self, local: Local, serving_since: float, stopping: Callable[[], bool]) -> None:
        self._local = local
        self._serving_since = serving_since
        self._stopping = stopping

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
        local = self._local
        if not changes(asked):
            tell(self._now(asked))
            return True
        if local.holds and local.holds.keep_any(grown(asked), trio.current_time()):
            return False
        if not local.may_continue:
            return False
        local.committer.stage(asked, tell)
        return True

    async def run(self, asked: Asked) -> Outcome:
        """Count; what has to be waited for, is: a hold, at the start the members' confirmations, the disk.

        Returns:
            What came of it. When it is cancelled while it waits for the disk, it counts nevertheless, or not.
        """
        told: list[Outcome] = []
        done = trio.Event()

        def tell(outcome: Outcome) -> None:
            told.append(outcome)
            done.set()

        if not self.submit(asked, tell):
            if self._local.holds:
                await self._local.wait_unheld(grown(asked))
            try:
                await self._confirm_identity()
            except (DiskFull, IncarnationLimitReached) as refusal:
                return refused(asked, refusal, self._local.replica.counters.total)
            # No await since the confirmation: nothing can have spoken against the incarnation meanwhile.
            # Holds are not looked at again: those that began meanwhile are not waited for.
            self._local.committer.stage(asked, tell)
        await done.wait()
        return told[0]

    def _now(self, asked: Asked) -> Outcome:
        replica = self._local.replica
        return unchanged(asked, replica.counters.total, {replica.identity.incarnation: replica.version})

    async def _confirm_identity(self) -> None:
        local = self._local
        if local.may_continue:
            return
        guard = local.guard
        with trio.move_on_at(self._serving_since + CONFIRM_WITHIN):
            while not (self._stopping() or guard.standing.reason or local.may_continue):
                await local.wait_news()
        guard.give_up(local.members.others)
        await guard.mint_if_due()
