"""Guards this node's right to its incarnation, and decides when it has to begin a new one.

Messages of members and callers can make a node begin a new incarnation. Incarnations are kept for ever, and a cluster
can hold only a limited number of them, so the node believes all these messages together at most once a minute.
minting.py begins the new incarnation.

A *duplicate* is another process that has, or had, this node's identity, because it runs on a copy of the data
directory. When two processes count under one incarnation, each hides what the other counted. So both begin new
incarnations as soon as either hears of the other.
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
    """Guards the right of this process to its incarnation.

    Args:
        context: what the parts of the node share.
        claim: the evidence about the right to the present incarnation.
        members: the members of the cluster, which have to confirm it.
        minting: begins a new incarnation.
        forks: reports incarnations with two histories.

    Attributes:
        claim: as above.
        unheard: whether a confirmation was ignored because the disk was full, so that the members have to be asked
            again.
        next_claim: when messages of others may make this node begin another incarnation; in seconds of trio's clock.
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
        self.next_claim = -inf
        self._copy_reported = False
        # This incarnation was known to another node from a config that this disk has forgotten; and the version from
        # which this process went on.
        self._forgotten: tuple[bytes, int] | None = None
        # The last duplicate that called: the id of its start, the incarnation, and the version as above.
        self._duplicate: tuple[bytes, bytes, int] | None = None
        self._never_configured = not (claim.settled or self._replica.membership.actors)
        self._first_version = self._replica.version  # of the present incarnation, before this process counted

    # What allows increments

    @property
    def may_continue(self) -> bool:
        """Whether an increment may be counted under this node's incarnation now."""
        claim = self.claim
        return claim.may_continue(() if claim.settled else self._members.others)

    def give_up(self) -> None:
        """Give the incarnation up, as the time to confirm it is over, unless all other members have confirmed it.

        Raises:
            IncarnationLimitReached: not all have confirmed it, and the limit of incarnations is reached. They may still
                confirm it later.
        """
        lacking = ", ".join(self.claim.overdue(self._members.others))
        if lacking:
            self._minting.check_limit(f"not confirmed by {lacking}")
            self.claim.doubt(f"not confirmed in time by {lacking}")

    def minted(self) -> None:
        """Note that a new identity is durable. This is called with its commit."""
        if self._minting.committed():
            self._never_configured = False
            self._first_version = 0
            self._news.notify()

    # What members say

    def heard(self, address: str, node: bytes, knows: int) -> None:
        """Take a member's answer to what it knows of this node's incarnation.

        The caller then has to begin a new incarnation if one is due.

        Args:
            address: the member's address.
            node: the id of the node that answers there.
            knows: the version of this node's incarnation that the member knows.
        """
        if knows > self._replica.version:
            if not self._may_claim():
                return  # each heartbeat of the member says it again
            self.found_fork(address)
        self.claim.heard(address, node, knows, self._replica.version)
        self._news.notify()

    def said_hello(self, hello: Hello, address: str, *, member: bool) -> None:
        """Take another node's hello. This is called before anything else is done with the hello.

        Args:
            hello: the hello.
            address: the address of the other node.
            member: whether it answered at a member's address. Otherwise it called, and may be any node.
        """
        self._look_for_copy(hello, address)
        incarnation, began_with = self._replica.identity.incarnation, self._first_version
        knows = hello.digest.get(incarnation, 0)
        if self._never_configured and knows and self._may_claim():
            # This disk knows no config. But a node without one never sends anybody what it counted, so it has had one.
            if min(knows, self._replica.version) > began_with:
                self._forgotten = incarnation, began_with
                if not member:
                    self._forks.claim(incarnation, f"{address} has more, from a config forgotten here")
            self.claim.doubt(f"{address} knows this node from a config that its data directory has forgotten")
            with suppress(IncarnationLimitReached):  # increments are refused with it
                self._minting.begin()
        if member:
            self._prove_claims(hello, address)

    def _prove_claims(self, hello: Hello, address: str) -> None:
        """Report forks that callers claimed before, and that a member's hello proves now."""
        if self._forgotten is not None:
            incarnation, began_with = self._forgotten
            if hello.digest.get(incarnation, 0) > began_with:
                self._forks.show(incarnation, began_with + 1, f"{address} has more, from a config forgotten here")
        if self._duplicate is not None:
            start_id, incarnation, began_with = self._duplicate
            if hello.start_id == start_id and incarnation in (hello.incarnation, *hello.retired):
                self._forks.show(incarnation, began_with + 1, f"{address} counted under it, too")

    def found_fork(self, address: str) -> None:
        """Report a fork, as a member has more of this node's incarnation than the node itself.

        Another process counts under it, or this disk has forgotten a part of it.
        """
        if self.claim.settled:  # else this process has counted nothing under it yet, and there is no fork
            incarnation = self._replica.identity.incarnation
            self._forks.show(incarnation, self._first_version + 1, f"{address} has more of it")

    def members_changed(self) -> None:
        """Drop the claims of nodes that are no members any more, as another membership is in force.

        They stay while a new incarnation is being written, which they are the reason for.
        """
        if not self._minting.under_way:
            self.claim.retract(self._replica.membership.actors)
            self._news.notify()

    def sends_to_others(self) -> None:
        """Note that this node begins to push, so that others can know what it counts under its incarnation."""
        self._never_configured, self._forgotten = False, None

    # What duplicates say

    def is_duplicate(self, hello: Hello) -> bool:
        """Whether a hello is from another process that has, or had, this node's identity."""
        own = self._replica.identity
        return hello.start_id != self._start_id and (hello.node == own.node or _has_had(hello, own.incarnation))

    def shares_past(self, hello: Hello) -> bool:
        """Whether a hello is from another process that shares a present or retired incarnation with this node."""
        own = self._replica.identity
        return hello.start_id != self._start_id and any(map(own.owns, (hello.incarnation, *hello.retired)))

    async def called_by_duplicate(self, hello: Hello) -> None:
        """Act on a duplicate that called and is alive: begin a new incarnation if that is due."""
        if self.is_duplicate(hello):
            if self._counts_beside(hello):
                self._duplicate = hello.start_id, hello.incarnation, self._first_version
                self._forks.claim(hello.incarnation, "a caller says that it counts under it, too")
            self._believe_duplicate(hello, "a caller")
            with suppress(DiskFull, IncarnationLimitReached):
                await self._minting.mint_if_due()

    def suspect_duplicate(self, reason: str) -> None:
        """Act on a message that this node has a duplicate. Its sender may be any node, or may have heard it from any.

        If the message comes too early to be believed, it is not lost: a true duplicate shows itself with each message.

        Args:
            reason: what was said, in words.
        """
        self._minting.share_node()
        if self._may_claim():
            self.claim.doubt(reason)

    def found_duplicate(self, hello: Hello, address: str) -> None:
        """Act on a duplicate that answers at a member's address; see `suspect_duplicate`.

        Args:
            hello: its hello.
            address: the address.
        """
        if self._counts_beside(hello):
            self._forks.show(hello.incarnation, self._first_version + 1, f"{address} counts under it, too")
        self._believe_duplicate(hello, address)

    def _look_for_copy(self, hello: Hello, address: str) -> None:
        """Log once that another node runs on a copy of this directory, also if both have separate incarnations now."""
        if hello.node != self._replica.identity.node and self.shares_past(hello) and not self._copy_reported:
            self._copy_reported = True
            logger.warning(
                "directory was copied",
                reason=f"another process has, or had, a copy of this node's data directory: {address}",
                node=hello.node.hex()[:8],
            )

    def _counts_beside(self, hello: Hello) -> bool:
        """Whether another process counts under the incarnation under which this process has counted."""
        present = self._replica.identity.incarnation
        return hello.incarnation == present and self._replica.version > self._first_version

    def _believe_duplicate(self, hello: Hello, address: str) -> None:
        own = self._replica.identity
        if hello.node == own.node:
            self._minting.share_node()
        if _has_had(hello, own.incarnation) and self._may_claim():
            self.claim.doubt(f"another process has a copy of this node's data directory: {address}")

    def _may_claim(self) -> bool:
        """Whether a message may make this node begin a new incarnation now.

        Any node can send such a message, so all of them together are believed once a minute. This also holds for an
        incarnation that this very process began: the machine or its directory may have been copied since.
        """
        now = trio.current_time()
        if self.claim.reason is None:
            if now < self.next_claim:
                return False
            self.next_claim = now + CLAIM_PAUSE
        return True


def _has_had(hello: Hello, incarnation: bytes) -> bool:
    """Whether a hello names an incarnation as its present one or a retired one."""
    return incarnation in (hello.incarnation, *hello.retired)
