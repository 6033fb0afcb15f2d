"""What can be asked: every shape of it names the same counters, and is answered value for value."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gcount.core.writes.increments import (
    Add,
    Asked,
    Outcome,
    Peek,
    Raise,
    Repeat,
    Together,
    changes,
    flat,
    grown,
    refused,
    unchanged,
)
from gcount.errors import DiskFull, Refusal

VALUES = {"a": 3, "b": 0, "c": 2**64}
REFUSAL = DiskFull("the disk is full")

names = st.sampled_from([*VALUES])
amounts = st.integers(0, 2)
raises = st.builds(Raise, names, st.sampled_from(["5-x", "5-y"]), amounts, st.booleans())
items = st.one_of(st.builds(Add, names, amounts), st.builds(Peek, names), raises)
repeats = st.builds(Repeat, st.lists(names, min_size=1, max_size=5), amounts)
lists = st.lists(st.one_of(items, st.builds(Together, st.lists(items, max_size=4))), max_size=5)
everything: st.SearchStrategy[Asked] = st.one_of(repeats, lists)


def value(name: str) -> int:
    return VALUES[name]


def one_by_one(asked: Asked) -> list[Add | Raise | Peek]:
    """The same as `flat`, written down once more."""
    if isinstance(asked, Repeat):
        return [Add(name, asked.amount) for name in asked.names]
    return [each for one in asked for each in (one.items if isinstance(one, Together) else [one])]


def grows(one: Add | Raise | Peek) -> bool:
    return (one.amount if isinstance(one, Add) else one.total if isinstance(one, Raise) else 0) > 0


def asks(one: Add | Raise | Peek) -> bool:
    """An increment by 0 with an id changes nothing, but it is refused if its id is known with another amount."""
    return grows(one) or (isinstance(one, Raise) and one.once)


@given(everything)
def test_what_is_asked_is_what_it_consists_of_in_its_order(asked: Asked) -> None:
    alone = one_by_one(asked)
    assert list(flat(asked)) == alone
    assert list(grown(asked)) == [one.name for one in alone if grows(one)]
    assert changes(asked) == any(map(asks, alone))


@given(everything, st.sets(st.sampled_from(["5-x", "5-y"])))
def test_what_is_known_of_ids_changes_nothing(asked: Asked, known: set[str]) -> None:
    rest = [one for one in one_by_one(asked) if not (isinstance(one, Raise) and one.id in known)]
    assert changes(asked, lambda one: one.id in known) == any(map(asks, rest))


@given(lists)
def test_what_had_ids_and_changed_nothing_is_replayed(asked: Sequence[Add | Raise | Peek | Together]) -> None:
    outcome = unchanged(asked, value, {})
    assert outcome.replayed == any(isinstance(one, Raise) and one.total for one in one_by_one(asked))


@given(st.lists(names, min_size=1, max_size=5), amounts)
def test_the_fast_shape_is_the_same_as_the_long_one(some: list[str], amount: int) -> None:
    fast, long = Repeat(some, amount), [Add(name, amount) for name in some]
    assert list(flat(fast)) == list(flat(long))
    assert list(grown(fast)) == list(grown(long))
    assert changes(fast) == changes(long)
    assert refused(fast, REFUSAL, value) == refused(long, REFUSAL, value)
    if not amount:
        assert unchanged(fast, value, {b"i": 1}) == unchanged(long, value, {b"i": 1})


@given(lists)
def test_a_refusal_answers_what_it_refuses_and_with_a_group_all_of_it(
    asked: Sequence[Add | Raise | Peek | Together],
) -> None:
    outcome, expected = refused(asked, REFUSAL, value), list[int | Refusal]()
    for one in asked:
        group = list(one.items) if isinstance(one, Together) else [one]
        stopped = any(map(asks, group))
        expected += [REFUSAL if stopped else VALUES[each.name] for each in group]
    assert list(outcome.values) == expected
    assert (outcome.position, outcome.refused, outcome.numbers) == ({}, True, None)


@given(everything)
def test_where_nothing_can_be_read_either_everything_is_refused(asked: Asked) -> None:
    outcome = refused(asked, REFUSAL)
    assert list(outcome.values) == [REFUSAL] * len(one_by_one(asked))


@given(everything)
def test_what_changes_nothing_is_answered_with_the_values_of_now_and_where_they_are(asked: Asked) -> None:
    if not changes(asked):
        outcome = unchanged(asked, value, {b"i" * 16: 7})
        assert outcome.numbers == [VALUES[one.name] for one in one_by_one(asked)]
        assert (outcome.position, outcome.refused) == ({b"i" * 16: 7}, False)


@given(st.lists(st.one_of(st.integers(0, 9), st.just(REFUSAL)), max_size=6), st.integers(0, 6), st.integers(0, 6))
def test_a_part_of_an_outcome_is_its_values_or_the_first_refusal_among_them(
    values: list[int | Refusal], first: int, size: int
) -> None:
    outcome = Outcome(values, {}, refused=REFUSAL in values)
    part = values[first : first + size]
    assert outcome.part(first, size) == (REFUSAL if REFUSAL in part else part)
    assert outcome.numbers == (None if REFUSAL in values else values)
