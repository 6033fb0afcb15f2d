"""Makes detached deltas count, once it is certain that no member can fill the gap before them.

See detached_deltas.py. When a gap is closed, whatever another node knows of it is hidden from this node for good. So
it is closed only when all members have been linked for a while, and each of them has then answered a heartbeat that was
sent while all were linked. This shows that no member knew more, that none had detached deltas that are not on this
node's disk, and that none has come back with an emptied disk after it had said what it knew.
"""

from dataclasses import dataclass

import structlog
import trio

from gcount.cluster.context import Context
from gcount.cluster.links.channel import SILENCE
from gcount.cluster.links.peers import Peers
from gcount.cluster.members import Members
from gcount.core.protocol.replication import DeltaSender
from gcount.core.state.counters import Counters
from gcount.core.state.replica import Replica

# Seconds for which all members have to be linked. By then, all that an earlier process of this node had sent to a
# member has arrived or is lost.
QUIET = 2.0
LOOK_EVERY = 0.1  # seconds
assert QUIET > SILENCE, "a link that is dead is found to be so before a gap is closed"

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class _Watch:
    """An instant at which all members were linked.

    Args:
        members: the members.
        links: for each member the sender of its link, and how many heartbeats had been sent on it.
    """

    members: tuple[str, ...]
    links: dict[str, tuple[DeltaSender, int]]


async def close_gaps(context: Context, members: Members, peers: Peers) -> None:
    """Close each gap in this node's retired incarnations as soon as that is safe, for ever.

    Args:
        context: what the parts of the node share.
        members: the members of the cluster.
        peers: the links that this node dialled.
    """
    replica = context.replica
    if replica.detached:
        _say_what_is_detached(replica)
    while True:
        while not _has_gaps(replica):
            await context.news.wait()
        # All links have to be up and to stay up for a while, and then each member has to answer a heartbeat.
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
    """All members' links; None while one of them is not linked, or no membership is known."""
    wanted = _to_be_linked(members)
    if not wanted and not replica.membership.actors:
        return None  # the rot may have taken the membership: other nodes bring it back, or the operator posts it
    linked = {
        address: (peer.sender, peer.heartbeats_sent)
        for address in wanted
        if (peer := peers.get(address)) and peer.sender
    }
    nodes = {members.hellos[address].node for address in linked}
    return _Watch(wanted, linked) if len(nodes) == len(wanted) else None


def _to_be_linked(members: Members) -> tuple[str, ...]:
    """All members but this node, of all memberships that may be in force. Each has to be a different node."""
    own = members.self_address
    return tuple(sorted({entry for actors in members.readable for entry in actors if entry != own}))


async def _nothing_changed(members: Members, peers: Peers, watch: _Watch) -> bool:
    """Wait for an answer to a later heartbeat on each of the links.

    Returns:
        Whether all members have answered on the same links, owe nothing, and are still the only members.
    """
    while _to_be_linked(members) == watch.members:
        links = [(peers.get(address), *link) for address, link in watch.links.items()]
        if any(peer is None or peer.sender is not sender for peer, sender, _ in links):
            return False
        if all(peer is not None and peer.heartbeats_answered > beats for peer, _, beats in links):
            return not any(peer is not None and peer.owes for peer, _, _ in links)
        await trio.sleep(LOOK_EVERY)
    return False


async def _close(context: Context, peers: Peers) -> None:
    """Close the gaps of those incarnations of which no member knows more.

    The caller has just seen that nothing has changed, and has not awaited anything since.
    """
    replica = context.replica
    closing = [gap for gap in replica.detached.incarnations() if _at_most_own(replica, peers, gap)]
    closing = [incarnation for incarnation in closing if context.committer.close(incarnation)]
    await context.settle()
    left = set(replica.detached.incarnations())
    for incarnation in closing:
        if incarnation not in left:
            logger.warning("gap closed", incarnation=incarnation.hex(), version=replica.counters.version(incarnation))


def _at_most_own(replica: Replica, peers: Peers, incarnation: bytes) -> bool:
    """Whether no member knows more of an incarnation, nor of what its detached settlements cover.

    The gap may have held a settlement. Then the ids that it covered are added up anew, so they have to be here.
    """
    counters = replica.counters
    if not _has_all(counters, peers, incarnation):
        return False
    keyed = [run.keyed for run in replica.detached.of((incarnation,)) if run.keyed is not None]
    settled = ((column, one.version) for of in keyed for column, one in of.settled.items())
    return all(column in counters.forks or _has_all(counters, peers, column, upto) for column, upto in settled)


def _has_all(counters: Counters, peers: Peers, incarnation: bytes, upto: int | None = None) -> bool:
    """Whether this node has all that members know of an incarnation, up to a version."""
    known = counters.version(incarnation)
    if upto is not None and known >= upto:
        return True
    return all(peer.sender.peer.get(incarnation, 0) <= known for peer in peers if peer.sender is not None)
