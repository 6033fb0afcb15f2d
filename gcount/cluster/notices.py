"""Lines for the operator about this node: its start, its place in its cluster."""

import structlog

from gcount.cluster.local import Local
from gcount.cluster.peers import Peers
from gcount.core.membership import Membership
from gcount.core.replica import Replica

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


def report_start(replica: Replica, log: int, checkpoint: int, seconds: float, *, fresh: bool) -> None:
    """Say that the node has recovered.

    Args:
        replica: what it holds.
        log: the size of the log in bytes.
        checkpoint: the size of the checkpoint in bytes.
        seconds: how long it took.
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


async def report_config(local: Local, peers: Peers) -> None:
    """Write a line for each config that comes into force, and one when no entry of it is this node; for ever."""
    known = local.replica.membership
    stranger_to = Membership()
    while True:
        current = local.replica.membership
        if current != known:
            known = current
            logger.info("config changed", version=current.version, actors=", ".join(current.actors))
        if current.actors and current != stranger_to and not peers.any_untried and local.self_address is None:
            stranger_to = current
            logger.warning("not in the config", actors=", ".join(current.actors))
        await local.wait_news()
