"""The memory of a counter: on three nodes that all increment all counters, and on a node alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import trio

from bench.client import Failed, get
from bench.comparison.resp import IN_ONE_PIECE, connection
from bench.nodes import PROJECT, Node, cluster, data_folder, running
from bench.processes import memory
from bench.report import goal, run, table
from tests.harness.resp import encoded

GOAL = 350  # bytes a counter
AGREE_WITHIN = 120.0  # seconds


async def main(arguments: argparse.Namespace) -> None:
    counters: int = arguments.counters
    folder: Path
    rows = [["", "MB at the start", "MB", "bytes a counter", "without the start"]]
    worst = 0.0
    with data_folder(arguments.data) as folder:
        async with running(9, "127.0.0.9", 0, folder, "on") as single:
            empty = memory(single.pid)
            await _fill(single, counters)
            rows.append(_row("a node alone", empty, memory(single.pid), counters))
        async with cluster(folder, "on") as nodes:
            begun = [memory(node.pid) for node in nodes]
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(_fill, node, counters)
            for node in nodes:
                await _agrees(node, counters)
            for number, (node, before) in enumerate(zip(nodes, begun, strict=True), start=1):
                rows.append(_row(f"node {number} of three", before, memory(node.pid), counters))
                worst = max(worst, memory(node.pid) / counters)
    table(rows)
    goal("bytes a counter, all of the process", f"{worst:.0f}", f"at most {GOAL}", met=worst <= GOAL)


def _row(what: str, before: int, after: int, counters: int) -> list[str]:
    each = [f"{after / counters:.0f}", f"{(after - before) / counters:.0f}"]
    return [what, f"{before / 1e6:.0f}", f"{after / 1e6:.0f}", *each]


def _name(number: int) -> str:
    return f"counter-{number:012d}"  # 20 bytes


async def _fill(node: Node, counters: int) -> None:
    async with connection(node.host, node.port) as conn:
        for first in range(0, counters, IN_ONE_PIECE):
            numbers = range(first, min(counters, first + IN_ONE_PIECE))
            await conn.ask(b"".join(encoded("INCR", _name(number)) for number in numbers), len(numbers))


async def _agrees(node: Node, counters: int) -> None:
    """Return when a node knows the increments of all three nodes."""
    deadline = trio.current_time() + AGREE_WITHIN
    for number in (0, counters // 2, counters - 1):
        while True:
            if await node.ask(get(f"/counter/{_name(number)}/value")) == b"3\n":
                break
            if trio.current_time() > deadline:
                raise Failed("the nodes did not agree")
            await trio.sleep(0.5)


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    flags.add_argument("--data", type=Path, default=PROJECT / "data", help="folder for temporary data [data]")
    flags.add_argument("--counters", type=int, default=1_000_000, help="number of counters [1000000]")
    sys.exit(run(main, flags))
