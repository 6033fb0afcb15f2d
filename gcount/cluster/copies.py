"""A copy of a member's data directory that runs outside the config is not let in with its counts.

A copy that is meant for a test would else count into production, as a node outside the config may bring what it counted
itself, and takes the past of the original for its own.
"""

from gcount.cluster.local import Local
from gcount.cluster.peers import Peers
from gcount.core.wire import Hello


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
    if any(met.boot == hello.boot for met in members.met.values()):
        return None  # it answers at a member's address
    if members.self_address and local.guard.shares_past(hello) and not local.guard.is_twin(hello):
        return members.self_address  # a twin is told first, so that both begin a new incarnation
    past = {hello.incarnation, *hello.retired}
    for peer in list(peers):
        met = members.met.get(peer.address)
        same = met is not None and not past.isdisjoint((met.incarnation, *met.retired))
        if met is not None and same and await peer.speaks():
            if met.incarnation == hello.incarnation:
                reaches = min(hello.digest.get(met.incarnation, 0), local.replica.counters.version(met.incarnation))
                local.guard.show_fork(met.incarnation, reaches + 1, f"{peer.address} and a caller count under it")
            return peer.address
    return None
