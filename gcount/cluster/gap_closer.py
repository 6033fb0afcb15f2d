"""What a repaired disk holds behind a gap is made to count, once it is certain that nobody can fill the gap.

See `detached_deltas.py`. A closed gap hides from this node what anybody else knows of it, for good. So it is closed
only when each member has been linked for a while and has then answered a heartbeat that was sent while all were so:
none of them knew more, none had anything detached that is not on this node's disk, and none has come back with an
emptied disk after it had told what it knew.
"""

from dataclasses import dataclass

import structlog
import trio

from gcount.cluster.context import Context
from gcount.cluster.links.channel import SILENCE
from gcount.cluster.links.peers import Peers
from gcount.cluster.members import Members
from gcount.core.protocol.replication import DeltaSender
from gcount.core.state.replica import Replica

QUIET = 2.0  # seconds in which all are linked; whatever a former life had on its way to a member has arrived or is lost
LOOK_EVERY = 0.1  # seconds
assert QUIET > SILENCE, "a link that is dead is found to be so before a gap is closed"

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class _Watch:
    """All members were linked: to whom, on which links, and how many heartbeats had been sent on each."""

    members: tuple[str, ...]
    links: dict[str, tuple[DeltaSender, int]]


async def close_gaps(context: Context, members: Members, peers: Peers) -> None:
    """Close each gap in this node's retired incarnations as soon as that is safe, for ever.

    Args:
        context: what is shared.
        members: who belongs to the cluster.
        peers: the links that this node dialled.
    """
    replica = context.replica
    if replica.detached:
        _say_what_is_detached(replica)
    while True:
        while not _has_gaps(replica):
            await context.news.wait()
        watch = _watch(replica, members, peers)
        await trio.sleep(LOOK_EVERY if watch is None else QUIET)
        if watch is not None and await _nothing_changed(members, peers, watch):
            await _close(context, peers)


def _has_gaps(replica: Replica) -> bool:
    return any(incarnation in replica.identity.retired for incarnation in replica.detached.incarnations())


def _say_what_is_detached(replica: Replica) -> None:
    effect = "they count when the gap before them is filled or closed"
    if not replica.membership.actors:
        effect += ", for which a config has to be known: if this node has no members, post one with itself alone"
    logger.warning("detached deltas found", cells=replica.detached.cells, effect=effect)


def _watch(replica: Replica, members: Members, peers: Peers) -> _Watch | None:
    wanted = _to_be_linked(members)
    if not wanted and not replica.membership.actors:
        return None  # it may be among what was lost: those who know this node bring it, or its operator does
    linked = {address: (peer.sender, peer.beats) for address in wanted if (peer := peers.get(address)) and peer.sender}
    nodes = {members.hellos[address].node for address in linked}
    return _Watch(wanted, linked) if len(nodes) == len(wanted) else None


def _to_be_linked(members: Members) -> tuple[str, ...]:
    """Each member but this node, of all memberships that may be in force; each has to be another node."""
    own = members.self_address
    return tuple(sorted({entry for actors in members.readable for entry in actors if entry != own}))


async def _nothing_changed(members: Members, peers: Peers, watch: _Watch) -> bool:
    """Whether all have answered a later heartbeat on the same links, have nothing to give back, and none came."""
    while _to_be_linked(members) == watch.members:
        links = [(peers.get(address), *link) for address, link in watch.links.items()]
        if any(peer is None or peer.sender is not sender for peer, sender, _ in links):
            return False
        if all(peer is not None and peer.beaten > beats for peer, _, beats in links):
            return not any(peer is not None and peer.owes for peer, _, _ in links)
        await trio.sleep(LOOK_EVERY)
    return False


async def _close(context: Context, peers: Peers) -> None:
    """Close what no member knows more of; called without an await after it was found that nothing has changed."""
    replica = context.replica
    closing = [gap for gap in replica.detached.incarnations() if _at_most_own(replica, peers, gap)]
    closing = [incarnation for incarnation in closing if context.committer.close(incarnation)]
    await context.settle()
    for incarnation in set(closing) - set(replica.detached.incarnations()):
        logger.warning("gap closed", incarnation=incarnation.hex(), version=replica.counters.version(incarnation))


def _at_most_own(replica: Replica, peers: Peers, incarnation: bytes) -> bool:
    known = replica.counters.version(incarnation)
    return all(peer.sender.peer.get(incarnation, 0) <= known for peer in peers if peer.sender is not None)
