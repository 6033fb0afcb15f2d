"""The cost of durability: POST /counter/NAME on a node and on the same node without a disk, in alternating rounds."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median

from bench.client import post
from bench.load import Measured, closed_loop
from bench.nodes import PROJECT, Cpu, Node, data_folder, running
from bench.report import goal, ms, parser, percentile, run, table

GOAL = 0.80
WITHOUT_DISK = ("-P", str(PROJECT / "bench" / "node_without_disk.py"))
COUNTERS = 1000
WARM_UP = 1.0  # seconds


async def main(arguments: argparse.Namespace) -> None:
    connections: int = arguments.connections
    names = [f"bench-{number}" for number in range(max(COUNTERS, connections))]
    requests = [[post(f"/counter/{name}", b"1") for name in names[at::connections]] for at in range(connections)]
    with data_folder(arguments.data) as folder:
        print(f"a sync of this disk: {sync_time(folder)}")
        (folder / "with").mkdir()
        (folder / "without").mkdir()
        async with (
            running(1, "127.0.0.1", 0, folder / "with", arguments.fast_path) as with_disk,
            running(1, "127.0.0.1", 0, folder / "without", arguments.fast_path, WITHOUT_DISK) as without_disk,
        ):
            both = [with_disk, without_disk]
            for node in both:
                await closed_loop(node, requests, min(WARM_UP, arguments.seconds))
            before = await with_disk.metrics()
            rounds: list[list[Measured]] = []
            rows = [["round", "", "POST/s", "p50 ms", "p99 ms", "node's cpu", "a POST ms", "load's cpu"]]
            for number in range(1, arguments.rounds + 1):
                measured = []
                for node, what in zip(both, ("on disk", "no disk"), strict=True):
                    result, row = await _round(node, requests, arguments.seconds)
                    measured.append(result)
                    rows.append([str(number), what, *row])
                rounds.append(measured)
            after = await with_disk.metrics()
    table(rows)
    print()
    _summary(rounds, {name: after[name] - before[name] for name in before})


async def _round(node: Node, requests: list[list[bytes]], seconds: float) -> tuple[Measured, list[str]]:
    cpu = Cpu([node.pid, os.getpid()])
    result = await closed_loop(node, requests, seconds)
    own, load = cpu.shares()
    result.cost = own / result.rate
    return result, [
        f"{result.rate:.0f}",
        ms(result.median),
        ms(result.p99),
        f"{own:.0%}",
        ms(result.cost),
        f"{load:.0%}",
    ]


def _summary(rounds: list[list[Measured]], spent: dict[str, float]) -> None:
    """Print the medians of all rounds, the group commits, and the ratio."""
    rates = [median(pair[which].rate for pair in rounds) for which in (0, 1)]
    costs = [median(pair[which].cost for pair in rounds) for which in (0, 1)]
    ratios = [one.rate / other.rate for one, other in rounds]
    commits = max(1.0, spent["gcount_commits_total"])
    print(f"medians: {rates[0]:.0f} POST/s on disk, {rates[1]:.0f} without")
    print(f"processor time a POST: {ms(costs[0])} ms on disk, {ms(costs[1])} without; ratio {costs[1] / costs[0]:.2f}")
    print(
        f"group commit: {spent['gcount_increments_total']:.0f} increments in {commits:.0f} commits, "
        f"{spent['gcount_increments_total'] / commits:.1f} each, "
        f"{spent['gcount_commit_cells_sum'] / commits:.1f} cells; "
        f"write and sync {ms(spent['gcount_commit_seconds_sum'] / commits)} ms at the mean"
    )
    print(f"ratio of the rounds: {min(ratios):.2f} to {max(ratios):.2f}")
    ratio = rates[0] / rates[1]
    goal("ratio of the medians", f"{ratio:.2f}", f"at least {GOAL:.2f}", met=ratio >= GOAL)


def sync_time(folder: Path) -> str:
    """How long the disk itself takes to append and sync 1 KiB, as the log does."""
    times = []
    with (folder / "sync").open("ab", buffering=0) as file:
        for _ in range(100):
            started = time.perf_counter()
            file.write(bytes(1024))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return f"p50 {ms(median(times))} ms, p99 {ms(percentile(times, 99))} ms for 1 KiB appended"


if __name__ == "__main__":
    flags = parser(__doc__, 2.0, "a round", fast_path="off")
    flags.add_argument("--rounds", type=int, default=6, help="pairs of rounds [6]")
    flags.add_argument("--connections", type=int, default=32, help="number of connections [32]")
    sys.exit(run(main, flags))
