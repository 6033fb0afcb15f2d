"""A settlement adds up whole spans of ids, for the holder of the greatest total, and keeps every value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.limits import MAX_CELL
from gcount.core.options import Options
from gcount.core.protocol.messages import Push, decode, encode
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.writes.settling import keeps_values, parts_fit, settlement, settles
from tests.core.ids import SPAN, A, B, entry, peers, settling

C, D = bytes([3]) * 16, bytes([4]) * 16
UNTIL = 2 * SPAN - 1


def counters() -> Counters:
    return Counters(Options(id_span=SPAN))


def test_the_holder_of_the_greatest_total_gets_it_and_every_holder_is_covered() -> None:
    one = counters()
    one.join(peers(A, entry(5, time=1) | entry(2, id_="y", time=1) | entry(9, id_="z", name="b", time=1)))
    one.join(peers(B, entry(7, time=1)))
    one.join(peers(B, entry(1, 2, "late", time=30), after=1))
    assert settlement(one, C, UNTIL) == {
        A: Settlement(SPAN - 1, 1, {"a": 2, "b": 9}),
        B: Settlement(SPAN - 1, 1, {"a": 7}),
    }


def test_of_equal_totals_that_of_the_smaller_incarnation_counts() -> None:
    one = counters()
    one.join(peers(B, entry(5, time=1)))
    one.join(peers(A, entry(5, time=1)))
    assert settlement(one, C, UNTIL) == {
        A: Settlement(SPAN - 1, 1, {"a": 5}),
        B: Settlement(SPAN - 1, 1, {}),
    }


def test_parts_are_absolute() -> None:
    one = counters()
    one.join(peers(A, entry(5, time=1)))
    one.join(settling(C, settlement(one, C, SPAN - 1)))
    one.join(peers(A, entry(3, 2, "y", time=SPAN), after=1))
    assert settlement(one, C, UNTIL) == {A: Settlement(UNTIL, 2, {"a": 8})}


def test_without_ids_of_that_time_there_is_nothing_to_settle() -> None:
    one = counters()
    assert settlement(one, C, UNTIL) == {}
    one.join(peers(A, entry(5, time=2 * SPAN)))
    assert settlement(one, C, UNTIL) == {}


entries = st.dictionaries(
    st.tuples(st.integers(0, 3 * SPAN), st.sampled_from("xy"), st.sampled_from("ab")), st.integers(1, 9), max_size=6
)


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), entries), max_size=5), st.integers(0, 3), st.integers(0, 3))
def test_no_value_changes_by_settlements_and_nothing_of_their_time_is_left(
    made: list[tuple[bytes, dict[tuple[int, str, str], int]]], first: int, second: int
) -> None:
    one = counters()
    for holder, found in made:
        version = one.version(holder) + 1
        keyed = {f"{time}-{id_} {name}": (total, version) for (time, id_, name), total in found.items()}
        one.join(Delta(holder, version - 1, version, {}, Keyed(keyed)))
    values = [one.total("a"), one.total("b")]
    for settler, spans in ((bytes([7]) * 16, first), (bytes([8]) * 16, second)):
        until = spans * SPAN - 1
        settled = settlement(one, C, until)
        if settled:
            one.join(settling(settler, settled))
        assert [one.total("a"), one.total("b")] == values
        assert one.entries.oldest is None or one.entries.oldest > until


def test_where_another_settlement_would_cover_more_than_was_added_up_nothing_is_settled() -> None:
    """A node that is no member has settled times that are not over. What would be covered with it, keeps its value."""
    one = counters()
    one.join(peers(A, entry(5, time=1)))
    one.join(settling(C, {A: Settlement(10**6, 1, {"a": 5})}))
    one.join(peers(A, entry(3, 2, "y", time=1) | entry(4, 2, "z", time=500), after=1))
    assert one.total("a") == 12
    assert settlement(one, C, UNTIL) == {}


# From a stranger


@pytest.mark.parametrize(
    ("settled", "taken"),
    [
        ({A: Settlement(UNTIL, 1, {"a": 5})}, True),
        ({A: Settlement(UNTIL, 1, {"a": 6, "new": 3})}, True),
        ({A: Settlement(UNTIL, 1, {"a": 4})}, False),
        ({A: Settlement(UNTIL, 1, {})}, False),
        ({A: Settlement(UNTIL, 2, {"a": 5})}, False),
        ({A: Settlement(UNTIL, 1, {"b": 5})}, False),
        ({A: Settlement(0, 1, {})}, True),
        ({A: Settlement(UNTIL, 0, {})}, True),
        ({B: Settlement(UNTIL, 1, {})}, False),
        ({C: Settlement(UNTIL, 9, {})}, True),
    ],
)
def test_a_stranger_settles_nothing_that_is_not_here_and_lets_no_value_fall(
    settled: dict[bytes, Settlement], taken: bool
) -> None:
    one = counters()
    one.join(settling(C, {C: Settlement(UNTIL, 1, {})}))  # members have settled up to here
    one.join(peers(A, entry(5, time=1)))
    names = len(one)
    assert keeps_values(one, C, settled, {C}) == taken
    assert len(one) == names  # to look at it makes no name known


def test_what_all_settlements_of_a_settler_cover_together_counts() -> None:
    one = counters()
    one.join(settling(B, {A: Settlement(UNTIL, 0, {})}))
    one.join(peers(A, entry(5, time=15)))
    assert not keeps_values(one, B, {A: Settlement(3, 1, {})}, {B})
    assert keeps_values(one, C, {A: Settlement(3, 1, {})}, {C})


def test_two_settlers_together_cover_no_id_that_neither_knew() -> None:
    one = counters()
    one.join(settling(B, {A: Settlement(SPAN - 1, 2, {"a": 1})}))
    one.join(settling(C, {A: Settlement(UNTIL, 1, {"a": 1})}))
    one.join(peers(A, entry(1, time=1)))
    one.join(peers(A, entry(100, 2, "y", time=SPAN), after=1))
    assert one.settlements.covers[A] == ((UNTIL, 1), (SPAN - 1, 2))
    assert one.total("a") == 101
    one.join(settling(C, settlement(one, C, UNTIL), after=1))
    assert (one.total("a"), one.entries.live, one.settlements.covers[A]) == (101, 0, ((UNTIL, 2),))


def test_the_next_settler_takes_over_what_others_have_settled() -> None:
    """Also parts of counters that have had no id since: from now on its own settlement is the one that counts."""
    one = counters()
    one.join(peers(A, entry(5, time=1) | entry(2, id_="y", name="b", time=1)))
    one.join(settling(B, settlement(one, B, SPAN - 1)))
    one.join(peers(A, entry(3, 2, "z", time=SPAN), after=1))
    taken_over = settlement(one, C, UNTIL)
    assert taken_over == {A: Settlement(UNTIL, 2, {"a": 8, "b": 2})}
    one.join(settling(C, taken_over))
    assert (one.total("a"), one.total("b"), one.entries.live) == (8, 2, 0)
    one.join(peers(A, entry(1, 3, "v", time=SPAN), after=2))
    assert settlement(one, C, UNTIL) == {A: Settlement(UNTIL, 3, {"a": 9})}  # and no more than changes, from then on


def test_very_many_parts_of_others_are_taken_over_in_slices_that_links_carry() -> None:
    """A settler that has not settled the column so far says the slices of no version of it: links refuse those."""
    one = Counters(Options(id_span=SPAN, sum_slice=1))
    parts = {name: n for n, name in enumerate("abc", start=1)}
    one.join(settling(B, {A: Settlement(SPAN - 1, 1, parts)}))
    one.join(peers(A, {}))
    one.join(peers(A, entry(5, 2, time=SPAN), after=1))
    for after in range(4):
        values = {name: one.total(name) for name in parts}
        delta = settling(C, settlement(one, C, UNTIL), after)
        push = Push(1, last=True, deltas=[delta])
        assert decode(encode(push)) == push
        one.join(delta)
        assert {name: one.total(name) for name in parts} == values
    assert (values, one.entries.live) == ({"a": 1 + 5, "b": 2, "c": 3}, 0)


def test_very_many_parts_of_others_are_taken_over_in_several_batches() -> None:
    """None of them holds up other tasks for long. Until the last one, the other settlement is the one that counts."""
    one = Counters(Options(id_span=SPAN, sum_slice=2))
    names = "abcde"
    one.join(peers(A, {key: total for name in names for key, total in entry(5, name=name, time=1).items()}))
    one.join(settling(B, settlement(one, B, SPAN - 1)))
    one.join(peers(A, entry(3, 2, "z", time=SPAN), after=1))
    covered, sizes = one.settlements.covers, list[int]()
    while one.entries.live:
        assert (one.settlements.covers[A], one.total("a")) == (covered[A], 5 + 3)
        part = settlement(one, C, UNTIL)
        sizes.append(len(part[A].parts))
        one.join(settling(C, part, after=one.version(C)))
    assert sizes == [2, 2, 2]  # the last one: the part that is left, and the one that grows
    assert [one.total(name) for name in names] == [5 + 3, 5, 5, 5, 5]
    assert one.settlements.covers[A] == ((UNTIL, 2),)


def test_a_common_id_that_one_settler_added_to_another_column_hides_no_other_id() -> None:
    """C was told to stand alone, and did not know that B had taken x, too, with a greater total."""
    alone, others = counters(), counters()
    for replica in (alone, others):
        replica.join(peers(A, entry(5, time=1)))
    others.join(peers(B, entry(6, time=1)))
    others.join(peers(A, entry(3, 2, "y", time=2), after=1))
    for_both = settling(D, settlement(others, D, SPAN - 1))
    of_alone = settling(C, settlement(alone, C, SPAN - 1))
    for replica, deltas in ((others, (for_both, of_alone)), (alone, (of_alone, for_both))):
        for delta in deltas:
            replica.join(delta)
        assert (replica.total("a"), replica.entries.live) == (6 + 3, 0)


def test_nothing_is_settled_while_a_column_lacks_what_another_settler_has_covered() -> None:
    one = counters()
    one.join(settling(B, {A: Settlement(SPAN - 1, 2, {"a": 8})}))
    one.join(peers(A, entry(5, time=SPAN)))
    assert settlement(one, C, UNTIL) == {}
    one.join(peers(A, {}, after=1))
    assert settlement(one, C, UNTIL) == {A: Settlement(UNTIL, 2, {"a": 8 + 5})}


@pytest.mark.parametrize("column", [A, B, C])
def test_a_stranger_settles_no_ids_that_members_have_not_settled(column: bytes) -> None:
    """It changes nothing now. But with a version that a member settles later it would cover ids that came meanwhile."""
    one = counters()
    one.join(peers(A, {}))
    assert not keeps_values(one, C, {column: Settlement(UNTIL, 1, {})}, {C})
    one.join(settling(B, {A: Settlement(UNTIL - 1, 1, {})}))
    assert not keeps_values(one, C, {column: Settlement(UNTIL, 1, {})}, {C})
    assert keeps_values(one, C, {column: Settlement(UNTIL - 1, 1, {})}, {C})


def test_a_stranger_moves_no_ids_from_one_column_to_another() -> None:
    """No value would change now. But a settlement that a member makes meanwhile may contain the half that grew."""
    one = counters()
    one.join(peers(A, entry(5, time=1)))
    one.join(peers(B, entry(6, id_="y", time=1)))
    one.join(settling(D, settlement(one, D, SPAN - 1)))
    one.join(peers(B, {}, after=1))
    moved = {A: Settlement(SPAN - 1, 1, {"a": 5 + 6}), B: Settlement(SPAN - 1, 2, {})}
    assert not keeps_values(one, C, moved, {C})
    one.join(peers(A, entry(3, 2, "z", time=2), after=1))
    moved = {A: Settlement(SPAN - 1, 2, {"a": 5}), B: Settlement(SPAN - 1, 2, {"a": 6 + 3})}
    assert not keeps_values(one, C, moved, {C})
    kept = {A: Settlement(SPAN - 1, 2, {"a": 5 + 3}), B: Settlement(SPAN - 1, 2, {"a": 6})}
    assert keeps_values(one, C, kept, {C})


def test_ids_of_a_stranger_are_taken_as_long_as_they_fit_into_a_part() -> None:
    one = counters()
    one.join(peers(A, entry(5)))
    assert parts_fit(one, [Keyed(entry(MAX_CELL - 5))])
    assert not parts_fit(one, [Keyed(entry(MAX_CELL - 4))])
    assert not parts_fit(one, [Keyed(entry(1)), Keyed(settled={A: Settlement(UNTIL, 1, {"a": MAX_CELL - 5})})])
    assert parts_fit(one, [Keyed({**entry(MAX_CELL - 5), **entry(MAX_CELL, name="b")})])
    one.join(Delta(B, 0, 1, {"a": MAX_CELL}))  # cells are no ids
    assert parts_fit(one, [Keyed(entry(MAX_CELL - 5))])


def test_nothing_is_settled_that_does_not_fit_into_a_part() -> None:
    one = counters()
    one.join(peers(A, entry(MAX_CELL, time=1) | entry(1, id_="y", time=1)))
    assert settlement(one, C, UNTIL) == {}


def test_which_deltas_settle() -> None:
    assert settles(settling(C, {A: Settlement(UNTIL, 1, {})}))
    assert not settles(peers(A, entry(5)))
    assert not settles(Delta(A, 0, 1, {"a": 1}))
