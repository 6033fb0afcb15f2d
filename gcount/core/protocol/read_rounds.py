"""All consistent reads of one node: which rounds are asked, which read waits for what, and what has to be done next.

Nothing is sent here and nothing waits here. What happens is told by calling a method; what it has to set off comes back
as *effects*, in order:

    a read arrives, or looks again ----> advance --+
    a member answers ------------------> answered -+--> Ask members, Hold increments, Wake reads, Release holds
    a member's link is up -------------> linked ---+
    another membership is learned of --> learned --+
    a read ends -----------------------> leave ----+

*(safety)* Whoever calls carries out the effects at once, before anything else can happen to the node: the questions of
a round leave in the instant in which its expectation was fixed.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from gcount.core.protocol.consistent_read import Actors, Cells, PendingRead


class Ask(NamedTuple):
    """Ask the member at an address for a counter's cells.

    Args:
        address: the member's.
        round: the number that its answer has to bear.
        name: the counter.
        hold: whether increments of it shall wait there until Release.
    """

    address: str
    round: int
    name: str
    hold: bool


class Hold(NamedTuple):
    """Let this node's own increments of a counter wait."""

    name: str


class Wake(NamedTuple):
    """Let the reads of a counter look again whether they have their value, or need a round."""

    name: str


class Release(NamedTuple):
    """The last read of a counter is over: end the holds that were asked for, here and at all members."""

    name: str


Effect = Ask | Hold | Wake | Release


class Arrival(NamedTuple):
    """A read that is under way.

    Args:
        name: the counter.
        place: in the order of arrivals of that counter's reads.
        rounds: how many rounds this node had begun before it, of any counter.
        begun: how many of that counter.
    """

    name: str
    place: int
    rounds: int
    begun: int


class View(Protocol):
    """What is true of this node at the instant of the call; a round that starts looks at it."""

    def cells(self, name: str) -> Cells:
        """This node's durable cells of a counter."""

    @property
    def memberships(self) -> Sequence[Actors]:
        """Those that every read needs: the one in force, and one that is about to be."""

    @property
    def here(self) -> Collection[str]:
        """The addresses that are this node itself."""

    @property
    def node(self) -> bytes:
        """This node's id."""


class ReadRounds:
    """The consistent reads that one node answers.

    Args:
        view: this node.
        make: makes what holds the reads of one counter.
    """

    def __init__(self, view: View, make: Callable[[str], PendingRead] = PendingRead) -> None:
        self._view = view
        self._make = make
        self._pending: dict[str, PendingRead] = {}  # by counter
        self._asked: dict[int, PendingRead] = {}  # by the number of the round: those that wait for answers
        self._rounds = 0
        self._actors: Actors = ()  # of the membership that was in force when another one was heard of

    # One read

    def arrive(self, name: str) -> Arrival:
        """A read of a counter arrives; the caller then calls `advance`, and `leave` in the end."""
        pending = self._pending.get(name)
        if pending is None:
            pending = self._pending[name] = self._make(name)
        return Arrival(name, pending.arrive(), self._rounds, pending.begun)

    def advance(self, name: str, now: float) -> list[Effect]:
        """Begin a round of a counter if some read needs one, and not only a round that is under way.

        Args:
            name: of a counter that is being read.
            now: the current time, in seconds.
        """
        pending, view = self._pending[name], self._view
        if not pending.needs_round(now):
            return []
        self._rounds += 1
        own = view.cells(name)
        begun = pending.start(self._rounds, own, view.memberships, view.here, view.node, now)
        if begun is None:
            return []
        begun.check_expectation(own)  # as `start` does: here against what the view says, there against what it was told
        effects: list[Effect] = []
        if not begun.missing:  # there are no other members: it was concluded at once
            effects.append(Wake(name))
        if begun.hold:
            effects.append(Hold(name))
        if begun.missing:
            self._asked[begun.number] = pending
            effects += [Ask(address, begun.number, name, begun.hold) for address in sorted(begun.missing)]
        return effects

    def value(self, arrival: Arrival) -> int | None:
        """The exact value for a read; None as long as it is not known."""
        answer = self._pending[arrival.name].answer_to(arrival.place)
        if answer is None:
            return None
        answer.check_order(arrival.rounds)  # where `PendingRead` goes by places in the order of arrivals
        return answer.value

    def taken(self, arrival: Arrival) -> int:
        """How many rounds of its counter have begun since a read arrived."""
        return self._pending[arrival.name].begun - arrival.begun

    def looks_again(self, arrival: Arrival) -> float:
        """When a read should call `advance` again if nothing wakes it before, in seconds."""
        return self._pending[arrival.name].stalls(arrival.place)

    def shortfall(self, arrival: Arrival) -> tuple[int, list[str], list[tuple[str, str]]]:
        """What is known for a read that gives up: a lower bound, the members missing, entries that lead to one node."""
        pending = self._pending[arrival.name]
        return pending.lower_bound(self._view.cells(arrival.name)), pending.missing(), pending.doubles()

    def leave(self, arrival: Arrival) -> list[Effect]:
        """A read is over, answered or not."""
        pending = self._pending[arrival.name]
        useless = pending.leave(arrival.place)
        for number in useless:
            self._asked.pop(number, None)
        if pending.idle:
            del self._pending[arrival.name]
            return [Release(arrival.name)] if pending.held else []
        # Another read may have waited for one of these rounds, or for a place for another.
        return [Wake(arrival.name)] if useless else []

    # What members say, and what becomes of them

    def asked(self, number: int) -> str | None:
        """The counter that a round is about; None when the round is over."""
        pending = self._asked.get(number)
        return None if pending is None else pending.name

    def answered(self, number: int, address: str, node: bytes, cells: Cells, now: float) -> list[Effect]:
        """A member answered a round; what comes too late for its round is ignored.

        Args:
            number: the round's.
            address: the member's.
            node: the id of the node that answers there.
            cells: what it has on disk.
            now: the current time, in seconds.
        """
        pending = self._asked.get(number)
        if pending is None or not pending.answer(number, address, node, cells):
            return []
        del self._asked[number]
        return [*self.advance(pending.name, now), Wake(pending.name)]

    def linked(self, address: str, node: bytes, now: float) -> list[Effect]:
        """A member's link is up: rounds that it has not answered begin anew.

        Asking it again in the same round would not do: it may have lost its disk meanwhile, and what this node got of
        it since the round was sent is in no answer and not in the round's expectation.
        """
        effects: list[Effect] = []
        for pending in self._pending.values():
            stale = pending.let_go(address, node)
            for number in stale:
                self._asked.pop(number, None)
            if stale:
                effects += [*self.advance(pending.name, now), Wake(pending.name)]
        return effects

    def learned(self, actors: Actors, in_force: Actors) -> list[Effect]:
        """Another membership is, or is about to be, in force: reads under way begin anew, over old and new members.

        Args:
            actors: its members.
            in_force: those of the membership that is in force now.
        """
        memberships = (self._actors, actors, in_force)
        self._actors = in_force
        self._asked.clear()
        for pending in self._pending.values():
            pending.restart(memberships)
        return [Wake(name) for name in self._pending]

    def __len__(self) -> int:
        """How many counters are being read."""
        return len(self._pending)

    def __contains__(self, name: str) -> bool:
        """Whether a counter is being read."""
        return name in self._pending

    @property
    def waiting(self) -> int:
        """How many rounds wait for members."""
        return len(self._asked)
