"""The accepting side of the links, which only answers.

A hello says which node and which process a caller is. When another process of a node says hello, the links of its
earlier processes end, and what those had staged here is made durable or dropped, before the hello is answered. So
nothing from an earlier process arrives after this node has said what it knows.
"""

from collections.abc import Callable

import trio

from gcount.cluster.context import Context
from gcount.cluster.hold_gate import HoldGate
from gcount.cluster.links.accepted_link import AcceptedLink, Shared
from gcount.cluster.links.channel import Channel
from gcount.cluster.links.duplicates import Originals, Visit
from gcount.cluster.links.handover import Handover
from gcount.cluster.links.handshake import TOO_OLD, Handshake, Knowledge, sending_wait_notices
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Link
from gcount.cluster.members import uses_ids
from gcount.core.protocol import messages as wire
from gcount.core.protocol.restarts import Restarts
from gcount.errors import LinkClosed, LinkError, LinkRefused, ProtocolError, leaves
from gcount.observe.throttle import Throttle

HELLO_TIMEOUT = 2.0  # seconds
EXPIRE_EVERY = 1.0  # seconds


class Acceptor:
    """All accepted links.

    Args:
        context: what the parts of the node share.
        knowledge: what this node knows of itself and others.
        gate: lets this node's increments wait when a member's read asks for it.
        handshake: makes this node's hello.
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
        self._restarts = Restarts(context.replica.options)
        self._handover = Handover(self._links, context.replica.max_uncounted_cells, context.replica.options)
        self._shared = Shared(context, knowledge, gate, peers, self._handover, self._restarts)

    def __len__(self) -> int:
        return len(self._links)

    async def run(self) -> None:
        """Drop suspended transfers when their time is over, for ever."""
        while True:
            await trio.sleep(EXPIRE_EVERY)
            self._handover.kept.expire(trio.current_time())

    def hang_up(self) -> None:
        """End all links, so that other nodes dial again and learn this node's new identity."""
        for link in self._links:
            link.scope.cancel()
        self._handover.kept.clear()

    async def serve(self, link: Link, caller: str, promote: Callable[[], bool]) -> None:
        """Serve a link that another node dialled, until it is over.

        Args:
            link: the connection.
            caller: the address from which it comes, for the log.
            promote: as for `AcceptedLink`.
        """
        channel = Channel(link, self._context.metrics.link_bytes, "accepted")
        try:
            hello = await self._first(channel)
            # There is no await from here until the link is listed: a hello of a later process of the same node has to
            # find this link, and to end it.
            accepted = AcceptedLink(self._shared, channel, hello, Visit(self._originals, hello), promote)
            self._guard.said_hello(hello, caller, member=False)
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
        elif hello.start_id == self._context.start_id and not self._handshake.came_in(hello.challenge):
            reason = "the caller repeats a hello of this node"
        elif not hello.knows_ids and uses_ids(self._replica):
            reason = TOO_OLD
        else:
            reason = await self._originals.reason_to_refuse(hello)
            config = self._replica.membership.version
        if reason:
            await channel.send(wire.Refused(reason, config))
            raise LinkRefused(reason)
        return hello

    def _supersede(self, hello: wire.Hello) -> bool:
        """End the links of the node's other processes; returns whether the node has two live processes."""
        duplicate = self._restarts.said_hello(hello.node, hello.start_id)
        for link in self._of_other_starts(hello):
            link.scope.cancel()
        self._handover.kept.said_hello(hello.node, hello.start_id)
        return duplicate

    def _of_other_starts(self, hello: wire.Hello) -> list[AcceptedLink]:
        """The links of a caller's node that another process of it dialled, without those that were ended."""
        alike = [link for link in self._links if link.hello.node == hello.node]
        return [link for link in alike if link.hello.start_id != hello.start_id and not link.scope.cancel_called]

    def _check_starts(self, accepted: AcceptedLink) -> None:
        """Assert that no other process of the caller's node has a link, unless it has ended this one meanwhile."""
        others = self._of_other_starts(accepted.hello)
        assert accepted.scope.cancel_called or not others, "one process of a node is linked at a time"

    async def _welcome(self, channel: Channel, accepted: AcceptedLink, hello: wire.Hello, *, duplicate: bool) -> None:
        async with sending_wait_notices(channel, hello):
            # In this order: until the membership is in force, a node that it removes may still push what others count.
            if accepted.visit.counts():
                await self._updates.adopt(hello.membership)
            # All that earlier processes of the caller had staged here has to be durable or dropped before this node
            # says what it knows. Otherwise it could confirm an incarnation, and know more of it a moment later.
            await self._context.settle()
        self._peers.called(hello.node)
        incarnations = (hello.incarnation, *hello.retired)
        seen = self._heard.seen(incarnations, self._handover.seen(set(incarnations)))
        left = self._handover.left_for(accepted)
        kept = 0 if left is None else left.chunks
        answer = self._handshake.hello(duplicate=duplicate, challenge=hello.challenge, seen=seen, kept=kept)
        accepted.prepare(answer, left)
        self._check_starts(accepted)
        await channel.send(answer)
