"""All consistent reads of one node: the rounds in flight, the reads that wait for them, and what has to be done next.

This module sends nothing and never waits. Its caller reports each event by a method call. The method returns the
*effects* that the event has, in order:

    a read arrives, or looks again ----> advance --+
    a member answers ------------------> answered -+--> Ask members, Hold increments, Wake reads, Release holds
    a batch is on disk ----------------> committed +
    a member's link is up -------------> linked ---+
    another membership is learned of --> learned --+
    a read ends -----------------------> leave ----+

*(safety)* The caller has to carry out the effects at once, with no await in between: the questions of a round have to
leave at the instant at which its expectation was fixed.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from gcount.core.protocol.consistent_read import Actors, PendingRead
from gcount.core.protocol.counter_views import Found, Own
from gcount.core.protocol.told_ids import Learned
from gcount.core.state.counters import Digest


class Ask(NamedTuple):
    """Ask the member at an address for a counter's cells.

    Args:
        address: the member's address.
        round: the number of the round, which the answer repeats.
        name: the counter.
        hold: whether the member's increments of the counter shall wait until Release.
        known: by incarnation, up to which version this node knows the counter's entries: the member tells newer ones.
            None when it need not.
    """

    address: str
    round: int
    name: str
    hold: bool
    known: Digest | None = None


class Hold(NamedTuple):
    """Let this node's own increments of a counter wait."""

    name: str


class Wake(NamedTuple):
    """Wake the reads of a counter, which then check whether they have their value or need another round."""

    name: str


class Release(NamedTuple):
    """End the holds that were asked for, here and at all members, as the last read of the counter is over."""

    name: str


Effect = Ask | Hold | Wake | Release


class Arrival(NamedTuple):
    """A read that is under way.

    Args:
        name: the counter.
        place: its place in the order of arrivals of that counter's reads.
        rounds: how many rounds of any counter this node had begun before it.
        begun: how many rounds of that counter this node had begun before it.
    """

    name: str
    place: int
    rounds: int
    begun: int


class View(Protocol):
    """This node as it is at the instant of the call, for a round that starts."""

    def own(self, name: str, learned: Learned) -> Own:
        """What this node has on disk of a counter, with what it was told."""

    @property
    def memberships(self) -> Sequence[Actors]:
        """The memberships that every read needs: the one in force, and one that is about to be in force."""

    @property
    def here(self) -> Collection[str]:
        """The addresses that are this node itself."""

    @property
    def node(self) -> bytes:
        """This node's id."""


class ReadRounds:
    """The consistent reads that one node answers.

    Args:
        view: the present state of this node.
        make: makes a `PendingRead` for a counter.
    """

    def __init__(self, view: View, make: Callable[[str], PendingRead] = PendingRead) -> None:
        self._view = view
        self._make = make
        self._pending: dict[str, PendingRead] = {}  # by counter
        self._asked: dict[int, PendingRead] = {}  # those that wait for answers, by the number of the round
        self._behind: dict[str, None] = {}  # counters of which the next round waits until this node has caught up
        self._rounds = 0  # begun so far
        self._actors: Actors = ()  # the members in force when `learned` was called last

    # One read

    def arrive(self, name: str) -> Arrival:
        """Add a read of a counter. The caller has to call `advance` next, and `leave` in the end."""
        pending = self._pending.get(name)
        if pending is None:
            pending = self._pending[name] = self._make(name)
        return Arrival(name, pending.arrive(), self._rounds, pending.begun)

    def advance(self, name: str, now: float) -> list[Effect]:
        """Begin a round of a counter if a read needs one that no round under way can replace.

        Args:
            name: a counter that is being read.
            now: the current time, in seconds.
        """
        pending, view = self._pending[name], self._view
        if pending.ahead:
            pending.ahead.look(view.own(name, pending.learned))
        if not pending.needs_round(now):
            return []
        self._rounds += 1
        own = view.own(name, pending.learned)
        begun = pending.start(self._rounds, own, view.memberships, view.here, view.node, now)
        if begun is None:
            return []
        begun.check_expectation(own)  # checked in `start`, too: there by its argument, here by what the view says
        effects: list[Effect] = []
        if not begun.missing:  # there are no other members, so the round is over already
            effects.append(Wake(name))
            if pending.ahead:
                self._behind[name] = None
        if begun.hold:
            effects.append(Hold(name))
        if begun.missing:
            self._asked[begun.number], known = pending, pending.learned.known(own)
            effects += [Ask(address, begun.number, name, begun.hold, known) for address in sorted(begun.missing)]
        return effects

    def value(self, arrival: Arrival) -> int | None:
        """The exact value for a read; None while it is not known."""
        answer = self._pending[arrival.name].answer_to(arrival.place)
        if answer is None:
            return None
        # `PendingRead` decides this by places in the order of arrivals; this check uses the numbers of the rounds.
        answer.check_order(arrival.rounds)
        return answer.value

    def taken(self, arrival: Arrival) -> int:
        """How many rounds of its counter have begun since a read arrived."""
        return self._pending[arrival.name].begun - arrival.begun

    def looks_again(self, arrival: Arrival) -> float:
        """When a read has to call `advance` again unless it is woken before, in seconds."""
        return self._pending[arrival.name].stalls(arrival.place)

    def shortfall(self, arrival: Arrival) -> tuple[int, list[str], list[tuple[str, str]]]:
        """What a read that gives up can report.

        Returns:
            A lower bound of the value, the members that did not answer, and pairs of entries that lead to one node.
        """
        pending = self._pending[arrival.name]
        own = self._view.own(arrival.name, pending.learned)
        return pending.lower_bound(own), pending.missing(), pending.doubles()

    def leave(self, arrival: Arrival) -> list[Effect]:
        """Remove a read, answered or not."""
        pending = self._pending[arrival.name]
        useless = pending.leave(arrival.place)
        for number in useless:
            self._asked.pop(number, None)
        if pending.idle:
            del self._pending[arrival.name]
            return [Release(arrival.name)] if pending.held else []
        # Another read may have waited for one of these rounds to end before it could start its own.
        return [Wake(arrival.name)] if useless else []

    # What members answer, and changes of links and memberships

    def asked(self, number: int) -> str | None:
        """The counter that a round reads; None when the round is over."""
        pending = self._asked.get(number)
        return None if pending is None else pending.name

    def answered(self, number: int, address: str, node: bytes, found: Found, now: float) -> list[Effect]:
        """Take a member's answer. It is ignored when its round is over.

        Args:
            number: the number of the round.
            address: the member's address.
            node: the id of the node that answers there.
            found: what it has on disk of the counter.
            now: the current time, in seconds.
        """
        pending = self._asked.get(number)
        if pending is None or not pending.answer(number, address, node, found):
            return []
        del self._asked[number]
        effects = [*self.advance(pending.name, now), Wake(pending.name)]
        if pending.ahead:
            self._behind[pending.name] = None
        return effects

    def committed(self) -> list[Effect]:
        """Wake the reads of which the next round waited for what is on disk now."""
        effects: list[Effect] = []
        for name in [*self._behind]:
            pending = self._pending.get(name)
            if pending is not None and pending.ahead:
                pending.ahead.look(self._view.own(name, pending.learned))
                if pending.ahead:
                    continue
                effects.append(Wake(name))
            del self._behind[name]
        return effects

    def linked(self, address: str, node: bytes, now: float) -> list[Effect]:
        """Begin the rounds anew that a member has not answered, as its link is up.

        It is not enough to ask it again in the same round. The member may have lost its disk meanwhile; then its answer
        lacks what this node got from it after the round was sent, and the round's expectation lacks that, too.
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
        """Begin all reads anew over old and new members, as another membership is in force or is about to be.

        Args:
            actors: the members of that other membership.
            in_force: the members of the one that is in force now.
        """
        memberships = (self._actors, actors, in_force)
        self._actors = in_force
        self._asked.clear()
        for pending in self._pending.values():
            pending.restart(memberships)
        return [Wake(name) for name in self._pending]

    def __contains__(self, name: str) -> bool:
        """Whether a counter is being read."""
        return name in self._pending

    @property
    def under_way(self) -> tuple[int, int]:
        """How many counters are being read, and how many rounds wait for members."""
        return len(self._pending), len(self._asked)
