"""Goals are ratios of medians, and a goal that was not measured is not met."""

from pathlib import Path

import pytest

from bench.comparison.goals import GOALS, Goal
from bench.comparison.page import DATA, PAGE, goals, write
from bench.comparison.programs import PACKAGES
from bench.comparison.results import Reading, Results, Size, Start
from bench.comparison.rivals import RIVALS
from bench.comparison.works import WORKS

GOAL = Goal("http-post", "gcount", "etcd, put", 2.5)


def results(ours: list[float], theirs: list[float]) -> Results:
    found = Results("bench/run", {"processors": "2"})
    for rival, rates in (("gcount", ours), ("etcd, put", theirs)):
        for rate in rates:
            found.add("http-post", rival, 32, Reading(rate, 0.001, 0.002, 0.003))
    return found


def test_the_ratio_is_that_of_the_medians() -> None:
    # The mean of ours is 400, and of the single ratios the median is 3.
    assert GOAL.ratio(results([100, 300, 800], [100, 50, 200])) == pytest.approx(3.0)


@pytest.mark.parametrize(("ours", "verdict"), [(249.9, "MISSED"), (250.0, "met"), (251.0, "met")])
def test_a_goal_is_met_from_its_ratio_on(ours: float, verdict: str) -> None:
    assert GOAL.verdict(results([ours], [100.0])) == verdict


@pytest.mark.parametrize(("ours", "theirs"), [([], [100.0]), ([100.0], []), ([], [])])
def test_a_goal_without_one_of_the_two_is_not_measured(ours: list[float], theirs: list[float]) -> None:
    found = results(ours, theirs)
    assert GOAL.ratio(found) is None
    assert GOAL.verdict(found) == "not measured"


def test_other_numbers_of_connections_do_not_count() -> None:
    found = results([250.0], [100.0])
    found.add("http-post", "gcount", 128, Reading(1.0))
    found.add("connections", "gcount", 32, Reading(1.0))
    assert GOAL.ratio(found) == pytest.approx(2.5)


def test_all_goals_are_of_something_that_is_measured() -> None:
    labels = {(work.name, entry.label) for work in WORKS if work.connections == (32,) for entry in work.entries}
    assert {(goal.work, label) for goal in GOALS for label in (goal.subject, goal.against)} <= labels


def test_the_package_of_each_program_is_known() -> None:
    entries = [entry for work in WORKS for entry in work.entries]
    needed = {program for entry in entries for program in (*entry.tool.needs, *RIVALS[entry.rival].needs)}
    assert needed == PACKAGES.keys()


def test_the_page_says_what_was_measured_what_failed_and_what_was_left_out(tmp_path: Path) -> None:
    found = results([200.0, 300.0], [100.0])
    found.missing.append("postgres (Debian package postgresql)")
    found.failures.append("hot, etcd: it ended")
    found.add("connections", "gcount, HTTP", 1, Reading(1000.0))
    found.starts.append(Start("gcount", 1000, [0.5, 0.25, 1.0], [2**20] * 3))
    found.sizes.append(Size(1, [5000.0], [0.0001], [0.0005]))
    write(found, tmp_path)
    page = (tmp_path / PAGE).read_text()
    assert "| gcount | 250 | 200 to 300 | 1.00 | 1.00 | 2.00 | 3.00 |" in page
    assert "| gcount | etcd, put | 2.50 | >= 2.5 | met |" in page
    assert "not measured" in page
    assert "left out: postgres (Debian package postgresql)" in page
    assert "failed: hot, etcd: it ended" in page
    assert "| gcount | 1,000 | 0.50 | 0.25 to 1.00 | 1 |" in page
    assert "| 1 | 5,000 | 5,000 to 5,000 | 100 | 0.50 |" in page
    for plot in ("connections", "latency", "start", "memory", "nodes"):
        assert f"({plot}.svg)" in page
        assert (tmp_path / f"{plot}.svg").read_text().startswith("<svg ")


def test_results_that_were_kept_give_the_same_page_again(tmp_path: Path) -> None:
    found = results([200.0, 300.0], [100.0])
    write(found, tmp_path)
    again = Results.load(tmp_path / DATA)
    assert again == found
    assert goals(again) == goals(found)


def test_a_page_of_nothing_can_be_written(tmp_path: Path) -> None:
    write(Results("bench/run", {}), tmp_path)
    assert "not measured" in (tmp_path / PAGE).read_text()
