"""Consistent reads in a model of three members: any interleaving of writes, gossip, reads and messages.

The address of a member may lead to another one for a while, as names can be wrong and addresses move.
"""

from collections.abc import Callable, Collection
from itertools import product
from random import Random

import pytest

from gcount.core.protocol.consistent_read import STALL, Actors, Cells, PendingRead, Round, join_cells
from tests.core.histories import incarnation
from tests.harness.linearizable import Read, Write, violations

ME, A, B = incarnation(1), incarnation(2), incarnation(3)


class Model:
    """Three members; writes, gossip, reads and messages happen one at a time in a random order."""

    def __init__(self, random: Random, make: Callable[[str], PendingRead]) -> None:
        self.random = random
        self.ids = [ME, A, B]
        self.views: list[Cells] = [{}, {}, {}]
        self.readings = [make("n") for _ in self.ids]
        self.open: list[dict[int, int]] = [{}, {}, {}]  # arrival -> when, by node
        self.messages: list[tuple[int, str, int, int, Cells | None]] = []  # reader, address, node there, round, answer
        self.leads = [{str(address): address for address in range(3)} for _ in self.ids]  # as seen by each node
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
                self.readings[node].restart([(str(other),)])
                self.advance(node)
            elif dice < 0.46:
                self.move(node, str(other))
            elif dice < 0.47 and self.open[node]:
                arrival = self.random.choice(list(self.open[node]))
                del self.open[node][arrival]
                self.readings[node].leave(arrival)
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
        self.readings[node].let_go(address, self.ids[self.leads[node][address]])
        self.advance(node)

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
            self.readings[reader].answer(number, address, self.ids[node], cells)
            self.advance(reader)

    def advance(self, node: int) -> None:
        self.rounds += 1
        leads, reading = self.leads[node], self.readings[node]
        here = [address for address, target in leads.items() if target == node]
        members, now = [("0", "1", "2")], self.time * STALL / 4
        begun = reading.start(self.rounds, self.views[node], members, here, self.ids[node], now)
        if begun is not None:
            asked = sorted(begun.missing.difference(here))
            self.messages += [(node, address, leads[address], self.rounds, None) for address in asked]
        for arrival, since in list(self.open[node].items()):
            value = reading.value(arrival)
            if value is not None:
                del self.open[node][arrival]
                reading.leave(arrival)
                self.reads.append(Read(value, since, self.time))


class Naive(PendingRead):
    """Gathers once and adds up."""

    def _conclude(self, round_: Round) -> None:
        round_._prev = round_.cells
        super()._conclude(round_)


class JoinsLate(PendingRead):
    """Lets a read join a round under way."""

    def _conclude(self, round_: Round) -> None:
        round_.began = self._arrivals + 1
        super()._conclude(round_)


class TrustsOldOwnCells(PendingRead):
    """Expects in a later round what the earlier one saw, without a look at its own cells."""

    def start(
        self, number: int, own: Cells, members: Collection[Actors], here: Collection[str], node: bytes, now: float
    ) -> Round | None:
        return super().start(number, {} if self.known else own, members, here, node, now)


class CountsAddresses(PendingRead):
    """Takes each address for a node of its own."""

    def answer(self, number: int, address: str, node: bytes, cells: Cells) -> bool:
        return super().answer(number, address, address.encode(), cells)


def broken_histories(make: Callable[[str], PendingRead], runs: int) -> int:
    return sum(bool(Model(Random(seed), make).run(60)) for seed in range(runs))


def test_consistent_reads_of_a_model_are_linearizable_and_all_end() -> None:
    assert broken_histories(PendingRead, 1500) == 0


@pytest.mark.parametrize("mutant", [Naive, JoinsLate, TrustsOldOwnCells, CountsAddresses])
def test_the_model_shows_a_planted_bug(mutant: type[PendingRead]) -> None:
    assert broken_histories(mutant, 200) > 5
