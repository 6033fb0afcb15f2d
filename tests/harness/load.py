"""Load that keeps accounts: what was acknowledged, what may have been counted, what was refused."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from tests.harness.client import Client, NoAnswer, NotSent
from tests.harness.linearizable import Read, Write
from tests.harness.processes import Node


def fresh_seed() -> int:
    """A seed for random choices, printed; GCOUNT_TEST_SEED repeats one."""
    seed = int(os.environ.get("GCOUNT_TEST_SEED") or random.randrange(2**32))
    print(f"GCOUNT_TEST_SEED={seed}")
    return seed


@dataclass
class Ledger:
    """The accounts of each counter. At every moment: acked <= true value <= acked + unanswered."""

    acked: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)  # sent and not answered (yet)
    refused: Counter[int] = field(default_factory=Counter)  # by status; these must have changed nothing
    answers: Counter[str] = field(default_factory=Counter)  # acknowledgements by node
    slowest: float = 0.0
    complaints: list[str] = field(default_factory=list)

    async def increment(self, client: Client, node: Node, name: str, amount: int, timeout: float = 10.0) -> int | None:
        """Post one increment and account for it, also if cancelled; returns the value if it was acknowledged."""
        self.unanswered[name] += amount
        try:
            answer = await client.request("POST", f"/counter/{name}", b"%d" % amount, timeout=timeout)
        except NotSent:
            self.unanswered[name] -= amount
            return None
        except NoAnswer:
            return None
        self.unanswered[name] -= amount
        if answer.status != 200:
            self.refused[answer.status] += 1
            return None
        self.acked[name] += amount
        self.answers[repr(node)] += 1
        self.slowest = max(self.slowest, answer.elapsed)
        return answer.number()

    def check_bounds(self, name: str, value: int) -> None:
        low, high = self.acked[name], self.acked[name] + self.unanswered[name]
        assert low <= value <= high, f"{name} is {value}, not within {low} (acknowledged) .. {high} (plus unanswered)"

    def check_quiet(self) -> None:
        """Check that there are no complaints and no refusals."""
        assert not self.complaints, self.complaints[:10]
        assert not self.refused, self.refused


async def worker(
    node: Node,
    names: Sequence[str],
    ledger: Ledger,
    rng: random.Random,
    stop: trio.Event,
    pause: float = 0.005,
) -> None:
    """Send increments to one node until stopped, even if it is down; its answers have to grow by each amount."""
    client = node.client()
    last: dict[str, int] = {}
    try:
        while not stop.is_set():
            name, amount = rng.choice(names), rng.choice((1, 7, rng.randrange(2**32)))
            value = await ledger.increment(client, node, name, amount)
            if value is None:
                await trio.sleep(0.02)
                continue
            if value < last.get(name, 0) + amount:
                ledger.complaints.append(f"{name} at {node}: {value} after {last[name]} and +{amount}")
            last[name] = value
            await trio.sleep(pause)
    finally:
        client.drop()


async def never_down(node: Node, names: Sequence[str], ledger: Ledger, stop: trio.Event, pause: float = 0.01) -> int:
    """Watch /value on one node across its restarts, and complain if a value goes down; returns how many were read."""
    client = node.client()
    highest: dict[str, int] = {}
    seen = 0
    try:
        while not stop.is_set():
            for name in names:
                try:
                    answer = await client.request("GET", f"/counter/{name}/value")
                except (NotSent, NoAnswer):
                    await trio.sleep(0.02)
                    continue
                if answer.status != 200:
                    ledger.refused[answer.status] += 1
                    continue
                value = answer.number()
                if value < highest.get(name, 0):
                    ledger.complaints.append(f"{name} at {node} went down from {highest[name]} to {value}")
                highest[name] = value
                seen += 1
            await trio.sleep(pause)
    finally:
        client.drop()
    return seen


@dataclass
class History:
    """Increments by powers of two and consistent reads of one counter, with their times."""

    name: str
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    refused_reads: int = 0
    _bits: int = 0

    def next_amount(self) -> int:
        self._bits += 1
        return 1 << (self._bits - 1)

    async def write(self, client: Client, timeout: float = 10.0) -> None:
        amount = self.next_amount()
        start, end = time.monotonic(), None
        try:
            answer = await client.request("POST", f"/counter/{self.name}", b"%d" % amount, timeout=timeout)
            end = time.monotonic()
            assert answer.status == 200, answer
        except NotSent:
            return
        except NoAnswer:
            pass
        self.writes.append(Write(amount, start, end))

    async def read(self, client: Client, node: Node) -> None:
        start = time.monotonic()
        try:
            answer = await client.request("GET", f"/counter/{self.name}/consistent_value", timeout=70)
        except (NotSent, NoAnswer):
            return
        if answer.status == 503:
            self.refused_reads += 1
            return
        self.reads.append(Read(answer.number(), start, time.monotonic(), repr(node)))
