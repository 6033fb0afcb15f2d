"""Lines for the operator about this node's place in its cluster."""

import structlog

from gcount.cluster.local import Local
from gcount.cluster.peers import Peers
from gcount.core.membership import Membership

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


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
