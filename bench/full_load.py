"""The cost of two followers for a node under full load, and their lag: a node alone beside a cluster of three."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import trio

from bench.client import Connection, connection, get, post
from bench.comparison.resp import name
from bench.comparison.rivals import Server
from bench.comparison.tools import Wrk
from bench.nodes import Cpu, Node, cluster, data_folder, running
from bench.report import goal, ms, parser, percentile, run, table

KEPT = 0.70  # the goal for the rate in a cluster, as a share of the rate of a node alone
BEHIND = 0.100  # seconds: the goal for the lag, 99th percentile
COUNTERS = 1000  # counters that the load increments
CONNECTIONS = 32
PROBE_EVERY = 0.05  # seconds
POLL_EVERY = 0.004  # seconds from an answer to the next question


async def main(arguments: argparse.Namespace) -> None:
    folder: Path
    load = Wrk(f"POST /counter/{name(number)} 1" for number in range(COUNTERS))
    alone, together = list[float](), list[float]()
    behind = list[float]()
    rows = [["increments/s", "alone", "of three", "cpu alone", "cpu of the three"]]
    with data_folder(arguments.data) as folder:
        path = arguments.fast_path
        async with running(9, "127.0.0.9", 0, folder, path) as single, cluster(folder, path) as nodes:
            for number in range(arguments.rounds + 1):
                seconds = max(1, round(arguments.seconds))
                cpu = Cpu([single.pid])
                rate = (await load.measure(_server(single), CONNECTIONS, seconds, folder)).rate
                shares = cpu.shares()
                cpu, found = Cpu([node.pid for node in nodes]), list[float]()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_probe, nodes, found)
                    of_three = (await load.measure(_server(nodes[0]), CONNECTIONS, seconds, folder)).rate
                    nursery.cancel_scope.cancel()
                if number:  # the first round only warms up
                    alone.append(rate)
                    together.append(of_three)
                    behind += found
                    cpus = " ".join(f"{share:.0%}" for share in cpu.shares())
                    rows.append([f"round {number}", f"{rate:,.0f}", f"{of_three:,.0f}", f"{shares[0]:.0%}", cpus])
    rows.append(["median", f"{median(alone):,.0f}", f"{median(together):,.0f}", "", ""])
    table(rows)
    figures = ", ".join(f"p{percent} {ms(percentile(behind, percent))}" for percent in (50, 90, 99, 100))
    print(f"\nbehind, ms, of {len(behind)} probes: {figures}")
    kept, worst = median(together) / median(alone), percentile(behind, 99)
    goal("rate kept with two followers", f"{kept:.0%}", f"at least {KEPT:.0%}", met=kept >= KEPT)
    goal("followers behind, p99", f"{ms(worst)} ms", f"at most {ms(BEHIND)} ms", met=worst <= BEHIND)


def _server(node: Node) -> Server:
    return Server(node.host, node.port, node.pid)


async def _probe(nodes: list[Node], behind: list[float]) -> None:
    """Increment new counters on the first node, and ask the others until they show it."""

    async def watch(conn: Connection, request: bytes) -> None:
        acknowledged = time.perf_counter()
        while True:
            if await conn.ask(request) != b"0\n":
                break
            await trio.sleep(POLL_EVERY)
        behind.append(time.perf_counter() - acknowledged)

    async with (
        connection(nodes[0].host, nodes[0].port) as first,
        connection(nodes[1].host, nodes[1].port) as second,
        connection(nodes[2].host, nodes[2].port) as third,
    ):
        while True:
            probe = f"probe-{time.perf_counter_ns()}"
            await first.ask(post(f"/counter/{probe}", b"1"))
            async with trio.open_nursery() as nursery:
                for conn in (second, third):
                    nursery.start_soon(watch, conn, get(f"/counter/{probe}/value"))
            await trio.sleep(PROBE_EVERY)


if __name__ == "__main__":
    flags = parser(__doc__, 3.0, "each round of one of the two")
    flags.add_argument("--rounds", type=int, default=5, help="rounds of each of the two [5]")
    sys.exit(run(main, flags))
