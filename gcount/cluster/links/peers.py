"""The dialled side of the links: one supervised loop per member, for as long as it is a member.

A peer that goes and comes is one line each in the log, however often the dial is tried in between.
"""

from collections.abc import Callable, Iterator

import structlog
import trio

from gcount.cluster.links.channel import Channel
from gcount.cluster.links.handshake import BEAT_EVERY, heed, mint_if_due, say_hello
from gcount.cluster.links.peer import Peer
from gcount.cluster.links.transport import Link, Transport
from gcount.cluster.local import Local
from gcount.core.protocol import messages
from gcount.core.state.counters import Digest
from gcount.core.state.membership import Membership
from gcount.errors import LinkClosed, LinkError, LinkRefused, ProtocolError, leaves

SELF_CHECK = 0.5  # seconds between two proofs that an entry is this node
FIND_SELF_WITHIN = 0.1  # seconds at the start
NAME_CHECK = 1.0  # seconds between two looks at what the address of a standing link stands for
TRANSFER_BITS = 62  # of a transfer's id: nobody but the two ends can know it
WORTH_WAKING = 3  # dials in vain; before that the pause is short, and two nodes must not spur each other on

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Peers:
    """All dial loops.

    Args:
        local: this node.
        transport: how others are reached.
    """

    def __init__(self, local: Local, transport: Transport) -> None:
        self.on_collected: Callable[[str, messages.CellsReply], None] = lambda address, collected: None
        self.on_linked: Callable[[str], None] = lambda address: None
        self._local = local
        self._transport = transport
        self._peers: dict[str, Peer] = {}
        self._progress = trio.Event()
        self._stopping = False

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    @property
    def any_untried(self) -> bool:
        """Whether some address was not dialled yet, or the dial goes on."""
        unknown = (address for address in self._local.replica.membership.actors if address not in self._peers)
        return any(unknown) or any(peer.state == "connecting" and not peer.reason for peer in self)

    def get(self, address: str) -> Peer | None:
        """The peer at an address, if it is being dialled."""
        return self._peers.get(address)

    def nodes(self) -> dict[str, bytes]:
        """Which node is at which address now: those that are linked, and this one."""
        members, own = self._local.members, self._local.replica.identity.node
        linked = {peer.address: members.met[peer.address].node for peer in self if peer.pusher is not None}
        return {**linked, **dict.fromkeys(members.here, own)}

    def owes(self, hello: messages.Hello) -> bool:
        """Whether something that is aside here of a caller's former lives may not be on the caller's disk yet."""
        if not any(map(self._local.replica.salvage.reaches, hello.retired)):
            return False
        asked = hello.node, hello.boot, hello.retired
        for peer in self:
            if peer.pusher is not None and not peer.pusher.owes:
                met = self._local.members.met[peer.address]
                if (met.node, met.boot, met.retired) == asked:
                    return False
        return True

    def holders(self, versions: Digest) -> int:
        """How many other members have said that they have these versions, or newer ones, on their disks."""
        others = [peer for address in self._local.members.others if (peer := self._peers.get(address)) is not None]
        lives = [peer.life for peer in others if peer.life is not None and peer.has(versions)]
        nodes, boots = {node for node, _ in lives}, {boot for _, boot in lives}
        return min(len(nodes), len(boots))  # a node at two entries may have taken another id since it was met at one

    async def wait_held(self, versions: Digest, members: int) -> int:
        """Return `holders` as soon as it is so many, or the node stops; no push waits for company meanwhile."""
        while (found := self.holders(versions)) < members and not self._stopping:
            if members <= len(self._local.members.others):
                for peer in self:
                    if not peer.has(versions):
                        peer.hasten(trio.current_time())
            await self._progress.wait()
        return found

    def stop(self) -> None:
        """The node stops: who waits for members is answered now."""
        self._stopping = True
        self._tell_progress()

    def _tell_progress(self) -> None:
        progress, self._progress = self._progress, trio.Event()
        progress.set()

    def wake(self) -> None:
        """There is something new to push."""
        for peer in self._peers.values():
            peer.wake()

    def called(self, node: bytes) -> None:
        """A node called: it is up, so its address is worth a dial at once, and it meets this node by that."""
        for address, hello in self._local.members.met.items():
            peer = self._peers.get(address)
            if hello.node != node or peer is None:
                continue
            if peer.pusher is not None:
                peer.pusher.offer_again()
            if peer.failures >= WORTH_WAKING:
                peer.redial.set()

    def hang_up(self) -> None:
        """End all links; each loop dials again and says hello anew."""
        for peer in self._peers.values():
            peer.hang_up()

    async def run(self, linger: float) -> None:
        """Dial whoever is a member, for ever.

        Args:
            linger: how long a removed member is still dialled, in seconds: it has to hear that it was removed, and
                reads that began before need it.
        """
        await self._find_self()
        async with trio.open_nursery() as nursery:
            while True:
                for address in self._local.replica.membership.actors:
                    if address not in self._peers:
                        self._peers[address] = peer = Peer(address, self._local.replica.options)
                        nursery.start_soon(self._serve_member, peer, linger)
                self._let_go()
                await self._local.wait_news()

    async def _find_self(self) -> None:
        """Look which entry is this node, as hellos tell it; briefly, as name servers may hang."""

        async def look(address: str) -> None:
            if await self._is_self(address):
                self._local.found_self(address)

        with trio.move_on_after(FIND_SELF_WITHIN):
            async with trio.open_nursery() as nursery:
                for address in self._local.replica.membership.actors:
                    nursery.start_soon(look, address)

    def _let_go(self) -> None:
        """Whoever floods the node with memberships shall not make it dial the world: some that were removed go at once.

        They are those that were dialled first.
        """
        actors = self._local.replica.membership.actors
        removed = [peer for address, peer in self._peers.items() if address not in actors]
        for peer in removed[: max(0, len(removed) - self._local.replica.options.max_removed)]:
            peer.serving.cancel()

    async def _serve_member(self, peer: Peer, linger: float) -> None:
        local = self._local
        with peer.serving:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._dial_forever, peer)
                while True:
                    while peer.address in local.replica.membership.actors:
                        await local.wait_news()
                    with trio.move_on_after(linger) as gone:
                        while peer.address not in local.replica.membership.actors:
                            await local.wait_news()
                    if gone.cancelled_caught:
                        break
                nursery.cancel_scope.cancel()
        del self._peers[peer.address]
        local.forget(peer.address)
        local.tell_news()  # it may have been added again meanwhile

    async def _dial_forever(self, peer: Peer) -> None:
        log = logger.bind(peer=peer.address)
        by_kernel = False
        while True:
            was, by_kernel = by_kernel, await self._is_self(peer.address)
            if was and not by_kernel:
                self._local.lost_self(peer.address)
            reason, refused = ("", False) if by_kernel else await self._dial(peer)
            if by_kernel or peer.came_home:
                peer.here()
                self._local.members.met.pop(peer.address, None)
                self._local.found_self(peer.address)
                await peer.wait_redial(SELF_CHECK)
                continue
            self._local.lost_self(peer.address)
            if peer.pusher is not None:
                log.warning("link down", reason=reason)
            elif peer.reason == "" or (refused and reason != peer.reason):
                log.warning("peer not reached", reason=reason)
            peer.unlinked(reason, trio.current_time())
            self._local.tell_news()
            await peer.wait_redial(peer.pause(self._local.random.random()))

    async def _is_self(self, address: str) -> bool:
        return await self._transport.is_self(address) is True

    async def _dial(self, peer: Peer) -> tuple[str, bool]:
        """One link, from its dial to its end; returns why it ended, and whether one end refused to talk."""
        errors: list[BaseException] = []
        peer.came_home = False
        with trio.CancelScope() as peer.scope:
            try:
                async with self._transport.connect(peer.address) as link:
                    await self._talk(peer, link)
            except* LinkError as group:
                errors += leaves(group)
        if not errors:
            return "hung up to say hello anew", False
        return str(errors[0]), isinstance(errors[0], LinkRefused)

    async def _talk(self, peer: Peer, link: Link) -> None:
        local = self._local
        talk = Channel(link, local.metrics.link_bytes, peer.address)
        peer.beats = peer.beaten = 0
        peer.owes = False
        said, answer = await say_hello(local, talk, peer.resumes)
        peer.came_home = answer is None
        if answer is None:
            return
        local.lost_self(peer.address)
        await heed(local, peer, talk, said, answer)
        local.guard.tells_others()
        # A node of before challenges, which repeats none, takes nothing that is behind a gap.
        aside = local.replica.salvage.of(frozenset(answer.retired)) if answer.challenge else ()
        peer.linked(talk, answer, trio.current_time(), self._draw_transfer, aside)
        logger.info("link up", peer=peer.address, node=answer.node.hex()[:8])
        self.on_linked(peer.address)
        local.tell_news()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk.watch)
            nursery.start_soon(self._watch_address, peer, link)
            nursery.start_soon(self._listen, peer, talk)
            nursery.start_soon(self._write, peer, talk, said.membership)

    async def _watch_address(self, peer: Peer, link: Link) -> None:
        """Give the link up when another dial of the address would lead elsewhere."""
        while True:
            await trio.sleep(NAME_CHECK)
            places = await self._transport.stands_for(peer.address)
            if places is not None and link.remote not in places:
                raise LinkClosed(f"the name leads elsewhere now: {', '.join(sorted(places))}")
            if await self._is_self(peer.address):
                raise LinkClosed("the address is this node's own now")

    def _draw_transfer(self) -> int:
        return self._local.random.getrandbits(TRANSFER_BITS) or 1

    async def _listen(self, peer: Peer, talk: Channel) -> None:
        while True:
            message = await talk.receive()
            now = trio.current_time()
            peer.heard(now)
            if peer.pusher is None:
                raise LinkClosed("hung up")
            match message:
                case messages.Ack():
                    peer.pusher.acked(message, now)
                    await self._learn(peer, message.digest)
                    peer.wake()
                case messages.HeartbeatAck():
                    peer.pusher.learned(message.digest)
                    await self._learn(peer, message.digest)
                    await self._local.adopt(message.membership or Membership())
                    peer.beaten += 1
                    peer.owes = message.owes
                case messages.CellsReply():
                    if await self._local.adopt(message.membership or Membership()):
                        self.on_collected(peer.address, message)
                case _:
                    raise ProtocolError(f"a {type(message).__name__} came from the accepting end")

    async def _learn(self, peer: Peer, digest: Digest) -> None:
        """A member told what is new on its disk; what it said before of this node's incarnation may count only now."""
        local = self._local
        self._tell_progress()
        local.members.hear_of(digest)
        knows = peer.pusher.peer.get(local.replica.identity.incarnation, 0) if peer.pusher else 0
        if knows > local.replica.version:
            local.guard.heard(peer.address, local.members.met[peer.address].node, knows)
            await mint_if_due(local)

    async def _write(self, peer: Peer, talk: Channel, told: Membership) -> None:
        local = self._local
        next_beat = trio.current_time()  # at once: it proves that the hello was no leftover of a former life
        while peer.pusher is not None:
            now = trio.current_time()
            message: messages.Message | None = None
            if told != local.replica.membership:
                told = local.replica.membership
                message = messages.Members(told)
                peer.pusher.offer_again()
            elif now >= next_beat:
                next_beat = now + BEAT_EVERY
                message = messages.Heartbeat()
                peer.beats += 1
            else:
                message = peer.pusher.next_push(local.replica.counters, local.replica.identity, now)
            if message is not None:
                talk.post(message)
            if talk.unsent:
                await talk.flush()
            elif message is None:
                paced = peer.pusher.paced_until
                await peer.wait_awake(min(next_beat, paced) if now < paced else next_beat)
