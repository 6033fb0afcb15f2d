"""Under which incarnation this node counts: what speaks against the present one, and when a new one begins.

What members and callers say can make a node begin a new incarnation, so all of them together are believed once a
minute: each incarnation is kept for ever, and a cluster can hold so many only. Two nodes of one id cut each other's
links, and another id costs nothing that is kept: a node that may begin no incarnation now takes another id at least.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from random import Random

import structlog
import trio

from gcount.core.limits import ID_BYTES
from gcount.core.protocol.messages import Hello
from gcount.core.state.identity import IncarnationClaim
from gcount.core.state.replica import Replica
from gcount.errors import DiskFull, IncarnationLimitReached
from gcount.observe.metrics import Metrics
from gcount.observe.throttle import Throttle
from gcount.storage.group_commit import Commit, Committer

NEAR_LIMIT = 0.75  # of the limit, from which on each new incarnation is said to bring it nearer
CLAIM_PAUSE = 60.0  # seconds between two new incarnations, or ids, that others can bring about by what they say

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class IdentityGuard:
    """The right of this start to its incarnation.

    Args:
        boot: this start's id.
        replica: whose identity it is.
        committer: makes a new one durable.
        standing: what was learned of the present one.
        random: where ids come from.
        metrics: what is counted.
        tell_news: called when an increment may go on, or has to wait no more.

    Attributes:
        forks: incarnations of which two histories showed, each with the version from which on they differ, or earlier.
        unheard: a member's confirmation did not count, as the disk was full.
        no_room: says that one is due, and can't begin, however often somebody brings it up.
    """

    def __init__(
        self,
        boot: bytes,
        replica: Replica,
        committer: Committer,
        standing: IncarnationClaim,
        random: Random,
        metrics: Metrics,
        tell_news: Callable[[], None],
    ) -> None:
        self.boot = boot
        self.standing = standing
        self.forks: dict[bytes, int] = {}
        self.unheard = False
        self.no_room = Throttle("no new incarnation", quiet=60.0)
        self._replica = replica
        self._committer = committer
        self._random = random
        self._metrics = metrics
        self._tell_news = tell_news
        self._mint: Commit | None = None
        self._rename: Commit | None = None
        self._identity = replica.identity  # the one that is durable, as far as `minted` was told
        self._shares_node = False  # whether another process has the node's id, too: this one needs another
        self._next_claim = -inf
        self._next_rename = -inf
        self._copy_told = False
        self._claimed = Throttle("two histories claimed", quiet=60.0)
        self._claimed_forks = set[bytes]()
        self._forgotten: tuple[bytes, int] | None = None  # a life that somebody knew before he was told, and its start
        self._twin: tuple[bytes, bytes, int] | None = None  # boot of the last one that called, our life, and its start
        self._never_configured = not (standing.settled or replica.membership.actors)
        self._first_version = replica.version

    def heard(self, address: str, node: bytes, knows: int) -> None:
        """A member told what it knows of this node's incarnation; the caller then awaits `mint_if_due`."""
        if knows > self._replica.version:
            if not self._may_claim():
                return  # it is asked again with each heartbeat
            self.met_fork(address)
        self.standing.heard(address, node, knows, self._replica.version)
        self._tell_news()

    def met(self, hello: Hello, address: str, *, member: bool) -> None:
        """Another node said who it is; before anything else of its hello counts.

        Args:
            hello: what it said.
            address: where it was met.
            member: whether it answered at an address of a member; else it called, and may be anybody.
        """
        self._look_for_copy(hello, address)
        incarnation, began_with = self._replica.identity.incarnation, self._first_version
        knows = hello.digest.get(incarnation, 0)
        if self._never_configured and knows and self._may_claim():
            # Only a node that had a config ever told anybody what it counted.
            if min(knows, self._replica.version) > began_with:
                self._forgotten = incarnation, began_with
                if not member:
                    self.claim_fork(incarnation, f"{address} has more, from a config forgotten here")
            self.standing.doubt(f"{address} knows this node from a config that its data directory has forgotten")
            with suppress(IncarnationLimitReached):  # which increments are told
                self.begin_mint()
        if member:
            self._prove_claims(hello, address)

    def _prove_claims(self, hello: Hello, address: str) -> None:
        """What callers claimed is proven when a member says the same of itself."""
        if self._forgotten is not None:
            incarnation, began_with = self._forgotten
            if hello.digest.get(incarnation, 0) > began_with:
                self.show_fork(incarnation, began_with + 1, f"{address} has more, from a config forgotten here")
        if self._twin is not None:
            boot, incarnation, began_with = self._twin
            if hello.boot == boot and incarnation in (hello.incarnation, *hello.retired):
                self.show_fork(incarnation, began_with + 1, f"{address} counted under it, too")

    def give_up(self, others: Iterable[str]) -> None:
        """The time to confirm the incarnation is over.

        Args:
            others: the addresses of the other members.

        Raises:
            IncarnationLimitReached: not all have confirmed, and there can't be a new one: they may still do it.
        """
        lacking = self.standing.unconfirmed(others)
        if not self.standing.may_continue(others) and self.standing.reason is None:
            self.require_room_for_life(f"not confirmed by {', '.join(lacking)}")
        self.standing.give_up(others)

    def members_changed(self, actors: Iterable[str]) -> None:
        """Another membership is in force; unless a new incarnation is on its way, claims of who left it are void."""
        if self._mint is None:
            self.standing.retract(actors)
            self._tell_news()

    def tells_others(self) -> None:
        """From now on other nodes can know of this incarnation what this start counts under it."""
        self._never_configured, self._forgotten = False, None

    def begin_mint(self) -> Commit | None:
        """Stage a new incarnation if one is due: no batch that is sealed later counts under the old one.

        If none is due, or there can't be one more, only another id of the node is staged where that is due.

        Raises:
            IncarnationLimitReached: it is due, and there can't be one more.
        """
        if self.standing.reason is None or not self._replica.may_be_reborn:
            self._rename_if_due()
        if self.standing.reason is None:
            return None
        if self._mint is None or self._mint.failed:
            self.require_room_for_life(self.standing.reason)
            self._mint = self._stage_mint()
        return self._mint

    def _rename_if_due(self) -> None:
        minting = self._mint is not None and not self._mint.failed  # with another id, if that was due then
        if self._shares_node and not minting and (self._rename is None or self._rename.failed):
            self._rename = self._committer.mint(self._replica.identity.renamed(self._random.randbytes(ID_BYTES)))

    async def mint_if_due(self) -> None:
        """Make a new incarnation durable if anything speaks against the old one.

        Raises:
            DiskFull: it is still due.
            IncarnationLimitReached: it is due, and there can't be one more.
        """
        mint = self.begin_mint()  # before anything is awaited
        if mint is not None:
            await mint.wait()

    def require_room_for_life(self, reason: str) -> None:
        """Refuse what needs a new incarnation when there can't be one more.

        Args:
            reason: why a new one is needed.

        Raises:
            IncarnationLimitReached: with that reason.
        """
        if not self._replica.may_be_reborn:
            limit, lives = self._replica.options.reborn_below, self._replica.lives
            raise IncarnationLimitReached(
                f"this node can't count under its present incarnation ({reason}), and no node begins a new one when "
                f"{limit} are known, and here are {lives}; reads and other nodes go on"
            )

    def is_twin(self, hello: Hello) -> bool:
        """Whether another process says that it has, or had, this node's identity."""
        return hello.boot != self.boot and (hello.node == self._replica.identity.node or self._counts_too(hello))

    def _counts_too(self, hello: Hello) -> bool:
        """Whether another process runs, or ran, under this node's present incarnation."""
        return self._replica.identity.incarnation in (hello.incarnation, *hello.retired)

    def shares_past(self, hello: Hello) -> bool:
        """Whether another process runs, or ran, under an incarnation that this node runs or ran under."""
        own = self._replica.identity
        return hello.boot != self.boot and any(map(own.owns, (hello.incarnation, *hello.retired)))

    def _look_for_copy(self, hello: Hello, address: str) -> None:
        """Say once in a start that another node has this one's past, also when both count apart already."""
        if hello.node != self._replica.identity.node and self.shares_past(hello) and not self._copy_told:
            self._copy_told = True
            logger.warning(
                "directory was copied",
                reason=f"another process has, or had, a copy of this node's data directory: {address}",
                node=hello.node.hex()[:8],
            )

    async def called_by_twin(self, hello: Hello) -> None:
        """A caller that is alive says that it has, or had, this node's identity."""
        if self.is_twin(hello):
            if self._counts_beside(hello):
                self._twin = hello.boot, hello.incarnation, self._first_version
                self.claim_fork(hello.incarnation, "a caller says that it counts under it, too")
            self._believe_twin(hello, "a caller")
            with suppress(DiskFull, IncarnationLimitReached):
                await self.mint_if_due()

    def told_of_twin(self, reason: str) -> None:
        """Somebody who may be anybody, or may have heard it from anybody, says that this node has a twin.

        What comes too early is said again: a true twin is one with each message that it sends.
        """
        self._share_node()
        if self._may_claim():
            self.standing.doubt(reason)

    def _share_node(self) -> None:
        """Another process has this node's id; this is believed once a minute, too, as another id cuts all links."""
        now = trio.current_time()
        if not self._shares_node and now >= self._next_rename:
            self._next_rename = now + CLAIM_PAUSE
            self._shares_node = True

    def met_twin(self, hello: Hello, address: str) -> None:
        """Another process, which answers at a member's address, has this node's identity; see `told_of_twin`.

        Args:
            hello: what it said.
            address: where it was met.
        """
        if self._counts_beside(hello):
            self.show_fork(hello.incarnation, self._first_version + 1, f"{address} counts under it, too")
        self._believe_twin(hello, address)

    def _counts_beside(self, hello: Hello) -> bool:
        """Whether another process counts under the incarnation under which this start has counted."""
        present = self._replica.identity.incarnation
        return hello.incarnation == present and self._replica.version > self._first_version

    def _believe_twin(self, hello: Hello, address: str) -> None:
        if hello.node == self._replica.identity.node:
            self._share_node()
        if self._counts_too(hello) and self._may_claim():
            self.standing.doubt(f"another process has a copy of this node's data directory: {address}")

    def met_fork(self, address: str) -> None:
        """A member has more of this node's incarnation than the node itself, be it that its disk had forgotten some."""
        if self.standing.settled:  # else nothing was counted under it yet
            self.show_fork(self._replica.identity.incarnation, self._first_version + 1, f"{address} has more of it")

    def show_fork(self, incarnation: bytes, version: int, how: str) -> None:
        """Two histories of an incarnation showed: increments of one of them may be hidden by the other for good.

        Args:
            incarnation: whose.
            version: from which on, or from an earlier one.
            how: what showed it.
        """
        if incarnation not in self.forks:
            self.forks[incarnation] = version
            logger.error(
                "two histories of one incarnation",
                incarnation=incarnation.hex(),
                from_version=version,
                reason=how,
                effect="some of what was counted under it may be hidden; see docs/guarantees.md, What is assumed",
            )

    def claim_fork(self, incarnation: bytes, how: str) -> None:
        """Somebody who may be anybody says what would make two histories of an incarnation; it is no proof.

        Args:
            incarnation: whose.
            how: what was said.
        """
        if incarnation not in self.forks and incarnation not in self._claimed_forks:
            self._claimed_forks.add(incarnation)
            self._claimed.warn(
                incarnation=incarnation.hex(),
                reason=how,
                effect="none, if no copy of a data directory runs; it is not proven, so it is not in /status",
            )

    def _may_claim(self) -> bool:
        """Anybody can say what makes a node mint, so all of them together are believed once a minute.

        What this very process minted nobody can know more of, unless the machine, or its directory, was copied since.
        """
        now = trio.current_time()
        if self.standing.reason is None:
            if now < self._next_claim:
                return False
            self._next_claim = now + CLAIM_PAUSE
        return True

    def minted(self) -> None:
        """A new identity is durable; called with its commit, whoever waited for it or does no more."""
        before, identity = self._identity, self._replica.identity
        self._identity = identity
        if identity.node != before.node:
            self._shares_node, self._rename = False, None
        if identity.incarnation == before.incarnation:
            logger.warning("new node id", reason="another process has the old one, too", node=identity.node.hex()[:8])
            return
        logger.warning(
            "new incarnation",
            reason=self.standing.reason,
            incarnation=identity.incarnation.hex(),
            retired=identity.retired[-1].hex(),
        )
        if self._replica.lives >= (limit := self._replica.options.reborn_below) * NEAR_LIMIT:
            logger.warning(
                "incarnations run out",
                known=self._replica.lives,
                limit=limit,
                effect="at the limit a node that would need a new one takes no increments",
            )
        self._mint = None
        self._never_configured = False
        self._first_version = 0
        self.standing.minted()
        self._metrics.incarnations_minted.inc()
        self._tell_news()

    def _stage_mint(self) -> Commit:
        node = self._random.randbytes(ID_BYTES) if self._shares_node else None
        return self._committer.mint(self._replica.identity.reborn(self._random.randbytes(ID_BYTES), node))
