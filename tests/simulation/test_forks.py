"""Law *forks*: two histories of an incarnation have to be reported, and nothing else."""

from dataclasses import replace

import pytest

from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from tests.simulation.campaign.history import Final, Forked, History, Increment, Stored
from tests.simulation.laws import agreement, forks, survival

LIFE, NODE = b"l" * 16, b"n" * 16
ONE, COPY = "10.0.0.1:7777#1", "10.0.0.2:7777#1"
FINAL = Final("10.0.0.1:7777", {}, {}, Membership(), Identity(NODE, LIFE), {}, {}, Membership(), Identity(NODE, LIFE))


def history(*, copied: bool = True) -> History:
    """A history: version 1, then a copy of the directory; original and copy each make a version 2."""
    made = History(finals=[FINAL])
    made.journal.append(Stored(0, ONE, (Delta(LIFE, 0, 1, {"x0": 1}),)))
    if copied:
        made.journal.append(Stored(1, COPY, (Delta(LIFE, 0, 1, {"x0": 1}),)))
        made.journal.append(Forked(1, ONE, COPY, LIFE))
        made.journal.append(Stored(3, COPY, (Delta(LIFE, 1, 2, {"x0": 5}),)))
    made.journal.append(Stored(2, ONE, (Delta(LIFE, 1, 2, {"x0": 3}),)))
    return made


def saying(made: History, *incarnations: bytes) -> History:
    made.finals = [replace(final, forks=dict.fromkeys(incarnations, 2)) for final in made.finals]
    return made


def test_a_fork_that_is_not_reported_breaks_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "SAID", True)
    assert list(forks.violations(history())) != []
    assert list(forks.violations(saying(history(), LIFE))) == []
    assert list(forks.violations(history(copied=False))) == []


def test_a_report_without_a_fork_breaks_the_law() -> None:
    assert list(forks.violations(saying(history(copied=False), LIFE))) != []


def holding(made: History, *cells: dict[bytes, int]) -> History:
    """The history in which the nodes have these cells of the counter in the end."""
    made.finals = [
        replace(FINAL, cells={"x0": each}, replayed_cells={"x0": each}, values={"x0": sum(each.values())})
        for each in cells
    ]
    return made


def test_nodes_may_differ_in_an_incarnation_with_two_histories_and_in_nothing_else() -> None:
    assert list(agreement.violations(holding(history(), {LIFE: 5}, {LIFE: 3}))) == []
    assert list(agreement.violations(holding(history(copied=False), {LIFE: 5}, {LIFE: 3}))) != []
    assert list(agreement.violations(holding(history(), {LIFE: 5}, {LIFE: 5, b"o" * 16: 8}))) != []


def test_increments_since_a_fork_may_be_lost_and_earlier_ones_may_not() -> None:
    made = history()
    made.increments = [Increment("x0", amount, "", "", 0, 3, amount) for amount in (1, 2, 4)]
    assert list(survival.violations(holding(made, {LIFE: 5}))) == []
    assert list(survival.violations(holding(made, {LIFE: 1}))) == []
    assert list(survival.violations(holding(made, {LIFE: 4}))) != []
