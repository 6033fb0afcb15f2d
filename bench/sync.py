"""Where to wait for the disk: in the event loop, in a worker thread, or in one or the other, as a node chooses."""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import trio

from bench.client import connection, get
from bench.comparison.resp import name
from bench.comparison.rivals import Server
from bench.comparison.tools import Wrk
from bench.load import timed
from bench.node_that_syncs import WAYS, command
from bench.nodes import Node, data_folder, processor_time, running
from bench.report import ms, parser, percentile, run, table

COUNTERS = 1000
CONNECTIONS = 32


@dataclass
class Found:
    """The results of all rounds with one way to wait."""

    rates: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)

    def row(self, what: str) -> list[str]:
        costs = f"{median(self.costs) * 1e6:.0f}"
        gets = [ms(percentile(self.reads, 50)), ms(percentile(self.reads, 99))]
        return [what, f"{median(self.rates):,.0f}", ms(median(self.p99s)), costs, *gets]


async def main(arguments: argparse.Namespace) -> None:
    """Load the nodes in turn: 32 connections increment while one reads."""
    load = Wrk(f"POST /counter/{name(number)} 1" for number in range(COUNTERS))
    rows = [["a sync longer by", "POST/s", "p99 ms", "cpu us", "GET meanwhile p50 ms", "p99 ms"]]
    folder: Path
    for delay in arguments.delays:
        found = {way: Found() for way in WAYS}
        with data_folder(arguments.data) as folder:
            async with AsyncExitStack() as stack:
                nodes = {way: await stack.enter_async_context(_node(way, delay, folder)) for way in WAYS}
                for number in range(arguments.rounds + 1):
                    for way, node in nodes.items():
                        await _round(load, node, arguments.seconds, folder, found[way] if number else Found())
        rows += [result.row(f"{delay:g} ms, {way}") for way, result in found.items()]
    table(rows)


def _node(way: str, delay: float, folder: Path) -> AbstractAsyncContextManager[Node]:
    (folder / way).mkdir()
    return running(1, "127.0.0.1", 0, folder / way, "on", command(way, delay))


async def _round(load: Wrk, node: Node, seconds: float, folder: Path, found: Found) -> None:
    before = processor_time(node.pid)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read, node, found.reads)
        reading = await load.measure(Server(node.host, node.port, node.pid), CONNECTIONS, round(seconds), folder)
        nursery.cancel_scope.cancel()
    found.rates.append(reading.rate)
    found.p99s.append(reading.p99 or 0.0)
    found.costs.append((processor_time(node.pid) - before) / (reading.rate * round(seconds)))


async def _read(node: Node, latencies: list[float]) -> None:
    async with connection(node.host, node.port) as conn:
        while True:
            latencies.append(await timed(conn, get(f"/counter/{name(0)}/value")))
            await trio.sleep(0.001)


if __name__ == "__main__":
    flags = parser(__doc__, 2.0, "each round")
    flags.add_argument("--rounds", type=int, default=3, help="rounds of each [3]")
    delays = "milliseconds by which a sync takes longer [0 1 5]"
    flags.add_argument("--delays", type=float, nargs="+", default=[0.0, 1.0, 5.0], metavar="MS", help=delays)
    sys.exit(run(main, flags))
