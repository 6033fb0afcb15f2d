"""A Redis client for load: it fills a store, and sends INCR with WAIT, which redis-benchmark can't send."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from bench.client import Failed
from bench.comparison.results import Reading
from bench.report import percentile
from tests.harness.resp import RespConnection, encoded

IN_ONE_PIECE = 1000


class Connection(RespConnection):
    """One connection of a load generator."""

    async def ask(self, commands: bytes, answers: int) -> list[object]:
        """Send commands and return their answers.

        Raises:
            Failed: one of them is an error, or the connection was closed.
        """
        try:
            replies = await self.exchange(commands, answers)
        except EOFError as closed:
            raise Failed(str(closed)) from None
        if wrong := next((reply for reply in replies if isinstance(reply, Exception)), None):
            raise Failed(str(wrong))
        return replies


@asynccontextmanager
async def connection(host: str, port: int) -> AsyncIterator[Connection]:
    with trio.socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await sock.connect((host, port))
        yield Connection(sock)


def name(number: int) -> str:
    """A counter's name, 18 bytes, as redis-benchmark makes it of bench-__rand_int__."""
    return f"bench-{number:012d}"


async def fill(host: str, port: int, counters: int) -> None:
    """Increment each of some counters once."""
    async with connection(host, port) as conn:
        for first in range(0, counters, IN_ONE_PIECE):
            numbers = range(first, min(counters, first + IN_ONE_PIECE))
            await conn.ask(b"".join(encoded("INCR", name(number)) for number in numbers), len(numbers))


async def increments_and_waits(host: str, port: int, connections: int, seconds: float) -> Reading:
    """Load in a closed loop: each connection sends INCR and WAIT 1 in one piece, and again when both are answered."""
    latencies: list[float] = []
    both = encoded("INCR", "hot") + encoded("WAIT", "1", "10000")

    async def client() -> None:
        async with connection(host, port) as conn:
            while (sent := time.perf_counter()) < end:
                _, copies = await conn.ask(both, 2)
                if copies == 0:
                    raise Failed("WAIT: no other node has the increment")
                latencies.append(time.perf_counter() - sent)

    started = time.perf_counter()
    end = started + seconds
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(client)
    rate = len(latencies) / (time.perf_counter() - started)
    return Reading(rate, percentile(latencies, 50), percentile(latencies, 99), max(latencies))
