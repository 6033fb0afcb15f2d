"""A copy of a member's data directory that runs outside the config is not let in with its counts.

A copy that is meant for a test would else count into production, as a node outside the config may bring what it counted
itself, and takes the past of the original for its own. It would bring its config, too.
"""

import trio

from gcount.cluster.links.peer import Peer
from gcount.cluster.links.peers import Peers
from gcount.cluster.local import Local
from gcount.core.protocol.messages import Hello
from gcount.errors import LinkRefused

RECENT = 3.0  # seconds; a member that was heard so recently is given time to speak again
SPEAK_WITHIN = 1.5  # seconds; by then a dead link is found to be dead, and a member that hung up is linked again


async def reason_to_refuse(local: Local, peers: Peers, hello: Hello) -> str:
    """Why a caller that runs on a copy of a member's directory is not let in; empty if it is none.

    A node that is started again, or at another address, is no copy: then the member that it was is not up any more.

    Args:
        local: this node.
        peers: the links that it dialled.
        hello: the caller's.
    """
    asked_at = trio.current_time()
    alike = _originals(local, peers, hello, asked_at - RECENT)
    own = local.members.self_address
    if own in alike:
        return "" if local.guard.is_twin(hello) else _refusal(own)  # a twin is told first: both mint
    up = [peer for address in alike if (peer := peers.get(address)) is not None]
    if not up:
        return ""
    for peer in up:
        peer.redial.set()
    with trio.move_on_after(SPEAK_WITHIN):
        await _first_to_speak(up)
    alike = _originals(local, peers, hello, asked_at)
    return _refusal(alike[0]) if alike else ""


class Visit:
    """A caller that was let in: a member whose directory it has a copy of may have been silent then, or not met yet.

    Args:
        local: this node.
        peers: the links that it dialled.
        hello: the caller's.
    """

    def __init__(self, local: Local, peers: Peers, hello: Hello) -> None:
        self._local = local
        self._peers = peers
        self._hello = hello
        self._began = trio.current_time()

    def counts(self) -> bool:
        """Whether what it brings is taken. From a twin it is not: that one is let in to be told of this node only.

        Raises:
            LinkRefused: the caller runs on a copy of the directory of a member that has spoken since.
        """
        originals = _originals(self._local, self._peers, self._hello, self._began)
        if not originals:
            return True
        if originals[0] == self._local.members.self_address and self._local.guard.is_twin(self._hello):
            return False
        raise LinkRefused(_refusal(originals[0]))


def _refusal(original: str) -> str:
    return (
        f"this node runs on a copy of the data directory of the member at {original}, which is up: "
        "start it with an empty directory, or with another --cluster name"
    )


def _originals(local: Local, peers: Peers, hello: Hello, since: float) -> list[str]:
    """The addresses of members that are up and have the past of a caller outside the config; this node's own first.

    A config which the caller alone knows lets it in only beside its original. Else whoever has told a copy to stand
    alone would have handed it the cluster.

    Args:
        local: this node.
        peers: the links that it dialled.
        hello: the caller's.
        since: members that were heard from then on are up; in seconds.
    """
    members, now = local.members, local.replica.membership.actors
    if hello.entry in now or members.is_at_home(hello.boot):
        return []
    own = members.self_address
    found = [own] if own and local.guard.shares_past(hello) else []
    past = {hello.incarnation, *hello.retired}
    for peer in peers:
        met = members.met.get(peer.address)
        heard = peer.last_contact is not None and peer.last_contact >= since
        if met is not None and heard and not past.isdisjoint((met.incarnation, *met.retired)):
            found.append(peer.address)
    told = local.replica.membership.merge(hello.membership).actors
    return [address for address in found if not {hello.entry, address} <= set(told)]


async def _first_to_speak(peers: list[Peer]) -> None:
    async def listen(peer: Peer) -> None:
        await peer.wait_spoken()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(listen, peer)
