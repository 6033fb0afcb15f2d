"""Changes of the membership, and of the knowledge which of its entries is this node."""

from collections.abc import Callable

import structlog

from gcount.cluster.context import Context
from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.members import Members
from gcount.core.state.membership import Membership
from gcount.errors import DiskFull

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class MembershipUpdates:
    """The one place where such changes are made.

    Args:
        context: what the parts of the node share.
        members: the members of the cluster.
        guard: forgets the confirmations of addresses that are no members any more.
        learned: is called with each membership that may come into force, before it is durable. From then on consistent
            reads have to ask its members, too.
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
        """Take a membership that a peer has sent.

        Returns:
            Whether this membership, or one that wins over it, is in force. It is not while the disk is full;
            `adopt_missed` tries again.
        """
        if self._replica.membership.merge(membership) != self._replica.membership:
            # Before the disk is waited for: the other members may have this membership in force already, and count
            # increments that a consistent read here must not miss.
            self._members.learned = self._members.learned.merge(membership)
            self._learned(membership)
            try:
                await self._committer.adopt(membership).wait()
            except DiskFull:
                return False
        return self._replica.membership.merge(membership) == self._replica.membership

    def adopt_missed(self) -> bool:
        """Stage a membership that came while the disk was full; returns whether there was one."""
        learned = self._members.learned
        if self._replica.membership.merge(learned) == self._replica.membership:
            return False
        self._committer.adopt(learned)
        return True

    def found_self(self, entry: str) -> None:
        """Note a proof that an entry of the membership is this node, so that nothing has to wait for a link to it."""
        if self._members.proves(entry):
            self._changed()

    def lost_self(self, entry: str) -> None:
        """Note that an entry of the membership is not this node. An old proof that it is may have expired before."""
        if self._members.disproves(entry):
            if entry in self._replica.membership.actors:
                logger.warning(
                    "entry is no longer this node",
                    entry=entry,
                    effect="this node dials it, and consistent reads need its answer",
                )
            self._changed()

    def forget(self, address: str) -> None:
        """Forget all about an address that is not dialled any more, so that memory stays bounded."""
        self._members.forget(address)
        self._guard.claim.forget(address)
        self._metrics.forget_peer(address)

    def _changed(self) -> None:
        self._learned(self._replica.membership)
        self._news.notify()
