"""What tests of clusters keep: books of what was acknowledged, and histories of writes and reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import trio

from gcount.errors import ReadUnavailable, Refusal
from tests.fakes.cluster import Host, SimCluster, replayed
from tests.fakes.counting import add
from tests.harness.linearizable import Read, Write, violations


@dataclass
class Books:
    """What was acknowledged, and what was asked for but never answered."""

    acked: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    highest: dict[tuple[str, str], int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    async def increment(self, host: Host, name: str, amount: int = 1) -> None:
        """Count, and book it also if the node dies meanwhile."""
        started = trio.current_time()
        life, ended = host.ended, False
        self.unanswered[name] += amount
        try:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_cancel_after, life, scope)
                    try:
                        await add(host.node, name, amount)
                        ended = True
                    except* Refusal:
                        self.unanswered[name] -= amount
                    nursery.cancel_scope.cancel()
        finally:
            if ended:
                self.unanswered[name] -= amount
                self.acked[name] += amount
                self.answers[host.address] += 1
                self.slowest = max(self.slowest, trio.current_time() - started)

    def look(self, host: Host, name: str) -> None:
        """Note a value; complain if it went down."""
        value = host.node.value(name)
        key = host.address, name
        if value < self.highest.get(key, 0):
            self.complaints.append(f"{name} at {host.address} went down from {self.highest[key]} to {value}")
        self.highest[key] = value

    def check(self, name: str, value: int) -> None:
        """Every acknowledged increment is in it, and nothing that nobody asked for."""
        assert self.complaints == []
        assert self.acked[name] <= value <= self.acked[name] + self.unanswered[name]


async def _cancel_after(life: trio.Event, scope: trio.CancelScope) -> None:
    await life.wait()
    scope.cancel()


class History:
    """Increments by powers of two of one counter, consistent reads of it, and their times."""

    def __init__(self, name: str = "x") -> None:
        self.name = name
        self.writes: list[Write] = []
        self.reads: list[Read] = []
        self.unavailable = 0
        self._bits = 0

    async def write(self, host: Host) -> None:
        """Count a power of two that nobody else counts."""
        amount, start, end = 1 << self._bits, trio.current_time(), None
        self._bits += 1
        try:
            await add(host.node, self.name, amount)
            end = trio.current_time()
        finally:
            self.writes.append(Write(amount, start, end))

    async def read(self, host: Host, timeout: float = 5.0) -> None:
        """Read consistently."""
        start = trio.current_time()
        try:
            value = await host.node.consistent_value(self.name, timeout)
        except ReadUnavailable:
            self.unavailable += 1
        else:
            self.reads.append(Read(value, start, trio.current_time(), host.address))

    def violations(self) -> list[str]:
        """Why no order of the operations explains what was read."""
        return list(violations(self.writes, self.reads))


async def all_equal(cluster: SimCluster) -> None:
    """All nodes hold the same, and the same as a replay of their logs makes."""
    first = cluster[1].node.replica
    for host in cluster.hosts:
        replica = host.node.replica
        assert replica.counters == first.counters
        again = await replayed(host.disk, host.cluster.options)
        assert again.counters == replica.counters
        assert again.identity == replica.identity
        assert again.membership == replica.membership
