"""The laws of the counters: join, totals, versions, and what is newer than a digest."""

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.options import Options
from gcount.core.state.counters import Counters, Delta
from tests.core.histories import (
    NAMES,
    History,
    a_commit,
    forms_of_columns,
    histories,
    incarnation,
    join,
    knowing,
    newer,
    newer_than,
    three_histories,
)

Histories = tuple[History, History, History]


@st.composite
def three_replicas(draw: st.DrawFn) -> list[Counters]:
    """Three replicas, each of which knows some of the same three histories."""
    made, options = draw(three_histories), draw(forms_of_columns)
    return [knowing([(one, draw(st.integers(0, len(one.commits)))) for one in made], options) for _ in range(3)]


def sums(counters: Counters) -> dict[str, int]:
    return {name: sum(cells.values()) for name, cells in counters.items()}


def totals(counters: Counters) -> dict[str, int]:
    return {name: counters.total(name) for name, _ in counters.items()}


@given(three_replicas())
@settings(max_examples=120)
def test_join_is_commutative_and_associative(replicas: list[Counters]) -> None:
    x, y, z = replicas
    assert join(deepcopy(x), y) == join(deepcopy(y), x)
    left = join(join(deepcopy(x), y), z)
    right = join(deepcopy(x), join(deepcopy(y), z))
    assert left == right


@given(three_replicas())
@settings(max_examples=120)
def test_join_is_idempotent(replicas: list[Counters]) -> None:
    x, y, _ = replicas
    assert join(deepcopy(x), deepcopy(x)) == x
    once = join(deepcopy(x), y)
    for delta in [*newer_than(y, {}), *newer_than(y, x.digest())]:
        assert not once.join(delta)
    assert once == join(deepcopy(x), y)


@given(three_replicas())
@settings(max_examples=120)
def test_join_is_an_inflation(replicas: list[Counters]) -> None:
    x, y, _ = replicas
    before, totals_before = deepcopy(x), totals(x)
    join(x, y)
    assert all(x.version(who) >= version for who, version in before.digest().items())
    assert all(x.cell(name, who) >= n for name, cells in before.items() for who, n in cells.items())
    assert all(x.total(name) >= n for name, n in totals_before.items())


@given(three_replicas())
@settings(max_examples=120)
def test_totals_are_the_sums_of_the_cells(replicas: list[Counters]) -> None:
    x, y, z = replicas
    for counters in (x, join(y, x), join(z, y)):
        assert totals(counters) == sums(counters)


@given(three_replicas(), st.lists(st.sampled_from([*NAMES, "never counted"])))
@settings(max_examples=120)
def test_to_ask_for_many_is_to_ask_for_each(replicas: list[Counters], names: list[str]) -> None:
    for counters in replicas:
        assert counters.totals_of(names) == [counters.total(name) for name in names]
        for who in map(incarnation, range(1, 5)):
            assert counters.cells_of(names, who) == [counters.cell(name, who) for name in names]
            assert counters.greatest_cell(who) == max(counters.cell(name, who) for name in NAMES)


@given(three_histories, forms_of_columns, st.data())
@settings(max_examples=120)
def test_cells_are_exactly_those_of_the_digest_whatever_deltas_arrive(
    made: Histories, options: Options, data: st.DataObject
) -> None:
    counters = Counters(options)
    for _ in range(data.draw(st.integers(0, 25))):
        history = data.draw(st.sampled_from(made))
        after = data.draw(st.integers(0, len(history.commits) - 1))
        delta = history.delta(after, data.draw(st.integers(after + 1, len(history.commits))))
        known = counters.version(history.incarnation)
        if counters.fits(delta):
            assert counters.join(delta) == (delta.upto > known)
        else:
            with pytest.raises(ValueError, match="only"):
                counters.join(delta)
        assert counters.version(history.incarnation) == max(known, delta.upto if after <= known else 0)
    for history in made:
        state = history.state(counters.version(history.incarnation))
        assert {name: counters.cell(name, history.incarnation) for name in state} == state
        assert {name for name, cells in counters.items() if history.incarnation in cells} == set(state)
    assert totals(counters) == sums(counters)


@given(histories(1, max_commits=30), forms_of_columns, st.integers(1, 6), st.data())
@settings(max_examples=120)
def test_newer_is_what_changed_also_beyond_the_order_that_is_kept(
    history: History, options: Options, kept: int, data: st.DataObject
) -> None:
    who = history.incarnation
    counters = Counters(replace(options, column_recent_least=kept, column_recent_most=kept))
    while (known := counters.version(who)) < len(history.commits):
        upto = data.draw(st.integers(known + 1, len(history.commits)))
        counters.join(history.delta(data.draw(st.integers(0, known)), upto))
        # The receiver of a delta that began earlier saw all its cells change at its end.
        for after in range(upto + 1):
            told = newer(counters, who, after)
            if after == upto:
                assert told is None
                continue
            assert told is not None
            assert (told.after, told.upto) == (after, upto)
            exact = history.delta(after, upto).cells
            assert exact.items() <= told.cells.items() <= history.state(upto).items()


@given(st.lists(a_commit(), min_size=1, max_size=30), forms_of_columns, st.integers(1, 6))
@settings(max_examples=120)
def test_newer_is_exactly_what_a_naive_model_says(commits: list[dict[str, int]], options: Options, kept: int) -> None:
    history = History(incarnation(1), commits)
    counters = knowing([(history, len(commits))], replace(options, column_recent_least=kept, column_recent_most=kept))
    for after in range(len(commits)):
        assert newer(counters, history.incarnation, after) == history.delta(after, len(commits))


@given(three_replicas())
@settings(max_examples=120)
def test_newer_than_a_digest_brings_its_owner_up_to_date(replicas: list[Counters]) -> None:
    x, y, _ = replicas
    deltas = newer_than(y, x.digest())
    assert {delta.incarnation for delta in deltas} == {
        who for who, version in y.digest().items() if version > x.version(who)
    }
    assert all(x.fits(delta) for delta in deltas)
    join(x, y)
    assert newer_than(y, x.digest()) == []


@given(three_replicas())
@settings(max_examples=120)
def test_equality_is_of_cells_and_digest_not_of_the_order_of_arrival(replicas: list[Counters]) -> None:
    x, y, _ = replicas
    assert (x == y) == (x.digest() == y.digest() and sums(x) == sums(y) and dict(x.items()) == dict(y.items()))
    more = join(deepcopy(x), y)
    more.join(Delta(incarnation(9), 0, 1, {"z": 1}))
    assert more != x
    assert x != "counters"


def test_a_delta_after_a_gap_is_refused_and_changes_nothing(forms: Options) -> None:
    counters = knowing([(History(incarnation(1), [{"a": 1}]), 1)], forms)
    before = deepcopy(counters)
    gap = Delta(incarnation(1), 2, 3, {"b": 9})
    assert not counters.fits(gap)
    with pytest.raises(ValueError, match="starts at version 2, but only 1 is known"):
        counters.join(gap)
    assert counters == before
    assert "b" not in counters


def test_what_was_never_counted_is_zero(forms: Options) -> None:
    counters = knowing([(History(incarnation(1), [{"a": 5}]), 1)], forms)
    assert (counters.total("b"), counters.cell("b", incarnation(1)), counters.cells("b")) == (0, 0, {})
    assert (counters.cell("a", incarnation(2)), counters.version(incarnation(2))) == (0, 0)
    assert newer(counters, incarnation(2), 0) is None
    assert (len(counters), "a" in counters, "b" in counters) == (1, True, False)


def test_a_total_has_no_upper_limit(forms: Options) -> None:
    greatest = 2**64 - 1
    counters = knowing([(History(incarnation(n), [{"a": greatest}]), 1) for n in range(40)], forms)
    assert counters.total("a") == 40 * greatest


def test_an_incarnation_that_counts_late_names_has_its_own_columns(forms: Options) -> None:
    counters = Counters(forms)
    counters.join(Delta(incarnation(1), 0, 1, {f"n{n}": n + 1 for n in range(100)}))
    counters.join(Delta(incarnation(2), 0, 1, {"n99": 5}))
    assert counters.cells("n99") == {incarnation(1): 100, incarnation(2): 5}
    assert counters.cells("n0") == {incarnation(1): 1}
    assert newer(counters, incarnation(2), 0) == Delta(incarnation(2), 0, 1, {"n99": 5})
