"""Closed-loop load: each of some connections sends its next request when the last one was answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from bench.client import Connection, connection
from bench.nodes import Node
from bench.report import percentile


@dataclass
class Measured:
    """The result of a round.

    Attributes:
        seconds: how long the round really took.
        latencies: the latency of each request, in seconds.
        cost: the processor time that the node spent on each request, in seconds.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    cost: float = 0.0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds

    @property
    def median(self) -> float:
        return percentile(self.latencies, 50)

    @property
    def p99(self) -> float:
        return percentile(self.latencies, 99)


async def closed_loop(node: Node, requests: Sequence[Sequence[bytes]], seconds: float) -> Measured:
    """Load a node.

    Args:
        node: the node.
        requests: for each connection, the requests that it sends again and again.
        seconds: how long.
    """
    measured = Measured()
    async with trio.open_nursery() as nursery:
        begin = trio.Event()
        for own in requests:
            await nursery.start(_client, node, own, begin, seconds, measured.latencies)
        started = time.perf_counter()
        begin.set()
    measured.seconds = time.perf_counter() - started
    return measured


async def _client(
    node: Node,
    requests: Sequence[bytes],
    begin: trio.Event,
    seconds: float,
    latencies: list[float],
    task_status: trio.TaskStatus[None],
) -> None:
    async with connection(node.host, node.port) as conn:
        task_status.started()
        await begin.wait()
        end = time.perf_counter() + seconds
        index = 0
        while (sent := time.perf_counter()) < end:
            await conn.ask(requests[index % len(requests)])
            latencies.append(time.perf_counter() - sent)
            index += 1


async def timed(conn: Connection, request: bytes) -> float:
    """How long one request takes, in seconds."""
    sent = time.perf_counter()
    await conn.ask(request)
    return time.perf_counter() - sent
