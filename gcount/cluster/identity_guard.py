"""Under which incarnation this node counts: what speaks against the present one.

What members and callers say can make a node begin a new incarnation, so all of them together are believed once a
minute: each incarnation is kept for ever, and a cluster can hold so many only. How a new one begins is in `minting.py`.

A *duplicate* is another process that has, or had, this node's identity: a copy of its data directory runs. Of two
processes that count under one incarnation each hides what the other counted, so both begin new ones as soon as either
hears of the other.
"""

from contextlib import suppress
from math import inf

import structlog
import trio

from gcount.cluster.context import Context
from gcount.cluster.forks import Forks
from gcount.cluster.members import Members
from gcount.cluster.minting import CLAIM_PAUSE, Minting
from gcount.core.protocol.messages import Hello
from gcount.core.state.identity import IncarnationClaim
from gcount.errors import DiskFull, IncarnationLimitReached

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class IdentityGuard:
    """The right of this start to its incarnation.

    Args:
        context: what is shared.
        claim: what was learned of the right to the present incarnation.
        members: who belongs to the cluster, and so has to confirm it.
        minting: makes a new one durable.
        forks: where two histories of one are told.

    Attributes:
        claim: as above.
        unheard: a member's confirmation did not count, as the disk was full: the members are asked again.
    """

    def __init__(
        self, context: Context, claim: IncarnationClaim, members: Members, minting: Minting, forks: Forks
    ) -> None:
        self.claim = claim
        self.unheard = False
        self._start_id = context.start_id
        self._replica = context.replica
        self._news = context.news
        self._members = members
        self._minting = minting
        self._forks = forks
        self._next_claim = -inf
        self._copy_told = False
        self._forgotten: tuple[bytes, int] | None = None  # an incarnation that somebody knew; its version before
        self._duplicate: tuple[bytes, bytes, int] | None = None  # boot of the last one that called, then as above
        self._never_configured = not (claim.settled or self._replica.membership.actors)
        self._first_version = self._replica.version

    # What allows increments

    @property
    def may_continue(self) -> bool:
        """Whether an increment may be counted under this node's incarnation now."""
        claim = self.claim
        return claim.may_continue(() if claim.settled else self._members.others)

    def give_up(self) -> None:
        """The time to confirm the incarnation is over: a new one is due unless all other members have confirmed.

        Raises:
            IncarnationLimitReached: not all have confirmed, and there can't be a new one: they may still do it.
        """
        lacking = ", ".join(self.claim.overdue(self._members.others))
        if lacking:
            self._minting.check_limit(f"not confirmed by {lacking}")
            self.claim.doubt(f"not confirmed in time by {lacking}")

    def minted(self) -> None:
        """A new identity is durable; called with its commit, however many wait for it, or have ceased to."""
        if self._minting.committed():
            self._never_configured = False
            self._first_version = 0
            self._news.notify()

    # What members say

    def heard(self, address: str, node: bytes, knows: int) -> None:
        """A member told what it knows of this node's incarnation; the caller then mints if that is due."""
        if knows > self._replica.version:
            if not self._may_claim():
                return  # it is asked again with each heartbeat
            self.met_fork(address)
        self.claim.heard(address, node, knows, self._replica.version)
        self._news.notify()

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
                    self._forks.claim(incarnation, f"{address} has more, from a config forgotten here")
            self.claim.doubt(f"{address} knows this node from a config that its data directory has forgotten")
            with suppress(IncarnationLimitReached):  # which increments are told
                self._minting.begin()
        if member:
            self._prove_claims(hello, address)

    def _prove_claims(self, hello: Hello, address: str) -> None:
        """What callers claimed is proven when a member says the same of itself."""
        if self._forgotten is not None:
            incarnation, began_with = self._forgotten
            if hello.digest.get(incarnation, 0) > began_with:
                self._forks.show(incarnation, began_with + 1, f"{address} has more, from a config forgotten here")
        if self._duplicate is not None:
            boot, incarnation, began_with = self._duplicate
            if hello.start_id == boot and incarnation in (hello.incarnation, *hello.retired):
                self._forks.show(incarnation, began_with + 1, f"{address} counted under it, too")

    def met_fork(self, address: str) -> None:
        """A member has more of this node's incarnation than the node itself, be it that its disk had forgotten some."""
        if self.claim.settled:  # else nothing was counted under it yet
            incarnation = self._replica.identity.incarnation
            self._forks.show(incarnation, self._first_version + 1, f"{address} has more of it")

    def members_changed(self) -> None:
        """Another membership is in force; unless a new incarnation is on its way, claims of who left it are void."""
        if not self._minting.under_way:
            self.claim.retract(self._replica.membership.actors)
            self._news.notify()

    def tells_others(self) -> None:
        """From now on other nodes can know of this incarnation what this start counts under it."""
        self._never_configured, self._forgotten = False, None

    # What duplicates say

    def is_duplicate(self, hello: Hello) -> bool:
        """Whether another process says that it has, or had, this node's identity."""
        own = self._replica.identity
        return hello.start_id != self._start_id and (hello.node == own.node or _has_had(hello, own.incarnation))

    def shares_past(self, hello: Hello) -> bool:
        """Whether another process runs, or ran, under an incarnation that this node runs or ran under."""
        own = self._replica.identity
        return hello.start_id != self._start_id and any(map(own.owns, (hello.incarnation, *hello.retired)))

    async def called_by_duplicate(self, hello: Hello) -> None:
        """A caller that is alive says that it has, or had, this node's identity."""
        if self.is_duplicate(hello):
            if self._counts_beside(hello):
                self._duplicate = hello.start_id, hello.incarnation, self._first_version
                self._forks.claim(hello.incarnation, "a caller says that it counts under it, too")
            self._believe_duplicate(hello, "a caller")
            with suppress(DiskFull, IncarnationLimitReached):
                await self._minting.mint_if_due()

    def told_of_duplicate(self, reason: str) -> None:
        """Somebody who may be anybody, or may have heard it from anybody, says that this node has a duplicate.

        What comes too early is said again: a true duplicate is one with each message that it sends.
        """
        self._minting.share_node()
        if self._may_claim():
            self.claim.doubt(reason)

    def met_duplicate(self, hello: Hello, address: str) -> None:
        """Another process, which answers at a member's address, has this node's identity; see `told_of_duplicate`.

        Args:
            hello: what it said.
            address: where it was met.
        """
        if self._counts_beside(hello):
            self._forks.show(hello.incarnation, self._first_version + 1, f"{address} counts under it, too")
        self._believe_duplicate(hello, address)

    def _look_for_copy(self, hello: Hello, address: str) -> None:
        """Say once in a start that another node has this one's past, also when both count apart already."""
        if hello.node != self._replica.identity.node and self.shares_past(hello) and not self._copy_told:
            self._copy_told = True
            logger.warning(
                "directory was copied",
                reason=f"another process has, or had, a copy of this node's data directory: {address}",
                node=hello.node.hex()[:8],
            )

    def _counts_beside(self, hello: Hello) -> bool:
        """Whether another process counts under the incarnation under which this start has counted."""
        present = self._replica.identity.incarnation
        return hello.incarnation == present and self._replica.version > self._first_version

    def _believe_duplicate(self, hello: Hello, address: str) -> None:
        own = self._replica.identity
        if hello.node == own.node:
            self._minting.share_node()
        if _has_had(hello, own.incarnation) and self._may_claim():
            self.claim.doubt(f"another process has a copy of this node's data directory: {address}")

    def _may_claim(self) -> bool:
        """Anybody can say what makes a node mint, so all of them together are believed once a minute.

        What this very process minted nobody can know more of, unless the machine, or its directory, was copied since.
        """
        now = trio.current_time()
        if self.claim.reason is None:
            if now < self._next_claim:
                return False
            self._next_claim = now + CLAIM_PAUSE
        return True


def _has_had(hello: Hello, incarnation: bytes) -> bool:
    """Whether a process says that it runs, or ran, under an incarnation."""
    return incarnation in (hello.incarnation, *hello.retired)
