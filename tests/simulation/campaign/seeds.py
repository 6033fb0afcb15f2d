"""Many seeds on all cores, and their results."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tests.simulation.campaign.run import Result, run_seed
from tests.simulation.mutants import planted

CHUNK = 2  # seeds that a process gets at once
AHEAD = 2  # chunks that wait for each process

_planted = ExitStack()  # in a worker, for its whole life


@dataclass
class Summary:
    """The results of many seeds."""

    seeds: int = 0
    increments: int = 0
    reads: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0
    simulated: float = 0.0
    healed: list[float] = field(default_factory=list)
    failed: dict[int, list[str]] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Add the result of a seed."""
        self.seeds += 1
        self.increments += result.increments
        self.reads += result.reads
        self.faults += result.faults
        self.cost += result.cost
        self.simulated += result.simulated
        self.healed.append(result.healed_after)
        if result.violations:
            self.failed[result.seed] = result.violations

    def text(self) -> str:
        """The summary, as text for people."""
        healed = sorted(self.healed) or [0.0]
        faults = "\n".join(f"  {count:8,}  {kind.replace('_', ' ')}" for kind, count in self.faults.most_common())
        return (
            f"{self.seeds:,} seeds, {len(self.failed)} failed: {self.increments:,} acknowledged increments and "
            f"{self.reads:,} consistent reads checked\n"
            f"{self.simulated / 3600:.1f} simulated hours at {self.cost / max(1, self.seeds):.2f} s of a core a seed; "
            f"healed after {healed[len(healed) // 2]:.2f} s at the median, {healed[-1]:.2f} s at most\n"
            f"{self.faults.total():,} faults:\n{faults}"
        )


def run_many(
    seeds: Iterable[int],
    *,
    jobs: int | None = None,
    nodes: int | None = None,
    mutant: str | None = None,
    fault: str | None = None,
    ids: bool | None = None,
    seconds: float | None = None,
    done: Callable[[Result], None] = lambda result: None,
) -> Summary:
    """Run seeds in several processes.

    Args:
        seeds: the seeds; may be endless if there is a limit of time.
        jobs: how many processes; by default one for each core.
        nodes: how many nodes in each cluster; by default each seed decides.
        mutant: the name of a planted bug.
        fault: a fault that has to be frequent in each seed.
        ids: whether clients send ids; by default each seed decides.
        seconds: the time after which no more seeds are begun.
        done: called with each result, in no particular order.
    """
    summary, rest = Summary(), iter(seeds)
    deadline = time.monotonic() + seconds if seconds is not None else float("inf")
    jobs = jobs or os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(mutant,)) as pool:
        running: set[Future[list[Result]]] = set()
        while True:
            while len(running) < jobs * AHEAD and time.monotonic() < deadline:
                chunk = list(islice(rest, CHUNK))
                if not chunk:
                    break
                running.add(pool.submit(_run_chunk, chunk, nodes, fault, ids, deadline))
            if not running:
                return summary
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                for result in future.result():
                    summary.add(result)
                    done(result)


def _begin(mutant: str | None) -> None:
    _planted.enter_context(planted(mutant))


def _run_chunk(
    seeds: list[int], nodes: int | None, fault: str | None, ids: bool | None, deadline: float
) -> list[Result]:
    return [run_seed(seed, nodes, fault=fault, ids=ids) for seed in seeds if time.monotonic() < deadline]


def remember(path: Path, result: Result) -> None:
    """Append a result to the file from which a campaign can be resumed."""
    record = {name: getattr(result, name) for name in _REMEMBERED}
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def remembered(path: Path) -> Iterator[Result]:
    """The results of a campaign that was interrupted. An incomplete last line is ignored."""
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            yield Result(**{**record, "faults": Counter(record["faults"])})


_REMEMBERED = ("seed", "violations", "faults", "increments", "reads", "healed_after", "simulated", "cost")
