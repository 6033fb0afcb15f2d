"""Refuses nodes outside the config that run on a copy of a member's data directory.

A node outside the config may push what it counted itself, and a copy takes the past of its original for its own. So a
copy that was made for a test would count into production, and would bring its config as well.
"""

import trio

from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.links.channel import SILENCE
from gcount.cluster.links.handshake import HELLO_TIMEOUT
from gcount.cluster.links.peer import Peer
from gcount.cluster.links.peers import Peers
from gcount.cluster.members import Members
from gcount.core.protocol.messages import Hello
from gcount.core.state.replica import Replica
from gcount.errors import LinkRefused

RECENT = 3.0  # seconds; a member that was heard so recently is given time to send something again
SPEAK_WITHIN = 1.5  # seconds; by then a dead link has ended, and a member that hung up is linked again
assert SILENCE < SPEAK_WITHIN < HELLO_TIMEOUT, "a caller waits until it is known whether the original is up"


class Originals:
    """Finds the members whose past a caller outside the config claims for itself: the originals of which it is a copy.

    Args:
        replica: holds the membership.
        members: the members of the cluster.
        guard: knows this node's own past.
        peers: the links that this node dialled.
    """

    def __init__(self, replica: Replica, members: Members, guard: IdentityGuard, peers: Peers) -> None:
        self._replica = replica
        self._members = members
        self._guard = guard
        self._peers = peers

    async def reason_to_refuse(self, hello: Hello) -> str:
        """Why a caller is refused that runs on a copy of a member's directory; empty if it does not.

        A node that was restarted, maybe at another address, is no copy: the member that it was is not up any more.

        Args:
            hello: the caller's hello.
        """
        asked_at = trio.current_time()
        alike = self.up(hello, asked_at - RECENT)
        own = self._members.self_address
        if own in alike:
            # A duplicate of this very node gets its hello first, so that both begin new incarnations.
            return "" if self._guard.is_duplicate(hello) else refusal(own)
        dialled = [peer for address in alike if (peer := self._peers.get(address)) is not None]
        if not dialled:
            return ""
        for peer in dialled:
            peer.redial.now()
        with trio.move_on_after(SPEAK_WITHIN):
            await _first_to_speak(dialled)
        alike = self.up(hello, asked_at)
        return refusal(alike[0]) if alike else ""

    def is_own(self, address: str, hello: Hello) -> bool:
        """Whether a caller is a duplicate of this very node, and the address is this node's entry."""
        return address == self._members.self_address and self._guard.is_duplicate(hello)

    def up(self, hello: Hello, since: float) -> list[str]:
        """The addresses of the originals that are up, this node's own first.

        A config that only the caller knows does not make it a member in place of its original: it would have to list
        both. Otherwise an operator who posts a config to a copy, so that it runs alone, would hand the cluster to it.

        Args:
            hello: the caller's hello.
            since: members that were heard after this time are up; in seconds.
        """
        members, now = self._members, self._replica.membership.actors
        if hello.entry in now or members.is_dialled(hello.start_id):
            return []
        own = members.self_address
        found = [own] if own and self._guard.shares_past(hello) else []
        past = {hello.incarnation, *hello.retired}
        for peer in self._peers:
            last = members.hellos.get(peer.address)
            heard = peer.last_contact is not None and peer.last_contact >= since
            if last is not None and heard and not past.isdisjoint((last.incarnation, *last.retired)):
                found.append(peer.address)
        actors = self._replica.membership.merge(hello.membership).actors
        return [address for address in found if not {hello.entry, address} <= set(actors)]


class Visit:
    """A caller that was let in. It may still turn out to be a copy of a member that was silent then, or unknown.

    Args:
        originals: finds these members.
        hello: the caller's hello.
    """

    def __init__(self, originals: Originals, hello: Hello) -> None:
        self._originals = originals
        self._hello = hello
        self._began = trio.current_time()

    def counts(self) -> bool:
        """Whether the caller's pushes are taken.

        They are not taken from a duplicate of this node, which gets a link only to learn that it is a duplicate.

        Raises:
            LinkRefused: the caller runs on a copy of the directory of a member that was heard since.
        """
        found = self._originals.up(self._hello, self._began)
        if not found:
            return True
        if self._originals.is_own(found[0], self._hello):
            return False
        raise LinkRefused(refusal(found[0]))


def refusal(original: str) -> str:
    """The text for a caller on a copy of a member's directory.

    Args:
        original: the member's address.
    """
    return (
        f"this node runs on a copy of the data directory of the member at {original}, which is up: "
        "start it with an empty directory, or with another --cluster name"
    )


async def _first_to_speak(peers: list[Peer]) -> None:
    async def listen(peer: Peer) -> None:
        await peer.wait_spoken()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(listen, peer)
