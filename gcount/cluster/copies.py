"""A copy of a member's data directory that runs outside the config is not let in with its counts.

A copy that is meant for a test would else count into production, as a node outside the config may bring what it counted
itself, and takes the past of the original for its own.
"""

import trio

from gcount.cluster.local import Local
from gcount.cluster.peer import Peer
from gcount.cluster.peers import Peers
from gcount.core.wire import Hello

RECENT = 3.0  # seconds; a member that was heard so recently is given time to speak again
SPEAK_WITHIN = 1.5  # seconds; by then a dead link is found to be dead, and a member that hung up is linked again
LOOK_EVERY = 0.02  # seconds


async def find_original(local: Local, peers: Peers, hello: Hello) -> str | None:
    """The address of the member of whose directory a caller outside the config has a copy.

    A node that is started again, or at another address, is no copy: then the member that it was is not up any more.

    Args:
        local: this node.
        peers: the links that it dialled.
        hello: the caller's.

    Returns:
        None when there is none that is up.
    """
    members = local.members
    if hello.entry and hello.entry in local.replica.membership.merge(hello.membership).actors:
        return None
    if members.self_address and local.guard.shares_past(hello) and not local.guard.is_twin(hello):
        return members.self_address  # a twin is told first, so that both begin a new incarnation
    alike = _alike(local, peers, hello)
    if not alike:
        return None
    called = trio.current_time()
    for peer in alike:
        peer.redial.set()
    while trio.current_time() < called + SPEAK_WITHIN:
        if any(met.boot == hello.boot for met in members.met.values()):
            return None  # it answers at a member's address
        for peer in alike:
            if peer.pusher is not None and (peer.last_contact or 0.0) > called:
                _look_for_fork(local, peer, hello)
                return peer.address
        await trio.sleep(LOOK_EVERY)
    return None


def _alike(local: Local, peers: Peers, hello: Hello) -> list[Peer]:
    """The members that have the caller's past, and were heard a moment ago."""
    past, since = {hello.incarnation, *hello.retired}, trio.current_time() - RECENT
    found = []
    for peer in peers:
        met = local.members.met.get(peer.address)
        heard = peer.last_contact is not None and peer.last_contact >= since
        if met is not None and heard and not past.isdisjoint((met.incarnation, *met.retired)):
            found.append(peer)
    return found


def _look_for_fork(local: Local, original: Peer, hello: Hello) -> None:
    """Two that are alive under one incarnation make two histories of it."""
    incarnation = hello.incarnation
    if local.members.met[original.address].incarnation == incarnation:
        reaches = min(hello.digest.get(incarnation, 0), local.replica.counters.version(incarnation))
        local.guard.show_fork(incarnation, reaches + 1, f"{original.address} and a caller count under it")
