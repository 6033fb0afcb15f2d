"""The rounds of the consistent reads of one counter.

It is not linearizable to read all cells and add them up: the sum of cells that were seen at different instants may
never have been the counter's value. So each round compares. Before it sends anything it fixes the cells that it expects
(`prev`). Then it asks every member. Only if the join of all answers equals the expectation, its sum is the answer:
cells only grow, so each of them had that value at the instant at which the round was sent. (This is a double collect:
Afek, Attiya, Dolev, Gafni, Merritt, Shavit, "Atomic snapshots of shared memory", 1993.)

What increments with ids come to is taken from this node's own state at that same instant, and from what answers to
former rounds told. The answers only have to show that no member knew more of them; see counter_views.py. If one did and
could not tell it, the next round waits until this node has caught up.

Invariants:
- A round answers only reads that arrived before it was sent. A read never joins a round that is older than itself.
- `prev` covers this node's own durable cells at the instant at which the round was sent; ids, and the digest with which
  answers are compared, are those of that instant.
- Members are nodes, not addresses. A round is over only when, for each membership that it needs, as many different
  nodes have answered as the membership has entries. Names and addresses can be wrong, so that two entries lead to one
  node; then the member that the second entry stands for was not asked.
"""

from collections.abc import Collection, Iterable
from math import inf
from typing import NamedTuple

from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol.counter_views import Ahead, Cells, Found, Own, covers, join_cells
from gcount.core.protocol.told_ids import Learned

Actors = tuple[str, ...]
"""The addresses in a membership."""

STALL = 0.1  # seconds that a round waits for a silent member before a later round may start beside it
CATCH_UP = 0.1  # seconds from a round that met unknown ids to the next one, if this node does not learn them sooner
HOLD_AFTER = 2  # unconfirmed rounds in a row after which a round asks for a hold


class Answer(NamedTuple):
    """The answer to a read.

    Args:
        value: the exact value.
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
        number: identifies the answers to this round.
        began: its place in the order in which reads arrive and rounds are sent.
        started: when it was sent, in seconds.
        prev: the expected cells.
        own: what this node has at the instant at which the round is sent.
        wanted: the memberships that every read needs, each as its addresses.
        extra: further memberships, which only some of the reads need.
        hold: whether members are asked to let increments of the counter wait.
        learned: takes what the answers tell beyond what `own` holds.

    Attributes:
        missing: the addresses for which no node has answered that did not answer for another entry already.
        doubles: those of the missing addresses at which such a node answered, with that other entry.
        prev: the expected cells.
        own: what this node had at the instant at which the round was sent.
        cells: the join of the expected cells and all answers.
        unknown: the answers with ids that this node did not know then.
    """

    def __init__(
        self,
        number: int,
        began: int,
        started: float,
        prev: Cells,
        own: Own,
        wanted: Iterable[Actors],
        extra: Iterable[Actors] = (),
        *,
        hold: bool,
        learned: Learned,
    ) -> None:
        self.number = number
        self.began = began
        self.started = started
        self.hold = hold
        self.learned = learned
        self.extra = set(extra)
        self._memberships = {*wanted, *self.extra}
        self.missing = {address for actors in self._memberships for address in actors}
        self.doubles: dict[str, str] = {}
        self._node_of: dict[str, bytes] = {}
        self.prev = prev
        self.own = own
        self.cells = prev
        self.unknown = [] if own.knows(own.found) else [own.found]  # it does not know what is detached here

    def answer(self, address: str, node: bytes, found: Found) -> bool:
        """Take the answer of the node at a member's address; returns whether all members have answered now."""
        self.cells = join_cells(self.cells, found.cells)
        self.learned.take(found, self.own.digest)
        if not self.own.knows(found):
            self.unknown.append(found)
        other = self._other_entry(address, node)
        if other is None:
            self._node_of[address] = node
            self.missing.discard(address)
        else:
            self.doubles[address] = other
        return not self.missing

    def waits_for(self, address: str, node: bytes) -> bool:
        """Whether the round still needs an answer from the node that is at an address now."""
        return address in self.missing or self._node_of.get(address, node) != node

    def _other_entry(self, address: str, node: bytes) -> str | None:
        """Another entry, in the same membership as an address, for which the node has answered already."""
        if node not in self._node_of.values():
            return None
        for actors in self._memberships:
            if address in actors:
                for other in actors:
                    if other != address and self._node_of.get(other) == node:
                        return other
        return None

    def check_expectation(self, own: Own) -> None:
        """Assert that the round expects all that its own node has on disk at this instant, and ids just so.

        Without this, a round confirms a value that misses an increment acknowledged here: 70 % of the histories of a
        model were not linearizable.
        """
        assert covers(self.prev, own.found.cells), "a round expects less of its own node than that has on disk"
        same = self.own is own or self.own[1:] == own[1:]
        assert same, "a round takes its own node's ids of another instant than that at which it is sent"

    def check_answers(self) -> None:
        """Assert that each membership was answered for by as many nodes as it has entries."""
        assert not self.missing, "a round is concluded before all members have answered"
        node_of = self._node_of.get
        for actors in self._memberships:
            nodes = set(map(node_of, actors))
            assert len(nodes) == len(actors), "a round takes the answers of one node for those of two members"

    @property
    def confirmed(self) -> bool:
        """Whether no member knew more than was expected."""
        return self.cells == self.prev and not self.unknown

    @property
    def value(self) -> int:
        """The counter's value at the instant at which the round was sent, if it is confirmed."""
        return sum(self.cells.values()) + self.own.keyed


class PendingRead:
    """All consistent reads of one counter that a node has under way, and the rounds that serve them.

    Args:
        name: the counter.
        options: how many rounds may be in flight.

    Attributes:
        known: the join of all cells that were seen; their sum is a lower bound.
        held: whether a round asked for a hold, so that a Release is owed.
        ahead: the ids that this node has to know before the next round.
        learned: the ids that answers told.
        rounds: those in flight, the oldest first.
        begun: the number of rounds begun so far.
    """

    def __init__(self, name: str, options: Options = DEFAULTS) -> None:
        self.name = name
        self._max_rounds = options.max_rounds
        self.known: Cells = {}
        self.held = False
        self.ahead = Ahead()
        self.learned = Learned()
        self._extra: dict[Actors, int] = {}  # former and coming memberships: reads up to that arrival need them, too
        self.rounds: list[Round] = []
        self.begun = 0
        self._arrivals = 0
        self._waiting: dict[int, Answer | None] = {}  # the reads by arrival, each with its answer
        self._unconfirmed = 0  # rounds in a row

    def arrive(self) -> int:
        """Add a read; returns its place in the order of arrivals."""
        self._arrivals += 1
        self._waiting[self._arrivals] = None
        return self._arrivals

    def leave(self, arrival: int) -> list[int]:
        """Remove a read, answered or not; returns the numbers of the rounds that serve no read any more."""
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
        """The answer to a read; None until a round that began after its arrival was confirmed."""
        return self._waiting[arrival]

    def stalls(self, arrival: int) -> float:
        """When a read has to check whether it needs a round of its own, in seconds; infinity if it will be woken."""
        if not self.rounds:
            return self.ahead.until or inf
        if self.rounds[-1].began > arrival or len(self.rounds) >= self._max_rounds:
            return inf
        return max(self.rounds[-1].started + STALL, self.ahead.until)

    def start(
        self, number: int, own: Own, members: Collection[Actors], here: Collection[str], node: bytes, now: float
    ) -> Round | None:
        """Begin a round if a read needs one.

        Args:
            number: the number of the new round, never used before by this node.
            own: what this node has on disk at this very instant, with what it was told.
            members: the memberships that all reads need.
            here: the addresses that are this node itself.
            node: this node's id.
            now: the current time, in seconds.

        Returns:
            The round, whose `missing` members are to be asked; None when no read needs one.
        """
        if not self.needs_round(now):
            return None
        self._arrivals += 1
        # The expectation has to include this node's own cells as they are now. The reads of a model that kept those of
        # the round before were not linearizable: an increment acknowledged here in between was missing.
        self.known = join_cells(self.known, own.found.cells)
        self.ahead = Ahead()
        hold = self._unconfirmed >= HOLD_AFTER  # constant increments: without holds this read might never end
        self.held = self.held or hold
        # Reads that arrived under a former membership need its members as well as those of the present one.
        extra = self._extra.keys() - set(members)
        self.begun += 1
        begun = Round(number, self._arrivals, now, self.known, own, members, extra, hold=hold, learned=self.learned)
        begun.check_expectation(own)
        assert not self.rounds or number > self.rounds[-1].number, "each round has a number of its own"
        self.rounds.append(begun)
        assert len(self.rounds) <= self._max_rounds, "more rounds are in flight than are allowed"
        for address in sorted(begun.missing.intersection(here)):
            begun.answer(address, node, own.found)
        if not begun.missing:
            self._conclude(begun)
        return begun

    def answer(self, number: int, address: str, node: bytes, found: Found) -> bool:
        """Take the answer of the node at a member's address. Answers to rounds that are over are ignored.

        Returns:
            Whether the answer completed its round.
        """
        for round_ in self.rounds:
            if round_.number == number and address in round_.missing:
                if round_.answer(address, node, found):
                    self._conclude(round_)
                    return True
                return False
        return False

    def restart(self, memberships: Iterable[Actors]) -> None:
        """Drop all rounds, as the membership has changed or is about to.

        Args:
            memberships: further memberships that the reads which wait now need. A read may have to ask the members of
                the old one and of the new one, as either may have acknowledged an increment before it.
        """
        self._extra.update((actors, self._arrivals) for actors in memberships if actors)
        self.rounds.clear()
        self.ahead, self.learned = Ahead(), Learned()

    def let_go(self, address: str, node: bytes) -> list[int]:
        """Drop the rounds that need an answer from the node that is at an address now; returns their numbers.

        What was told is forgotten. That node may have told it before it began anew with an older copy of its directory.
        It uses versions anew then, as no other node had them on disk, and they would be taken for those that were told.
        """
        self.learned = Learned()
        stale = [round_.number for round_ in self.rounds if round_.waits_for(address, node)]
        self.rounds = [round_ for round_ in self.rounds if round_.number not in stale]
        return stale

    def missing(self) -> list[str]:
        """The addresses without an answer in the newest round, and both entries where one node answered for two."""
        if not self.rounds:
            return []
        newest = self.rounds[-1]
        return sorted({*newest.missing, *newest.doubles.values()})

    def doubles(self) -> list[tuple[str, str]]:
        """The pairs of entries for which one and the same node answered in the newest round."""
        return sorted(self.rounds[-1].doubles.items()) if self.rounds else []

    def lower_bound(self, own: Own) -> int:
        """The greatest value that the counter is known to have reached."""
        cells = join_cells(self.known, own.found.cells)
        for round_ in self.rounds:
            cells = join_cells(cells, round_.cells)
        return sum(cells.values()) + own.keyed

    def needs_round(self, now: float) -> bool:
        """Whether a read waits that no round under way can answer, or none can answer soon."""
        newest = max((arrival for arrival, answer in self._waiting.items() if answer is None), default=0)
        if not newest or now < self.ahead.until:
            return False
        if not self.rounds:
            return True
        last = self.rounds[-1]
        return newest > last.began and now >= last.started + STALL and len(self.rounds) < self._max_rounds

    def _conclude(self, round_: Round) -> None:
        self.rounds.remove(round_)
        self.ahead = Ahead(round_.unknown, round_.started + CATCH_UP)
        self.known = join_cells(self.known, round_.cells)  # the next round expects what this one has found
        if not round_.confirmed:
            self._unconfirmed += 1
            return
        round_.check_answers()
        self._unconfirmed = 0
        answer = Answer(round_.value, round_.number)
        for arrival, known in self._waiting.items():
            if known is None and arrival < round_.began:  # a read that arrived later may have seen later increments
                self._waiting[arrival] = answer
