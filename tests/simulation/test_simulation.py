"""The code keeps all laws: every seed that ever failed passes, then as many new ones as there is time for."""

import os
from itertools import count
from pathlib import Path

import pytest

from tests.simulation.campaign.run import run_seed
from tests.simulation.campaign.scenario import FAULTS, INCREMENTS, READS
from tests.simulation.campaign.seeds import run_many

SECONDS = float(os.environ.get("GCOUNT_SIMULATE_SECONDS", "40"))
FIRST = int(os.environ.get("GCOUNT_SIMULATE_FROM", "0"))
PARTS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
FAILED_ONCE = [
    (int(line.split()[0]), line.split()[1] == "ids")
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize(("seed", "ids"), FAILED_ONCE)
def test_seeds_that_failed_once_pass(seed: int, ids: bool) -> None:
    assert run_seed(seed, ids=ids).violations == []


@pytest.mark.parametrize("part", range(PARTS))
def test_as_many_new_seeds_pass_as_there_is_time_for(part: int) -> None:
    """GCOUNT_SIMULATE_SECONDS is the time, GCOUNT_SIMULATE_FROM the first seed.

    All cores take part: each process that runs tests has a part of the seeds.
    """
    cores = os.cpu_count() or 1
    summary = run_many(count(FIRST + part, PARTS), jobs=max(1, cores // PARTS), seconds=SECONDS)
    print(summary.text())
    replays = [f"bin/simulate --seed {seed}: {violations}" for seed, violations in sorted(summary.failed.items())]
    assert replays == []
    assert summary.seeds > 0


def test_seeds_have_enough_increments_reads_and_faults() -> None:
    for seed in range(3):
        result = run_seed(seed, ids=False)
        assert result.increments >= INCREMENTS
        assert result.reads >= READS
        assert result.faults.total() >= FAULTS
