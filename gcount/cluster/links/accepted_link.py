"""One accepted link: it answers, and pushes nothing.

What has to wait for the disk is done beside the reading of the link, so that questions of reads are answered meanwhile.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from gcount.cluster.context import Context
from gcount.cluster.hold_gate import HoldGate
from gcount.cluster.links.channel import Channel
from gcount.cluster.links.duplicates import Visit
from gcount.cluster.links.handover import Handover
from gcount.cluster.links.handshake import Knowledge
from gcount.cluster.links.peers import Peers
from gcount.core.format.chunks import Assembly
from gcount.core.protocol import messages as wire
from gcount.core.protocol.replication import DeltaReceiver
from gcount.core.protocol.restarts import Boots
from gcount.core.state.counters import Delta
from gcount.errors import DiskFull, LinkClosed, ProtocolError
from gcount.events import News
from gcount.storage.group_commit import Commit

TOO_MUCH = "the node keeps too much of other unfinished pushes"

T = TypeVar("T")


@dataclass(frozen=True)
class Shared:
    """What all accepted links share.

    Args:
        context: of this start.
        knowledge: of this node and others.
        gate: holds this node's increments when a member's read asks for it.
        peers: the members that this node dials.
        handover: passes unfinished transfers from link to link.
        boots: which starts of each node have said hello.
    """

    context: Context
    knowledge: Knowledge
    gate: HoldGate
    peers: Peers
    handover: Handover
    boots: Boots


class _Answers:
    """What is said on an accepted link, and what of it the network has not taken yet."""

    def __init__(self, channel: Channel, max_unsent: int) -> None:
        self.max_unsent = max_unsent
        self._channel = channel
        self._wake = trio.Event()
        self._drained = News()

    def post(self, message: wire.Message) -> None:
        """Send one message without waiting."""
        self._channel.post(message)
        if self._channel.unsent:
            self._wake.set()

    async def wait_room(self) -> None:
        """Return when not too much waits to be sent: a caller that asks faster than it reads has to wait."""
        while self._channel.unsent > self.max_unsent:
            await self._drained.wait()

    async def run(self) -> None:
        """Send what the network did not take at once, for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self._channel.flush()
            self._drained.tell()


class AcceptedLink:
    """One accepted link.

    Args:
        shared: with all others.
        channel: carries the messages.
        hello: the caller's.
        visit: whether what the caller brings is taken.
        promote: called when the caller proves to be a member; its connection is never closed to make room.

    Attributes:
        scope: to be cancelled to end the link.
        receiver: what has come of the push under way.
    """

    def __init__(
        self, shared: Shared, channel: Channel, hello: wire.Hello, visit: Visit, promote: Callable[[], bool]
    ) -> None:
        self.hello = hello
        self.visit = visit
        self.scope = trio.CancelScope()
        self.receiver = DeltaReceiver(0, {}, hello.membership)
        self._own = {hello.incarnation, *hello.retired}
        self._context = shared.context
        self._options = shared.context.replica.options
        self._replica = shared.context.replica
        self._pending = shared.context.pending
        self._committer = shared.context.committer
        self._members = shared.knowledge.members
        self._updates = shared.knowledge.updates
        self._guard = shared.knowledge.guard
        self._gate = shared.gate
        self._peers = shared.peers
        self._handover = shared.handover
        self._boots = shared.boots
        self._channel = channel
        self._answers = _Answers(channel, self._options.max_unsent_answers)
        self._promote = promote
        self._promoted = False
        self._errands = 0
        self._unsettled: list[wire.ReadCells] = []
        self._settling = False

    @property
    def is_member(self) -> bool:
        """Whether a member of the cluster is at the other end."""
        return self._members.is_member(self.hello.node)

    @property
    def buffered(self) -> int:
        """How many cells of an unfinished push are buffered for it."""
        return self.receiver.buffered

    def greeted(self, answer: wire.Hello, left: Assembly | None) -> None:
        """This node's hello is about to be sent; the caller may go on with what another link has left."""
        assert left is None or left.transfer == self.hello.resumes, "a link goes on with the transfer that it named"
        assert answer.kept == (0 if left is None else left.parcels), "a caller is told what is kept of its transfer"
        known = self.hello.membership.merge(answer.membership)
        self.receiver = DeltaReceiver(self._replica.max_uncounted_cells, answer.digest, known, left)

    async def run(self) -> None:
        """Answer until the link is over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._channel.watch)
            nursery.start_soon(self._answers.run)
            while True:
                await self._answers.wait_room()
                message = await self._channel.receive()
                if self.scope.cancel_called:  # it was on its way when another boot took over: too late
                    raise LinkClosed("another link of the same node replaced this one")
                self._boots.spoke(self.hello.node, self.hello.boot)
                if self._guard.is_duplicate(self.hello):
                    self._errand(nursery, self._guard.called_by_duplicate, self.hello)
                match message:
                    case wire.Heartbeat():
                        self._beat()
                    case wire.Push():
                        self._push(nursery, message)
                    case wire.ReadCells():
                        self._collect(nursery, message)
                    case wire.Release(name=name):
                        self._unsettled = [collect for collect in self._unsettled if collect.name != name]
                        self._gate.release(name, self)
                    case wire.Members(membership=membership):
                        self.receiver.membership = self.receiver.membership.merge(membership)
                        if self.visit.counts():
                            self._errand(nursery, self._updates.adopt, membership)
                    case _:
                        raise ProtocolError(f"a {type(message).__name__} came from the dialling end")

    def _beat(self) -> None:
        self.visit.counts()  # or the link ends
        if not self._promoted and self.is_member:
            self._promoted = self._promote()
        replica = self._replica
        newer = self.receiver.newer_membership(replica.membership)
        owes = bool(replica.detached) and self._peers.owes(self.hello)
        self._answers.post(wire.HeartbeatAck(self.receiver.news(replica.counters.digest()), newer, owes))

    def _push(self, nursery: trio.Nursery, push: wire.Push) -> None:
        counts = self.visit.counts()
        deltas = self.receiver.pushed(push)
        most = self._options.max_stranger_cells
        if deltas is None and not self.is_member and self._handover.strangers_buffered > most:
            raise ProtocolError(f"nodes outside the config left more than {most} cells in unfinished pushes")
        if deltas is None:
            self._answers.post(self.receiver.ack({}, "" if self._handover.admits(self) else TOO_MUCH))
        else:
            # Staged at once, not by the errand: what another boot's hello has to wait for must be seen waiting.
            permitted = self._permitted(deltas) if counts else []
            commit = self._committer.take(permitted, urgent=push.urgent and self.is_member)
            self._errand(nursery, self._ack_when_durable, (commit, deltas))

    async def _ack_when_durable(self, pushed: tuple[Commit, list[Delta]]) -> None:
        commit, deltas = pushed
        refused = ""
        try:
            await commit.wait()
        except DiskFull as error:
            refused = str(error)
        replica = self._replica
        given_back = [delta for delta in deltas if delta.incarnation in replica.identity.retired]
        kept = bool(given_back) and not refused and all(map(replica.has_back, given_back))
        self._answers.post(self.receiver.ack(replica.counters.digest(), refused, kept=kept))

    def _permitted(self, deltas: list[Delta]) -> list[Delta]:
        """From a node that is no member only its own incarnations are accepted, and nobody else's under that name.

        Whoever sends them, those that no member runs or ran under get no more than their half of the room.
        """
        members, replica, member = self._members, self._replica, self.is_member
        names = self._pending.room_for_names
        lives = self._options.max_unclaimed - self._pending.incarnations
        permitted = []
        for delta in deltas:
            who = delta.incarnation
            if not member:
                new = sum(name not in replica.counters for name in delta.cells)
                if new > names or who not in self._own or members.is_claimed(who, self.hello.node):
                    continue
                names -= new
            if replica.counters.version(who) == 0 and not members.is_members(who):
                if lives <= 0:
                    continue
                lives -= 1
            permitted.append(delta)
        return permitted

    def _collect(self, nursery: trio.Nursery, collect: wire.ReadCells) -> None:
        if collect.hold and self.is_member:
            self._gate.ask(collect.name, self)
            if collect.name in self._pending:
                self._wait_settled(nursery, collect)
                return
        self._collected(collect)

    def _wait_settled(self, nursery: trio.Nursery, collect: wire.ReadCells) -> None:
        if len(self._unsettled) >= self._options.max_unsettled:
            raise ProtocolError(f"{self._options.max_unsettled} of its requests already wait for the disk")
        self._unsettled.append(collect)
        if not self._settling:
            self._settling = True
            nursery.start_soon(self._answer_settled)

    async def _answer_settled(self) -> None:
        """Answer what asked for a hold as soon as the increments from before the hold are on disk."""
        while self._unsettled:
            await self._context.settle()
            await self._answers.wait_room()
            waiting, self._unsettled = self._unsettled, []
            for collect in waiting:
                if self._channel.unsent > self._options.max_unsent_answers:
                    self._unsettled.append(collect)
                elif collect.name in self._pending:
                    # Refused while the counter rested from another hold, so that increments went on.
                    self._gate.ask(collect.name, self)
                    self._unsettled.append(collect)
                else:
                    self._collected(collect)
        self._settling = False

    def _collected(self, collect: wire.ReadCells) -> None:
        replica = self._replica
        news = self.receiver.newer_membership(replica.membership)
        self._answers.post(wire.CellsReply(collect.round, replica.cells(collect.name), news))

    def _errand(self, nursery: trio.Nursery, errand: Callable[[T], Awaitable[object]], subject: T) -> None:
        """Do what has to wait without keeping the reader from reading."""
        if self._errands >= self._options.max_errands:
            raise ProtocolError(f"{self._options.max_errands} of its messages already wait for the disk")
        self._errands += 1
        nursery.start_soon(self._run_errand, errand, subject)

    async def _run_errand(self, errand: Callable[[T], Awaitable[object]], subject: T) -> None:
        await errand(subject)
        self._errands -= 1
