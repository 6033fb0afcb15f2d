"""Consistent reads in a model of three members: any interleaving of writes, gossip, reads and messages."""

from collections.abc import Callable, Iterable
from random import Random

import pytest

from gcount.core.reading import STALL, Cells, Reading, Round, join_cells
from tests.core.histories import incarnation
from tests.harness.linearizable import Read, Write, violations

ME, A, B = incarnation(1), incarnation(2), incarnation(3)


class Model:
    """Three members; writes, gossip, reads and messages happen one at a time in a random order."""

    def __init__(self, random: Random, make: Callable[[str], Reading]) -> None:
        self.random = random
        self.ids = [ME, A, B]
        self.views: list[Cells] = [{}, {}, {}]
        self.readings = [make("n") for _ in self.ids]
        self.open: list[dict[int, int]] = [{}, {}, {}]  # arrival -> when, by node
        self.messages: list[tuple[int, int, int, Cells | None]] = []  # reader, member, round, answer
        self.rounds = self.time = 0
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
                self.open[node][self.readings[node].arrive()] = self.time
                self.advance(node)
            elif dice < 0.41:
                self.readings[node].restart([str(other)])
                self.advance(node)
            elif dice < 0.42 and self.open[node]:
                arrival = self.random.choice(list(self.open[node]))
                del self.open[node][arrival]
                self.readings[node].leave(arrival)
                self.advance(node)
            else:
                self.deliver()
        while any(self.open):
            self.time += 1
            self.deliver()
        return list(violations(self.writes, self.reads))

    def write(self, node: int) -> None:
        amount, own = 1 << len(self.writes), self.views[node].get(self.ids[node], 0)
        self.views[node] = {**self.views[node], self.ids[node]: own + amount}
        self.writes.append(Write(amount, self.time, self.time))

    def deliver(self) -> None:
        if not self.messages:
            return
        reader, member, number, cells = self.messages.pop(self.random.randrange(len(self.messages)))
        if cells is None:
            self.messages.append((reader, member, number, self.views[member]))
        else:
            self.readings[reader].answer(number, str(member), cells)
            self.advance(reader)

    def advance(self, node: int) -> None:
        self.rounds += 1
        others = [str(other) for other in range(3) if other != node]
        reading = self.readings[node]
        begun = reading.start(self.rounds, self.views[node], others, self.time * STALL / 4)
        if begun is not None:
            self.messages += [(node, int(member), self.rounds, None) for member in sorted(begun.missing)]
        for arrival, since in list(self.open[node].items()):
            value = reading.value(arrival)
            if value is not None:
                del self.open[node][arrival]
                reading.leave(arrival)
                self.reads.append(Read(value, since, self.time))


class Naive(Reading):
    """Gathers once and adds up."""

    def _conclude(self, round_: Round) -> None:
        round_._prev = round_.cells
        super()._conclude(round_)


class JoinsLate(Reading):
    """Lets a read join a round under way."""

    def _conclude(self, round_: Round) -> None:
        round_.began = self._arrivals + 1
        super()._conclude(round_)


class TrustsOldOwnCells(Reading):
    """Expects in a later round what the earlier one saw, without a look at its own cells."""

    def start(self, number: int, own: Cells, members: Iterable[str], now: float) -> Round | None:
        return super().start(number, {} if self.known else own, members, now)


def broken_histories(make: Callable[[str], Reading], runs: int) -> int:
    return sum(bool(Model(Random(seed), make).run(60)) for seed in range(runs))


def test_consistent_reads_of_a_model_are_linearizable_and_all_end() -> None:
    assert broken_histories(Reading, 1500) == 0


@pytest.mark.parametrize("mutant", [Naive, JoinsLate, TrustsOldOwnCells])
def test_the_model_shows_a_planted_bug(mutant: type[Reading]) -> None:
    assert broken_histories(mutant, 100) > 5
