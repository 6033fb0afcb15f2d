"""How start and memory grow with the number of counters, and the cost of an increment with the number of nodes."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import trio

from bench.client import connection, get
from bench.comparison.programs import find
from bench.comparison.resp import fill, name
from bench.comparison.results import CONNECTIONS, Size, Start
from bench.comparison.rivals import HOST, Server, redis
from bench.comparison.tools import Wrk
from bench.load import timed
from bench.nodes import Cpu, cluster, running
from bench.processes import memory

COUNTERS = (1_000, 10_000, 100_000, 1_000_000)
SIZES = (1, 2, 3, 5, 7)
SETTLE = 1.0  # seconds


async def starts(counters: int, rounds: int, folder: Path) -> list[Start]:
    """Fill gcount and Redis with counters, stop them, and start them again several times."""
    found = []
    for rival in ("gcount", "Redis"):
        if rival == "Redis" and find("redis-server") is None:
            continue
        data = folder / f"{rival}-{counters}"
        data.mkdir()
        start = Start(rival, counters)
        for again in range(rounds + 1):
            began = time.perf_counter()
            async with running(1, HOST, 0, data, "on") if rival == "gcount" else redis(data) as server:
                seconds = time.perf_counter() - began
                if again == 0:
                    await fill(server.host, server.port, counters)
                    continue
                start.seconds.append(seconds)
                start.memory.append(memory(server.pid))
        found.append(start)
    return found


async def grow(nodes: int, rounds: int, seconds: int, folder: Path) -> Size:
    """Load the first node of a cluster, then read consistently on it."""
    size = Size(nodes)
    data = folder / f"{nodes}-nodes"
    data.mkdir()
    load = Wrk(f"POST /counter/{name(number)} 1" for number in range(1000))
    async with cluster(data, "on", nodes) as members:
        first = Server(members[0].host, members[0].port, members[0].pid)
        await load.measure(first, CONNECTIONS, 1, data)
        for _ in range(rounds):
            cpu = Cpu([node.pid for node in members])
            began = time.perf_counter()
            reading = await load.measure(first, CONNECTIONS, seconds, data)
            await trio.sleep(SETTLE)  # pushes that are still on their way to the others belong to the cost
            spent = sum(cpu.shares()) * (time.perf_counter() - began)
            size.rates.append(reading.rate)
            size.costs.append(spent / (reading.rate * seconds))
            size.reads.append(await _reads(first, seconds))
    return size


async def _reads(server: Server, seconds: int) -> float:
    times = []
    async with connection(server.host, server.port) as conn:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            times.append(await timed(conn, get(f"/counter/{name(0)}/consistent_value")))
    return median(times)
