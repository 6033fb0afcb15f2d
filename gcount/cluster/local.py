"""This node, as its links and its reads see it."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random

import structlog
import trio

from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.members import Members
from gcount.core.limits import ID_BYTES
from gcount.core.protocol.messages import PROTOCOL, Hello
from gcount.core.protocol.write_holds import Holds
from gcount.core.state.identity import IncarnationClaim
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.errors import DiskFull
from gcount.observe.metrics import Metrics
from gcount.storage.group_commit import Committer

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Local:
    """What the links and reads of one start share.

    Args:
        cluster: the cluster's name.
        replica: the state.
        committer: the door to it.
        standing: what is known of the right to the incarnation.
        random: where ids and jitter come from.
        metrics: what is counted.

    Attributes:
        members: who belongs to the cluster.
        guard: whether the incarnation is this node's to use.
    """

    def __init__(
        self,
        cluster: str,
        replica: Replica,
        committer: Committer,
        standing: IncarnationClaim,
        random: Random,
        metrics: Metrics,
    ) -> None:
        self.cluster = cluster
        self.replica = replica
        self.committer = committer
        self.random = random
        self.metrics = metrics
        self.members = Members(replica)
        self.holds = Holds(replica.options)
        self.boot = random.randbytes(ID_BYTES)
        self.guard = IdentityGuard(self.boot, replica, committer, standing, random, metrics, self.tell_news)
        self.on_learned: Callable[[Membership], None] = lambda membership: None  # before it is durable
        self.on_identity: Callable[[], None] = lambda: None  # all links have to say hello anew
        self._news = trio.Event()
        self._released = trio.Event()

    @property
    def may_continue(self) -> bool:
        """Whether an increment may be counted under this node's incarnation now."""
        standing = self.guard.standing
        return standing.may_continue(() if standing.settled else self.members.others)

    def hello(
        self,
        *,
        twin: bool = False,
        challenge: bytes = b"",
        seen: dict[bytes, int] | None = None,
        resumes: int = 0,
        kept: int = 0,
    ) -> Hello:
        """What this node says first on a link; see `wire.Hello`."""
        identity = self.replica.identity
        return Hello(
            PROTOCOL,
            self.cluster,
            identity.node,
            self.boot,
            identity.incarnation,
            list(identity.retired),
            self.replica.membership,
            self.replica.counters.digest(),
            twin,
            challenge,
            self.members.self_address or "",
            seen or {},
            resumes,
            kept,
        )

    # The disk, and holds

    async def settle(self) -> None:
        """Return when all that is staged now is durable, or dropped."""
        commit = self.committer.hurry()
        if commit is not None:
            with suppress(DiskFull):
                await commit.wait()

    def release(self, name: str, sharer: object) -> None:
        """End a share of a hold."""
        if self.holds.release(name, sharer, trio.current_time()):
            self._unheld()

    def release_all(self, sharer: object) -> None:
        """End all shares of a link that is gone."""
        if self.holds.release_all(sharer, trio.current_time()):
            self._unheld()

    async def wait_unheld(self, names: Iterable[str]) -> None:
        """Return when the holds are over that keep increments of these counters waiting now; maybe no checkpoint.

        Those that begin meanwhile are not waited for, or a batch of many counters would wait for one after the other.
        """
        for hold in self.holds.in_force(names, trio.current_time()):
            while not hold.over(trio.current_time()):
                with trio.move_on_at(hold.until()):
                    await self._released.wait()

    def _unheld(self) -> None:
        released, self._released = self._released, trio.Event()
        released.set()

    # Who belongs to the cluster

    def found_self(self, entry: str) -> None:
        """It was proven that an entry of the membership is this node: nobody has to wait for it."""
        if self.members.proves(entry):
            self._members_changed()

    def lost_self(self, entry: str) -> None:
        """An entry of the membership is not this node; the proof that it is may have been out of date for long."""
        if self.members.disproves(entry):
            if entry in self.replica.membership.actors:
                logger.warning("no longer this node", entry=entry, effect="it is dialled, and consistent reads need it")
            self._members_changed()

    def _members_changed(self) -> None:
        self.on_learned(self.replica.membership)
        self.tell_news()

    def forget(self, address: str) -> None:
        """An address is dialled no more: what is kept of each address goes, however many there ever were."""
        self.members.forget(address)
        self.guard.standing.forget(address)
        self.metrics.forget_peer(address)

    async def adopt(self, membership: Membership) -> bool:
        """Learn a membership from a peer.

        Returns:
            Whether it is in force, or one that wins over it; False while the disk is full, to be tried again later.
        """
        if self.replica.membership.merge(membership) != self.replica.membership:
            self.members.learned = self.members.learned.merge(membership)
            self.on_learned(membership)
            try:
                await self.committer.adopt(membership).wait()
            except DiskFull:
                return False
        return self.replica.membership.merge(membership) == self.replica.membership

    def adopt_missed(self) -> None:
        """The disk has room: put in force what came while it was full, then ask the members again what they know."""
        learned = self.members.learned
        if self.replica.membership.merge(learned) != self.replica.membership:
            self.committer.adopt(learned)
        elif self.guard.unheard:
            self.guard.unheard = False
            self.on_identity()

    def minted(self) -> None:
        """A new incarnation is durable; called with its commit, whoever waited for it or does no more."""
        self.guard.minted()
        self.on_identity()

    def look_for_forks(self) -> None:
        """Say of which incarnations deltas have told two histories; those of no member are anybody's to make up."""
        for incarnation, version in self.replica.counters.forks.items():
            if self.replica.identity.owns(incarnation) or self.members.is_members(incarnation):
                self.guard.show_fork(incarnation, version + 1, "a member told less of it than is known here")
            else:
                self.guard.claim_fork(incarnation, "a node that is no member told less of it than is known here")

    async def wait_news(self) -> None:
        """Return when a confirmation, an own address, a membership or an identity is news."""
        await self._news.wait()

    def tell_news(self) -> None:
        """Wake all who wait for news."""
        news, self._news = self._news, trio.Event()
        news.set()
