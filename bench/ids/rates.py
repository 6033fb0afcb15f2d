"""Increments a second with ids beside increments without, on one node in turn."""

from __future__ import annotations

import argparse
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median

from bench.comparison import output
from bench.comparison.programs import output as said_by
from bench.nodes import Node, data_folder, processor_time, running
from bench.report import goal, table

POST, PIPELINED = 0.6, 0.4  # the goals: the rate with ids as a share of the rate without
CONNECTIONS = 32
PIPELINE = 32
COUNTERS = 100_000  # of the pipelined increments over many counters
DIFFERENT = 2_000_000_000  # so many different random numbers make an id of one counter unique
FIRST_GUESS = 30_000.0  # pipelined increments a second
UNLIMITED = {"GCOUNT_MAX_IDS": "100000000"}

_begun = count()


@dataclass
class Done:
    """What a tool did in one round: increments a second, and how many."""

    rate: float
    increments: float


Work = Callable[[Node, float], Awaitable[Done]]


@dataclass
class Rounds:
    """All rounds of one kind: increments a second, and the node's processor time for one, in seconds."""

    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    async def add(self, work: Work, node: Node, seconds: float) -> None:
        before = processor_time(node.pid)
        done = await work(node, seconds)
        self.rates.append(done.rate)
        self.costs.append((processor_time(node.pid) - before) / done.increments)


class Posts:
    """POST by wrk, over 1,000 counters."""

    def __init__(self, ids: str) -> None:
        self._ids = ids

    async def __call__(self, node: Node, seconds: float) -> Done:
        script, url = Path(__file__).with_name("post.lua"), f"http://{node.host}:{node.port}"
        whole = max(1, round(seconds))
        numbers = ["-t1", f"-c{CONNECTIONS}", f"-d{whole}s", "--latency", "-s", str(script)]
        first = str(next(_begun) * 1_000_000)  # no two runs in one second make the same id
        rate = output.wrk(await said_by(seconds, "wrk", *numbers, url, "--", self._ids, first)).rate
        return Done(rate, rate * whole)


class Pipelined:
    """INCRBY by redis-benchmark, which takes a number of commands instead of seconds.

    Args:
        key: the name of the counter.
        numbers: how many numbers `__rand_int__` chooses from.
        ids: whether each command has an id.
    """

    def __init__(self, key: str, numbers: int, *, ids: bool) -> None:
        self._key, self._numbers, self._ids = key, numbers, ids
        self._rate = FIRST_GUESS

    async def __call__(self, node: Node, seconds: float) -> Done:
        address = ("-h", node.host, "-p", str(node.port))
        commands = max(1, round(self._rate * seconds))
        flags = ("-c", str(CONNECTIONS), "-P", str(PIPELINE), "-n", str(commands), "-r", str(self._numbers), "--csv")
        words = ["INCRBY", self._key, "1"]
        if self._ids:
            words = ["GCOUNT.INCRBY", self._key, "1", "ID", f"{int(time.time())}-__rand_int__"]
        said = await said_by(60, "redis-benchmark", *address, *flags, *words)
        self._rate = output.redis_benchmark(said).rate
        return Done(self._rate, commands)


PAIRS: list[tuple[str, float, Work, Work]] = [
    ("POST, 1,000 counters", POST, Posts("without"), Posts("with")),
    (
        "INCRBY, 32 pipelined, 100,000 counters",
        PIPELINED,
        Pipelined("bench-__rand_int__", COUNTERS, ids=False),
        Pipelined("bench-__rand_int__", COUNTERS, ids=True),
    ),
    (
        "INCRBY, 32 pipelined, one counter",
        PIPELINED,
        Pipelined("hot", DIFFERENT, ids=False),
        Pipelined("hot", DIFFERENT, ids=True),
    ),
]


async def measure(arguments: argparse.Namespace) -> None:
    """All pairs, with a node of its own each, which keeps all ids live."""
    rows = [["increments, medians", "a second", "with ids", "share", "us of a processor", "with ids", "share"]]
    shares = dict[str, float]()
    folder: Path
    for what, _, *works in PAIRS:
        with data_folder(arguments.data) as folder:
            async with running(9, "127.0.0.9", 0, folder, "on", settings=UNLIMITED) as node:
                plain, keyed = await _alternate(node, works, arguments)
        shares[what] = median(keyed.rates) / median(plain.rates)
        rates = [f"{median(each.rates):,.0f}" for each in (plain, keyed)]
        costs = [f"{median(each.costs) * 1e6:.1f}" for each in (plain, keyed)]
        by_cost = f"{median(plain.costs) / median(keyed.costs):.2f}"
        rows.append([what, *rates, f"{shares[what]:.2f}", *costs, by_cost])
    table(rows)
    for what, wanted, _, _ in PAIRS:
        goal(f"{what}: with ids / without", f"{shares[what]:.2f}", f"at least {wanted:g}", met=shares[what] >= wanted)


async def _alternate(node: Node, works: Sequence[Work], arguments: argparse.Namespace) -> list[Rounds]:
    """Do both kinds in turn. The first round only warms up."""
    for work in works:
        await work(node, arguments.seconds)
    found = [Rounds() for _ in works]
    for _ in range(arguments.rounds):
        for rounds, work in zip(found, works, strict=True):
            await rounds.add(work, node, arguments.seconds)
    return found
