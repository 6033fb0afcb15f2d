"""Holds: increments wait a quarter of a second at most, and then rest as long."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.options import DEFAULTS
from gcount.core.protocol.write_holds import MAX_HOLD, Holds

NOTHING = 1e-9


def test_a_hold_lasts_a_quarter_of_a_second() -> None:
    holds = Holds()
    assert holds.until("a", 10.0) is None
    assert holds.ask("a", "reader", 10.0)
    assert holds.until("a", 10.0) == 10.25
    assert holds.until("a", 10.25 - NOTHING) == 10.25
    assert holds.until("a", 10.25) is None
    assert holds.until("b", 10.0) is None


def test_joining_a_hold_does_not_extend_it() -> None:
    holds = Holds()
    assert holds.ask("a", "one", 10.0)
    assert holds.ask("a", "two", 10.2)
    assert holds.until("a", 10.2) == 10.25
    assert holds.until("a", 10.25) is None


def test_the_last_release_ends_it() -> None:
    holds = Holds()
    holds.ask("a", "one", 10.0)
    holds.ask("a", "two", 10.1)
    assert not holds.release("a", "one", 10.1)
    assert not holds.release("a", "one", 10.1)
    assert not holds.release("a", "stranger", 10.1)
    assert holds.until("a", 10.1) == 10.25
    assert holds.release("a", "two", 10.1)
    assert holds.until("a", 10.1) is None
    assert not holds.release("a", "two", 10.1)
    assert not holds.release("never held", "two", 10.1)


@pytest.mark.parametrize(("ended", "released"), [(10.25, False), (10.05, True)])
def test_no_new_hold_before_as_long_again_has_passed(ended: float, released: bool) -> None:
    holds = Holds()
    holds.ask("a", "one", 10.0)
    if released:
        assert holds.release("a", "one", ended)
    for now in (ended, ended + 0.1, ended + MAX_HOLD - 1e-6):
        assert not holds.ask("a", "two", now)
        assert holds.until("a", now) is None
    assert holds.ask("a", "two", ended + MAX_HOLD)
    assert holds.until("a", ended + MAX_HOLD) == ended + 2 * MAX_HOLD


def test_a_link_that_is_gone_releases_all_its_shares() -> None:
    holds = Holds()
    for name in ("a", "b", "c"):
        holds.ask(name, "gone", 10.0)
    holds.ask("b", "other", 10.0)
    holds.ask("d", "other", 10.0)
    assert sorted(holds.release_all("gone", 10.1)) == ["a", "c"]
    assert [holds.until(name, 10.1) is not None for name in "abcd"] == [False, True, False, True]
    assert holds.release_all("gone", 10.1) == []


def test_a_release_after_the_end_is_not_news() -> None:
    holds = Holds()
    holds.ask("a", "one", 10.0)
    assert not holds.release("a", "one", 10.25)
    assert holds.release_all("one", 10.25) == []


def test_the_number_of_held_counters_is_limited_and_counters_that_rested_can_be_held_again() -> None:
    holds = Holds()
    assert all(holds.ask(f"n{number}", "one", 10.0) for number in range(DEFAULTS.max_held_names))
    assert not holds.ask("one more", "one", 10.0)
    assert holds.ask("n0", "two", 10.1)
    assert not holds.ask("one more", "one", 10.4)
    assert holds.ask("one more", "one", 10.5)


@given(
    st.lists(st.tuples(st.sampled_from(["ask", "release"]), st.sampled_from("abc"), st.integers(0, 30)), max_size=20),
    st.lists(st.sampled_from("abcd"), max_size=4),
)
def test_many_wait_while_one_of_them_is_held(steps: list[tuple[str, str, int]], names: list[str]) -> None:
    holds, now = Holds(), 100.0
    for action, name, passes in steps:
        _ = holds.ask(name, "one", now) if action == "ask" else holds.release(name, "one", now)
        now += passes / 100
        assert holds.any_held(names, now) == any(holds.until(each, now) is not None for each in names)


@given(st.lists(st.tuples(st.sampled_from(["ask", "release"]), st.integers(0, 2), st.integers(0, 60)), max_size=60))
def test_writers_wait_at_most_half_of_the_time_whatever_readers_do(steps: list[tuple[str, int, int]]) -> None:
    holds, now, held, starts = Holds(), 100.0, 0.0, []
    for action, sharer, passes in steps:
        was = holds.until("a", now)
        if action == "ask":
            if holds.ask("a", sharer, now) and was is None:
                starts.append(now)
        else:
            holds.release("a", sharer, now)
        until = holds.until("a", now)
        assert until is None or now < until <= now + MAX_HOLD
        later = now + passes / 100
        held += max(0.0, min(later, until) - now) if until is not None else 0.0
        now = later
    assert all(later - earlier >= MAX_HOLD for earlier, later in pairwise(starts))
    assert held <= (now - 100.0) / 2 + MAX_HOLD
