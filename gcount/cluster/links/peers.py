"""The members that this node dials, and what they have said that they hold.

The loops that dial are in `dial_loops.py`, what is said on a link in `dialled_link.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import trio

from gcount.cluster.context import Context
from gcount.cluster.links.peer import Peer
from gcount.cluster.members import Members
from gcount.core.protocol import messages
from gcount.core.state.counters import Digest
from gcount.events import News

WORTH_WAKING = 3  # dials in vain; before that the pause is short, and two nodes must not spur each other on


@dataclass(frozen=True)
class PeerStatistics:
    """One member at one instant.

    Args:
        address: its entry in the membership.
        state: "linked", "connecting" or "self".
        reason: why there is no link; empty when there is one, or when it was never tried.
        last_contact: when it was heard last, in seconds as trio's clock counts them.
        linked: whether there is a link that this node dialled.
        lag: how many versions it has not acknowledged; None when it was never reached.
    """

    address: str
    state: str
    reason: str
    last_contact: float | None
    linked: bool
    lag: int | None


class Peers:
    """All members that are dialled, this node's own entries included.

    Args:
        context: what is shared.
        members: who belongs to the cluster.
    """

    def __init__(self, context: Context, members: Members) -> None:
        self._replica = context.replica
        self._stopping = context.stopping
        self._members = members
        self._peers: dict[str, Peer] = {}
        self._progress = News()

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def get(self, address: str) -> Peer | None:
        """The peer at an address, if it is being dialled."""
        return self._peers.get(address)

    def add(self, address: str) -> Peer:
        """An address is being dialled from now on."""
        assert address not in self._peers, "one loop dials an address"
        peer = self._peers[address] = Peer(address, self._replica.options)
        return peer

    def remove(self, address: str) -> None:
        """An address is dialled no more."""
        del self._peers[address]

    @property
    def any_untried(self) -> bool:
        """Whether some address was not dialled yet, or the dial goes on."""
        unknown = (address for address in self._replica.membership.actors if address not in self._peers)
        return any(unknown) or any(peer.state == "connecting" and not peer.reason for peer in self)

    @property
    def linked(self) -> int:
        """To how many of them there is a link."""
        return sum(peer.sender is not None for peer in self)

    def nodes(self) -> dict[str, bytes]:
        """Which node is at which address now: those that are linked, and this one."""
        members, own = self._members, self._replica.identity.node
        linked = {peer.address: members.hellos[peer.address].node for peer in self if peer.sender is not None}
        return {**linked, **dict.fromkeys(members.here, own)}

    def owes(self, hello: messages.Hello) -> bool:
        """Whether something that this node has detached of a caller's former lives may not be on the caller's disk."""
        if not any(map(self._replica.detached.reaches, hello.retired)):
            return False
        asked = hello.node, hello.boot, hello.retired
        for peer in self:
            if peer.sender is not None and not peer.sender.owes:
                last = self._members.hellos[peer.address]
                if (last.node, last.boot, last.retired) == asked:
                    return False
        return True

    def holders(self, position: Digest) -> int:
        """How many other members have said that they hold a position on their disks."""
        others = [peer for address in self._members.others if (peer := self._peers.get(address)) is not None]
        lives = [peer.life for peer in others if peer.life is not None and peer.has(position)]
        nodes, boots = {node for node, _ in lives}, {boot for _, boot in lives}
        return min(len(nodes), len(boots))  # a node at two entries may have taken another id since it was met at one

    async def wait_held(self, position: Digest, members: int) -> int:
        """Return `holders` as soon as it is so many, or the node stops; no push waits for company meanwhile."""
        version = self._replica.counters.version
        assert all(at <= version(who) for who, at in position.items()), "only what is durable here is waited for"
        while (found := self.holders(position)) < members and not self._stopping.is_set:
            if members <= len(self._members.others):
                for peer in self:
                    if not peer.has(position):
                        peer.hasten(trio.current_time())
            with self._stopping.ends():
                await self._progress.wait()
        return found

    def tell_progress(self) -> None:
        """A member has said what is new on its disk."""
        self._progress.tell()

    def wake(self) -> None:
        """There is something new to push."""
        for peer in self._peers.values():
            peer.wake()

    def called(self, node: bytes) -> None:
        """A node called: it is up, so its address is worth a dial at once, and it meets this node by that."""
        for address, hello in self._members.hellos.items():
            peer = self._peers.get(address)
            if hello.node != node or peer is None:
                continue
            if peer.sender is not None:
                peer.sender.offer_again()
            if peer.failures >= WORTH_WAKING:
                peer.redial.set()

    def hang_up(self) -> None:
        """End all links; each loop dials again and says hello anew."""
        for peer in self._peers.values():
            peer.hang_up()

    def statistics(self) -> tuple[PeerStatistics, ...]:
        """All of them as they are now."""
        counters = self._replica.counters
        return tuple(
            PeerStatistics(
                peer.address, peer.state, peer.reason, peer.last_contact, peer.sender is not None, peer.lag(counters)
            )
            for peer in self
        )
