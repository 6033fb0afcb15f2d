"""The rounds of consistent reads: local view, confirm, hold.

Gathering all cells and adding them up is not linearizable: the sum of cells seen at different instants may never have
been the counter's value. So a round compares: before anything is sent it fixes what it expects (`prev`), then asks
every member, and only if the join of all answers equals the expectation it is the answer: as cells only grow, each of
them had that value at the instant at which the round was sent (a double collect: Afek, Attiya, Dolev, Gafni, Merritt,
Shavit, "Atomic snapshots of shared memory", 1993).

Invariants:
- A round answers only reads that arrived before it was sent; a read never joins a round that is older than itself.
- `prev` holds this node's own durable cells of the instant at which the round was sent.
- Members are nodes, not addresses: a round is over only when each membership that it needs was answered for by as many
  different nodes as it has entries. Two entries may lead to one node, as names and addresses can be wrong; the node
  to which the second one should lead has then not been asked.
"""

from collections.abc import Collection, Iterable
from math import inf
from typing import NamedTuple

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.counters import Digest

Cells = Digest
Actors = tuple[str, ...]
"""The addresses in a membership."""

STALL = 0.1  # seconds after which a round that waits for a silent member no longer keeps a later one from starting
HOLD_AFTER = 2  # rounds in a row that were not confirmed


def join_cells(one: Cells, other: Cells) -> Cells:
    """The pointwise maximum."""
    joined = dict(one)
    for incarnation, n in other.items():
        if n > joined.get(incarnation, 0):
            joined[incarnation] = n
    return joined


def covers(one: Cells, other: Cells) -> bool:
    """Whether no cell of the other is greater."""
    return all(n <= one.get(incarnation, 0) for incarnation, n in other.items())


class Answer(NamedTuple):
    """What a read is answered.

    Args:
        value: exact.
        round: the number of the round that confirmed it.
    """

    value: int
    round: int

    def check_order(self, rounds: int) -> None:
        """Assert that the round began after the read had arrived.

        Args:
            rounds: the number of the newest round at the read's arrival.
        """
        assert self.round > rounds, "a round answers a read that arrived after it was sent"


class Round:
    """One question to all members.

    Args:
        number: tells its answers from those of other rounds.
        began: the place in the order of arrivals at which it was sent.
        started: when, in seconds.
        prev: the expectation.
        wanted: the memberships that every read needs, each as the addresses in it.
        extra: further ones, which only some of the reads need.
        hold: whether increments of the counter are asked to wait.

    Attributes:
        missing: the addresses that no node of its own has answered for.
        doubles: of these, the ones for which a node answered that had answered for another entry, with that entry.
        prev: the expectation.
        cells: the join of the expectation and all answers.
    """

    def __init__(
        self,
        number: int,
        began: int,
        started: float,
        prev: Cells,
        wanted: Iterable[Actors],
        extra: Iterable[Actors] = (),
        *,
        hold: bool,
    ) -> None:
        self.number = number
        self.began = began
        self.started = started
        self.hold = hold
        self.extra = set(extra)
        self._memberships = {*wanted, *self.extra}
        self.missing = {address for actors in self._memberships for address in actors}
        self.doubles: dict[str, str] = {}
        self._node_of: dict[str, bytes] = {}
        self.prev = prev
        self.cells = prev

    def answer(self, address: str, node: bytes, cells: Cells) -> bool:
        """Take what the node at one member's address answered; returns whether all members have answered."""
        self.cells = join_cells(self.cells, cells)
        other = self._other_entry(address, node)
        if other is None:
            self._node_of[address] = node
            self.missing.discard(address)
        else:
            self.doubles[address] = other
        return not self.missing

    def waits_for(self, address: str, node: bytes) -> bool:
        """Whether the node that is at an address from now on has not answered there."""
        return address in self.missing or self._node_of.get(address, node) != node

    def _other_entry(self, address: str, node: bytes) -> str | None:
        """An entry of the same membership for which the node has answered already."""
        if node not in self._node_of.values():
            return None
        for actors in self._memberships:
            if address in actors:
                for other in actors:
                    if other != address and self._node_of.get(other) == node:
                        return other
        return None

    def check_expectation(self, own: Cells) -> None:
        """Assert that the round expects all that its own node has on disk in this instant; without that most break."""
        assert covers(self.prev, own), "a round expects less of its own node than that has on disk"

    def check_answers(self) -> None:
        """Assert that each membership was answered for by as many nodes as it has entries."""
        assert not self.missing, "a round is concluded before all members have answered"
        node_of = self._node_of.get
        for actors in self._memberships:
            nodes = set(map(node_of, actors))
            assert len(nodes) == len(actors), "a round takes the answers of one node for those of two members"

    @property
    def confirmed(self) -> bool:
        """Whether nobody knew more than was expected."""
        return self.cells == self.prev


class PendingRead:
    """All consistent reads of one counter that one node has under way, and the rounds that serve them.

    Args:
        name: the counter.
        options: how many rounds may be in flight.
    """

    def __init__(self, name: str, options: Options = DEFAULTS) -> None:
        self.name = name
        self._max_rounds = options.max_rounds
        self.known: Cells = {}  # the join of all that was seen: a lower bound
        self.held = False  # whether a Release is owed
        self._extra: dict[Actors, int] = {}  # memberships learned of, or replaced: reads up to that arrival need them
        self.rounds: list[Round] = []
        self.begun = 0  # rounds, over and under way
        self._arrivals = 0
        self._waiting: dict[int, Answer | None] = {}  # by arrival
        self._unconfirmed = 0

    def arrive(self) -> int:
        """A read arrives; returns its place in the order of arrivals."""
        self._arrivals += 1
        self._waiting[self._arrivals] = None
        return self._arrivals

    def leave(self, arrival: int) -> list[int]:
        """A read is over, answered or not; returns the numbers of the rounds that serve nobody any more."""
        del self._waiting[arrival]
        oldest = min(self._waiting, default=self._arrivals + 1)
        self._extra = {actors: until for actors, until in self._extra.items() if oldest <= until}
        useless = [round_ for round_ in self.rounds if oldest > round_.began or round_.extra - self._extra.keys()]
        self.rounds = [round_ for round_ in self.rounds if round_ not in useless]
        return [round_.number for round_ in useless]

    @property
    def idle(self) -> bool:
        """Whether no read is left."""
        return not self._waiting

    def answer_to(self, arrival: int) -> Answer | None:
        """The answer to a read, once a round that began after its arrival was confirmed."""
        return self._waiting[arrival]

    def stalls(self, arrival: int) -> float:
        """When a read should look again whether it needs a round of its own, in seconds; else it waits to be told."""
        if not self.rounds or self.rounds[-1].began > arrival or len(self.rounds) >= self._max_rounds:
            return inf
        return self.rounds[-1].started + STALL

    def start(
        self, number: int, own: Cells, members: Collection[Actors], here: Collection[str], node: bytes, now: float
    ) -> Round | None:
        """Begin a round if some read needs one.

        Args:
            number: for the new round, never used before by this node.
            own: this node's durable cells of the counter at this very instant.
            members: the memberships that all reads need.
            here: the addresses that are this node itself.
            node: this node's id.
            now: the current time, in seconds.
        """
        if not self.needs_round(now):
            return None
        self._arrivals += 1
        self.known = join_cells(self.known, own)
        hold = self._unconfirmed >= HOLD_AFTER
        self.held = self.held or hold
        extra = self._extra.keys() - set(members)
        self.begun += 1
        begun = Round(number, self._arrivals, now, self.known, members, extra, hold=hold)
        begun.check_expectation(own)
        assert not self.rounds or number > self.rounds[-1].number, "each round has a number of its own"
        self.rounds.append(begun)
        assert len(self.rounds) <= self._max_rounds, "more rounds are in flight than are allowed"
        for address in sorted(begun.missing.intersection(here)):
            begun.answer(address, node, own)
        if not begun.missing:
            self._conclude(begun)
        return begun

    def answer(self, number: int, address: str, node: bytes, cells: Cells) -> bool:
        """The node at a member's address answered a round; answers to rounds that are over are ignored.

        Returns:
            Whether that completed the round.
        """
        for round_ in self.rounds:
            if round_.number == number and address in round_.missing:
                if round_.answer(address, node, cells):
                    self._conclude(round_)
                    return True
                return False
        return False

    def restart(self, memberships: Iterable[Actors]) -> None:
        """The membership changed, or what is known of it: all rounds are void.

        Args:
            memberships: those that the reads that wait now need, too.
        """
        self._extra.update((actors, self._arrivals) for actors in memberships if actors)
        self.rounds.clear()

    def let_go(self, address: str, node: bytes) -> list[int]:
        """Drop the rounds that the node which is at an address from now on has not answered; returns their numbers."""
        stale = [round_.number for round_ in self.rounds if round_.waits_for(address, node)]
        self.rounds = [round_ for round_ in self.rounds if round_.number not in stale]
        return stale

    def missing(self) -> list[str]:
        """The addresses that no node of its own has answered for in the newest round."""
        if not self.rounds:
            return []
        newest = self.rounds[-1]
        return sorted({*newest.missing, *newest.doubles.values()})

    def doubles(self) -> list[tuple[str, str]]:
        """The pairs of entries that one node has answered for in the newest round."""
        return sorted(self.rounds[-1].doubles.items()) if self.rounds else []

    def lower_bound(self, own: Cells) -> int:
        """The greatest value that is known to be no more than the counter's."""
        cells = join_cells(self.known, own)
        for round_ in self.rounds:
            cells = join_cells(cells, round_.cells)
        return sum(cells.values())

    def needs_round(self, now: float) -> bool:
        """Whether some read waits that no round under way can answer, or not soon."""
        newest = max((arrival for arrival, answer in self._waiting.items() if answer is None), default=0)
        if not newest:
            return False
        if not self.rounds:
            return True
        last = self.rounds[-1]
        return newest > last.began and now >= last.started + STALL and len(self.rounds) < self._max_rounds

    def _conclude(self, round_: Round) -> None:
        self.rounds.remove(round_)
        self.known = join_cells(self.known, round_.cells)
        if not round_.confirmed:
            self._unconfirmed += 1
            return
        round_.check_answers()
        self._unconfirmed = 0
        answer = Answer(sum(round_.cells.values()), round_.number)
        for arrival, known in self._waiting.items():
            if known is None and arrival < round_.began:
                self._waiting[arrival] = answer
