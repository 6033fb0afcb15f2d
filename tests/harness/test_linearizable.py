"""The checker of linearizability accepts possible histories and catches planted bugs."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.linearizable import Read, Write, violations


def explainable(writes: list[Write], reads: list[Read]) -> bool:
    """Whether some order of all operations explains a history: a search that is slow and obviously right."""
    operations: list[Write | Read] = [*writes, *reads]
    for order in permutations(operations):
        latest_start = float("-inf")
        total, right = 0, True
        for operation in order:
            latest_start = max(latest_start, operation.start)
            if operation.end is not None and operation.end < latest_start:
                right = False
            elif isinstance(operation, Write):
                total += operation.amount
            elif operation.value != total:
                right = False
            if not right:
                break
        if right:
            return True
    return False


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Write], list[Read]]:
    instants = st.integers(0, 9)
    writes = []
    for index in range(draw(st.integers(1, 3))):
        start = draw(instants)
        end = draw(st.none() | st.integers(start, 10))
        writes.append(Write(1 << index, start + 0.0, None if end is None else end + 0.5))
    reads = []
    for _ in range(draw(st.integers(1, 3))):
        start = draw(instants)
        reads.append(
            Read(draw(st.integers(0, (1 << len(writes)) - 1)), start + 0.0, draw(st.integers(start, 10)) + 0.5)
        )
    return writes, reads


@settings(max_examples=400, deadline=None)
@given(histories())
def test_the_rules_agree_with_a_search_over_all_orders(history: tuple[list[Write], list[Read]]) -> None:
    """No linearizable history is refused, and no other is accepted."""
    writes, reads = history
    assert (not list(violations(writes, reads))) == explainable(writes, reads)


def test_gather_and_sum_is_caught() -> None:
    """The known bug: the read sees A; 1 at A and then 4 at B are acknowledged; the read sees B and answers 4."""
    writes = [Write(1, 1.0, 2.0), Write(4, 3.0, 4.0)]
    assert list(violations(writes, [Read(4, 0.0, 5.0)]))
    for value in (0, 1, 5):
        assert not list(violations(writes, [Read(value, 0.0, 5.0)]))


@pytest.mark.parametrize(
    "reads",
    [
        pytest.param([Read(8, 0.0, 9.0)], id="nobody wrote it"),
        pytest.param([Read(0, 2.5, 9.0)], id="misses an acknowledged write"),
        pytest.param([Read(4, 0.0, 2.9), Read(1, 0.0, 2.9)], id="holds the future"),
        pytest.param([Read(1, 0.0, 1.5), Read(0, 1.6, 1.9)], id="goes back"),
    ],
)
def test_each_rule_catches_its_lie(reads: list[Read]) -> None:
    """One wrong read per rule."""
    assert list(violations([Write(1, 1.0, 2.0), Write(4, 3.0, 4.0)], reads))


def run_toy(seed: int, read: Callable[[list[int], random.Random, Callable[[], None]], int]) -> list[str]:
    """Run three cells with writers between any two steps of a reader; returns what the checker finds."""
    rng = random.Random(seed)
    cells, clock, bit = [0, 0, 0], 0.0, 0
    writes: list[Write] = []
    reads: list[Read] = []

    def others_run() -> None:
        nonlocal clock, bit
        for _ in range(rng.randrange(3)):
            cells[rng.randrange(3)] += 1 << bit
            writes.append(Write(1 << bit, clock + 0.1, clock + 0.2))
            clock, bit = clock + 1.0, bit + 1

    for _ in range(8):
        start = clock
        value = read(cells, rng, others_run)
        clock += 1.0
        reads.append(Read(value, start, clock - 0.5))
        others_run()
    return list(violations(writes, reads))


def naive_gather(cells: list[int], rng: random.Random, others_run: Callable[[], None]) -> int:
    """The planted bug: read one cell after another, and add them up."""
    total = 0
    for index in rng.sample(range(3), 3):
        total += cells[index]
        others_run()
    return total


def confirmed_gather(cells: list[int], rng: random.Random, others_run: Callable[[], None]) -> int:
    """Gather until a round finds what the round before had found."""
    previous: list[int] | None = None
    while True:
        current = [0, 0, 0]
        for index in rng.sample(range(3), 3):
            current[index] = cells[index]
            others_run()
        if current == previous:
            return sum(current)
        previous = current


def test_a_planted_gather_and_sum_is_found_and_its_cure_is_not() -> None:
    """Over many runs the buggy reader is caught again and again, the confirming one never."""
    caught = sum(bool(run_toy(seed, naive_gather)) for seed in range(100))
    assert caught > 20, caught
    for seed in range(100):
        assert not run_toy(seed, confirmed_gather)
