"""Log lines for the operator about this node's start, and about its config."""

import structlog

from gcount.cluster.config import entries_of_one_node
from gcount.cluster.context import Context
from gcount.cluster.links.peers import Peers
from gcount.cluster.members import Members
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


def report_start(replica: Replica, log: int, checkpoint: int, seconds: float, *, fresh: bool) -> None:
    """Log that the node has recovered.

    Args:
        replica: the recovered state.
        log: the size of the log in bytes.
        checkpoint: the size of the checkpoint in bytes.
        seconds: how long the recovery took.
        fresh: whether the data directory was empty.
    """
    incarnation = replica.identity.incarnation.hex()
    logger.info(
        "recovered",
        counters=len(replica.counters),
        log_bytes=log,
        checkpoint_bytes=checkpoint,
        seconds=round(seconds, 3),
        incarnation=incarnation,
        fresh=fresh,
    )
    if fresh:
        logger.info("new incarnation", reason="the data directory was empty", incarnation=incarnation)


async def report_config(context: Context, members: Members, peers: Peers) -> None:
    """Log each config that comes into force, and what is wrong with its entries, for ever."""
    replica = context.replica
    known = replica.membership
    stranger_to = Membership()
    shared: list[list[str]] = []
    while True:
        current = replica.membership
        if current != known:
            known = current
            logger.info("config changed", version=current.version, actors=", ".join(current.actors))
        if current.actors and current != stranger_to and not peers.any_untried and members.is_outside:
            stranger_to = current
            logger.warning("this node is not in the config", actors=", ".join(current.actors))
        before, shared = shared, entries_of_one_node(replica.membership, peers)
        for entries in shared:
            if entries not in before:
                effect = "consistent reads fail until each entry leads to a node of its own"
                logger.warning("config entries lead to one node", entries=", ".join(entries), effect=effect)
        await context.news.wait()
