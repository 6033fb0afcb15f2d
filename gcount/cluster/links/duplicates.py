"""A copy of a member's data directory that runs outside the config is not let in with its counts.

A copy that is meant for a test would else count into production, as a node outside the config may bring what it counted
itself, and takes the past of the original for its own. It would bring its config, too.
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

RECENT = 3.0  # seconds; a member that was heard so recently is given time to speak again
SPEAK_WITHIN = 1.5  # seconds; by then a dead link is found to be dead, and a member that hung up is linked again
assert SILENCE < SPEAK_WITHIN < HELLO_TIMEOUT, "a caller waits until it is known whether the original is up"


class Originals:
    """The members whose past a caller outside the config claims for itself.

    Args:
        replica: holds the membership.
        members: who belongs to the cluster.
        guard: knows this node's own past.
        peers: the links that this node dialled.
    """

    def __init__(self, replica: Replica, members: Members, guard: IdentityGuard, peers: Peers) -> None:
        self._replica = replica
        self._members = members
        self._guard = guard
        self._peers = peers

    async def reason_to_refuse(self, hello: Hello) -> str:
        """Why a caller that runs on a copy of a member's directory is not let in; empty if it is none.

        A node that is started again, or at another address, is no copy: then the member that it was is not up any more.

        Args:
            hello: the caller's.
        """
        asked_at = trio.current_time()
        alike = self.up(hello, asked_at - RECENT)
        own = self._members.self_address
        if own in alike:
            # A duplicate of this very node is told first: both mint.
            return "" if self._guard.is_duplicate(hello) else refusal(own)
        dialled = [peer for address in alike if (peer := self._peers.get(address)) is not None]
        if not dialled:
            return ""
        for peer in dialled:
            peer.redial.set()
        with trio.move_on_after(SPEAK_WITHIN):
            await _first_to_speak(dialled)
        alike = self.up(hello, asked_at)
        return refusal(alike[0]) if alike else ""

    def is_own(self, address: str, hello: Hello) -> bool:
        """Whether a caller is a duplicate of this very node, which is at that address."""
        return address == self._members.self_address and self._guard.is_duplicate(hello)

    def up(self, hello: Hello, since: float) -> list[str]:
        """The addresses of those that are up; this node's own first.

        A config which the caller alone knows lets it in only beside its original. Else an operator who has told a copy
        to stand alone would have handed it the cluster.

        Args:
            hello: the caller's.
            since: members that were heard from then on are up; in seconds.
        """
        members, now = self._members, self._replica.membership.actors
        if hello.entry in now or members.is_at_home(hello.boot):
            return []
        own = members.self_address
        found = [own] if own and self._guard.shares_past(hello) else []
        past = {hello.incarnation, *hello.retired}
        for peer in self._peers:
            last = members.hellos.get(peer.address)
            heard = peer.last_contact is not None and peer.last_contact >= since
            if last is not None and heard and not past.isdisjoint((last.incarnation, *last.retired)):
                found.append(peer.address)
        told = self._replica.membership.merge(hello.membership).actors
        return [address for address in found if not {hello.entry, address} <= set(told)]


class Visit:
    """A caller that was let in: a member whose directory it has a copy of may have been silent then, or not met yet.

    Args:
        originals: those members.
        hello: the caller's.
    """

    def __init__(self, originals: Originals, hello: Hello) -> None:
        self._originals = originals
        self._hello = hello
        self._began = trio.current_time()

    def counts(self) -> bool:
        """Whether what it brings is taken. From a duplicate of this node it is not: that one is only to be told of it.

        Raises:
            LinkRefused: the caller runs on a copy of the directory of a member that has spoken since.
        """
        found = self._originals.up(self._hello, self._began)
        if not found:
            return True
        if self._originals.is_own(found[0], self._hello):
            return False
        raise LinkRefused(refusal(found[0]))


def refusal(original: str) -> str:
    """What a caller on a copy of a member's directory is told.

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
