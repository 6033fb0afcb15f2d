"""A consistent read of a counter with many live ids beside one without, while ids are taken and settled."""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import trio

from bench.client import Failed, connection, get
from bench.comparison.resp import IN_ONE_PIECE
from bench.comparison.resp import connection as redis
from bench.ids.live import live
from bench.load import timed
from bench.node_that_tells import command
from bench.nodes import Node, cluster, data_folder
from bench.report import goal, ms, percentile, table
from tests.harness.resp import encoded

GOAL = 1.2
IDS = 100_000  # live ids of one counter
AHEAD = 280  # seconds: the ids are of a time to come, so they stay live while others are settled
WINDOW = 4  # seconds
EVERY = 0.05  # seconds between two increments of each counter
WITHIN = 60.0  # seconds in which all nodes have the ids
WITH, WITHOUT = "with-ids", "without-ids"


async def measure(arguments: argparse.Namespace) -> None:
    """Read both counters in turn on one connection to each node."""
    folder: Path
    times = {WITHOUT: list[float](), WITH: list[float]()}
    seen: list[int] = []
    with data_folder(arguments.data) as folder:
        settings = {"GCOUNT_RETRY_WINDOW": str(WINDOW)}
        async with cluster(folder, "on", command=command(span=1), settings=settings) as nodes:
            for node in nodes:
                await _increment(node, WITHOUT)
            await _fill(nodes, IDS)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_go_on, nodes[1])
                nursery.start_soon(_watch, nodes[2], seen)
                await trio.sleep(2 * WINDOW)  # until the first of them are settled
                for node in nodes:
                    await _read(node, times, arguments.read_seconds)
                nursery.cancel_scope.cancel()
    settled = sum(after < before for before, after in pairwise(seen))
    rows = [[f"{IDS:,} live ids, settled {settled} times", "reads", "p50 ms", "p90 ms", "p99 ms"]]
    for name, found in times.items():
        rows.append([name, str(len(found)), *(ms(percentile(found, percent)) for percent in (50, 90, 99))])
    table(rows)
    ratio = percentile(times[WITH], 50) / percentile(times[WITHOUT], 50)
    goal("a consistent read with live ids / without", f"{ratio:.2f}", f"at most {GOAL:g}", met=ratio <= GOAL)


async def _read(node: Node, times: dict[str, list[float]], seconds: float) -> None:
    async with connection(node.host, node.port) as conn:
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            for name, found in times.items():
                found.append(await timed(conn, get(f"/counter/{name}/consistent_value")))


async def _fill(nodes: list[Node], ids: int) -> None:
    """Make the ids, a part of them on each node."""
    second = int(time.time()) + AHEAD
    for at, node in enumerate(nodes):
        async with redis(node.host, node.port) as conn:
            numbers = range(at, ids, len(nodes))
            for first in range(0, len(numbers), IN_ONE_PIECE):
                some = numbers[first : first + IN_ONE_PIECE]
                commands = [encoded("GCOUNT.INCRBY", WITH, 1, "ID", f"{second}-{number:05x}") for number in some]
                await conn.ask(b"".join(commands), len(some))
    deadline = trio.current_time() + WITHIN
    while [await live(node) for node in nodes] != [ids] * len(nodes):
        if trio.current_time() > deadline:
            raise Failed(f"the nodes have {[await live(node) for node in nodes]} live ids, not {ids}")
        await trio.sleep(0.2)


async def _increment(node: Node, name: str, id_: str = "") -> None:
    async with redis(node.host, node.port) as conn:
        words = ("GCOUNT.INCRBY", name, 1, "ID", id_) if id_ else ("INCRBY", name, 1)
        await conn.ask(encoded(*words), 1)


async def _go_on(node: Node) -> None:
    """Increment both counters again and again: one with ids, which are settled after the window."""
    while True:
        await _increment(node, WITHOUT)
        await _increment(node, WITH, f"{int(time.time())}-{time.perf_counter_ns():x}")
        await trio.sleep(EVERY)


async def _watch(node: Node, seen: list[int]) -> None:
    """Note how many live ids there are; whenever they become fewer, some were settled."""
    while True:
        seen.append(await live(node))
        await trio.sleep(0.2)
