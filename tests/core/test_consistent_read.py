"""The rounds of a consistent read, rule by rule."""

import pytest

from gcount.core.options import DEFAULTS
from gcount.core.protocol.consistent_read import CATCH_UP, HOLD_AFTER, STALL, PendingRead, Round
from gcount.core.protocol.counter_views import Cells, Found, Own
from tests.core.histories import incarnation
from tests.core.views import found
from tests.core.views import own as a_node

ME, A, B = incarnation(1), incarnation(2), incarnation(3)
MEMBERS = ("a:1", "b:1")
NODE = b"this node"


def begin(
    reading: PendingRead,
    number: int,
    own: Cells,
    members: tuple[str, ...],
    now: float = 0.0,
    here: tuple[str, ...] = (),
) -> Round | None:
    return reading.start(number, a_node(own), [members] if members else [], here, NODE, now)


def started(reading: PendingRead, number: int, own: Cells, now: float = 0.0) -> Round:
    begun = begin(reading, number, own, MEMBERS, now)
    assert begun is not None
    return begun


def value(reading: PendingRead, arrival: int) -> int | None:
    answer = reading.answer_to(arrival)
    return None if answer is None else answer.value


def tell(reading: PendingRead, number: int, address: str, cells: Cells) -> bool:
    """The node that is at home at the address answers."""
    return reading.answer(number, address, address.encode(), found(cells))


def answered(reading: PendingRead, number: int, a: Cells, b: Cells) -> bool:
    assert not tell(reading, number, "a:1", a)
    return tell(reading, number, "b:1", b)


def test_without_other_members_the_own_cells_are_the_answer() -> None:
    reading = PendingRead("n")
    arrival = reading.arrive()
    assert begin(reading, 1, {ME: 5}, ()) is not None
    assert value(reading, arrival) == 5
    assert not reading.idle
    assert reading.leave(arrival) == []
    assert reading.idle


def test_a_round_in_which_no_member_knows_more_is_the_answer() -> None:
    reading = PendingRead("n")
    arrival = reading.arrive()
    started(reading, 1, {ME: 1, A: 2})
    assert value(reading, arrival) is None
    assert answered(reading, 1, {A: 2}, {ME: 1})
    assert value(reading, arrival) == 3


def test_a_round_in_which_a_member_knows_more_is_not_an_answer_but_the_next_expectation() -> None:
    reading = PendingRead("n")
    arrival = reading.arrive()
    started(reading, 1, {ME: 1})
    answered(reading, 1, {A: 2}, {})
    assert value(reading, arrival) is None
    assert reading.lower_bound(a_node({})) == 3
    started(reading, 2, {ME: 1})
    answered(reading, 2, {A: 2}, {})
    assert value(reading, arrival) == 3


def test_own_cells_are_read_again_when_a_round_starts() -> None:
    reading = PendingRead("n")
    arrival = reading.arrive()
    started(reading, 1, {ME: 1})
    answered(reading, 1, {A: 2}, {})
    started(reading, 2, {ME: 10, A: 2})
    answered(reading, 2, {A: 2}, {})
    assert value(reading, arrival) == 12


def test_a_read_is_never_answered_by_a_round_that_began_before_it_arrived() -> None:
    reading = PendingRead("n")
    early = reading.arrive()
    started(reading, 1, {ME: 1})
    late = reading.arrive()
    answered(reading, 1, {}, {})
    assert (value(reading, early), value(reading, late)) == (1, None)
    reading.leave(early)
    started(reading, 2, {ME: 2})
    answered(reading, 2, {}, {})
    assert value(reading, late) == 2


def test_reads_that_arrived_before_a_round_share_it() -> None:
    reading = PendingRead("n")
    arrivals = [reading.arrive() for _ in range(5)]
    started(reading, 1, {ME: 1})
    assert begin(reading, 2, {ME: 1}, MEMBERS, 0.0) is None
    answered(reading, 1, {}, {})
    assert [value(reading, arrival) for arrival in arrivals] == [1] * 5
    for arrival in arrivals:
        assert not reading.idle
        reading.leave(arrival)
    assert reading.idle


def test_no_round_begins_when_no_read_needs_one() -> None:
    reading = PendingRead("n")
    assert begin(reading, 1, {}, MEMBERS, 0.0) is None
    arrival = reading.arrive()
    started(reading, 2, {})
    answered(reading, 2, {}, {})
    assert begin(reading, 3, {}, MEMBERS, 9.0) is None
    reading.leave(arrival)
    assert begin(reading, 4, {}, MEMBERS, 9.0) is None


def test_only_answers_of_wanted_members_with_the_rounds_number_count_and_each_once() -> None:
    reading = PendingRead("n")
    arrival = reading.arrive()
    started(reading, 7, {ME: 1})
    assert not tell(reading, 6, "a:1", {A: 99})
    assert not tell(reading, 7, "stranger:1", {A: 99})
    assert not tell(reading, 7, "a:1", {})
    assert not tell(reading, 7, "a:1", {A: 99})
    assert reading.missing() == ["b:1"]
    assert tell(reading, 7, "b:1", {})
    assert not tell(reading, 7, "b:1", {B: 99})
    assert value(reading, arrival) == 1


def test_a_round_that_waits_for_a_silent_member_does_not_keep_later_reads_waiting() -> None:
    reading = PendingRead("n")
    early = reading.arrive()
    started(reading, 1, {ME: 1}, now=0.0)
    late = reading.arrive()
    assert begin(reading, 2, {ME: 2}, MEMBERS, STALL - 0.001) is None
    started(reading, 3, {ME: 2}, now=STALL)
    assert begin(reading, 4, {ME: 2}, MEMBERS, 9 * STALL) is None
    answered(reading, 3, {}, {})
    assert (value(reading, early), value(reading, late)) == (2, 2)
    answered(reading, 1, {}, {})
    assert value(reading, early) == 2


def test_rounds_in_flight_are_limited() -> None:
    reading, begun = PendingRead("n"), 0
    for number in range(20):
        reading.arrive()
        begun += begin(reading, number, {}, MEMBERS, float(number)) is not None
    assert begun == len(reading.rounds) == DEFAULTS.max_rounds


def test_a_hold_is_asked_for_only_after_two_rounds_in_a_row_were_not_confirmed() -> None:
    reading, holds = PendingRead("n"), []
    arrival = reading.arrive()
    for number in range(1, 5):
        begun = started(reading, number, {})
        holds.append(begun.hold)
        answered(reading, number, {A: number}, {})
    assert holds == [number >= HOLD_AFTER for number in range(4)]
    assert reading.held
    started(reading, 9, {A: 4})
    answered(reading, 9, {A: 4}, {})
    assert value(reading, arrival) == 4
    reading.arrive()
    assert not started(reading, 10, {A: 4}).hold


def test_after_a_change_of_members_old_rounds_are_void_and_old_and_new_members_are_asked() -> None:
    reading = PendingRead("n")
    arrival = reading.arrive()
    started(reading, 1, {ME: 1})
    tell(reading, 1, "a:1", {})
    reading.restart([("a:1", "b:1", "new:1")])
    assert not tell(reading, 1, "b:1", {})
    assert value(reading, arrival) is None
    begun = begin(reading, 2, {ME: 1}, ("new:1",), 0.0)
    assert begun is not None
    assert begun.missing == {"a:1", "b:1", "new:1"}
    answered(reading, 2, {}, {})
    assert value(reading, arrival) is None
    assert tell(reading, 2, "new:1", {})
    assert value(reading, arrival) == 1


def test_only_reads_that_were_there_at_a_change_of_members_need_the_members_before() -> None:
    reading = PendingRead("n")
    early = reading.arrive()
    reading.restart([("gone:1",)])
    late = reading.arrive()
    first = begin(reading, 1, {}, ("a:1",), 0.0)
    assert first is not None
    assert first.missing == {"a:1", "gone:1"}
    reading.leave(early)
    second = begin(reading, 2, {}, ("a:1",), STALL)
    assert second is None or second.missing == {"a:1"}
    tell(reading, 1 if second is None else 2, "a:1", {})
    assert value(reading, late) == 0


def test_rounds_end_with_the_last_read_that_they_can_serve() -> None:
    reading = PendingRead("n")
    early = reading.arrive()
    started(reading, 1, {}, now=0.0)
    late = reading.arrive()
    started(reading, 2, {}, now=STALL)
    assert reading.begun == 2
    assert reading.leave(early) == [1]
    assert [round_.number for round_ in reading.rounds] == [2]
    assert not tell(reading, 1, "a:1", {A: 9})
    assert answered(reading, 2, {}, {})
    assert value(reading, late) == 0
    assert reading.leave(late) == []
    arrival = reading.arrive()
    started(reading, 3, {})
    assert reading.leave(arrival) == [3]
    assert reading.rounds == []


def test_a_round_that_another_read_still_needs_goes_on() -> None:
    reading = PendingRead("n")
    one, other = reading.arrive(), reading.arrive()
    started(reading, 1, {ME: 4})
    assert reading.leave(one) == []
    assert answered(reading, 1, {}, {})
    assert value(reading, other) == 4


def test_the_lower_bound_joins_all_that_was_seen() -> None:
    reading = PendingRead("n")
    reading.arrive()
    started(reading, 1, {ME: 1, A: 1})
    tell(reading, 1, "a:1", {A: 5})
    assert reading.lower_bound(a_node({ME: 3})) == 8
    assert reading.missing() == ["b:1"]
    assert PendingRead("n").missing() == []


def test_the_sum_of_cells_seen_at_different_instants_is_no_answer() -> None:
    """The case of the design: +1 at A after A was asked, +4 at B before B was: 4 was never the value."""
    reading = PendingRead("n")
    arrival = reading.arrive()
    started(reading, 1, {})
    assert not tell(reading, 1, "a:1", {})
    assert tell(reading, 1, "b:1", {B: 4})
    assert value(reading, arrival) is None
    started(reading, 2, {})
    answered(reading, 2, {A: 1}, {B: 4})
    started(reading, 3, {})
    answered(reading, 3, {A: 1}, {B: 4})
    assert value(reading, arrival) == 5


def test_a_node_that_answers_for_two_members_leaves_one_of_them_missing() -> None:
    reading = PendingRead("n")
    arrival = reading.arrive()
    started(reading, 1, {ME: 1})
    assert not reading.answer(1, "a:1", A, found({A: 2}))
    assert not reading.answer(1, "b:1", A, found({A: 2}))
    assert value(reading, arrival) is None
    assert reading.missing() == ["a:1", "b:1"]
    assert reading.doubles() == [("b:1", "a:1")]


@pytest.mark.parametrize("mended", MEMBERS)
def test_a_round_begins_anew_when_another_node_is_at_the_address_whichever_of_the_two_was_wrong(mended: str) -> None:
    reading = PendingRead("n")
    reading.arrive()
    started(reading, 1, {ME: 1})
    reading.answer(1, "a:1", A, found({}))
    reading.answer(1, "b:1", A, found({}))
    assert reading.let_go(mended, B) == [1]


def test_a_round_goes_on_when_the_node_that_has_answered_is_linked_anew() -> None:
    reading = PendingRead("n")
    reading.arrive()
    started(reading, 1, {ME: 1})
    reading.answer(1, "a:1", A, found({}))
    assert reading.let_go("a:1", A) == []
    assert reading.let_go("a:1", B) == [1]


def test_the_node_itself_answers_for_one_entry_only() -> None:
    reading = PendingRead("n")
    arrival = reading.arrive()
    assert begin(reading, 1, {ME: 1}, ("a:1", "here:1"), here=("here:1",)) is not None
    assert tell(reading, 1, "a:1", {})
    assert value(reading, arrival) == 1
    reading.arrive()
    begin(reading, 2, {ME: 1}, ("a:1", "here:1"), here=("a:1", "here:1"))
    assert reading.missing() == ["a:1", "here:1"]


def test_one_node_may_be_named_differently_by_two_memberships() -> None:
    """Such as when a member's address is written in another way; each list has a node of its own for each entry."""
    reading = PendingRead("n")
    arrival = reading.arrive()
    reading.restart([("a:1", "b:1")])
    assert reading.start(1, a_node({}), [("a:1", "other-name-of-b:1")], (), NODE, 0.0) is not None
    assert not reading.answer(1, "a:1", A, found({}))
    assert not reading.answer(1, "b:1", B, found({}))
    assert reading.answer(1, "other-name-of-b:1", B, found({}))
    assert value(reading, arrival) == 0


# Increments with ids


def test_ids_are_counted_as_they_were_here_when_the_round_was_sent() -> None:
    reading = PendingRead("n")
    arrival = reading.arrive()
    assert reading.start(1, a_node({ME: 1}, {A: 4}, {A: 7}, keyed=10), [MEMBERS], (), NODE, 0.0) is not None
    assert not reading.answer(1, "a:1", A, found({ME: 1}, {A: 3}, {A: 7}))
    assert reading.answer(1, "b:1", B, found({}))
    assert value(reading, arrival) == 11


@pytest.mark.parametrize("more", [found({}, {A: 5}), found({}, {B: 1}), found({}, {}, {A: 8}), found({}, {}, {B: 1})])
def test_a_round_in_which_a_member_knows_more_ids_is_no_answer(more: Found) -> None:
    reading = PendingRead("n")
    arrival = reading.arrive()
    own = a_node({ME: 1}, {A: 4}, {A: 7}, keyed=10)
    assert reading.start(1, own, [MEMBERS], (), NODE, 0.0) is not None
    reading.answer(1, "a:1", A, more)
    assert reading.answer(1, "b:1", B, found({}))
    assert value(reading, arrival) is None
    assert reading.lower_bound(own) == 11
    assert not reading.needs_round(CATCH_UP - 0.001)
    assert reading.stalls(arrival) == CATCH_UP
    assert reading.needs_round(CATCH_UP)


def test_the_next_round_begins_at_once_when_the_unknown_ids_are_known() -> None:
    reading = PendingRead("n")
    arrival = reading.arrive()
    assert reading.start(1, a_node({}), [MEMBERS], (), NODE, 0.0) is not None
    reading.answer(1, "a:1", A, found({}, {}, {A: 2}))
    reading.answer(1, "b:1", B, found({}, {A: 5}))
    reading.ahead.look(a_node({}, {}, {A: 2}))
    assert not reading.needs_round(0.0)
    now = a_node({}, {A: 5}, {A: 2}, keyed=5)
    reading.ahead.look(now)
    assert reading.needs_round(0.0)
    assert reading.start(2, now, [MEMBERS], (), NODE, 0.0) is not None
    reading.answer(2, "a:1", A, found({}, {}, {A: 2}))
    reading.answer(2, "b:1", B, found({}, {A: 5}))
    assert value(reading, arrival) == 5


@pytest.mark.parametrize("entries", [("here:1",), ()])
def test_ids_that_no_digest_reaches_keep_a_node_alone_from_an_answer(entries: tuple[str, ...]) -> None:
    """They are detached: they count only when the gap before them is closed. Without a config it is the same."""
    reading = PendingRead("n")
    arrival = reading.arrive()
    alone = Own(found({ME: 1}, {}, {B: 9}), {ME: 3}, 0, {})
    assert reading.start(1, alone, [entries] if entries else [], entries, NODE, 0.0) is not None
    assert value(reading, arrival) is None
    assert not reading.needs_round(0.0)


def test_another_membership_ends_the_wait_for_ids() -> None:
    reading = PendingRead("n")
    reading.arrive()
    assert reading.start(1, a_node({}), [MEMBERS], (), NODE, 0.0) is not None
    reading.answer(1, "a:1", A, found({}, {A: 5}))
    reading.answer(1, "b:1", B, found({}))
    assert not reading.needs_round(0.0)
    reading.restart([MEMBERS])
    assert reading.needs_round(0.0)
