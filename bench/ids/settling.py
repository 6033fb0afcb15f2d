"""A million live ids on three nodes: the memory of each, and for how long settling them holds the event loops."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import trio

from bench.client import Failed
from bench.comparison.resp import IN_ONE_PIECE, connection
from bench.ids.live import live
from bench.node_that_tells import Hold, command, holds
from bench.nodes import Node, cluster, data_folder
from bench.processes import memory
from bench.report import goal, ms, table
from tests.harness.resp import encoded

BYTES = 250  # the goal for a live id
HELD = 0.010  # seconds: the goal for the longest hold of the event loop while the ids are settled
COUNTERS = 1000
WINDOW = 20  # seconds: the nodes' retry window
WITHIN = 120.0  # seconds in which all nodes have all ids, and then in which all are settled
AFTERWARDS = 5.0  # seconds in which nodes free what is settled


async def measure(arguments: argparse.Namespace) -> None:
    """Make the ids, wait until they are settled, and look at both."""
    ids: int = arguments.ids
    rows = [["", "MB before", "MB with the ids", "bytes an id", "MB when settled", "held ms", "worked ms", "by"]]
    sizes, worked = list[float](), list[float]()
    folder: Path
    settings = {"GCOUNT_RETRY_WINDOW": str(WINDOW), "GCOUNT_MAX_IDS": str(ids)}
    with data_folder(arguments.data) as folder:
        async with cluster(folder, "on", command=command(), settings=settings) as nodes:
            before = [memory(node.pid) for node in nodes]
            await _fill(nodes[0], ids, int(time.time()) + arguments.ahead)
            await _have(nodes, ids)
            filled, full = time.time(), [memory(node.pid) for node in nodes]
            await _have(nodes, 0, after=arguments.ahead)
            await trio.sleep(AFTERWARDS)
            for number, node in enumerate(nodes):
                told = holds(folder / f"{number + 1}.log", filled) or [Hold(filled, 0.0, 0.0, "nothing")]
                worst = max(told, key=lambda hold: hold.processor)
                sizes.append((full[number] - before[number]) / ids)
                worked.append(worst.processor)
                figures = [f"{before[number] / 1e6:.0f}", f"{full[number] / 1e6:.0f}", f"{sizes[-1]:.0f}"]
                longest = [ms(max(hold.seconds for hold in told)), ms(worst.processor), worst.task]
                rows.append([f"node {number + 1}", *figures, f"{memory(node.pid) / 1e6:.0f}", *longest])
    table(rows)
    goal("bytes a live id", f"{max(sizes):.0f}", f"at most {BYTES}", met=max(sizes) <= BYTES)
    figure, wanted = f"{ms(max(worked))} ms of a processor", f"at most {ms(HELD)} ms"
    goal(f"settling {ids:,} ids holds a loop for", figure, wanted, met=max(worked) <= HELD)


async def _fill(node: Node, ids: int, second: int) -> None:
    """Make ids of 16 bytes, all of one second."""
    async with connection(node.host, node.port) as conn:
        for first in range(0, ids, IN_ONE_PIECE):
            numbers = range(first, min(ids, first + IN_ONE_PIECE))
            commands = [
                encoded("GCOUNT.INCRBY", f"bench-{number % COUNTERS:012d}", 1, "ID", f"{second}-{number:05x}")
                for number in numbers
            ]
            await conn.ask(b"".join(commands), len(numbers))


async def _have(nodes: list[Node], ids: int, after: float = 0.0) -> None:
    """Wait until each node has so many live ids, `after` seconds longer than usual."""
    deadline = trio.current_time() + WITHIN + after
    while [await live(node) for node in nodes] != [ids] * len(nodes):
        if trio.current_time() > deadline:
            raise Failed(f"the nodes have {[await live(node) for node in nodes]} live ids, not {ids}")
        await trio.sleep(0.5)
