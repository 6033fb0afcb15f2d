"""Consistent reads in a model of three members: any interleaving of writes, gossip, reads and messages.

The address of a member may lead to another one for a while, as names can be wrong and addresses move.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import permutations, product
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from gcount.core.options import Options
from gcount.core.protocol.consistent_read import STALL, Actors, Answer, Round
from gcount.core.protocol.counter_views import Found, Own, covers, join_cells
from gcount.core.protocol.read_rounds import Arrival, Ask, Effect, ReadRounds
from gcount.core.protocol.told_ids import Learned, tell
from gcount.core.state.counters import Counters, Delta, Digest
from gcount.core.state.entries import Entries
from gcount.core.state.keyed import Keyed
from gcount.core.writes.pushes import knows
from gcount.core.writes.settling import settlement
from tests.core.histories import incarnation
from tests.harness.linearizable import Read, Write, violations
from tests.simulation.mutants import planted

ME, A, B = incarnation(1), incarnation(2), incarnation(3)
NAME = "n"
CHECKS = ((Round, "check_expectation"), (Round, "check_answers"), (Answer, "check_order"))
TAKE = Learned.take
SECONDS = Options(id_span=1)  # ids of each second are settled by themselves


class Member:
    """One of them, as its own rounds see it."""

    def __init__(self, model: Model, number: int) -> None:
        self._model = model
        self._number = number

    def own(self, name: str, learned: Learned) -> Own:
        counters = self._model.counters[self._number]
        own = Own(self._model.found(self._number), counters.digest(), counters.keyed(name), {})
        return learned.added_to(own, name, counters) if learned else own

    @property
    def memberships(self) -> Sequence[Actors]:
        return [("0", "1", "2")]

    @property
    def here(self) -> Collection[str]:
        return [address for address, target in self._model.leads[self._number].items() if target == self._number]

    @property
    def node(self) -> bytes:
        return self._model.ids[self._number]


class Model:
    """Three members; writes, gossip, reads and messages happen one at a time in a random order.

    Args:
        random: the source of chance.
        ids: how many of the writes have ids. Each belongs to the second in which it was made first. When a second is
            over, no member takes ids of it any more; then any member that knows all of them may settle them.
    """

    def __init__(self, random: Random, ids: float = 0.0) -> None:
        self.random = random
        self.with_ids = ids
        self.ids = [ME, A, B]
        self.counters = [Counters(SECONDS) for _ in self.ids]
        self.totals: dict[str, int] = {}  # by id, of the second that is not over
        self.second = 1
        self.promised: Digest = {}  # what all members had when the last second was over
        self.rounds = [ReadRounds(Member(self, number)) for number in range(3)]
        self.open: list[dict[Arrival, int]] = [{}, {}, {}]  # since when, by node
        self.messages: list[tuple[int, str, int, Ask, Found | None]] = []  # reader, address, node there, answer
        self.leads = [{str(address): address for address in range(3)} for _ in self.ids]  # as seen by each node
        self.time = 0
        self.writes: list[Write] = []
        self.reads: list[Read] = []

    def run(self, steps: int) -> list[str]:
        for _ in range(steps):
            self.time += 1
            node, other = self.random.sample(range(3), 2)
            dice = self.random.random()
            if dice < 0.2:
                self.write(node)
            elif dice < 0.3:
                self.learn(node, other, self.random.sample(self.ids, self.random.choice((1, 3, 3, 3))))
            elif dice < 0.3 + self.with_ids / 6:
                self.settle(node)
            elif dice < 0.5:
                self.open[node][self.rounds[node].arrive(NAME)] = self.time
                self.advance(node)
            elif dice < 0.51:
                self.carry_out(node, self.rounds[node].learned((str(other),), ()))
                self.advance(node)
            elif dice < 0.56:
                self.move(node, str(other))
            elif dice < 0.57 and self.open[node]:
                arrival = self.random.choice(list(self.open[node]))
                del self.open[node][arrival]
                self.carry_out(node, self.rounds[node].leave(arrival))
                self.advance(node)
            else:
                self.deliver()
        for node, address in product(range(3), range(3)):
            if self.leads[node][str(address)] != address:
                self.move(node, str(address), address)
        while any(self.open):
            self.time += 1
            self.deliver()
            if not self.messages or self.random.random() < self.with_ids / 4:
                for node, other in permutations(range(3), 2):
                    self.learn(node, other, self.ids)
                    self.advance(node)  # a read that waits looks again when the newest round stalls
        return list(violations(self.writes, self.reads))

    def move(self, node: int, address: str, target: int | None = None) -> None:
        """To one node an address leads to another member from now on: the old link ends, there is a new one."""
        self.leads[node][address] = self.random.randrange(3) if target is None else target
        self.messages = [message for message in self.messages if message[:2] != (node, address)]
        now_there = self.ids[self.leads[node][address]]
        self.carry_out(node, self.rounds[node].linked(address, now_there, self.now))

    def write(self, node: int) -> None:
        amount = 1 << len(self.writes)
        if self.random.random() < self.with_ids:
            id_, again = self.random.choice([*self.totals, f"{self.second}-{amount}"]), self.random.random() < 0.4
            total = self.totals.get(id_, 0) + (0 if again else amount)
            entry = self.counters[node].entries.get(f"{id_} {NAME}")
            if total > (entry.total if entry else 0):
                self.commit(node, {}, Keyed({f"{id_} {NAME}": (total, self.version(node) + 1)}))
            if again:
                return  # it was counted when it was written first
            self.totals[id_] = total
        else:
            self.commit(node, {NAME: self.counters[node].cell(NAME, self.ids[node]) + amount})
        self.writes.append(Write(amount, self.time, self.time))

    def version(self, node: int) -> int:
        return self.counters[node].version(self.ids[node])

    def commit(self, node: int, cells: dict[str, int], keyed: Keyed | None = None) -> None:
        version = self.version(node)
        self.join(node, [Delta(self.ids[node], version, version + 1, cells, keyed)])

    def join(self, node: int, deltas: Iterable[Delta]) -> None:
        """Join deltas in one instant: between those of one push, a value may be too great."""
        counters, before = self.counters[node], self.counters[node].total(NAME)
        for delta in deltas:
            counters.join(delta)
        while counters.entries.sweep(99):
            pass
        assert counters.total(NAME) >= before
        if NAME in self.rounds[node]:
            self.carry_out(node, self.rounds[node].committed())

    def learn(self, node: int, other: int, columns: Collection[bytes]) -> None:
        """A member pushes some columns to another one, which takes them with all settlements or not at all."""
        counters, deltas = self.counters[other], []
        for column in columns:
            known, whole = self.counters[node].version(column), None
            for piece in counters.newer(column, known)[1]:
                whole = whole or piece.copy()
                whole.cells.update(piece.cells)
                if piece.keyed is not None:
                    keyed = whole.keyed or Keyed()
                    keyed.merge(piece.keyed)
                    whole = Delta(column, known, whole.upto, whole.cells, keyed)
            deltas += [] if whole is None else [whole]
        if knows(self.counters[node], deltas, counters.settlements.needs()):
            self.join(node, deltas)

    def settle(self, node: int) -> None:
        """The second ends; or a member settles what ended before, once it knows all that the others had then."""
        if self.totals:
            self.second, self.totals = self.second + 1, {}
            for counters in self.counters:
                self.promised = join_cells(self.promised, counters.digest())
        elif covers(self.counters[node].digest(), self.promised):
            settled = settlement(self.counters[node], incarnation(node + 1), self.second - 1)
            if settled:
                self.commit(node, {}, Keyed({}, settled))

    def found(self, node: int, known: Digest | None = None) -> Found:
        counters = self.counters[node]
        found = Found(counters.cells(NAME), counters.parts(NAME), counters.changed(NAME))
        return found if known is None else tell(counters, NAME, known, found)

    def deliver(self) -> None:
        if not self.messages:
            return
        reader, address, node, ask, found = self.messages.pop(self.random.randrange(len(self.messages)))
        if found is None:
            self.messages.append((reader, address, node, ask, self.found(node, ask.known)))
        else:
            self.carry_out(reader, self.rounds[reader].answered(ask.round, address, self.ids[node], found, self.now))

    @property
    def now(self) -> float:
        return self.time * STALL / 4

    def advance(self, node: int) -> None:
        """The reads of a node look whether they need a round."""
        if NAME in self.rounds[node]:
            self.carry_out(node, self.rounds[node].advance(NAME, self.now))

    def carry_out(self, node: int, effects: Iterable[Effect]) -> None:
        """Ask whom a round asks, each where its address leads to now; then all reads that have their value end."""
        leads = self.leads[node]
        for effect in effects:
            if isinstance(effect, Ask) and leads[effect.address] != node:
                self.messages.append((node, effect.address, leads[effect.address], effect, None))
        rounds = self.rounds[node]
        done = [(arrival, value) for arrival in self.open[node] if (value := rounds.value(arrival)) is not None]
        for arrival, value in done:
            self.reads.append(Read(value, self.open[node].pop(arrival), self.time))
        for arrival, _ in done:  # all that another read may be woken for is its value
            rounds.leave(arrival)


def broken_histories(runs: int, ids: float = 0.0) -> int:
    return sum(bool(Model(Random(seed), ids).run(60)) for seed in range(runs))


@pytest.mark.parametrize(("ids", "runs"), [(0.0, 1000), (0.5, 300), (0.9, 700)])
def test_consistent_reads_of_a_model_are_linearizable_and_all_end(ids: float, runs: int) -> None:
    assert broken_histories(runs, ids) == 0


BUGS = [
    "view-taken-after-the-gather",
    "round-under-way-joined",
    "own-cells-not-read-again",
    "round-counts-addresses",
]


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the assertions that stop at the step that goes wrong."""
    for holder, check in CHECKS:
        monkeypatch.setattr(holder, check, lambda *_: None)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("bug", BUGS)
def test_the_model_shows_a_planted_bug(bug: str) -> None:
    """By the values of the reads alone."""
    with planted(bug):
        assert broken_histories(200) > 5


def entries_not_compared(self: Own, other: Found) -> bool:
    return covers(self.found.parts, other.parts)


def settled_parts_not_compared(self: Own, other: Found) -> bool:
    return all(n <= self.reach(holder) for holder, n in other.changed.items())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("bug", [entries_not_compared, settled_parts_not_compared])
def test_the_model_shows_that_ids_are_not_compared(
    bug: Callable[[Own, Found], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Own, "knows", bug)
    assert broken_histories(300, 0.9) > 1


@pytest.mark.usefixtures("unchecked")
def test_the_model_shows_that_ids_are_counted_as_they_are_at_the_end_of_a_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = ReadRounds.answered

    def late(self: Any, number: int, *answer: Any) -> list[Effect]:
        pending = self._asked.get(number)
        for round_ in [] if pending is None else pending.rounds:
            round_.own = round_.own._replace(keyed=self._view.own(NAME, pending.learned).keyed)
        return answered(self, number, *answer)

    monkeypatch.setattr(ReadRounds, "answered", late)
    assert broken_histories(300, 0.5) > 1


def only_versions_told(self: Learned, found: Found, digest: Digest) -> None:
    TAKE(self, found._replace(told=found.told and found.told._replace(entries={})), digest)


@pytest.mark.usefixtures("unchecked")
def test_the_model_shows_that_more_is_taken_from_an_answer_than_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learned, "take", only_versions_told)
    assert broken_histories(200, 0.9) > 1


@pytest.mark.usefixtures("unchecked")
def test_the_model_shows_that_an_id_that_was_told_counts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    added_to = Learned.added_to

    def again(self: Learned, own: Own, name: str, counters: Counters) -> Own:
        """What is here of the ids that were told is not looked up."""
        with patch.object(Entries, "get", lambda *_: None):
            return added_to(self, own, name, counters)

    monkeypatch.setattr(Learned, "added_to", again)
    assert broken_histories(200, 0.9) > 1


@pytest.mark.parametrize("bug", BUGS[1:])
def test_an_assertion_stops_at_the_step_that_breaks_a_law(bug: str) -> None:
    stopped = 0
    with planted(bug):
        for seed in range(100):
            try:
                Model(Random(seed)).run(60)
            except AssertionError:
                stopped += 1
    assert stopped > 5
