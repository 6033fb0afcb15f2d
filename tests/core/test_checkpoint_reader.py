"""A restore takes nothing that can't be: not a name twice, not a cell of no name, not two versions of one column."""

from __future__ import annotations

from array import array

import pytest

from gcount.core.state.counters import Counters, Delta
from tests.core.histories import incarnation

LIFE = incarnation(1)


def words(*numbers: int) -> array[int]:
    return array("Q", numbers)


def two_names() -> Counters:
    counters = Counters()
    counters.put_off_totals()
    counters.restore_names(["a", "b"])
    return counters


def summed(counters: Counters) -> Counters:
    for _ in counters.sum_up():
        pass
    return counters


def test_what_is_restored_in_slices_is_added_up_and_goes_on() -> None:
    counters = two_names()
    counters.restore_cells(LIFE, 7, 0, words(), words(5), words(3))
    counters.restore_names(["c"])
    counters.restore_cells(LIFE, 7, 1, words(), words(0, 6), words(0, 7))
    summed(counters)
    assert (counters.digest(), counters.totals_of(["a", "b", "c"])) == ({LIFE: 7}, [5, 0, 6])
    counters.join(Delta(LIFE, 7, 8, {"a": 9}))
    counters.join(Delta(incarnation(2), 0, 1, {"a": 1, "d": 2}))
    assert counters.totals_of(["a", "b", "c", "d"]) == [10, 0, 6, 2]


@pytest.mark.parametrize("names", [["b"], ["c", "c"], ["c", "a"]])
def test_a_name_that_is_known_is_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="twice"):
        two_names().restore_names(names)


@pytest.mark.parametrize(
    ("version", "first"),
    [
        (8, 1),  # another version
        (7, 0),  # again
        (7, 2),  # a hole before it
    ],
)
def test_cells_that_do_not_follow_are_refused(version: int, first: int) -> None:
    counters = two_names()
    counters.restore_names(["c"])
    counters.restore_cells(LIFE, 7, 0, words(), words(5), words(3))
    with pytest.raises(ValueError, match="out of place"):
        counters.restore_cells(LIFE, version, first, words(), words(6), words(1))


@pytest.mark.parametrize(("indexes", "cells"), [(words(), words(5, 6, 7)), (words(0, 2), words(5, 6))])
def test_cells_of_no_name_are_refused(indexes: array[int], cells: array[int]) -> None:
    """Whether the column tells their names by their places or by numbers."""
    with pytest.raises(ValueError, match="names that do not exist"):
        two_names().restore_cells(LIFE, 7, 0, indexes, cells, words(*cells))
