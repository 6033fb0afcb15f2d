"""The cost of a consistent read in a quiet cluster of three: GET /consistent_value beside GET /value."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

import trio

from bench.client import Failed, connection, get, post
from bench.load import closed_loop, timed
from bench.nodes import Node, cluster, data_folder
from bench.report import goal, ms, parser, percentile, run, table

GOAL = 4.0
COUNTERS = 32
SETTLE = 2.0  # seconds, after which no node has anything left to push


async def main(arguments: argparse.Namespace) -> None:
    folder: Path
    with data_folder(arguments.data) as folder:
        async with cluster(folder, arguments.fast_path) as nodes:
            await _fill(nodes)
            ratios = [await _latency(number, node, arguments.seconds) for number, node in enumerate(nodes, start=1)]
            print()
            await _throughput(nodes[0], arguments)
    worst = max(ratios)
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    goal(
        "consistent_value / value at the median", f"{shown} on the three nodes", f"at most {GOAL:g}", met=worst <= GOAL
    )


async def _fill(nodes: list[Node]) -> None:
    """Make every node count a part of every counter."""
    for node in nodes:
        async with connection(node.host, node.port) as conn:
            for number in range(COUNTERS):
                await conn.ask(post(f"/counter/bench-{number}", b"1"))
    await trio.sleep(SETTLE)
    for node in nodes:
        for number in range(COUNTERS):
            if (answer := await node.ask(get(f"/counter/bench-{number}/value"))) != b"%d\n" % len(nodes):
                raise Failed(f"bench-{number} is {answer!r}, not {len(nodes)}")


async def _latency(number: int, node: Node, seconds: float) -> float:
    """Send both kinds of reads in turn on one connection; prints a table, and returns the ratio of the medians."""
    paths = ("value", "consistent_value")
    times: dict[str, list[float]] = {path: [] for path in paths}
    async with connection(node.host, node.port) as conn:
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            for path in paths:
                times[path].append(await timed(conn, get(f"/counter/bench-0/{path}")))
    rows = [[f"node {number}, one connection", "samples", "p50 ms", "p90 ms", "p99 ms"]]
    for path in paths:
        rows.append([path, str(len(times[path])), *(ms(percentile(times[path], percent)) for percent in (50, 90, 99))])
    table(rows)
    return percentile(times["consistent_value"], 50) / percentile(times["value"], 50)


async def _throughput(node: Node, arguments: argparse.Namespace) -> None:
    """Load one node in alternating rounds."""
    kinds = {
        "value": [[get(f"/counter/bench-{at}/value")] for at in range(arguments.connections)],
        "consistent_value, a counter each": [
            [get(f"/counter/bench-{at}/consistent_value")] for at in range(arguments.connections)
        ],
        "consistent_value, one counter": [[get("/counter/bench-0/consistent_value")]] * arguments.connections,
    }
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    medians: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for kind, requests in kinds.items():
            measured = await closed_loop(node, requests, arguments.seconds / 2)
            rates[kind].append(measured.rate)
            medians[kind].append(measured.median)
    rows = [[f"{arguments.connections} connections, medians of {arguments.rounds}", "GET/s", "p50 ms"]]
    rows += [[kind, f"{median(rates[kind]):.0f}", ms(median(medians[kind]))] for kind in kinds]
    table(rows)


if __name__ == "__main__":
    flags = parser(__doc__, 4.0, "the measurement of each node's latency; a round of throughput takes half of it")
    flags.add_argument("--rounds", type=int, default=3, help="rounds of throughput of each kind [3]")
    flags.add_argument("--connections", type=int, default=32, help="connections for throughput [32]")
    sys.exit(run(main, flags))
