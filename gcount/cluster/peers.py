"""The dialled side of the links: one supervised loop per member, for as long as it is a member.

A peer that goes and comes is one line each in the log, however often the dial is tried in between.
"""

from collections.abc import Callable, Iterator

import structlog
import trio

from gcount.cluster.conversation import Conversation
from gcount.cluster.local import Local
from gcount.cluster.peer import Peer
from gcount.cluster.transport import Link, Transport
from gcount.core import wire
from gcount.core.counters import Digest
from gcount.core.limits import MAX_MEMBERS
from gcount.core.link import Pusher
from gcount.core.membership import Membership
from gcount.errors import DiskFull, LinkClosed, LinkError, LinkRefused, ProtocolError, leaves

BEAT_EVERY = 0.25  # seconds
HELLO_TIMEOUT = 2.0  # seconds; the peer may first have to finish what my former life had staged there
WORTH_WAKING = 3  # dials in vain; before that the pause is short, and two nodes must not spur each other on

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Peers:
    """All dial loops.

    Args:
        local: this node.
        transport: how others are reached.
    """

    def __init__(self, local: Local, transport: Transport) -> None:
        self.on_collected: Callable[[str, wire.Collected], None] = lambda address, collected: None
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

    def holders(self, versions: Digest) -> int:
        """How many other members have said that they have these versions, or newer ones, on their disks."""
        others = [peer for address in self._local.others if (peer := self._peers.get(address)) is not None]
        return len({self._local.met[peer.address].node for peer in others if peer.has(versions)})

    async def wait_held(self, versions: Digest, members: int) -> int:
        """Return `holders` as soon as it is so many, or the node stops; no push waits for company meanwhile."""
        while (found := self.holders(versions)) < members and not self._stopping:
            if members <= len(self._local.others):
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

    def redial(self, node: bytes) -> None:
        """A node called: it is up, so its address is worth a dial at once."""
        for address, hello in self._local.met.items():
            peer = self._peers.get(address)
            if hello.node == node and peer is not None and peer.failures >= WORTH_WAKING:
                peer.redial.set()

    def hang_up(self) -> None:
        """End all links; each loop dials again and says hello anew."""
        for peer in self._peers.values():
            peer.scope.cancel()

    async def run(self, linger: float) -> None:
        """Dial whoever is a member, for ever.

        Args:
            linger: how long a removed member is still dialled, in seconds: it has to hear that it was removed, and
                reads that began before need it.
        """
        async with trio.open_nursery() as nursery:
            while True:
                for address in self._local.replica.membership.actors:
                    if address not in self._peers:
                        self._peers[address] = peer = Peer(address)
                        nursery.start_soon(self._serve_member, peer, linger)
                self._let_go()
                await self._local.wait_news()

    def _let_go(self) -> None:
        """Whoever floods the node with memberships shall not make it dial the world: the longest removed go at once."""
        actors = self._local.replica.membership.actors
        removed = [peer for address, peer in self._peers.items() if address not in actors]
        for peer in removed[: max(0, len(removed) - MAX_MEMBERS)]:
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
        local.met.pop(peer.address, None)
        local.tell_news()  # it may have been added again meanwhile

    async def _dial_forever(self, peer: Peer) -> None:
        log = logger.bind(peer=peer.address)
        while not await self._transport.is_self(peer.address):
            reason, refused = await self._dial(peer)
            if peer.address in self._local.own_addresses:
                break
            if peer.pusher is not None:
                log.warning("link down", reason=reason)
            elif peer.reason == "" or (refused and reason != peer.reason):
                log.warning("peer not reached", reason=reason)
            peer.unlinked(reason)
            self._local.tell_news()
            pause = peer.pause(self._local.random.random())
            with trio.move_on_after(pause):
                await peer.redial.wait()
            peer.redial = trio.Event()
        peer.state = "self"
        self._local.found_self(peer.address)

    async def _dial(self, peer: Peer) -> tuple[str, bool]:
        """One link, from its dial to its end; returns why it ended, and whether one end refused to talk."""
        errors: list[BaseException] = []
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
        talk = Conversation(link, self._local.metrics.link_bytes, peer.address)
        peer.beats = peer.beaten = 0
        said = self._local.hello()
        hello = await self._exchange_hellos(peer, talk, said)
        if hello is None:
            return
        peer.linked(talk, Pusher(hello.digest, trio.current_time()), trio.current_time())
        logger.info("link up", peer=peer.address, node=hello.node.hex()[:8])
        self.on_linked(peer.address)
        self._local.tell_news()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk.watch)
            nursery.start_soon(self._listen, peer, talk)
            nursery.start_soon(self._write, peer, talk, said.membership)

    async def _exchange_hellos(self, peer: Peer, talk: Conversation, said: wire.Hello) -> wire.Hello | None:
        """Say hello and judge the answer; None when the other end is this node itself."""
        local = self._local
        await talk.send(said)
        answer = await talk.receive_first(HELLO_TIMEOUT)
        if isinstance(answer, wire.Refused):
            raise LinkRefused(f"refused by the peer: {answer.reason}")
        if not isinstance(answer, wire.Hello):
            raise ProtocolError(f"a {type(answer).__name__} came where a Hello should")
        if answer.node == local.replica.identity.node and answer.boot == local.boot:
            local.found_self(peer.address)
            return None
        local.met[peer.address] = answer
        local.look_for_copy(answer, peer.address)
        memberships_exchanged = await local.adopt(answer.membership)
        if local.is_twin(answer):
            local.standing.met_twin(f"another process has a copy of this node's data directory: {peer.address}")
            local.begin_mint()
            peer.beats += 1
            await talk.send(wire.Beat())  # this is no leftover of a former life: the other one mints, too
        elif answer.twin and said.node == local.replica.identity.node:
            local.told_of_twin(f"another process with a copy of this node's data directory calls {peer.address}")
        elif memberships_exchanged:
            local.heard(peer.address, answer.digest.get(local.replica.identity.incarnation, 0))
        else:  # the newest one, which decides who has to confirm, is not in force
            local.unheard = True
        await self._mint_if_due()
        return answer

    async def _listen(self, peer: Peer, talk: Conversation) -> None:
        while True:
            message = await talk.receive()
            now = peer.last_contact = trio.current_time()
            peer.failures = 0
            if peer.pusher is None:
                raise LinkClosed("hung up")
            match message:
                case wire.Ack():
                    peer.pusher.acked(message, now)
                    await self._learn(peer, message.digest)
                    peer.wake()
                case wire.Beaten():
                    peer.pusher.learned(message.digest)
                    await self._learn(peer, message.digest)
                    await self._local.adopt(message.membership or Membership())
                    peer.beaten += 1
                case wire.Collected():
                    if await self._local.adopt(message.membership or Membership()):
                        self.on_collected(peer.address, message)
                case _:
                    raise ProtocolError(f"a {type(message).__name__} came from the accepting end")

    async def _learn(self, peer: Peer, digest: Digest) -> None:
        self._tell_progress()
        knows = digest.get(self._local.replica.identity.incarnation, 0)
        if knows > self._local.replica.version:
            self._local.heard(peer.address, knows)
            await self._mint_if_due()

    async def _mint_if_due(self) -> None:
        try:
            await self._local.mint_if_due()
        except DiskFull as error:
            logger.warning("new incarnation delayed", reason=str(error))

    async def _write(self, peer: Peer, talk: Conversation, told: Membership) -> None:
        local = self._local
        next_beat = trio.current_time()  # at once: it proves that the hello was no leftover of a former life
        while peer.pusher is not None:
            now = trio.current_time()
            message: wire.Message | None = None
            if told != local.replica.membership:
                told = local.replica.membership
                message = wire.Members(told)
            elif now >= next_beat:
                next_beat = now + BEAT_EVERY
                message = wire.Beat()
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
