"""What can be asked of a node's counters, and what came of it: whatever the form, one value for each that was asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gcount.core.state.increments import Add, Asked, Outcome, Peek, Repeat, Together, changes, flat, grown, refused
from gcount.errors import DiskFull, PartLimitReached

NAMES = st.sampled_from(["a", "b", "c"])
AMOUNTS = st.integers(0, 3)
ONE = st.builds(Add, NAMES, AMOUNTS) | st.builds(Peek, NAMES)
TOGETHER = st.builds(Together, st.lists(ONE, max_size=4))
ASKED = st.lists(ONE | TOGETHER, max_size=5) | st.builds(Repeat, st.lists(NAMES, min_size=1, max_size=5), AMOUNTS)
FULL = DiskFull("the disk is full")


@given(ASKED)
def test_a_counter_grows_exactly_if_something_above_0_is_added_to_it(asked: Asked) -> None:
    expected = [one.name for one in flat(asked) if isinstance(one, Add) and one.amount > 0]
    assert list(grown(asked)) == expected
    assert changes(asked) == bool(expected)


@given(st.lists(NAMES, min_size=1), AMOUNTS)
def test_to_repeat_is_to_add_to_each(names: list[str], amount: int) -> None:
    assert list(flat(Repeat(names, amount))) == [Add(name, amount) for name in names]


@given(ASKED)
def test_when_nothing_can_be_counted_there_is_a_refusal_for_each_that_changes_something_and_values_for_the_rest(
    asked: Asked,
) -> None:
    outcome = refused(asked, FULL, value={"a": 1, "b": 2, "c": 3}.__getitem__)
    ones = list(flat(asked))
    assert len(outcome.values) == len(ones)
    assert outcome.position == {}
    assert outcome.numbers is None
    for one, value in zip(ones, outcome.values, strict=True):
        if isinstance(one, Add) and one.amount:
            assert value is FULL
        elif value is not FULL:  # what was asked together is refused together
            assert value == {"a": 1, "b": 2, "c": 3}[one.name]


@given(ASKED)
def test_when_nothing_can_be_read_either_all_is_refused(asked: Asked) -> None:
    assert all(value is FULL for value in refused(asked, FULL).values)


def test_what_was_asked_together_is_refused_together() -> None:
    asked: list[Add | Peek | Together] = [
        Peek("a"),
        Together([Peek("a"), Add("a", 1)]),
        Together([Peek("a"), Add("a", 0)]),
    ]
    assert refused(asked, FULL, value=lambda _name: 7).values == [7, FULL, FULL, 7, 7]


def test_a_part_is_its_values_or_the_first_refusal_in_it() -> None:
    limit = PartLimitReached("this node's part is full")
    outcome = Outcome([1, 2, limit, FULL, 5], {}, refused=True)
    assert outcome.part(0, 2) == [1, 2]
    assert outcome.part(1, 3) is limit
    assert outcome.part(4, 1) == [5]
    assert outcome.numbers is None
    assert Outcome([1, 2], {b"x" * 16: 3}).numbers == [1, 2]
