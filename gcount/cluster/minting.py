"""How a new incarnation begins, and how a node takes another id.

Both are one record in the log. They are staged before anything is awaited, so no batch that is sealed later counts
under the old incarnation. Each incarnation is kept for ever, and a cluster can hold so many only: a node that may begin
none now takes another id at least, as two nodes of one id cut each other's links.
"""

from math import inf

import structlog
import trio

from gcount.cluster.context import Context
from gcount.core.limits import ID_BYTES
from gcount.core.state.identity import IncarnationClaim
from gcount.errors import DiskFull, IncarnationLimitReached
from gcount.observe.throttle import Throttle
from gcount.storage.group_commit import Commit

NEAR_LIMIT = 0.75  # of the limit, from which on each new incarnation is said to bring it nearer
CLAIM_PAUSE = 60.0  # seconds between two new incarnations, or ids, that others can bring about by what they say

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Minting:
    """Makes new identities of this node durable.

    Args:
        context: what is shared.
        claim: what was learned of the right to the present incarnation.
    """

    def __init__(self, context: Context, claim: IncarnationClaim) -> None:
        self._replica = context.replica
        self._pending = context.pending
        self._committer = context.committer
        self._random = context.random
        self._metrics = context.metrics
        self._claim = claim
        self._mint: Commit | None = None
        self._rename: Commit | None = None
        self._identity = self._replica.identity  # the one that is durable, as far as `committed` was told
        self._shares_node = False  # whether another process has the node's id, too: this one needs another
        self._next_rename = -inf
        self._no_room = Throttle("no new incarnation", quiet=60.0)

    @property
    def under_way(self) -> bool:
        """Whether a new incarnation is on its way to the disk, or was when the disk was full."""
        return self._mint is not None

    def share_node(self) -> None:
        """Another process has this node's id; this is believed once a minute, as another id cuts all links."""
        now = trio.current_time()
        if not self._shares_node and now >= self._next_rename:
            self._next_rename = now + CLAIM_PAUSE
            self._shares_node = True

    def begin(self) -> Commit | None:
        """Stage a new incarnation if one is due: no batch that is sealed later counts under the old one.

        If none is due, or there can't be one more, only another id of the node is staged where that is due.

        Raises:
            IncarnationLimitReached: it is due, and there can't be one more.
        """
        reason = self._claim.reason
        if reason is None or not self._pending.may_be_reborn:
            self._rename_if_due()
        if reason is None:
            return None
        if self._mint is None or self._mint.failed:
            self.require_room(reason)
            self._mint = self._stage()
        return self._mint

    def begin_if_possible(self) -> None:
        """Stage a new incarnation if one is due and can be; if not, the operator is told."""
        try:
            self.begin()
        except IncarnationLimitReached as error:
            self._no_room.warn(reason=str(error))

    async def mint_if_due(self) -> None:
        """Make a new incarnation durable if anything speaks against the old one.

        Raises:
            DiskFull: it is still due.
            IncarnationLimitReached: it is due, and there can't be one more.
        """
        mint = self.begin()  # before anything is awaited
        if mint is not None:
            await mint.wait()

    async def mint_if_possible(self) -> None:
        """Make a new incarnation durable if one is due and can be; if not, increments are refused until it is."""
        try:
            await self.mint_if_due()
        except DiskFull as error:
            logger.warning("new incarnation delayed", reason=str(error))
        except IncarnationLimitReached as error:
            self._no_room.warn(reason=str(error))

    def require_room(self, reason: str) -> None:
        """Refuse what needs a new incarnation when there can't be one more.

        Args:
            reason: why a new one is needed.

        Raises:
            IncarnationLimitReached: with that reason.
        """
        if not self._pending.may_be_reborn:
            limit, lives = self._replica.options.reborn_below, self._pending.lives
            raise IncarnationLimitReached(
                f"this node can't count under its present incarnation ({reason}), and no node begins a new one when "
                f"{limit} are known, and here are {lives}; reads and other nodes go on"
            )

    def committed(self) -> bool:
        """A new identity is durable; called with its commit. Returns whether it has a new incarnation, too."""
        before, identity = self._identity, self._replica.identity
        self._identity = identity
        assert identity.continues(before), "a new identity forgets no incarnation"
        if identity.node != before.node:
            self._shares_node, self._rename = False, None
        if identity.incarnation == before.incarnation:
            logger.warning("new node id", reason="another process has the old one, too", node=identity.node.hex()[:8])
            return False
        logger.warning(
            "new incarnation",
            reason=self._claim.reason,
            incarnation=identity.incarnation.hex(),
            retired=identity.retired[-1].hex(),
        )
        assert self._replica.version <= 1, "nothing was counted under a new incarnation before the batch that begins it"
        limit = self._replica.options.reborn_below
        if self._pending.lives >= limit * NEAR_LIMIT:
            logger.warning(
                "few incarnations left",
                known=self._pending.lives,
                limit=limit,
                effect="at the limit a node that would need a new one takes no increments",
            )
        self._mint = None
        self._claim.minted()
        self._metrics.incarnations_minted.inc()
        return True

    def _rename_if_due(self) -> None:
        minting = self._mint is not None and not self._mint.failed  # with another id, if that was due then
        if self._shares_node and not minting and (self._rename is None or self._rename.failed):
            self._rename = self._committer.mint(self._replica.identity.renamed(self._random.randbytes(ID_BYTES)))

    def _stage(self) -> Commit:
        node = self._random.randbytes(ID_BYTES) if self._shares_node else None
        return self._committer.mint(self._replica.identity.reborn(self._random.randbytes(ID_BYTES), node))
