"""The messages on a link that this node has dialled: its hello, then pushes, questions and heartbeats.

State is pushed only on these links; the other end answers with what it has on disk. When a member says what it knows of
this node's own incarnation, that counts at the instant at which it arrives, before anything is awaited.
"""

from collections.abc import Callable

import structlog
import trio

from gcount.cluster.context import Context
from gcount.cluster.links.channel import Channel
from gcount.cluster.links.handshake import (
    HEARTBEAT_INTERVAL,
    Handshake,
    Knowledge,
    check_knows_ids,
    sending_heartbeats,
)
from gcount.cluster.links.peer import Peer
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Link, Transport
from gcount.core.protocol import messages
from gcount.core.state.counters import Digest
from gcount.core.state.membership import Membership
from gcount.errors import LinkClosed, ProtocolError

NAME_CHECK = 1.0  # seconds between two look-ups of the host name of a link that is up
TRANSFER_BITS = 62  # of a transfer's id, which is random so that only the two ends know it

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class DialledLinks:
    """All links that this node has dialled.

    Args:
        context: what the parts of the node share.
        knowledge: what this node knows of itself and others.
        handshake: says hello.
        peers: the members that are dialled.
        transport: looks names up.
        linked: is called with the address of a member whose link is up.
        replied: is called with the address of a member that answered a round of a read, and with its answer.
        told: is called when a member says its floor: with the member's address, the floor, and a digest of what it has
            on disk that is not older than the floor. The digest goes on changing.
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
        told: Callable[[str, int, Digest], None] = lambda *_: None,
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
        self._told = told

    async def talk(self, peer: Peer, link: Link) -> None:
        """Say hello on a new link, then exchange messages until it is over. Return if it leads to this very node.

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
        check_knows_ids(self._replica, answer)
        self._updates.lost_self(peer.address)
        # What the peer knows of this node's incarnation counts before anything is pushed to it.
        await self._heed(peer, channel, said, answer)
        self._guard.sends_to_others()
        # A version without challenges repeats none in its hello, and takes no delta that is behind a gap.
        detached = self._replica.detached.of(frozenset(answer.retired)) if answer.challenge else ()
        peer.linked(channel, answer, trio.current_time(), self._draw_transfer, detached)
        logger.info("link up", peer=peer.address, node=answer.node.hex()[:8])
        self._linked(peer.address)
        self._news.notify()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.watch)
            nursery.start_soon(self._watch_address, peer, link)
            nursery.start_soon(self._listen, peer, channel)
            nursery.start_soon(self._write, peer, channel, said.membership, answer)

    async def _heed(self, peer: Peer, channel: Channel, said: messages.Hello, answer: messages.Hello) -> None:
        """Take all that a member's hello says: of itself, of the membership, and of this node's incarnation."""
        members, guard = self._members, self._guard
        # The same process may have confirmed under an old node id. It must not count as two members.
        for entry in members.entries_of(answer):
            guard.claim.forget(entry)
        members.hellos[peer.address] = answer
        self._told(peer.address, answer.floor or 0, answer.digest)
        self._heard.hear(answer.digest)
        guard.said_hello(answer, peer.address, member=True)
        async with sending_heartbeats(peer, channel):
            memberships_exchanged = await self._updates.adopt(answer.membership)
            if guard.is_duplicate(answer):
                guard.found_duplicate(answer, peer.address)
                self._minting.begin_if_possible()
                peer.heartbeats_sent += 1
                channel.post(messages.Heartbeat())  # it shows the duplicate that this process is alive, so it acts, too
            elif answer.duplicate and said.node == self._replica.identity.node:
                guard.suspect_duplicate(
                    f"another process with a copy of this node's data directory calls {peer.address}"
                )
            elif memberships_exchanged:
                own = self._replica.identity.incarnation
                guard.heard(peer.address, answer.node, max(answer.digest.get(own, 0), answer.seen.get(own, 0)))
            else:  # the disk is full, so the newest membership, which decides who has to confirm, is not in force
                guard.unheard = True
            await self._minting.mint_if_possible()

    async def _watch_address(self, peer: Peer, link: Link) -> None:
        """End the link when its address leads to another machine, or to this node."""
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
                    self._told(peer.address, message.floor, peer.sender.peer)
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
        """Take what a member says is new on its disk.

        If it knows more of this node's incarnation than this disk holds, that may be believed only now: messages of
        this kind are believed once a minute.
        """
        self._peers.progress.notify()
        self._heard.hear(digest)
        knows = peer.sender.peer.get(self._replica.identity.incarnation, 0) if peer.sender else 0
        if knows > self._replica.version:
            self._guard.heard(peer.address, self._members.hellos[peer.address].node, knows)
            await self._minting.mint_if_possible()

    async def _write(self, peer: Peer, channel: Channel, sent: Membership, answer: messages.Hello) -> None:
        """Send on a link what is due, until it is over: the membership before heartbeats, and heartbeats before pushes.

        Args:
            peer: the member at the other end.
            channel: carries the messages.
            sent: the membership in this node's hello.
            answer: the member's hello.
        """
        replica = self._replica
        next_heartbeat = trio.current_time()  # at once: it proves that the hello is not from an ended process
        while peer.sender is not None:
            now = trio.current_time()
            check_knows_ids(replica, answer)
            message: messages.Message | None = None
            if sent != replica.membership:
                sent = replica.membership
                message = messages.Members(sent)
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
