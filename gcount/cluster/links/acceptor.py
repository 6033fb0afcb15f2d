"""The accepting side of the links: it only answers.

A node is known by its hello. Another boot of a node ends the links of its other boots, and what those had staged here
is settled, before the hello is answered: nothing of a former life arrives after a peer has said what it knows.
"""

from collections.abc import Callable

import trio

from gcount.cluster.context import Context
from gcount.cluster.hold_gate import HoldGate
from gcount.cluster.links.accepted_link import AcceptedLink, Shared
from gcount.cluster.links.channel import Channel
from gcount.cluster.links.duplicates import Originals, Visit
from gcount.cluster.links.handover import Handover
from gcount.cluster.links.handshake import Handshake, Knowledge, telling_to_wait
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Link
from gcount.core.protocol import messages as wire
from gcount.core.protocol.restarts import Boots
from gcount.errors import LinkClosed, LinkError, LinkRefused, ProtocolError, leaves
from gcount.observe.throttle import Throttle

HELLO_TIMEOUT = 2.0  # seconds
EXPIRE_EVERY = 1.0  # seconds


class Acceptor:
    """All accepted links.

    Args:
        context: what is shared.
        knowledge: of this node and others.
        gate: holds this node's increments when a member's read asks for it.
        handshake: knows this node's hello.
        peers: the members that this node dials.
    """

    def __init__(
        self, context: Context, knowledge: Knowledge, gate: HoldGate, handshake: Handshake, peers: Peers
    ) -> None:
        self._context = context
        self._replica = context.replica
        self._heard = knowledge.heard
        self._updates = knowledge.updates
        self._guard = knowledge.guard
        self._gate = gate
        self._handshake = handshake
        self._peers = peers
        self._originals = Originals(context.replica, knowledge.members, knowledge.guard, peers)
        self._links: dict[AcceptedLink, None] = {}  # in the order of their hellos
        self._refused = Throttle("link refused", quiet=60.0)
        self._boots = Boots(context.replica.options)
        self._handover = Handover(self._links, context.replica.max_uncounted_cells, context.replica.options)
        self._shared = Shared(context, knowledge, gate, peers, self._handover, self._boots)

    def __len__(self) -> int:
        return len(self._links)

    async def run(self) -> None:
        """Drop what lost links have left unfinished when its time is over, for ever."""
        while True:
            await trio.sleep(EXPIRE_EVERY)
            self._handover.kept.expire(trio.current_time())

    def hang_up(self) -> None:
        """End all links: the nodes that dialled them dial again, and learn who this node is now."""
        for link in self._links:
            link.scope.cancel()
        self._handover.kept.clear()

    async def serve(self, link: Link, caller: str, promote: Callable[[], bool]) -> None:
        """Talk to the node that dialled, until the link is over.

        Args:
            link: the connection.
            caller: where it comes from, for the log.
            promote: called when the caller proves to be a member; its connection is never closed to make room.
        """
        channel = Channel(link, self._context.metrics.link_bytes, "accepted")
        try:
            hello = await self._first(channel)
            accepted = AcceptedLink(self._shared, channel, hello, Visit(self._originals, hello), promote)
            self._guard.met(hello, caller, member=False)
            duplicate = self._supersede(hello)
            self._links[accepted] = None
            try:
                with accepted.scope:
                    await self._welcome(channel, accepted, hello, duplicate=duplicate)
                    await accepted.run()
            finally:
                del self._links[accepted]
                self._gate.release_all(accepted)
                self._handover.left_by(accepted)
        except* LinkError as group:
            for error in leaves(group):
                if not isinstance(error, LinkClosed):
                    self._refused.warn(caller=caller, reason=str(error))

    async def _first(self, channel: Channel) -> wire.Hello:
        hello = await channel.receive_first(HELLO_TIMEOUT)
        if not isinstance(hello, wire.Hello):
            raise ProtocolError(f"expected a Hello, got a {type(hello).__name__}")
        reason, config = "", 0
        if hello.protocol != wire.PROTOCOL:
            reason = f"this node speaks protocol {wire.PROTOCOL}, not {hello.protocol}"
        elif hello.cluster != self._context.cluster:
            reason = f"this node belongs to cluster {self._context.cluster!r}, not to {hello.cluster!r}"
        elif hello.boot == self._context.boot and not self._handshake.came_in(hello.challenge):
            reason = "this node did not say that just now: somebody repeats its hello"
        else:
            reason = await self._originals.reason_to_refuse(hello)
            config = self._replica.membership.version
        if reason:
            await channel.send(wire.Refused(reason, config))
            raise LinkRefused(reason)
        return hello

    def _supersede(self, hello: wire.Hello) -> bool:
        """End the links of the node's other boots; returns whether two of its boots are alive, as after no restart."""
        duplicate = self._boots.met(hello.node, hello.boot)
        for link in self._others(hello):
            link.scope.cancel()
        self._handover.kept.met(hello.node, hello.boot)
        return duplicate

    def _others(self, hello: wire.Hello) -> list[AcceptedLink]:
        """The links of the other boots of a caller's node that were not ended."""
        alike = [link for link in self._links if link.hello.node == hello.node and link.hello.boot != hello.boot]
        return [link for link in alike if not link.scope.cancel_called]

    async def _welcome(self, channel: Channel, accepted: AcceptedLink, hello: wire.Hello, *, duplicate: bool) -> None:
        async with telling_to_wait(channel, hello):
            # In this order: a node that this very membership removes may push what others count until it is in force.
            if accepted.visit.counts():
                await self._updates.adopt(hello.membership)
            await self._context.settle()
        self._peers.called(hello.node)
        lives = (hello.incarnation, *hello.retired)
        seen = self._heard.seen(lives, self._handover.seen(set(lives)))
        left = self._handover.left_for(accepted)
        kept = 0 if left is None else left.parcels
        answer = self._handshake.hello(duplicate=duplicate, challenge=hello.challenge, seen=seen, kept=kept)
        accepted.greeted(answer, left)
        assert accepted.scope.cancel_called or not self._others(hello), "one boot of a node is talked to at a time"
        await channel.send(answer)
