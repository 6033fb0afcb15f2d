"""Of several settlements of one column, those count that no other one contains."""

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.options import Options
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.names import Names
from gcount.core.state.settlements import Settlements, changes_by, settled_until
from tests.core.histories import incarnation

A, B, C = map(incarnation, (1, 2, 3))
NONE = array("Q"), array("Q"), array("Q")


def settled(*deltas: tuple[bytes, int, dict[bytes, Settlement]]) -> Counters:
    counters = Counters()
    for settler, after, what in deltas:
        counters.join(Delta(settler, after, after + 1, {}, Keyed(settled=what)))
    return counters


parts = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), max_size=3)


reaches = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.sampled_from([A, C]), reaches, parts), max_size=8))
@settings(max_examples=100)
def test_the_greatest_part_counts_of_the_settlements_that_no_other_one_contains(
    made: list[tuple[bytes, bytes, tuple[int, int], dict[str, int]]],
) -> None:
    known, changes = Settlements(Names(), Options(sum_slice=1)), dict[int, int]()
    names, said = known.names, dict[bytes, dict[bytes, Settlement]]()  # by column and settler
    for upto, (settler, column, reach, of) in enumerate(made, start=1):
        before, what = dict(changes), {column: Settlement(*reach, of)}
        names.indexes_of(of)
        found = dict(changes_by(known, settler, column, what[column]))
        expected = {index: n for index, n in found.items() if n}
        known.join(settler, upto, what, changes)
        assert {i: n - before.get(i, 0) for i, n in changes.items() if n != before.get(i, 0)} == expected
        joined = Keyed(settled=said.setdefault(column, {}).copy())
        mine = Keyed(settled={settler: joined.settled[settler]} if settler in joined.settled else {})
        mine.merge(Keyed(settled={settler: what[column]}))
        said[column][settler] = mine.settled[settler]
    for name in names.listed:
        of_name = {column: n for column, ones in said.items() if (n := _counting([*ones.values()], name))}
        assert known.parts(names.index(name)) == of_name
        assert changes.get(names.index(name), 0) == sum(of_name.values())
    summed = dict[int, int]()
    for found in known.sum_up():
        assert len(found) == 1
        for index, n in found.items():
            summed[index] = summed.get(index, 0) + n
    assert {i: n for i, n in summed.items() if n} == {i: n for i, n in changes.items() if n}


def _counting(ones: list[Settlement], name: str) -> int:
    def contained(one: Settlement) -> bool:
        mine = (one.until, one.version)
        return any(
            (other.until, other.version) != mine and other.until >= mine[0] and other.version >= mine[1]
            for other in ones
        )

    return max((one.parts.get(name, 0) for one in ones if not contained(one)), default=0)


def test_what_a_contained_settlement_says_does_not_count_though_it_is_more() -> None:
    """One settler added a common id to C's part, the other one, which knew more of the holders, to another part."""
    counters = settled((A, 0, {C: Settlement(5, 5, {"a": 9, "b": 1})}), (B, 0, {C: Settlement(5, 6, {"a": 4, "b": 1})}))
    assert (counters.total("a"), counters.total("b")) == (4, 1)
    counters.join(Delta(A, 1, 2, {}, Keyed(settled={C: Settlement(6, 6, {"a": 11})})))
    assert counters.total("a") == 11


def test_each_settler_covers_up_to_its_own_time_and_version() -> None:
    counters = settled((A, 0, {C: Settlement(10, 5, {})}), (B, 0, {C: Settlement(5, 10, {}), A: Settlement(1, 1, {})}))
    assert counters.settlements.covers == {C: ((10, 5), (5, 10)), A: ((1, 1),)}
    assert counters.settlements.needs() == {A: 1, B: 1}
    assert (bool(counters.settlements), bool(Counters().settlements)) == (True, False)
    assert (settled_until(counters.settlements), settled_until(Counters().settlements)) == (10, -1)


def test_each_settler_needs_its_newest_settlement() -> None:
    counters = settled((A, 0, {A: Settlement(1, 1, {})}), (A, 1, {B: Settlement(1, 1, {})}))
    counters.join(Delta(A, 2, 3, {"a": 1}))
    assert counters.settlements.needs() == {A: 2}


def test_unknown_names_of_a_settlement_that_is_not_taken_stay_unknown() -> None:
    counters = settled((A, 0, {C: Settlement(1, 1, {"a": 3})}))
    assert [*changes_by(counters.settlements, A, C, Settlement(2, 2, {"a": 5, "b": 1}))] == [(0, 2)]
    assert [*changes_by(counters.settlements, A, B, Settlement(1, 1, {"a": 1}))] == [(0, 1)]
    assert "b" not in counters


def test_a_small_settlement_is_compared_with_what_it_says_itself_and_up_to_the_first_fall() -> None:
    """However many parts there are. So a stranger can't keep a node busy with a few bytes."""
    many = {f"c{n}": 1 for n in range(1000)}
    counters = settled((A, 0, {C: Settlement(2, 2, many)}))
    assert [*changes_by(counters.settlements, B, C, Settlement(2, 2, {"c7": 3}))] == [(7, 2)]
    assert [*changes_by(counters.settlements, B, C, Settlement(1, 2, {"c7": 3}))] == []
    beyond = changes_by(counters.settlements, B, C, Settlement(3, 2, {"c7": 3}))
    assert [next(beyond), next(beyond)] == [(7, 2), (0, -1)]


def test_what_changed_of_a_settlement_is_told_with_its_numbers() -> None:
    counters = settled(
        (A, 0, {B: Settlement(1, 1, {"a": 1, "b": 1}), C: Settlement(1, 1, {"a": 1})}),
        (A, 1, {B: Settlement(2, 2, {"a": 2})}),
        (A, 2, {B: Settlement(3, 2, {})}),
    )
    of = counters.settlements
    assert [*of.newer(A, 1)[1]] == [{B: Settlement(3, 2, {"a": 2})}]
    assert [*of.newer(A, 2)[1]] == [{B: Settlement(3, 2, {})}]
    assert [*of.newer(A, 0)[1]] == [{B: Settlement(3, 2, {"a": 2, "b": 1})}, {C: Settlement(1, 1, {"a": 1})}]
    assert of.newer(A, 0)[0] >= 5
    assert [*of.newer(A, 3)[1]] == [*of.newer(B, 0)[1]] == []


def test_parts_that_are_out_of_place_are_not_restored() -> None:
    counters = Counters()
    counters.restore_names(["a"])
    head = (A, B, 1, 1)
    one = NONE[0], array("Q", [1]), array("Q", [1])
    with pytest.raises(ValueError, match="out of place"):
        counters.settlements.restore(head, 1, 1, one)
    with pytest.raises(ValueError, match="do not exist"):
        counters.settlements.restore(head, 1, 0, (array("Q", [1]), *one[1:]))
    counters.settlements.restore(head, 1, 0, one)
    with pytest.raises(ValueError, match="out of place"):
        counters.settlements.restore(head, 2, 1, one)
    with pytest.raises(ValueError, match="do not exist"):
        counters.settlements.restore(head, 1, 1, one)
