"""What is on its way to the disk, and the limits that it keeps together with what is there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.limits import MAX_CELL, MAX_INCARNATIONS
from gcount.core.options import Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from gcount.errors import CounterLimitReached, PartLimitReached
from tests.core.histories import NAMES, incarnation
from tests.core.test_writer import ME, commit, writer
from tests.fakes.counting import stage


@pytest.mark.parametrize("where", ["durable", "staged", "sealed"])
def test_a_part_never_passes_64_bits_wherever_the_rest_of_it_is(where: str) -> None:
    one = writer()
    stage(one, "a", MAX_CELL - 5)
    if where != "staged":
        one.seal()
    if where == "durable":
        one.commit()
    stage(one, "a", 3)
    with pytest.raises(PartLimitReached):
        stage(one, "a", 3)
    stage(one, "a", 2)
    if where == "sealed":
        one.commit()
    commit(one)
    assert one.replica.counters.total("a") == MAX_CELL
    stage(one, "b", MAX_CELL)


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from("-sca")), max_size=30))
def test_clients_never_make_it_hold_more_counters_than_allowed(limit: int, steps: list[tuple[str, str]]) -> None:
    one, sealed = writer(limit), False
    for name, then in steps:
        known = name in one.pending or name in one.replica.counters
        names = {other for other in NAMES if other in one.pending or other in one.replica.counters}
        if known or len(names) < limit:
            stage(one, name, 1)
        else:
            with pytest.raises(CounterLimitReached):
                stage(one, name, 1)
        if then == "s" and not sealed:
            one.seal()
            sealed = True
        elif then in "ca" and sealed:
            _ = one.commit() if then == "c" else one.abort()
            sealed = False
        assert len(one.replica.counters) <= limit


def test_a_peers_names_are_not_limited() -> None:
    one = writer(1)
    assert one.stage_delta(Delta(incarnation(1), 0, 1, {"a": 1, "b": 1, "c": 1}))
    commit(one)
    assert len(one.replica.counters) == 3
    with pytest.raises(CounterLimitReached):
        stage(one, "d", 1)
    stage(one, "c", 1)


def test_the_limit_of_incarnations_holds_for_what_is_staged_together() -> None:
    """Beyond it no peer would take this node's hello."""
    one = writer()
    for number in range(MAX_INCARNATIONS + 10):
        one.stage_delta(Delta(number.to_bytes(16, "big"), 0, 1, {"a": 1}))
    commit(one)
    stage(one, "a", 1)  # of this node's own life, for which there is room then
    commit(one)
    assert len(one.replica.counters.digest()) == MAX_INCARNATIONS


def test_the_limit_of_names_counts_names_of_peers_deltas_before_they_are_durable() -> None:
    one, rooms = writer(5), []
    one.stage_delta(Delta(incarnation(1), 0, 1, {"a": 1, "b": 1}))
    rooms.append(one.pending.names_left)
    one.seal()
    one.stage_delta(Delta(incarnation(2), 0, 1, {"c": 1}))
    rooms.append(one.pending.names_left)
    one.commit()
    rooms.append(one.pending.names_left)
    commit(one)
    rooms.append(one.pending.names_left)
    assert rooms == [3, 2, 2, 2]


def test_names_that_only_ids_or_settled_parts_bring_count_once_each() -> None:
    one = writer(10)
    entries = {"5-x a": (1, 1), "5-y a": (1, 1), "5-x b": (1, 1)}
    settled = {incarnation(2): Settlement(4, 1, {"b": 1, "c": 1}), incarnation(3): Settlement(4, 1, {"c": 1})}
    assert one.stage_delta(Delta(incarnation(1), 0, 1, {"b": 1, "d": 1}, Keyed(entries, settled)))
    assert one.pending.names_left == 10 - 4
    commit(one)
    assert one.pending.names_left == 10 - 4


def test_a_new_incarnation_that_is_durable_counts_once() -> None:
    one = writer()
    for version in range(1, 4):
        one.stage_delta(Delta(incarnation(1), 0, version, {"a": version}))
        commit(one)
        assert one.pending.incarnations == 1


def test_an_incarnation_of_which_only_detached_deltas_are_known_counts_before_a_new_one_begins() -> None:
    """It exists, and the gap before them may be filled at any time."""
    one, seen = Writer(Replica(ME, 1000, Options(reborn_below=3))), []
    joined = Delta(incarnation(1), 0, 1, {"a": 1})
    behind_gaps = [Delta(incarnation(2), 2, 3, {"a": 3}), Delta(incarnation(2), 4, 5, {"a": 5})]
    fills_the_first = Delta(incarnation(2), 0, 2, {"a": 2})
    for number, deltas in enumerate([[joined], behind_gaps, [fills_the_first]], 1):
        one.replica.apply(Batch(number, deltas))
        seen.append((one.pending.incarnations, one.pending.all_incarnations, one.pending.may_be_reborn))
    # The second number has this node's own, too, under which nothing was counted yet.
    assert seen == [(1, 2, True), (1, 3, False), (2, 3, False)]


@pytest.mark.parametrize("sealed", [False, True])
def test_at_the_limit_of_incarnations_more_of_the_last_one_is_taken(sealed: bool) -> None:
    """It has its place from its first delta on, before that is durable."""
    one, numbers = writer(), iter(range(MAX_INCARNATIONS))
    while one.stage_delta(last := Delta(next(numbers).to_bytes(16, "big"), 0, 1, {"a": 1})):
        taken = last
    if sealed:
        one.seal()
    assert one.stage_delta(Delta(taken.incarnation, 0, 2, {"a": 2}))
    assert not one.stage_delta(last)
    if sealed:
        one.commit()
    commit(one)
    assert one.replica.counters.cell("a", taken.incarnation) == 2
