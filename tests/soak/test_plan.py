"""The plan of a seed: it is always the same, has every kind of fault in every turn, and names the right roads."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.soak.plan import ALL, DELAY, FAMILY_OF, HALVES, ISOLATE, KINDS, ONE_WAY, PAIR, Blow, draw_steps

HOSTS = (1, 2, 3, 4, 5)


def test_a_seed_draws_the_same_steps_each_time_and_another_draws_others() -> None:
    one, same, other = (list(islice(draw_steps(seed, HOSTS, KINDS), 50)) for seed in (1, 1, 2))
    assert one == same != other


def test_every_kind_comes_in_every_turn_alone_and_some_overlap() -> None:
    steps = list(islice(draw_steps(3, HOSTS, KINDS), 15 * 4))
    for turn in range(4):
        alone = [step.blows[0].kind for step in steps[15 * turn : 15 * (turn + 1)] if len(step.blows) == 1]
        assert sorted(alone) == sorted(KINDS)
    together = [step for step in steps if len(step.blows) > 1]
    assert len(together) == 4 * 5
    for step in together:
        families = [FAMILY_OF[blow.kind] for blow in step.blows]
        assert len(set(families)) == len(families)


def test_kinds_that_cannot_be_made_are_not_drawn() -> None:
    kinds = ("pause", "cut: all")
    drawn = {blow.kind for step in islice(draw_steps(3, HOSTS, kinds), 40) for blow in step.blows}
    assert drawn == set(kinds)


@pytest.mark.parametrize(
    ("blow", "roads"),
    [
        (Blow(ISOLATE, (1,)), {(1, 2), (2, 1), (1, 3), (3, 1)}),
        (Blow(HALVES, (3,)), {(3, 1), (1, 3), (3, 2), (2, 3)}),
        (Blow(ONE_WAY, (2, 1)), {(2, 1)}),
        (Blow(PAIR, (2, 3)), {(2, 3), (3, 2)}),
        (Blow(ALL, (1, 2, 3)), {(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)}),
        (Blow(DELAY, (2,)), {(2, 1), (1, 2), (2, 3), (3, 2)}),
    ],
    ids=lambda value: value.kind if isinstance(value, Blow) else "",
)
def test_a_fault_is_on_the_roads_that_it_says(blow: Blow, roads: set[tuple[int, int]]) -> None:
    found = blow.roads((1, 2, 3))
    assert set(found) == roads
    assert len(found) == len(roads)
