"""What is said on a link that this node has dialled: its hello, then pushes, questions and heartbeats.

State is only ever pushed on these links; what comes back is what the other end has on disk. What a member says of this
node's own incarnation counts in the instant in which it arrives, before anything is awaited.
"""

from collections.abc import Callable

import structlog
import trio

from gcount.cluster.context import Context
from gcount.cluster.links.channel import Channel
from gcount.cluster.links.handshake import HEARTBEAT_INTERVAL, Handshake, Knowledge, sending_heartbeats
from gcount.cluster.links.peer import Peer
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Link, Transport
from gcount.core.protocol import messages
from gcount.core.state.counters import Digest
from gcount.core.state.membership import Membership
from gcount.errors import LinkClosed, ProtocolError

NAME_CHECK = 1.0  # seconds between two looks at what the address of a standing link stands for
TRANSFER_BITS = 62  # of a transfer's id: nobody but the two ends can know it

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class DialledLinks:
    """All links that this node has dialled.

    Args:
        context: what is shared.
        knowledge: of this node and others.
        handshake: says hello.
        peers: the members that are dialled.
        transport: knows where a name leads to.
        linked: called with the address of a member whose link is up.
        replied: called with the address of a member that answered a round of a read, and with its answer.
    """

    def __init__(
        self,
        context: Context,
        knowledge: Knowledge,
        handshake: Handshake,
        peers: Peers,
        transport: Transport,
        *,
        linked: Callable[[str], None],
        replied: Callable[[str, messages.CellsReply], None],
    ) -> None:
        self._replica = context.replica
        self._random = context.random
        self._link_bytes = context.metrics.link_bytes
        self._news = context.news
        self._members = knowledge.members
        self._updates = knowledge.updates
        self._heard = knowledge.heard
        self._guard = knowledge.guard
        self._minting = knowledge.minting
        self._handshake = handshake
        self._peers = peers
        self._transport = transport
        self._linked = linked
        self._replied = replied

    async def talk(self, peer: Peer, link: Link) -> None:
        """Say hello on a new link, then talk until it is over; or return at once if it leads to this very node.

        Raises:
            LinkError: the link is over.
        """
        channel = Channel(link, self._link_bytes, peer.address)
        peer.heartbeats_sent = peer.heartbeats_answered = 0
        peer.owes = False
        said, answer = await self._handshake.say(channel, peer.resumes)
        peer.reached_self = answer is None
        if answer is None:
            return
        self._updates.lost_self(peer.address)
        await self._heed(peer, channel, said, answer)
        self._guard.sends_to_others()
        # A node of before challenges, which repeats none, takes nothing that is behind a gap.
        detached = self._replica.detached.of(frozenset(answer.retired)) if answer.challenge else ()
        peer.linked(channel, answer, trio.current_time(), self._draw_transfer, detached)
        logger.info("link up", peer=peer.address, node=answer.node.hex()[:8])
        self._linked(peer.address)
        self._news.notify()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.watch)
            nursery.start_soon(self._watch_address, peer, link)
            nursery.start_soon(self._listen, peer, channel)
            nursery.start_soon(self._write, peer, channel, said.membership)

    async def _heed(self, peer: Peer, channel: Channel, said: messages.Hello, answer: messages.Hello) -> None:
        """Take what a member's hello says of it, of the membership and of this node's own incarnation."""
        members, guard = self._members, self._guard
        for entry in members.entries_of(answer):  # what it confirmed under the old id it must not confirm as another
            guard.claim.forget(entry)
        members.hellos[peer.address] = answer
        self._heard.hear(answer.digest)
        guard.said_hello(answer, peer.address, member=True)
        async with sending_heartbeats(peer, channel):
            memberships_exchanged = await self._updates.adopt(answer.membership)
            if guard.is_duplicate(answer):
                guard.found_duplicate(answer, peer.address)
                self._minting.begin_if_possible()
                peer.heartbeats_sent += 1
                channel.post(messages.Heartbeat())  # this is no leftover of a former life: the other one mints, too
            elif answer.duplicate and said.node == self._replica.identity.node:
                guard.suspect_duplicate(
                    f"another process with a copy of this node's data directory calls {peer.address}"
                )
            elif memberships_exchanged:
                own = self._replica.identity.incarnation
                guard.heard(peer.address, answer.node, max(answer.digest.get(own, 0), answer.seen.get(own, 0)))
            else:  # the newest one, which decides who has to confirm, is not in force
                guard.unheard = True
            await self._minting.mint_if_possible()

    async def _watch_address(self, peer: Peer, link: Link) -> None:
        """Give the link up when another dial of the address would lead elsewhere."""
        while True:
            await trio.sleep(NAME_CHECK)
            places = await self._transport.stands_for(peer.address)
            if places is not None and link.remote not in places:
                raise LinkClosed(f"the name now resolves to another address: {', '.join(sorted(places))}")
            if await self._transport.is_self(peer.address) is True:
                raise LinkClosed("the address is this node's own now")

    def _draw_transfer(self) -> int:
        return self._random.getrandbits(TRANSFER_BITS) or 1

    async def _listen(self, peer: Peer, channel: Channel) -> None:
        while True:
            message = await channel.receive()
            now = trio.current_time()
            peer.heard(now)
            if peer.sender is None:
                raise LinkClosed("this node closed the link")
            match message:
                case messages.Ack():
                    peer.sender.acked(message, now)
                    await self._learn(peer, message.digest)
                    peer.wake()
                case messages.HeartbeatAck():
                    peer.sender.learned(message.digest)
                    await self._learn(peer, message.digest)
                    await self._updates.adopt(message.membership or Membership())
                    peer.heartbeats_answered += 1
                    peer.owes = message.owes
                case messages.CellsReply():
                    if await self._updates.adopt(message.membership or Membership()):
                        self._replied(peer.address, message)
                case _:
                    raise ProtocolError(f"a {type(message).__name__} came from the accepting end")

    async def _learn(self, peer: Peer, digest: Digest) -> None:
        """A member told what is new on its disk; what it said before of this node's incarnation may count only now."""
        self._peers.report_progress()
        self._heard.hear(digest)
        knows = peer.sender.peer.get(self._replica.identity.incarnation, 0) if peer.sender else 0
        if knows > self._replica.version:
            self._guard.heard(peer.address, self._members.hellos[peer.address].node, knows)
            await self._minting.mint_if_possible()

    async def _write(self, peer: Peer, channel: Channel, told: Membership) -> None:
        replica = self._replica
        next_heartbeat = trio.current_time()  # at once: it proves that the hello was no leftover of a former life
        while peer.sender is not None:
            now = trio.current_time()
            message: messages.Message | None = None
            if told != replica.membership:
                told = replica.membership
                message = messages.Members(told)
                peer.sender.offer_again()
            elif now >= next_heartbeat:
                next_heartbeat = now + HEARTBEAT_INTERVAL
                message = messages.Heartbeat()
                peer.heartbeats_sent += 1
            else:
                message = peer.sender.next_push(replica.counters, replica.identity, now)
            if message is not None:
                channel.post(message)
            if channel.unsent:
                await channel.flush()
            elif message is None:
                paced = peer.sender.paced_until
                await peer.wait_awake(min(next_heartbeat, paced) if now < paced else next_heartbeat)
