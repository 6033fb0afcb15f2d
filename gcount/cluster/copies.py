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
    boots = {peer.address: members.met[peer.address].boot for peer in alike}
    for peer in alike:
        peer.redial.set()
    with trio.move_on_after(SPEAK_WITHIN):
        original = await _first_to_speak(alike)
        if any(met.boot == hello.boot for met in members.met.values()):
            return None  # it answers at a member's address
        if boots[original.address] == members.met[original.address].boot:
            _look_for_fork(local, original, hello)  # else it was started anew since, and this may be its former life
        return original.address
    return None


async def _first_to_speak(peers: list[Peer]) -> Peer:
    first: list[Peer] = []

    async def listen(peer: Peer) -> None:
        await peer.wait_spoken()
        first.append(peer)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(listen, peer)
    return first[0]


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
