"""What a delta says of ids joins by the maximum of each number."""

from hypothesis import given
from hypothesis import strategies as st

from gcount.core.state.keyed import Entry, Keyed, Settlement, ranked
from tests.core.histories import incarnation

A, B, C = map(incarnation, (1, 2, 3))
numbers = st.integers(1, 3)
parts = st.dictionaries(st.sampled_from("ab"), numbers, max_size=2)
settlements = st.builds(Settlement, numbers, numbers, parts)
keyed = st.builds(
    Keyed,
    st.dictionaries(st.sampled_from(["1-x a", "1-y a"]), st.tuples(numbers, numbers), max_size=2),
    st.dictionaries(st.sampled_from([A, B]), settlements, max_size=2),
)


def merged(one: Keyed, other: Keyed) -> Keyed:
    whole = one.copy()
    whole.merge(other)
    return whole


@given(keyed, keyed, keyed)
def test_merging_is_a_join(x: Keyed, y: Keyed, z: Keyed) -> None:
    assert merged(x, y) == merged(y, x)
    assert merged(merged(x, y), z) == merged(x, merged(y, z))
    assert merged(x, x) == x
    assert x.contains(y) == (merged(x, y) == x)


def test_each_number_is_the_greater_one() -> None:
    one = Keyed({"1-x a": (5, 1)}, {A: Settlement(1, 9, {"a": 2, "b": 1})})
    other = Keyed({"1-x a": (4, 2), "1-y a": (1, 1)}, {A: Settlement(2, 8, {"a": 1, "c": 1}), B: Settlement(0, 1, {})})
    whole = merged(one, other)
    assert whole == Keyed(
        {"1-x a": (5, 2), "1-y a": (1, 1)},
        {A: Settlement(2, 9, {"a": 2, "b": 1, "c": 1}), B: Settlement(0, 1, {})},
    )
    assert len(whole) == 2 + 4 + 1
    assert whole.names() == {"a", "b", "c"}
    assert (len(Keyed()), bool(Keyed()), bool(Keyed(settled={A: Settlement(0, 0, {})}))) == (0, False, True)


def test_a_copy_shares_nothing_that_changes() -> None:
    one = Keyed({"1-x a": (5, 1)}, {A: Settlement(1, 1, {"a": 1})})
    copied = one.copy()
    copied.merge(Keyed({"1-y a": (1, 1)}, {A: Settlement(2, 2, {"a": 2}), B: Settlement(1, 1, {})}))
    assert one == Keyed({"1-x a": (5, 1)}, {A: Settlement(1, 1, {"a": 1})})


def test_the_entry_with_the_greatest_total_is_first_and_of_equal_ones_that_of_the_smaller_incarnation() -> None:
    best = Entry(B, 2, 7).raised(C, 1, 1).raised(A, 2, 1)
    assert best == ranked([Entry(C, 1, 1), Entry(B, 2, 7), Entry(A, 2, 1)])
    assert [(one.holder, one.total, one.version) for one in best.all] == [(A, 2, 1), (B, 2, 7), (C, 1, 1)]
    assert best.raised(C, 3, 2).holder == C
    assert best.of(C) == Entry(C, 1, 1)
    assert best.of(incarnation(4)) is None
    assert best.raised(B, 1, 8).of(B) == Entry(B, 2, 8)
    assert ranked([]) is None
