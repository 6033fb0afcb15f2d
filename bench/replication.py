"""How soon an increment is visible on the other nodes: three nodes under a steady load, probed with GET /value."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import trio

from bench.client import Connection, Failed, connection, get, post
from bench.nodes import Cpu, Node, cluster, data_folder
from bench.report import goal, ms, parser, percentile, run, table

GOAL = 0.050  # seconds, 99th percentile
COUNTERS = 300  # counters that the load increments
POLL_EVERY = 0.004  # seconds from an answer to the next request
VISIBLE_WITHIN = 10.0  # seconds
MOST_CONNECTIONS = 100  # of the load, to one node
WARM_UP = 1.0  # seconds


@dataclass
class Results:
    """What was measured, in seconds.

    Attributes:
        visible: from the acknowledgement of a probe to the first answer of another node that shows it.
        unseen: from that acknowledgement to the last request of which the answer did not show the probe, 0 without one.
        acknowledged: how long each increment of the load took, from the moment at which it was due.
        sent: how many increments each node was sent.
    """

    visible: list[float] = field(default_factory=list)
    unseen: list[float] = field(default_factory=list)
    acknowledged: list[float] = field(default_factory=list)
    sent: list[int] = field(default_factory=lambda: [0, 0, 0])


class Pool:
    """Connections to one node. If all of them wait for an answer, another one is made: an open loop does not wait.

    Only when there are `MOST_CONNECTIONS` does an increment wait for a connection. That time counts as a delay of the
    node.
    """

    def __init__(self, node: Node, stack: AsyncExitStack) -> None:
        self._node = node
        self._stack = stack
        self._idle: list[Connection] = []
        self._limit = trio.Semaphore(MOST_CONNECTIONS)

    async def ask(self, request: bytes) -> bytes:
        async with self._limit:
            if self._idle:
                conn = self._idle.pop()
            else:
                conn = await self._stack.enter_async_context(connection(self._node.host, self._node.port))
            answer = await conn.ask(request)
            self._idle.append(conn)
            return answer


async def _every(interval: float, end: float, jitter: float, act: Callable[[int, float], None]) -> None:
    """Call `act` at regular times, each with its number and the moment at which it was due.

    Args:
        interval: seconds between two calls.
        end: when to stop, on the clock of `time.perf_counter`.
        jitter: the most seconds by which a call comes later, at random.
        act: called whether or not the work of earlier calls is done.
    """
    due, number = time.perf_counter(), 0
    while due < end:
        at = due + random.random() * jitter
        await trio.sleep(max(0.0, at - time.perf_counter()))
        act(number, at)
        due, number = due + interval, number + 1


async def _load(pools: list[Pool], arguments: argparse.Namespace, results: Results, begin: float) -> None:
    requests = [post(f"/counter/load-{number}", b"1") for number in range(COUNTERS)]
    async with trio.open_nursery() as nursery:

        async def increment(node: int, due: float) -> None:
            await pools[node].ask(random.choice(requests))
            if due >= begin:
                results.acknowledged.append(time.perf_counter() - due)

        def act(number: int, due: float) -> None:
            node = number % len(pools)
            results.sent[node] += 1
            nursery.start_soon(increment, node, due)

        rate = arguments.rate - arguments.probes
        await _every(1 / rate, begin + arguments.seconds, 0.0, act)


async def _probe(pools: list[Pool], arguments: argparse.Namespace, results: Results, begin: float) -> None:
    async with trio.open_nursery() as nursery:

        async def probe(number: int, due: float) -> None:
            name, node = f"probe-{number}", number % len(pools)
            results.sent[node] += 1
            await pools[node].ask(post(f"/counter/{name}", b"1"))
            acknowledged = time.perf_counter()
            for other in range(len(pools)):
                if other != node:
                    nursery.start_soon(watch, other, get(f"/counter/{name}/value"), acknowledged, due >= begin)

        async def watch(node: int, request: bytes, acknowledged: float, counts: bool) -> None:
            unseen = acknowledged
            while True:
                asked = time.perf_counter()
                if await pools[node].ask(request) != b"0\n":
                    break
                unseen = asked
                if asked - acknowledged > VISIBLE_WITHIN:
                    raise Failed(f"an increment was not visible after {VISIBLE_WITHIN:g} s")
                await trio.sleep(POLL_EVERY)
            if counts:
                results.visible.append(time.perf_counter() - acknowledged)
                results.unseen.append(unseen - acknowledged)

        def act(number: int, due: float) -> None:
            nursery.start_soon(probe, number, due)

        interval = 1 / arguments.probes
        await _every(interval, begin + arguments.seconds, interval, act)


async def main(arguments: argparse.Namespace) -> None:
    with data_folder(arguments.data) as folder:
        async with cluster(folder, arguments.fast_path) as nodes, AsyncExitStack() as stack:
            load = [Pool(node, stack) for node in nodes]
            probes = [Pool(node, stack) for node in nodes]
            results = Results()
            before = [await node.metrics() for node in nodes]
            cpu = Cpu([*(node.pid for node in nodes), os.getpid()])
            async with trio.open_nursery() as nursery:
                begin = time.perf_counter() + WARM_UP
                nursery.start_soon(_load, load, arguments, results, begin)
                nursery.start_soon(_probe, probes, arguments, results, begin)
            shares = cpu.shares()
            spent = [
                {name: now[name] - then[name] for name in then}
                for now, then in zip([await node.metrics() for node in nodes], before, strict=True)
            ]
    _print(arguments, results, shares, spent)


def _print(arguments: argparse.Namespace, results: Results, shares: list[float], spent: list[dict[str, float]]) -> None:
    rows = [["", "cpu", "increments/s", "commits/s", "write and sync ms"]]
    seconds = WARM_UP + arguments.seconds
    for node, share, sent, more in zip((1, 2, 3), shares, results.sent, spent, strict=False):
        commits = max(1.0, more["gcount_commits_total"])
        sync = ms(more["gcount_commit_seconds_sum"] / commits)
        rows.append([f"node {node}", f"{share:.0%}", f"{sent / seconds:.0f}", f"{commits / seconds:.0f}", sync])
    rows.append(["load", f"{shares[-1]:.0%}", f"{sum(results.sent) / seconds:.0f}", "", ""])
    table(rows)
    print()
    rows = [["ms", "samples", "p50", "p90", "p99", "max"]]
    for what, values in (
        ("due to acknowledged", results.acknowledged),
        ("acknowledged to not yet seen", results.unseen),
        ("acknowledged to seen", results.visible),
    ):
        figures = [ms(percentile(values, percent)) for percent in (50, 90, 99, 100)]
        rows.append([what, str(len(values)), *figures])
    table(rows)
    worst = percentile(results.visible, 99)
    goal("visible on another node, p99", f"{ms(worst)} ms", f"at most {ms(GOAL)} ms", met=worst <= GOAL)


if __name__ == "__main__":
    flags = parser(__doc__, 15.0, "the load, after a second to warm up")
    flags.add_argument("--rate", type=float, default=500.0, help="increments a second, probes included [500]")
    flags.add_argument("--probes", type=float, default=15.0, help="probes a second [15]")
    sys.exit(run(main, flags))
