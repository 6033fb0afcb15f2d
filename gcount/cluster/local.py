"""This node, as its links and its reads see it."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from random import Random

import structlog
import trio

from gcount.core.holds import Holds
from gcount.core.identity import Standing
from gcount.core.limits import ID_BYTES, PUSH_CELLS
from gcount.core.membership import Membership
from gcount.core.replica import Replica
from gcount.core.wire import PROTOCOL, Hello
from gcount.errors import DiskFull
from gcount.metrics import Metrics
from gcount.storage.commits import Commit, Committer

TWIN_PAUSE = 60.0  # seconds

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Local:
    """What the links and reads of one start share.

    Args:
        cluster: the cluster's name.
        replica: the state.
        committer: the door to it.
        standing: whether the incarnation is this node's to use.
        random: where ids and jitter come from.
        metrics: what is counted.
    """

    def __init__(
        self, cluster: str, replica: Replica, committer: Committer, standing: Standing, random: Random, metrics: Metrics
    ) -> None:
        self.cluster = cluster
        self.replica = replica
        self.committer = committer
        self.standing = standing
        self.random = random
        self.metrics = metrics
        self.holds = Holds()
        self.boot = random.randbytes(ID_BYTES)
        self.own_addresses: set[str] = set()
        self.met: dict[str, Hello] = {}  # the last hello from each member's address
        self.on_learned: Callable[[Membership], None] = lambda membership: None  # before it is durable
        self.on_identity: Callable[[], None] = lambda: None  # all links have to say hello anew
        self._news = trio.Event()
        self._mint: Commit | None = None
        self._next_twin = -inf
        self._copy_told = False
        self._learned = Membership()  # the newest that any peer told, maybe not yet on disk
        self.unheard = False  # a member's confirmation did not count, as the disk was full
        self._released = trio.Event()

    @property
    def others(self) -> list[str]:
        """The addresses of all members but this node."""
        return [address for address in self.replica.membership.actors if address not in self.own_addresses]

    @property
    def may_continue(self) -> bool:
        """Whether an increment may be counted under this node's incarnation now."""
        standing = self.standing
        return standing.may_continue(() if standing.settled else self.others)

    @property
    def readable(self) -> list[str]:
        """The addresses that a consistent read needs: all members, also those of a config not yet on disk."""
        if self.replica.membership.merge(self._learned) == self.replica.membership:
            return self.others
        return [*self.others, *(address for address in self._learned.actors if address not in self.own_addresses)]

    @property
    def max_aside_cells(self) -> int:
        """How many cells of one push may be kept aside: one delta of all counters, with others before it."""
        return 2 * self.replica.max_counters + PUSH_CELLS

    @property
    def self_address(self) -> str | None:
        """This node's own entry in the membership."""
        return next((address for address in self.replica.membership.actors if address in self.own_addresses), None)

    def hello(self, *, twin: bool = False) -> Hello:
        """What this node says first on a link."""
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
        )

    def is_member(self, node: bytes) -> bool:
        """Whether a node answers at some member's address."""
        members = (self.met.get(address) for address in self.others)
        return any(hello.node == node for hello in members if hello is not None)

    def is_members(self, incarnation: bytes) -> bool:
        """Whether a member that was met runs, or ran, under an incarnation."""
        return any(incarnation == hello.incarnation or incarnation in hello.retired for hello in self.met.values())

    def is_claimed(self, incarnation: bytes, node: bytes) -> bool:
        """Whether an incarnation is this node's, or that of a member that is not `node`."""
        return self.replica.identity.owns(incarnation) or any(
            hello.node != node and (incarnation == hello.incarnation or incarnation in hello.retired)
            for hello in self.met.values()
        )

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

    def found_self(self, address: str) -> None:
        """An entry of the membership is this node: nobody has to wait for it."""
        if address not in self.own_addresses:
            self.own_addresses.add(address)
            self.on_learned(self.replica.membership)
            self.tell_news()

    def forget(self, address: str) -> None:
        """An address is dialled no more: what is kept of each address goes, however many there ever were."""
        self.met.pop(address, None)
        self.own_addresses.discard(address)
        self.standing.forget(address)
        self.metrics.forget_peer(address)

    async def adopt(self, membership: Membership) -> bool:
        """Learn a membership from a peer.

        Returns:
            Whether it is in force, or one that wins over it; False while the disk is full, to be tried again later.
        """
        if self.replica.membership.merge(membership) != self.replica.membership:
            self._learned = self._learned.merge(membership)
            self.on_learned(membership)
            try:
                await self.committer.adopt(membership).wait()
            except DiskFull:
                return False
        return self.replica.membership.merge(membership) == self.replica.membership

    def adopt_missed(self) -> None:
        """The disk has room: put in force what came while it was full, then ask the members again what they know."""
        if self.replica.membership.merge(self._learned) != self.replica.membership:
            self.committer.adopt(self._learned)
        elif self.unheard:
            self.unheard = False
            self.on_identity()

    def heard(self, address: str, knows: int) -> None:
        """A member told what it knows of this node's incarnation; the caller then awaits `mint_if_due`."""
        self.standing.heard(address, knows, self.replica.version)
        self.tell_news()

    def begin_mint(self) -> Commit | None:
        """Stage a new incarnation if one is due: no batch that is sealed later counts under the old one."""
        if self.standing.reason is None:
            return None
        if self._mint is None or self._mint.failed:
            self._mint = self._stage_mint()
        return self._mint

    async def mint_if_due(self) -> None:
        """Make a new incarnation durable if anything speaks against the old one.

        Raises:
            DiskFull: it is still due.
        """
        mint = self.begin_mint()  # before anything is awaited
        if mint is not None:
            await mint.wait()

    def is_twin(self, hello: Hello) -> bool:
        """Whether another process says that it has, or had, this node's identity."""
        own = self.replica.identity
        return hello.boot != self.boot and (hello.node == own.node or own.incarnation in hello.retired)

    def look_for_copy(self, hello: Hello, address: str) -> None:
        """Say once in a start that another node has this one's past, also when both count apart already.

        Args:
            hello: what the other node said.
            address: where it was met.
        """
        own = self.replica.identity
        shared = {own.incarnation, *own.retired} & {hello.incarnation, *hello.retired}
        if shared and hello.node != own.node and hello.boot != self.boot and not self._copy_told:
            self._copy_told = True
            logger.warning(
                "directory was copied",
                reason=f"another process has, or had, a copy of this node's data directory: {address}",
                node=hello.node.hex()[:8],
            )

    async def called_by_twin(self, hello: Hello) -> None:
        """A caller that is alive says that it has, or had, this node's identity.

        Anybody can say that, so it makes this node mint once a minute at most.
        """
        if self.is_twin(hello):
            self.told_of_twin("another process with a copy of this node's data directory called this one")
            with suppress(DiskFull):
                await self.mint_if_due()

    def told_of_twin(self, reason: str) -> None:
        """Somebody who may be anybody, or may have heard it from anybody, says that this node has a twin.

        It counts once a minute. A true twin is met again when the pause is over: the two cut each other's links.
        """
        now = trio.current_time()
        if now >= self._next_twin:
            self._next_twin = now + TWIN_PAUSE
            self.standing.met_twin(reason)

    def minted(self) -> None:
        """A new incarnation is durable; called with its commit, whoever waited for it or does no more."""
        identity = self.replica.identity
        logger.warning(
            "new incarnation",
            reason=self.standing.reason,
            incarnation=identity.incarnation.hex(),
            retired=identity.retired[-1].hex(),
        )
        self._mint = None
        self.standing.minted()
        self.metrics.incarnations_minted.inc()
        self.tell_news()
        self.on_identity()

    def _stage_mint(self) -> Commit:
        node = self.random.randbytes(ID_BYTES) if self.standing.twin else None
        return self.committer.mint(self.replica.identity.reborn(self.random.randbytes(ID_BYTES), node))

    async def wait_news(self) -> None:
        """Return when a confirmation, an own address, a membership or an identity is news."""
        await self._news.wait()

    def tell_news(self) -> None:
        """Wake all who wait for news."""
        news, self._news = self._news, trio.Event()
        news.set()
