"""Plots are well-formed and put values where they belong."""

import re
from xml.etree import ElementTree

from bench.comparison.plots import lines, ranges


def dots(svg: str) -> list[tuple[float, float]]:
    ElementTree.fromstring(svg)
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([0-9.]+)" cy="([0-9.]+)"', svg)]


def test_ten_times_as_much_is_as_far_up_everywhere() -> None:
    first, second, third, _legend = dots(lines("a < b", "x", "y", {"one": [(1, 1), (2, 10), (4, 100)]}, [1, 2, 4]))
    assert first[1] - second[1] == second[1] - third[1] > 0
    assert second[0] - first[0] == third[0] - second[0] > 0


def test_a_line_of_one_point_can_be_drawn() -> None:
    assert len(dots(lines("a", "x", "y", {"one": [(8, 10)]}, [8]))) == 2


def test_ranges_have_a_dot_for_each_value() -> None:
    small, middle, large, same, again = dots(ranges("a & b", "ms", [("one", [0.1, 1, 10]), ("two", [1, 1])]))
    assert small[0] < middle[0] == same[0] == again[0] < large[0]
    assert small[1] == large[1] < same[1]
