"""Consistent reads: asks every member, round after round, until the value is exact or the time is over."""

import trio

from gcount.cluster.links.peers import Peers
from gcount.cluster.local import Local
from gcount.core.protocol import messages
from gcount.core.protocol.consistent_read import Cells, PendingRead, Round
from gcount.core.state.membership import Membership
from gcount.errors import ReadUnavailable


class NodeStops(ReadUnavailable):
    """A consistent read that the node will not finish, as it was told to stop; see `ReadUnavailable`."""

    def __str__(self) -> str:
        return "the node stops, before the exact value could be known; ask another one"


class ConsistentReads:
    """All consistent reads that this node answers.

    Args:
        local: this node.
        peers: the links that it dialled.

    Attributes:
        stopping: whether the node was told to stop.
    """

    def __init__(self, local: Local, peers: Peers) -> None:
        self._local = local
        self._peers = peers
        self._readings: dict[str, PendingRead] = {}
        self._changed: dict[str, trio.Event] = {}
        self._asked: dict[int, PendingRead] = {}  # by the number of the round
        self._rounds = 0
        self._exact = local.metrics.read_rounds.labels("exact")
        self._unavailable = local.metrics.read_rounds.labels("unavailable")
        self.stopping = False
        self._actors: tuple[str, ...] = ()  # of the membership that was in force when another one was heard of

    async def read(self, name: str, timeout: float) -> int:
        """The exact value of a counter at some instant between call and return.

        Args:
            name: a valid name.
            timeout: how long to try, in seconds.

        Raises:
            ReadUnavailable: it could not be known in time, or before the node was told to stop.
        """
        reading = self._readings.get(name)
        if reading is None:
            reading = self._readings[name] = PendingRead(name, self._local.replica.options)
            self._changed[name] = trio.Event()
        arrival, rounds_before = reading.arrive(), reading.begun
        deadline = trio.current_time() + timeout
        try:
            while True:
                self._start_round(reading)
                value = reading.value(arrival)
                if value is not None:
                    self._exact.observe(reading.begun - rounds_before)
                    return value
                if self.stopping or trio.current_time() >= deadline:
                    break
                with trio.move_on_at(min(deadline, reading.stalls(arrival))):
                    await self._changed[name].wait()
            self._unavailable.observe(reading.begun - rounds_before)
            bound = reading.lower_bound(self._local.replica.cells(name))
            raise (NodeStops if self.stopping else ReadUnavailable)(bound, reading.missing(), reading.doubles())
        finally:
            useless = reading.leave(arrival)
            for number in useless:
                self._asked.pop(number, None)
            if reading.idle:
                self._forget(reading)
            elif useless:  # somebody may have waited for one of these rounds, or for a place for another
                self._tell(reading)

    def stop(self) -> None:
        """The node stops: reads that still need others are answered now, and so is what waits for news."""
        self.stopping = True
        for reading in self._readings.values():
            self._tell(reading)
        self._local.tell_news()

    def collected(self, address: str, answer: messages.CellsReply) -> None:
        """A member answered a round; what comes too late for its round is ignored."""
        reading = self._asked.get(answer.round)
        if reading is None:
            return
        self._look_for_fork(address, reading.name, answer.cells)
        if reading.answer(answer.round, address, self._local.members.met[address].node, answer.cells):
            del self._asked[answer.round]
            self._start_round(reading)
            self._tell(reading)

    def _look_for_fork(self, address: str, name: str, cells: Cells) -> None:
        """Nobody can have more of this node's incarnation than itself, unless somebody else counts under it."""
        incarnation = self._local.replica.identity.incarnation
        if cells.get(incarnation, 0) > self._local.replica.counters.cell(name, incarnation):
            self._local.guard.met_fork(address)

    def linked(self, address: str) -> None:
        """A member's link is up: rounds that it has not answered begin anew.

        Asking it again in the same round would not do: it may have lost its disk meanwhile, and what this node got of
        it since the round was sent is in no answer and not in the round's expectation.
        """
        for reading in list(self._readings.values()):
            stale = reading.let_go(address, self._local.members.met[address].node)
            for number in stale:
                self._asked.pop(number, None)
            if stale:
                self._start_round(reading)
                self._tell(reading)

    def learned(self, membership: Membership) -> None:
        """Another membership is, or is about to be, in force: reads under way begin anew, over old and new members."""
        current = self._local.replica.membership.actors
        memberships = (self._actors, membership.actors, current)
        self._actors = current
        self._asked.clear()
        for reading in self._readings.values():
            reading.restart(memberships)
            self._tell(reading)

    def _start_round(self, reading: PendingRead) -> None:
        """Fix the expectation and send the round, with no await in between."""
        local = self._local
        now = trio.current_time()
        if not reading.needs_round(now):
            return
        self._rounds += 1
        own_cells = local.replica.cells(reading.name)
        members, node = local.members, local.replica.identity.node
        begun = reading.start(self._rounds, own_cells, members.readable, members.here, node, now)
        if begun is None:
            return
        if not begun.missing:  # there are no other members: it was concluded at once
            self._tell(reading)
        if begun.hold:
            local.holds.ask(reading.name, self, now)
        if begun.missing:
            self._asked[begun.number] = reading
            for address in sorted(begun.missing):
                self._ask(address, reading, begun)

    def _ask(self, address: str, reading: PendingRead, round_: Round) -> None:
        peer = self._peers.get(address)
        if peer is not None:
            peer.post(messages.ReadCells(round_.number, reading.name, round_.hold))

    def _tell(self, reading: PendingRead) -> None:
        changed = self._changed[reading.name]
        self._changed[reading.name] = trio.Event()
        changed.set()

    def _forget(self, reading: PendingRead) -> None:
        """The last read of the counter is over."""
        del self._readings[reading.name], self._changed[reading.name]
        if reading.held:
            self._local.release(reading.name, self)
            for peer in self._peers:
                peer.post(messages.Release(reading.name))
