"""The rounds of a consistent read, by their rules and against a model of three members under all interleavings."""

from collections.abc import Callable
from random import Random

import pytest

from gcount.core.reading import HOLD_AFTER, MAX_ROUNDS, STALL, Cells, Reading, Round, join_cells
from tests.core.histories import incarnation
from tests.harness.linearizable import Read, Write, violations

ME, A, B = incarnation(1), incarnation(2), incarnation(3)
MEMBERS = ["a:1", "b:1"]


def started(reading: Reading, number: int, own: Cells, now: float = 0.0) -> Round:
    begun = reading.start(number, own, MEMBERS, now)
    assert begun is not None
    return begun


def answered(reading: Reading, number: int, a: Cells, b: Cells) -> bool:
    assert not reading.answer(number, "a:1", a)
    return reading.answer(number, "b:1", b)


def test_without_other_members_the_own_cells_are_the_answer() -> None:
    reading = Reading("n")
    arrival = reading.arrive()
    assert reading.start(1, {ME: 5}, [], 0.0) is not None
    assert reading.value(arrival) == 5
    assert reading.leave(arrival)


def test_a_round_in_which_nobody_knows_more_is_the_answer() -> None:
    reading = Reading("n")
    arrival = reading.arrive()
    started(reading, 1, {ME: 1, A: 2})
    assert reading.value(arrival) is None
    assert answered(reading, 1, {A: 2}, {ME: 1})
    assert reading.value(arrival) == 3


def test_a_round_in_which_anybody_knows_more_is_not_an_answer_but_the_next_expectation() -> None:
    reading = Reading("n")
    arrival = reading.arrive()
    started(reading, 1, {ME: 1})
    answered(reading, 1, {A: 2}, {})
    assert reading.value(arrival) is None
    assert reading.lower_bound({}) == 3
    started(reading, 2, {ME: 1})
    answered(reading, 2, {A: 2}, {})
    assert reading.value(arrival) == 3


def test_own_cells_are_read_again_when_a_round_starts() -> None:
    reading = Reading("n")
    arrival = reading.arrive()
    started(reading, 1, {ME: 1})
    answered(reading, 1, {A: 2}, {})
    started(reading, 2, {ME: 10, A: 2})
    answered(reading, 2, {A: 2}, {})
    assert reading.value(arrival) == 12


def test_a_read_is_never_answered_by_a_round_that_began_before_it_arrived() -> None:
    reading = Reading("n")
    early = reading.arrive()
    started(reading, 1, {ME: 1})
    late = reading.arrive()
    answered(reading, 1, {}, {})
    assert (reading.value(early), reading.value(late)) == (1, None)
    assert not reading.leave(early)
    started(reading, 2, {ME: 2})
    answered(reading, 2, {}, {})
    assert reading.value(late) == 2


def test_reads_that_arrived_before_a_round_share_it() -> None:
    reading = Reading("n")
    arrivals = [reading.arrive() for _ in range(5)]
    started(reading, 1, {ME: 1})
    assert reading.start(2, {ME: 1}, MEMBERS, 0.0) is None
    answered(reading, 1, {}, {})
    assert [reading.value(arrival) for arrival in arrivals] == [1] * 5
    assert [reading.leave(arrival) for arrival in arrivals] == [False] * 4 + [True]


def test_no_round_begins_when_no_read_needs_one() -> None:
    reading = Reading("n")
    assert reading.start(1, {}, MEMBERS, 0.0) is None
    arrival = reading.arrive()
    started(reading, 2, {})
    answered(reading, 2, {}, {})
    assert reading.start(3, {}, MEMBERS, 9.0) is None
    reading.leave(arrival)
    assert reading.start(4, {}, MEMBERS, 9.0) is None


def test_only_answers_of_wanted_members_with_the_rounds_number_count_and_each_once() -> None:
    reading = Reading("n")
    arrival = reading.arrive()
    started(reading, 7, {ME: 1})
    assert not reading.answer(6, "a:1", {A: 99})
    assert not reading.answer(7, "stranger:1", {A: 99})
    assert not reading.answer(7, "a:1", {})
    assert not reading.answer(7, "a:1", {A: 99})
    assert reading.missing() == ["b:1"]
    assert reading.answer(7, "b:1", {})
    assert not reading.answer(7, "b:1", {B: 99})
    assert reading.value(arrival) == 1


def test_a_round_that_waits_for_a_silent_member_does_not_keep_later_reads_waiting() -> None:
    reading = Reading("n")
    early = reading.arrive()
    started(reading, 1, {ME: 1}, now=0.0)
    late = reading.arrive()
    assert reading.start(2, {ME: 2}, MEMBERS, STALL - 0.001) is None
    started(reading, 3, {ME: 2}, now=STALL)
    assert reading.start(4, {ME: 2}, MEMBERS, 9 * STALL) is None
    answered(reading, 3, {}, {})
    assert (reading.value(early), reading.value(late)) == (2, 2)
    answered(reading, 1, {}, {})
    assert reading.value(early) == 2


def test_rounds_in_flight_are_limited() -> None:
    reading, begun = Reading("n"), 0
    for number in range(20):
        reading.arrive()
        begun += reading.start(number, {}, MEMBERS, float(number)) is not None
    assert begun == len(reading.rounds) == MAX_ROUNDS


def test_a_hold_is_asked_for_only_after_two_rounds_in_a_row_were_not_confirmed() -> None:
    reading, holds = Reading("n"), []
    arrival = reading.arrive()
    for number in range(1, 5):
        begun = started(reading, number, {})
        holds.append(begun.hold)
        answered(reading, number, {A: number}, {})
    assert holds == [number >= HOLD_AFTER for number in range(4)]
    assert reading.held
    started(reading, 9, {A: 4})
    answered(reading, 9, {A: 4}, {})
    assert reading.value(arrival) == 4
    reading.arrive()
    assert not started(reading, 10, {A: 4}).hold


def test_after_a_change_of_members_old_rounds_are_void_and_old_and_new_members_are_asked() -> None:
    reading = Reading("n")
    arrival = reading.arrive()
    started(reading, 1, {ME: 1})
    reading.answer(1, "a:1", {})
    reading.restart(["a:1", "b:1", "new:1"])
    assert not reading.answer(1, "b:1", {})
    assert reading.value(arrival) is None
    begun = reading.start(2, {ME: 1}, ["new:1"], 0.0)
    assert begun is not None
    assert begun.missing == {"a:1", "b:1", "new:1"}
    answered(reading, 2, {}, {})
    assert reading.value(arrival) is None
    assert reading.answer(2, "new:1", {})
    assert reading.value(arrival) == 1


def test_the_lower_bound_joins_all_that_was_seen() -> None:
    reading = Reading("n")
    reading.arrive()
    started(reading, 1, {ME: 1, A: 1})
    reading.answer(1, "a:1", {A: 5})
    assert reading.lower_bound({ME: 3}) == 8
    assert reading.missing() == ["b:1"]
    assert Reading("n").missing() == []


def test_join_is_the_pointwise_maximum_and_changes_neither() -> None:
    one, other = {ME: 1, A: 5}, {A: 3, B: 2}
    assert join_cells(one, other) == join_cells(other, one) == {ME: 1, A: 5, B: 2}
    assert (one, other) == ({ME: 1, A: 5}, {A: 3, B: 2})


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
                self.readings[node].restart([])
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

    def start(self, number: int, own: Cells, members: object, now: float) -> Round | None:
        return super().start(number, {} if self.known else own, members, now)  # type: ignore[arg-type]


def broken_histories(make: Callable[[str], Reading], runs: int) -> int:
    return sum(bool(Model(Random(seed), make).run(60)) for seed in range(runs))


def test_consistent_reads_of_a_model_are_linearizable_and_all_end() -> None:
    assert broken_histories(Reading, 1500) == 0


@pytest.mark.parametrize("mutant", [Naive, JoinsLate, TrustsOldOwnCells])
def test_the_model_shows_a_planted_bug(mutant: type[Reading]) -> None:
    assert broken_histories(mutant, 100) > 5


def test_the_sum_of_cells_seen_at_different_instants_is_no_answer() -> None:
    """The case of the design: +1 at A after A was asked, +4 at B before B was: 4 was never the value."""
    reading = Reading("n")
    arrival = reading.arrive()
    started(reading, 1, {})
    assert not reading.answer(1, "a:1", {})
    assert reading.answer(1, "b:1", {B: 4})
    assert reading.value(arrival) is None
    started(reading, 2, {})
    answered(reading, 2, {A: 1}, {B: 4})
    started(reading, 3, {})
    answered(reading, 3, {A: 1}, {B: 4})
    assert reading.value(arrival) == 5
