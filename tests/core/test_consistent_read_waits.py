"""When a read that waits looks again, and that a hold which was asked for once is owed a release."""

from math import inf

from gcount.core.options import DEFAULTS
from gcount.core.protocol.consistent_read import HOLD_AFTER, STALL, PendingRead, Round
from gcount.core.protocol.counter_views import Cells
from tests.core.histories import incarnation
from tests.core.views import found
from tests.core.views import own as a_node

ME, A = incarnation(1), incarnation(2)
MEMBERS = ("a:1",)
NODE = b"this node"


def begin(reading: PendingRead, number: int, own: Cells, now: float) -> Round | None:
    return reading.start(number, a_node(own), [MEMBERS], (), NODE, now)


def value(reading: PendingRead, arrival: int) -> int | None:
    answer = reading.answer_to(arrival)
    return None if answer is None else answer.value


def tell(reading: PendingRead, number: int, address: str, cells: Cells) -> bool:
    """The node that is at home at the address answers."""
    return reading.answer(number, address, address.encode(), found(cells))


def test_a_read_looks_again_when_the_round_before_it_has_stalled() -> None:
    reading = PendingRead("n")
    served = reading.arrive()
    assert reading.stalls(served) == inf  # it begins a round at once
    assert begin(reading, 1, {ME: 1}, 7.0) is not None
    late = reading.arrive()
    assert (reading.stalls(served), reading.stalls(late)) == (inf, 7.0 + STALL)
    assert not reading.needs_round(reading.stalls(late) - 0.001)
    assert reading.needs_round(reading.stalls(late))


def test_with_all_rounds_in_flight_no_read_checks_again() -> None:
    reading = PendingRead("n")
    for number in range(DEFAULTS.max_rounds):
        reading.arrive()
        assert begin(reading, number, {ME: 1}, float(number)) is not None
    late = reading.arrive()
    assert reading.stalls(late) == inf
    assert not reading.needs_round(99.0)
    assert reading.let_go("a:1", b"a:1") == list(range(DEFAULTS.max_rounds))
    assert reading.needs_round(99.0)


def test_a_release_is_owed_though_later_rounds_asked_for_no_hold() -> None:
    reading = PendingRead("n")
    reading.arrive()
    for number in range(HOLD_AFTER):
        assert begin(reading, number, {}, 0.0) is not None
        assert tell(reading, number, "a:1", {A: number + 1})
    assert not reading.held
    held = begin(reading, 8, {}, 0.0)
    assert held is not None
    assert held.hold
    assert tell(reading, 8, "a:1", {A: HOLD_AFTER})
    reading.arrive()
    calm = begin(reading, 9, {}, 0.0)
    assert calm is not None
    assert not calm.hold
    assert reading.held


def test_a_read_needs_the_members_before_a_change_however_many_reads_of_before_it_are_over() -> None:
    """One of them may be the only one that knows of an increment which was acknowledged before the read."""
    reading = PendingRead("n")
    older, newest = reading.arrive(), reading.arrive()
    reading.restart([("removed:1",)])
    reading.leave(older)
    begun = begin(reading, 1, {ME: 1}, 0.0)
    assert begun is not None
    assert begun.missing == {"a:1", "removed:1"}
    tell(reading, 1, "a:1", {})
    assert value(reading, newest) is None
    tell(reading, 1, "removed:1", {})
    assert value(reading, newest) == 1
