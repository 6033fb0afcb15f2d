"""One accepted link: it only answers, and pushes nothing.

Messages that have to wait for the disk are handled in tasks of their own, so that the questions of consistent reads are
answered meanwhile.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from gcount.cluster.context import Context
from gcount.cluster.hold_gate import HoldGate
from gcount.cluster.links.channel import Channel
from gcount.cluster.links.duplicates import Visit
from gcount.cluster.links.handover import Handover
from gcount.cluster.links.handshake import Knowledge, check_knows_ids
from gcount.cluster.links.peers import Peers
from gcount.cluster.members import Members, uses_ids
from gcount.core.format.chunks import Assembly
from gcount.core.protocol import messages as wire
from gcount.core.protocol.counter_views import Found
from gcount.core.protocol.floors import floor_to_tell
from gcount.core.protocol.replication import DeltaReceiver
from gcount.core.protocol.restarts import Restarts
from gcount.core.protocol.told_ids import tell
from gcount.core.state.counters import Delta, Digest
from gcount.core.writes.staging import new_names
from gcount.errors import DiskFull, LinkClosed, ProtocolError
from gcount.events import News
from gcount.storage.group_commit import Commit

TOO_MUCH = "the node keeps too much of other unfinished pushes"

T = TypeVar("T")


@dataclass(frozen=True)
class Shared:
    """What all accepted links share.

    Args:
        context: what the parts of the node share.
        knowledge: what this node knows of itself and others.
        gate: lets this node's increments wait when a member's read asks for it.
        peers: the members that this node dials.
        handover: passes unfinished transfers from link to link.
        restarts: the starts of each node that have said hello.
    """

    context: Context
    knowledge: Knowledge
    gate: HoldGate
    peers: Peers
    handover: Handover
    restarts: Restarts


class _Answers:
    """The answers on an accepted link. Those that the network has not taken yet are sent by `run`."""

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

    async def wait_drained(self) -> None:
        """Return when few bytes wait to be sent, so that a caller that asks faster than it reads has to wait."""
        while self._channel.unsent > self.max_unsent:
            await self._drained.wait()

    async def run(self) -> None:
        """Send the answers that the network did not take at once, for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self._channel.flush()
            self._drained.notify()


class AcceptedLink:
    """One accepted link.

    Args:
        shared: what all accepted links share.
        channel: carries the messages.
        hello: the caller's hello.
        visit: decides whether the caller's pushes are taken.
        promote: is called when the caller proves to be a member. From then on its connection is never closed to free a
            place for another one. It returns whether that is done.

    Attributes:
        scope: cancelling it ends the link.
        receiver: puts the caller's chunks together.
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
        self._restarts = shared.restarts
        self._channel = channel
        self._answers = _Answers(channel, self._options.max_unsent_answers)
        self._promote = promote
        self._promoted = False
        self._tasks = 0  # that wait for the disk
        self._unsettled = deque[wire.ReadCells]()
        self._settling = False

    @property
    def is_member(self) -> bool:
        """Whether a member of the cluster is at the other end."""
        return self._members.is_member(self.hello.node)

    @property
    def buffered(self) -> int:
        """How many cells of an unfinished transfer are buffered."""
        return self.receiver.buffered

    def prepare(self, answer: wire.Hello, left: Assembly | None) -> None:
        """Prepare for pushes, as this node's hello is about to be sent.

        Args:
            answer: this node's hello.
            left: what another link has left of a transfer that the caller may continue.
        """
        named = self.hello.resumes
        assert left is None or left.transfer == named, "a link continues the transfer that its caller named"
        assert answer.kept == (0 if left is None else left.chunks), "a caller is told how much of its transfer is kept"
        known = self.hello.membership.merge(answer.membership)
        self.receiver = DeltaReceiver(self._replica.max_uncounted_cells, answer.digest, known, left)

    async def run(self) -> None:
        """Answer until the link is over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._channel.watch)
            nursery.start_soon(self._answers.run)
            while True:
                await self._answers.wait_drained()
                message = await self._channel.receive()
                # A message may come in the moment in which another process of the node takes over. It must not count:
                # that process was already told what this node knows.
                if self.scope.cancel_called:
                    raise LinkClosed("another link of the same node replaced this one")
                check_knows_ids(self._replica, self.hello)
                self._restarts.spoke(self.hello.node, self.hello.start_id)
                if self._guard.is_duplicate(self.hello):
                    self._start_task(nursery, self._guard.called_by_duplicate, self.hello)
                match message:
                    case wire.Heartbeat():
                        self._answer_heartbeat()
                    case wire.Push():
                        self._push(nursery, message)
                    case wire.ReadCells():
                        self._read_cells(nursery, message)
                    case wire.Release(name=name):
                        self._unsettled = deque(question for question in self._unsettled if question.name != name)
                        self._gate.release(name, self)
                    case wire.Members(membership=membership):
                        self.receiver.membership = self.receiver.membership.merge(membership)
                        if self.visit.counts():
                            self._start_task(nursery, self._updates.adopt, membership)
                    case _:
                        raise ProtocolError(f"a {type(message).__name__} came from the dialling end")

    def _answer_heartbeat(self) -> None:
        self.visit.counts()  # raises if the caller turns out to be a copy of a member, which ends the link
        if not self._promoted and self.is_member:
            self._promoted = self._promote()
        replica = self._replica
        newer = self.receiver.newer_membership(replica.membership)
        owes = bool(replica.detached) and self._peers.owes(self.hello)
        # The digest says all that changed since the last message, so that it is not older than the floor.
        news, floor = self.receiver.news(replica.counters.digest()), floor_to_tell(replica)
        self._answers.post(wire.HeartbeatAck(news, newer, owes, floor))

    def _push(self, nursery: trio.Nursery, push: wire.Push) -> None:
        counts = self.visit.counts()  # for a duplicate it is False: its pushes are acknowledged, but nothing is taken
        deltas = self.receiver.pushed(push)
        most = self._options.max_stranger_cells
        if deltas is None and not self.is_member and self._handover.strangers_buffered > most:
            raise ProtocolError(f"nodes outside the config left more than {most} cells in unfinished pushes")
        if deltas is None:
            self._answers.post(self.receiver.ack({}, "" if self._handover.admits(self) else TOO_MUCH))
        else:
            # This is staged here and not in the task: another process of the same node may say hello before the task
            # runs, and its answer has to wait for all that came on this link.
            permitted = self._permitted(deltas, push.needs) if counts else []
            commit = self._committer.take(
                permitted, urgent=push.urgent and self.is_member, needs=push.needs, member=self.is_member
            )
            self._start_task(nursery, self._ack_when_durable, (commit, deltas))

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

    def _permitted(self, deltas: list[Delta], needs: Digest) -> list[Delta]:
        """The deltas that may be taken from this caller.

        From a node that is not a member, only deltas of its own incarnations are taken, as long as no member claims
        them, and so many ids as `KnownIds.left_for_strangers` says. Incarnations that no member owns may be at most
        `max_unclaimed`, whichever node sends them. Of these, each member takes its share from nodes that are not
        members: so all members can take what any of them has taken. A settler that a member needs is taken beyond
        that, as this node could take nothing from members without it.
        """
        members, replica, member = self._members, self._replica, self.is_member
        names, brings_ids = self._pending.names_left, any(delta.keyed is not None for delta in deltas)
        ids = _left_for_strangers(self._context, members) if brings_ids and not member else 0
        shares = 1 if member else max(1, len(replica.membership.actors))
        unclaimed_left = self._options.max_unclaimed // shares - self._pending.incarnations
        permitted = []
        for delta in deltas:
            incarnation = delta.incarnation
            if not member:
                new = new_names(delta, replica.counters)
                own = incarnation in self._own and not members.is_claimed(incarnation, self.hello.node)
                more_ids = -1 if delta.keyed is None else len(delta.keyed.entries)
                if new > names or more_ids > ids or not own:
                    continue
                names -= new
                ids -= max(0, more_ids)
            if replica.counters.version(incarnation) == 0 and not members.is_of_member(incarnation):
                if unclaimed_left <= 0 and not (member and incarnation in needs):
                    continue
                unclaimed_left -= 1
            permitted.append(delta)
        return permitted

    def _read_cells(self, nursery: trio.Nursery, question: wire.ReadCells) -> None:
        if question.hold and self.is_member:
            self._gate.ask(question.name, self)
            if question.name in self._pending:
                self._wait_settled(nursery, question)
                return
        self._reply(question)

    def _wait_settled(self, nursery: trio.Nursery, question: wire.ReadCells) -> None:
        if len(self._unsettled) >= self._options.max_unsettled:
            raise ProtocolError(f"{self._options.max_unsettled} of its requests already wait for the disk")
        self._unsettled.append(question)
        if not self._settling:
            self._settling = True
            nursery.start_soon(self._answer_settled)

    async def _answer_settled(self) -> None:
        """Answer questions that asked for a hold, once the increments from before the hold are on disk."""
        while self._unsettled:
            await self._context.settle()
            await self._answers.wait_drained()
            for _ in range(len(self._unsettled)):
                if not self._unsettled:
                    break  # some were released meanwhile
                question = self._unsettled.popleft()
                if self._channel.unsent > self._options.max_unsent_answers:
                    self._unsettled.append(question)
                elif question.name in self._pending:
                    # The hold was refused while the counter rested from another one, so that increments went on.
                    self._gate.ask(question.name, self)
                    self._unsettled.append(question)
                else:
                    self._reply(question)
                # There may be thousands; other tasks get their turn between. Each one is judged at its own instant.
                await trio.lowlevel.checkpoint()
        self._settling = False

    def _reply(self, question: wire.ReadCells) -> None:
        replica = self._replica
        check_knows_ids(replica, self.hello)  # again: the question may have waited for the disk
        news = self.receiver.newer_membership(replica.membership)
        name, used = question.name, uses_ids(replica) or replica.detached
        parts, changed = (replica.counters.parts(name), replica.changed(name)) if used else ({}, {})
        found = Found(replica.cells(name), parts, changed)
        # A node that keeps deltas aside does not have all entries up to the versions that it says.
        if question.known is not None and self.is_member and not replica.detached:
            found = tell(replica.counters, name, question.known, found)
        self._answers.post(wire.CellsReply(question.round, found.cells, news, parts, changed, found.told))

    def _start_task(self, nursery: trio.Nursery, function: Callable[[T], Awaitable[object]], argument: T) -> None:
        """Call a function that waits for the disk, in a task of its own, so that the link is read meanwhile."""
        if self._tasks >= self._options.max_tasks:
            raise ProtocolError(f"{self._options.max_tasks} of its messages already wait for the disk")
        self._tasks += 1
        nursery.start_soon(self._run_task, function, argument)

    async def _run_task(self, function: Callable[[T], Awaitable[object]], argument: T) -> None:
        await function(argument)
        self._tasks -= 1


def _left_for_strangers(context: Context, members: Members) -> int:
    """How many ids can be taken from a caller that is not a member; -1 if no settlement can be taken, either.

    A stranger must not bring ids into use while a member does not understand them: it would be refused from then on. (A
    member that was not heard yet keeps none back: right after a config, the caller may be one itself.)
    """
    too_old = any(not hello.knows_ids for hello in members.hellos.values())
    return -1 if too_old and not uses_ids(context.replica) else context.ids.left_for_strangers()
