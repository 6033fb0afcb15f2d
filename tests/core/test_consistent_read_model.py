"""Consistent reads in a model of three members: any interleaving of writes, gossip, reads and messages.

The address of a member may lead to another one for a while, as names can be wrong and addresses move.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import product
from random import Random

import pytest

from gcount.core.protocol.consistent_read import STALL, Actors, Answer, Cells, Round, join_cells
from gcount.core.protocol.read_rounds import Arrival, Ask, Effect, ReadRounds
from tests.core.histories import incarnation
from tests.harness.linearizable import Read, Write, violations
from tests.simulation.mutants import planted

ME, A, B = incarnation(1), incarnation(2), incarnation(3)
NAME = "n"
CHECKS = ((Round, "check_expectation"), (Round, "check_answers"), (Answer, "check_order"))


class Member:
    """One of them, as its own rounds see it."""

    def __init__(self, model: Model, number: int) -> None:
        self._model = model
        self._number = number

    def cells(self, name: str) -> Cells:
        return self._model.views[self._number]

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
    """Three members; writes, gossip, reads and messages happen one at a time in a random order."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.ids = [ME, A, B]
        self.views: list[Cells] = [{}, {}, {}]
        self.rounds = [ReadRounds(Member(self, number)) for number in range(3)]
        self.open: list[dict[Arrival, int]] = [{}, {}, {}]  # since when, by node
        self.messages: list[tuple[int, str, int, int, Cells | None]] = []  # reader, address, node there, round, answer
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
                self.views[node] = join_cells(self.views[node], self.views[other])
            elif dice < 0.4:
                self.open[node][self.rounds[node].arrive(NAME)] = self.time
                self.advance(node)
            elif dice < 0.41:
                self.carry_out(node, self.rounds[node].learned((str(other),), ()))
                self.advance(node)
            elif dice < 0.46:
                self.move(node, str(other))
            elif dice < 0.47 and self.open[node]:
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
            if not self.messages:  # a read that waits looks again when the newest round stalls
                for node in range(3):
                    self.advance(node)
        return list(violations(self.writes, self.reads))

    def move(self, node: int, address: str, target: int | None = None) -> None:
        """To one node an address leads to another member from now on: the old link ends, there is a new one."""
        self.leads[node][address] = self.random.randrange(3) if target is None else target
        self.messages = [message for message in self.messages if message[:2] != (node, address)]
        now_there = self.ids[self.leads[node][address]]
        self.carry_out(node, self.rounds[node].linked(address, now_there, self.now))

    def write(self, node: int) -> None:
        amount, own = 1 << len(self.writes), self.views[node].get(self.ids[node], 0)
        self.views[node] = {**self.views[node], self.ids[node]: own + amount}
        self.writes.append(Write(amount, self.time, self.time))

    def deliver(self) -> None:
        if not self.messages:
            return
        reader, address, node, number, cells = self.messages.pop(self.random.randrange(len(self.messages)))
        if cells is None:
            self.messages.append((reader, address, node, number, self.views[node]))
        else:
            self.carry_out(reader, self.rounds[reader].answered(number, address, self.ids[node], cells, self.now))

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
                self.messages.append((node, effect.address, leads[effect.address], effect.round, None))
        rounds = self.rounds[node]
        done = [(arrival, value) for arrival in self.open[node] if (value := rounds.value(arrival)) is not None]
        for arrival, value in done:
            self.reads.append(Read(value, self.open[node].pop(arrival), self.time))
        for arrival, _ in done:  # all that another read may be woken for is its value
            rounds.leave(arrival)


def broken_histories(runs: int) -> int:
    return sum(bool(Model(Random(seed)).run(60)) for seed in range(runs))


def test_consistent_reads_of_a_model_are_linearizable_and_all_end() -> None:
    assert broken_histories(1500) == 0


BUGS = [
    "view-taken-after-the-gather",
    "round-under-way-joined",
    "own-cells-not-read-again",
    "round-counts-addresses",
]


@pytest.mark.parametrize("bug", BUGS)
def test_the_model_shows_a_planted_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the values of the reads alone, without the assertions that stop at the step that goes wrong."""
    for holder, check in CHECKS:
        monkeypatch.setattr(holder, check, lambda *_: None)
    with planted(bug):
        assert broken_histories(200) > 5


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
