"""Whether a new id is taken, by its time: exactly from the end of the window to the most that it may be ahead."""

import pytest

from gcount.core.writes.id_rules import MAX_AHEAD, NO_IDS, IdRules
from tests.core.ids import NOW, WINDOW

RULES = IdRules(lambda: NOW, lambda: "", WINDOW)


@pytest.mark.parametrize(
    ("time", "floor", "refused"),
    [
        (NOW - WINDOW + 1, -1, ""),
        (NOW - WINDOW, -1, "IdGone"),
        (0, -1, "IdGone"),
        (NOW - 5, NOW - 6, ""),
        (NOW - 5, NOW - 5, "IdGone"),
        (NOW, -1, ""),
        (NOW + MAX_AHEAD, -1, ""),
        (NOW + MAX_AHEAD + 1, -1, "IdAhead"),
        (NOW + MAX_AHEAD + 1, NOW + 10**6, "IdGone"),
    ],
)
def test_an_id_is_taken_by_its_time(time: int, floor: int, refused: str) -> None:
    found = RULES.refusal("id", time, floor)
    assert ("" if found is None else type(found).__name__) == refused


def test_fractions_of_the_clock_count() -> None:
    rules = IdRules(lambda: NOW + 0.5, lambda: "", WINDOW)
    assert rules.refusal("id", NOW - WINDOW, -1) is not None
    assert rules.refusal("id", NOW - WINDOW + 1, -1) is None
    assert rules.refusal("id", NOW + MAX_AHEAD, -1) is None


def test_a_refusal_says_both_times_and_that_nothing_was_changed() -> None:
    gone, ahead = str(RULES.refusal("old", 77, -1)), str(RULES.refusal("new", 88_888, -1))
    assert all(word in gone for word in ("old", " 77 s", "shows 10000", "100 s", "nothing was changed"))
    assert all(word in ahead for word in ("new", " 88888 s", "shows 10000", "300 s"))


def test_promises_come_a_quarter_of_the_window_later_than_refusals() -> None:
    assert RULES.grace == 25


def test_ids_of_strangers_may_be_ahead_by_as_much_more_as_clocks_differ() -> None:
    assert RULES.latest_of_strangers == NOW + MAX_AHEAD + RULES.grace


def test_a_writer_without_rules_takes_no_ids() -> None:
    assert NO_IDS.unavailable()
    assert NO_IDS.most == 0
    assert NO_IDS.refusal("id", 1, -1) is None
