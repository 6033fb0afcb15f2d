"""The members that this node dials, and what they have on disk.

dial_loops.py dials them, and dialled_link.py exchanges the messages on a link.
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

# A call from a member ends the pause before it is dialled only after so many failed dials. Before that the pause is
# short, and two nodes that fail to link must not make each other dial without any pause.
WORTH_WAKING = 3


@dataclass(frozen=True)
class PeerStatistics:
    """One member at one instant.

    Args:
        address: its entry in the membership.
        state: "linked", "connecting" or "self".
        reason: why there is no link; empty when there is one, or when it was never tried.
        last_contact: when a message came from it last, in seconds of trio's clock; None when none ever came.
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
        context: what the parts of the node share.
        members: the members of the cluster.

    Attributes:
        progress: notified when a member has said what is new on its disk.
    """

    def __init__(self, context: Context, members: Members) -> None:
        self._replica = context.replica
        self._stopping = context.stopping
        self._members = members
        self._peers: dict[str, Peer] = {}
        self.progress = News()

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def get(self, address: str) -> Peer | None:
        """The peer at an address, if it is being dialled."""
        return self._peers.get(address)

    def add(self, address: str) -> Peer:
        """Add an address that is dialled from now on."""
        assert address not in self._peers, "one loop dials an address"
        peer = self._peers[address] = Peer(address, self._replica.options)
        return peer

    def remove(self, address: str) -> None:
        """Remove an address that is not dialled any more."""
        del self._peers[address]

    @property
    def any_untried(self) -> bool:
        """Whether the first dial of any address in the membership is not over yet."""
        unknown = (address for address in self._replica.membership.actors if address not in self._peers)
        return any(unknown) or any(peer.state == "connecting" and not peer.reason for peer in self)

    @property
    def linked(self) -> int:
        """The number of members to which there is a link."""
        return sum(peer.sender is not None for peer in self)

    def nodes(self) -> dict[str, bytes]:
        """The ids of linked nodes and of this one, by address."""
        members, own = self._members, self._replica.identity.node
        linked = {peer.address: members.hellos[peer.address].node for peer in self if peer.sender is not None}
        return {**linked, **dict.fromkeys(members.here, own)}

    def owes(self, hello: messages.Hello) -> bool:
        """Whether detached deltas of a caller's former incarnations may not be on the caller's disk yet."""
        if not any(map(self._replica.detached.reaches, hello.retired)):
            return False
        asked = hello.node, hello.start_id, hello.retired
        for peer in self:
            if peer.sender is not None and not peer.sender.owes:
                last = self._members.hellos[peer.address]
                if (last.node, last.start_id, last.retired) == asked:
                    return False
        return True

    def holders(self, position: Digest) -> int:
        """How many other members have said that they have all of a position on their disks."""
        others = [peer for address in self._members.others if (peer := self._peers.get(address)) is not None]
        processes = [peer.process for peer in others if peer.process is not None and peer.has(position)]
        nodes, starts = {node for node, _ in processes}, {start_id for _, start_id in processes}
        # One node may be at two entries, and may have taken another node id between its two hellos. Its start id is the
        # same in both. So the smaller number counts no member twice.
        return min(len(nodes), len(starts))

    async def wait_held(self, position: Digest, members: int) -> int:
        """Wait until so many other members hold a position, or the node is asked to stop.

        Pushes are sent without delay meanwhile.

        Returns:
            How many members hold it.
        """
        while (found := self.holders(position)) < members and not self._stopping.is_set:
            if members <= len(self._members.others):
                for peer in self:
                    if not peer.has(position):
                        peer.hasten(trio.current_time())
            with self._stopping.ends():
                await self.progress.wait()
        return found

    def wake(self) -> None:
        """Let all links check whether there is anything to push."""
        for peer in self._peers.values():
            peer.wake()

    def called(self, node: bytes) -> None:
        """Note that a node called, so that it is up: dial it at once, and offer it again what it did not take.

        It may take that now, as it has seen this node's hello.
        """
        for address, hello in self._members.hellos.items():
            peer = self._peers.get(address)
            if hello.node != node or peer is None:
                continue
            if peer.sender is not None:
                peer.sender.offer_again()
            if peer.redial.failures >= WORTH_WAKING:
                peer.redial.now()

    def hang_up(self) -> None:
        """End all links. Each dial loop dials again and says hello anew."""
        for peer in self._peers.values():
            peer.hang_up()

    def statistics(self) -> tuple[PeerStatistics, ...]:
        """All members at this instant."""
        counters = self._replica.counters
        return tuple(
            PeerStatistics(
                peer.address, peer.state, peer.reason, peer.last_contact, peer.sender is not None, peer.lag(counters)
            )
            for peer in self
        )
