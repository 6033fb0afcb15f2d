"""Changes of the membership, and of what is known about its entries."""

from collections.abc import Callable

import structlog

from gcount.cluster.context import Context
from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.members import Members
from gcount.core.state.membership import Membership
from gcount.errors import DiskFull

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class MembershipUpdates:
    """The one place where they are taken in.

    Args:
        context: what is shared.
        members: who belongs to the cluster.
        guard: has to forget which members confirmed the incarnation.
        learned: called with each membership that may come into force, before it is durable: consistent reads need its
            members from then on.
    """

    def __init__(
        self, context: Context, members: Members, guard: IdentityGuard, learned: Callable[[Membership], None]
    ) -> None:
        self._replica = context.replica
        self._committer = context.committer
        self._metrics = context.metrics
        self._news = context.news
        self._members = members
        self._guard = guard
        self._learned = learned

    async def adopt(self, membership: Membership) -> bool:
        """Learn a membership from a peer.

        Returns:
            Whether it is in force, or one that wins over it; False while the disk is full, to be tried again later.
        """
        if self._replica.membership.merge(membership) != self._replica.membership:
            self._members.learned = self._members.learned.merge(membership)
            self._learned(membership)
            try:
                await self._committer.adopt(membership).wait()
            except DiskFull:
                return False
        return self._replica.membership.merge(membership) == self._replica.membership

    def adopt_missed(self) -> bool:
        """The disk has room: stage what came while it was full; returns whether there was anything."""
        learned = self._members.learned
        if self._replica.membership.merge(learned) == self._replica.membership:
            return False
        self._committer.adopt(learned)
        return True

    def found_self(self, entry: str) -> None:
        """It was proven that an entry of the membership is this node: nobody has to wait for it."""
        if self._members.proves(entry):
            self._changed()

    def lost_self(self, entry: str) -> None:
        """An entry of the membership is not this node; the proof that it is may have been out of date for long."""
        if self._members.disproves(entry):
            if entry in self._replica.membership.actors:
                logger.warning(
                    "entry is no longer this node",
                    entry=entry,
                    effect="this node dials it, and consistent reads need its answer",
                )
            self._changed()

    def forget(self, address: str) -> None:
        """An address is dialled no more: what is kept of each address goes, however many there ever were."""
        self._members.forget(address)
        self._guard.claim.forget(address)
        self._metrics.forget_peer(address)

    def _changed(self) -> None:
        self._learned(self._replica.membership)
        self._news.notify()
