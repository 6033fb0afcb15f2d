"""SIGTERM at a bad moment: while a batch is on its way to the disk, again and again."""

from __future__ import annotations

import random
from pathlib import Path

import trio

from tests.harness.cluster import configure, consistent_values_are, loopback_nodes, running, spread
from tests.harness.load import Ledger, worker

STOPS = 6


async def test_sigterm_under_load_exits_0_every_time_and_loses_nothing(tmp_path: Path) -> None:
    """The first node writes what clients send, the second what the first pushes: both are stopped at it."""
    nodes = loopback_nodes(tmp_path)[:2]
    rng = random.Random(1)
    async with running(*nodes):
        await configure(nodes[0], nodes)
        await spread(nodes)
        ledger, stop = Ledger(), trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(worker, nodes[0], ["n"], ledger, random.Random(number), stop, 0.0)
            for number in range(STOPS):
                await trio.sleep(rng.uniform(0.1, 0.3))
                stopped = nodes[number % 2]
                assert await stopped.stop() == 0, stopped.stderr()
                await stopped.start()
            stop.set()
        value = await nodes[1].consistent("n", 10)
        ledger.check_bounds("n", value.number())
        await consistent_values_are(nodes, {"n": value.number()}, within=5)
