"""The accepting side of the links: it only answers.

A node is known by its hello. Another boot of a node ends the links of its other boots, and what those had staged here
is settled, before the hello is answered: nothing of a former life arrives after a peer has said what it knows.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from gcount.cluster.links.channel import Channel
from gcount.cluster.links.duplicates import Visit, reason_to_refuse
from gcount.cluster.links.handover import Handover
from gcount.cluster.links.handshake import telling_to_wait
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Link
from gcount.cluster.local import Local
from gcount.core.format.chunks import Assembly
from gcount.core.protocol import messages as wire
from gcount.core.protocol.replication import DeltaReceiver
from gcount.core.protocol.restarts import Boots
from gcount.core.state.counters import Delta
from gcount.errors import DiskFull, LinkClosed, LinkError, LinkRefused, ProtocolError, leaves
from gcount.observe.throttle import Throttle
from gcount.storage.group_commit import Commit

HELLO_TIMEOUT = 2.0  # seconds
EXPIRE_EVERY = 1.0  # seconds
TOO_MUCH = "the node keeps too much of other unfinished pushes"

T = TypeVar("T")


class Acceptor:
    """All accepted links.

    Args:
        local: this node.
        peers: the links that it dialled.
    """

    def __init__(self, local: Local, peers: Peers) -> None:
        self._local = local
        self._peers = peers
        self._links: dict[_Accepted, None] = {}  # in the order of their hellos
        self._refused = Throttle("link refused", quiet=60.0)
        self._boots = Boots(local.replica.options)
        self._handover = Handover(self._links, local.replica.max_aside_cells, local.replica.options)

    def __len__(self) -> int:
        return len(self._links)

    async def run(self) -> None:
        """Drop what lost links have left unfinished when its time is over, for ever."""
        while True:
            await trio.sleep(EXPIRE_EVERY)
            self._handover.kept.expire(trio.current_time())

    def hang_up(self) -> None:
        """End all links: whoever dialled them dials again, and learns who this node is now."""
        for link in self._links:
            link.scope.cancel()
        self._handover.kept.clear()

    async def serve(self, link: Link, caller: str, promote: Callable[[], bool]) -> None:
        """Talk to whoever dialled, until the link is over.

        Args:
            link: the connection.
            caller: where it comes from, for the log.
            promote: called when the caller proves to be a member; its connection is never closed to make room.
        """
        talk = Channel(link, self._local.metrics.link_bytes, "accepted")
        try:
            hello = await self._first(talk)
            visit = Visit(self._local, self._peers, hello)
            accepted = _Accepted(self._local, self._peers, self._handover, self._boots, talk, hello, visit, promote)
            self._local.guard.met(hello, caller, member=False)
            twin = self._supersede(hello)
            self._links[accepted] = None
            try:
                with accepted.scope:
                    await self._welcome(talk, accepted, hello, twin=twin)
                    await accepted.run()
            finally:
                del self._links[accepted]
                self._local.release_all(accepted)
                self._handover.left_by(accepted)
        except* LinkError as group:
            for error in leaves(group):
                if not isinstance(error, LinkClosed):
                    self._refused.warn(caller=caller, reason=str(error))

    async def _first(self, talk: Channel) -> wire.Hello:
        hello = await talk.receive_first(HELLO_TIMEOUT)
        if not isinstance(hello, wire.Hello):
            raise ProtocolError(f"a {type(hello).__name__} came where a Hello should")
        reason, config = "", 0
        if hello.protocol != wire.PROTOCOL:
            reason = f"this node speaks protocol {wire.PROTOCOL}, not {hello.protocol}"
        elif hello.cluster != self._local.cluster:
            reason = f"this node belongs to cluster {self._local.cluster!r}, not to {hello.cluster!r}"
        elif hello.boot == self._local.boot and not self._local.members.came_in(hello.challenge):
            reason = "this node did not say that just now: somebody repeats its hello"
        else:
            reason = await reason_to_refuse(self._local, self._peers, hello)
            config = self._local.replica.membership.version
        if reason:
            await talk.send(wire.Refused(reason, config))
            raise LinkRefused(reason)
        return hello

    def _supersede(self, hello: wire.Hello) -> bool:
        """End the links of the node's other boots; returns whether two of its boots are alive, as after no restart."""
        twin = self._boots.met(hello.node, hello.boot)
        for link in self._links:
            if link.hello.node == hello.node and link.hello.boot != hello.boot:
                link.scope.cancel()
        self._handover.kept.met(hello.node, hello.boot)
        return twin

    async def _welcome(self, talk: Channel, accepted: "_Accepted", hello: wire.Hello, *, twin: bool) -> None:
        local = self._local
        async with telling_to_wait(talk, hello):
            # In this order: a node that this very membership removes may push what others count until it is in force.
            if accepted.visit.counts():
                await local.adopt(hello.membership)
            await local.settle()
        self._peers.called(hello.node)
        lives = (hello.incarnation, *hello.retired)
        seen = local.members.seen(lives, self._handover.seen(set(lives)))
        left = self._handover.left_for(accepted)
        kept = 0 if left is None else left.parcels
        answer = local.hello(twin=twin, challenge=hello.challenge, seen=seen, kept=kept)
        accepted.greeted(answer, left)
        await talk.send(answer)


class _Accepted:
    """One accepted link."""

    def __init__(
        self,
        local: Local,
        peers: Peers,
        handover: Handover,
        boots: Boots,
        talk: Channel,
        hello: wire.Hello,
        visit: Visit,
        promote: Callable[[], bool],
    ) -> None:
        self.hello = hello
        self.visit = visit
        self._own = {hello.incarnation, *hello.retired}
        self._peers = peers
        self._handover = handover
        self._boots = boots
        self._promote = promote
        self._promoted = False
        self.scope = trio.CancelScope()
        self._local = local
        self._options = local.replica.options
        self._talk = talk
        self.intake = DeltaReceiver(0, {}, hello.membership)
        self._wake = trio.Event()
        self._drained = trio.Event()
        self._errands = 0
        self._unsettled: list[wire.ReadCells] = []
        self._settling = False

    @property
    def is_member(self) -> bool:
        """Whether a member of the cluster is at the other end."""
        return self._local.members.is_member(self.hello.node)

    @property
    def aside(self) -> int:
        """How many cells of an unfinished push are kept for it."""
        return self.intake.aside

    def greeted(self, answer: wire.Hello, left: Assembly | None) -> None:
        """This node's hello is about to be sent; the caller may go on with what another link has left."""
        known = self.hello.membership.merge(answer.membership)
        self.intake = DeltaReceiver(self._local.replica.max_aside_cells, answer.digest, known, left)

    async def run(self) -> None:
        """Answer until the link is over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._talk.watch)
            nursery.start_soon(self._write)
            while True:
                await self._wait_room()
                message = await self._talk.receive()
                if self.scope.cancel_called:  # it was on its way when another boot took over: too late
                    raise LinkClosed("superseded")
                self._boots.spoke(self.hello.node, self.hello.boot)
                if self._local.guard.is_twin(self.hello):
                    self._errand(nursery, self._local.guard.called_by_twin, self.hello)
                match message:
                    case wire.Heartbeat():
                        self._beat()
                    case wire.Push():
                        self._push(nursery, message)
                    case wire.ReadCells():
                        self._collect(nursery, message)
                    case wire.Release(name=name):
                        self._unsettled = [collect for collect in self._unsettled if collect.name != name]
                        self._local.release(name, self)
                    case wire.Members(membership=membership):
                        self.intake.membership = self.intake.membership.merge(membership)
                        if self.visit.counts():
                            self._errand(nursery, self._local.adopt, membership)
                    case _:
                        raise ProtocolError(f"a {type(message).__name__} came from the dialling end")

    def _beat(self) -> None:
        self.visit.counts()  # or the link ends
        if not self._promoted and self.is_member:
            self._promoted = self._promote()
        replica = self._local.replica
        newer = self.intake.newer_membership(replica.membership)
        owes = bool(replica.salvage) and self._peers.owes(self.hello)
        self._answer(wire.HeartbeatAck(self.intake.news(replica.counters.digest()), newer, owes))

    def _push(self, nursery: trio.Nursery, push: wire.Push) -> None:
        counts = self.visit.counts()
        deltas = self.intake.pushed(push)
        most = self._options.max_stranger_cells
        if deltas is None and not self.is_member and self._handover.strangers_aside > most:
            raise ProtocolError(f"nodes that are no members left more than {most} cells in unfinished pushes")
        if deltas is None:
            self._answer(self.intake.ack({}, "" if self._handover.admits(self) else TOO_MUCH))
        else:
            # Staged at once, not by the errand: what another boot's hello has to wait for must be seen waiting.
            permitted = self._permitted(deltas) if counts else []
            commit = self._local.committer.take(permitted, urgent=push.urgent and self.is_member)
            self._errand(nursery, self._ack_when_durable, (commit, deltas))

    async def _ack_when_durable(self, pushed: tuple[Commit, list[Delta]]) -> None:
        commit, deltas = pushed
        refused = ""
        try:
            await commit.wait()
        except DiskFull as error:
            refused = str(error)
        replica = self._local.replica
        given_back = [delta for delta in deltas if delta.incarnation in replica.identity.retired]
        kept = bool(given_back) and not refused and all(map(replica.has_back, given_back))
        self._answer(self.intake.ack(replica.counters.digest(), refused, kept=kept))

    def _permitted(self, deltas: list[Delta]) -> list[Delta]:
        """From a node that is no member only its own incarnations are accepted, and nobody else's under that name.

        Whoever sends them, those that no member runs or ran under get no more than their half of the room.
        """
        local, replica, member = self._local, self._local.replica, self.is_member
        names, lives = replica.room_for_names, self._options.max_unclaimed - replica.incarnations
        permitted = []
        for delta in deltas:
            who = delta.incarnation
            if not member:
                new = sum(name not in replica.counters for name in delta.cells)
                if new > names or who not in self._own or local.members.is_claimed(who, self.hello.node):
                    continue
                names -= new
            if replica.counters.version(who) == 0 and not local.members.is_members(who):
                if lives <= 0:
                    continue
                lives -= 1
            permitted.append(delta)
        return permitted

    def _collect(self, nursery: trio.Nursery, collect: wire.ReadCells) -> None:
        local = self._local
        if collect.hold and self.is_member:
            local.holds.ask(collect.name, self, trio.current_time())
            if local.replica.is_pending(collect.name):
                self._wait_settled(nursery, collect)
                return
        self._collected(collect)

    def _wait_settled(self, nursery: trio.Nursery, collect: wire.ReadCells) -> None:
        if len(self._unsettled) >= self._options.max_unsettled:
            raise ProtocolError(f"{self._options.max_unsettled} of its questions wait for the disk already")
        self._unsettled.append(collect)
        if not self._settling:
            self._settling = True
            nursery.start_soon(self._answer_settled)

    async def _answer_settled(self) -> None:
        """Answer what asked for a hold as soon as the increments from before the hold are on disk."""
        while self._unsettled:
            await self._local.settle()
            await self._wait_room()
            waiting, self._unsettled = self._unsettled, []
            for collect in waiting:
                if self._talk.unsent > self._options.max_unsent_answers:
                    self._unsettled.append(collect)
                elif self._local.replica.is_pending(collect.name):
                    # Refused while the counter rested from another hold, so that increments went on.
                    self._local.holds.ask(collect.name, self, trio.current_time())
                    self._unsettled.append(collect)
                else:
                    self._collected(collect)
        self._settling = False

    def _collected(self, collect: wire.ReadCells) -> None:
        replica = self._local.replica
        news = self.intake.newer_membership(replica.membership)
        self._answer(wire.CellsReply(collect.round, replica.cells(collect.name), news))

    def _errand(self, nursery: trio.Nursery, errand: Callable[[T], Awaitable[object]], subject: T) -> None:
        """Do what has to wait without keeping the reader from reading."""
        if self._errands >= self._options.max_errands:
            raise ProtocolError(f"{self._options.max_errands} of its messages wait for the disk already")
        self._errands += 1
        nursery.start_soon(self._run_errand, errand, subject)

    async def _run_errand(self, errand: Callable[[T], Awaitable[object]], subject: T) -> None:
        await errand(subject)
        self._errands -= 1

    def _answer(self, message: wire.Message) -> None:
        self._talk.post(message)
        if self._talk.unsent:
            self._wake.set()

    async def _wait_room(self) -> None:
        """Return when not too much waits to be sent: who asks faster than it reads has to wait."""
        while self._talk.unsent > self._options.max_unsent_answers:
            await self._drained.wait()

    async def _write(self) -> None:
        """Send what the network did not take at once."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self._talk.flush()
            drained, self._drained = self._drained, trio.Event()
            drained.set()
