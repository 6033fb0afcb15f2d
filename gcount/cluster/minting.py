"""Begins new incarnations, and gives a node another id.

Both are one record in the log. It is staged before anything is awaited, so that no batch that is sealed later counts
under the old incarnation. Incarnations are kept for ever, and a cluster can hold only a limited number of them. A node
that may begin none at least takes another id when it has to, because two nodes with one id end each other's links.
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

NEAR_LIMIT = 0.75  # share of the limit from which on each new incarnation is logged with a warning
CLAIM_PAUSE = 60.0  # seconds between two new incarnations, or ids, that messages of others can bring about

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Minting:
    """Makes new identities of this node durable.

    Args:
        context: what the parts of the node share.
        claim: the evidence about the right to the present incarnation.
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
        self._identity = self._replica.identity  # the durable one when `committed` was called last
        self._shares_node = False  # whether another process has the same node id, so that this one needs another
        self._next_rename = -inf
        self._impossible = Throttle("no new incarnation", quiet=60.0)

    @property
    def under_way(self) -> bool:
        """Whether a new incarnation is being written, or was when the disk was full."""
        return self._mint is not None

    def share_node(self) -> None:
        """Note that another process has this node's id, so that this one needs another.

        The node believes this at most once a minute, because taking another id ends all its links.
        """
        now = trio.current_time()
        if not self._shares_node and now >= self._next_rename:
            self._next_rename = now + CLAIM_PAUSE
            self._shares_node = True

    def begin(self) -> Commit | None:
        """Stage a new incarnation if the node needs one. No batch that is sealed later counts under the old one.

        If it needs none, or the limit is reached, another node id is staged if the node needs that.

        Returns:
            The commit of the new incarnation; None when the node needs none.

        Raises:
            IncarnationLimitReached: the node needs one, and the limit of incarnations is reached.
        """
        reason = self._claim.reason
        if reason is None or not self._pending.may_be_reborn:
            self._rename_if_due()
        if reason is None:
            return None
        if self._mint is None or self._mint.failed:
            self.check_limit(reason)
            self._mint = self._stage()  # a record that met a full disk is staged again
        return self._mint

    def begin_if_possible(self) -> None:
        """Stage a new incarnation if the node needs one. If the limit is reached, that is only logged."""
        try:
            self.begin()
        except IncarnationLimitReached as error:
            self._impossible.warn(reason=str(error))

    async def mint_if_due(self) -> None:
        """Make a new incarnation durable if the node needs one.

        Raises:
            DiskFull: the node still needs it.
            IncarnationLimitReached: the node needs one, and the limit of incarnations is reached.
        """
        mint = self.begin()  # before anything is awaited
        if mint is not None:
            await mint.wait()

    async def mint_if_possible(self) -> None:
        """Make a new incarnation durable if the node needs one.

        If that fails, it is only logged, and increments are refused until it succeeds.
        """
        try:
            await self.mint_if_due()
        except DiskFull as error:
            logger.warning("new incarnation delayed", reason=str(error))
        except IncarnationLimitReached as error:
            self._impossible.warn(reason=str(error))

    def check_limit(self, reason: str) -> None:
        """Check that a new incarnation is possible.

        Args:
            reason: why the node needs one, for the text of the error.

        Raises:
            IncarnationLimitReached: the limit of incarnations is reached.
        """
        if not self._pending.may_be_reborn:
            limit, known = self._replica.options.reborn_below, self._pending.all_incarnations
            raise IncarnationLimitReached(
                f"this node can't count under its present incarnation ({reason}), and no node begins a new one when "
                f"{limit} are known, and this node knows {known}; reads and other nodes go on"
            )

    def committed(self) -> bool:
        """Note that a new identity is durable. This is called with its commit.

        Returns:
            Whether the identity has a new incarnation, and not only a new node id.
        """
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
        if self._pending.all_incarnations >= limit * NEAR_LIMIT:
            logger.warning(
                "few incarnations left",
                known=self._pending.all_incarnations,
                limit=limit,
                effect="at the limit a node that would need a new one takes no increments",
            )
        self._mint = None
        self._claim.minted()
        self._metrics.incarnations_minted.inc()
        return True

    def _rename_if_due(self) -> None:
        minting = self._mint is not None and not self._mint.failed  # its record has another id already, if needed
        if self._shares_node and not minting and (self._rename is None or self._rename.failed):
            self._rename = self._committer.mint(self._replica.identity.renamed(self._random.randbytes(ID_BYTES)))

    def _stage(self) -> Commit:
        node = self._random.randbytes(ID_BYTES) if self._shares_node else None
        return self._committer.mint(self._replica.identity.reborn(self._random.randbytes(ID_BYTES), node))
