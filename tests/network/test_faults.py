"""A short soak (see docs/testing.md): every kind of fault under load, some at the same time, and the same verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.detour import Weather
from tests.harness.namespaces import why_not
from tests.soak import plan
from tests.soak.figures import Figures
from tests.soak.history import History
from tests.soak.judge import violations
from tests.soak.plan import Blow, Step
from tests.soak.run import Wish, abilities, run

SEED = 7


def steps(kinds: tuple[str, ...]) -> list[Step]:
    """Every kind that can be made here."""
    together = [
        [Blow(plan.KILL, (1,), down=0.2)],
        [Blow(plan.PAUSE, (2,))],
        [Blow(plan.ISOLATE, (3,)), Blow(plan.KILL, (3,), down=0.0)],
        [Blow(plan.HALVES, (1,)), Blow(plan.LOSS, (1, 2, 3), Weather(loss=0.2))],
        [Blow(plan.ONE_WAY, (2, 1)), Blow(plan.DELAY, (1, 2, 3), Weather(delay=0.1, jitter=0.05))],
        [Blow(plan.PAIR, (1, 3)), Blow(plan.FULL, (2,))],
        [Blow(plan.ALL, (1, 2, 3)), Blow(plan.KILL, (1, 2), down=0.3)],
    ]
    possible = [tuple(blow for blow in blows if blow.kind in kinds) for blows in together]
    return [Step(blows, gap=0.2, hold=1.2, rest=0.2) for blows in possible if blows]


async def test_all_faults_under_load_lose_and_invent_nothing(tmp_path: Path) -> None:
    """No law is broken, and every increment is taken on every node whose process and disk are up."""
    if reason := why_not():
        pytest.skip(reason)
    kinds, notes = abilities()
    print(*notes, sep="\n")
    with (tmp_path / "history.jsonl").open("w") as file:
        history = History(file)
        await run(Wish(seed=SEED, pace=15.0, window=10, settles=False, steps=steps(kinds)), history, tmp_path, print)
    figures = Figures(history)
    print("\n".join(figures.lines()))
    assert violations(history) == []
    assert figures.unavailable == []
    assert {fault.kind for fault in history.faults} == set(kinds)
    assert plan.FULL not in kinds or figures.refused_on_full_disks()
    assert violations(History.load(tmp_path / "history.jsonl")) == []
