"""As much of Redis' protocol as filling a store takes, and what redis-benchmark cannot send: INCR and WAIT together."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from bench.client import Failed
from bench.comparison.results import Reading
from bench.report import percentile

IN_ONE_PIECE = 1000


def command(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
    return "".join(parts).encode()


class Connection:
    """One connection; its answers are lines: numbers, +OK, errors."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock

    async def ask(self, commands: bytes, answers: int) -> list[bytes]:
        """Send commands and return so many answers.

        Raises:
            Failed: one of them is an error, or the connection was closed.
        """
        rest = commands
        while rest:
            rest = rest[await self._sock.send(rest) :]
        data = b""
        while data.count(b"\r\n") < answers:
            more = await self._sock.recv(65536)
            if not more:
                raise Failed("the connection was closed")
            data += more
        lines = data.split(b"\r\n")[:-1]
        if wrong := next((line for line in lines if line.startswith(b"-")), None):
            raise Failed(wrong.decode())
        return lines


@asynccontextmanager
async def connection(host: str, port: int) -> AsyncIterator[Connection]:
    with trio.socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await sock.connect((host, port))
        yield Connection(sock)


def name(number: int) -> str:
    """A counter's name: 18 bytes, such as redis-benchmark makes of bench-__rand_int__."""
    return f"bench-{number:012d}"


async def fill(host: str, port: int, counters: int) -> None:
    """Increment each of so many counters once."""
    async with connection(host, port) as conn:
        for first in range(0, counters, IN_ONE_PIECE):
            numbers = range(first, min(counters, first + IN_ONE_PIECE))
            await conn.ask(b"".join(command("INCR", name(number)) for number in numbers), len(numbers))


async def increments_and_waits(host: str, port: int, connections: int, seconds: float) -> Reading:
    """Closed loop: each connection sends INCR and WAIT 1 in one piece, and again when both are answered."""
    latencies: list[float] = []
    both = command("INCR", "hot") + command("WAIT", "1", "10000")

    async def client() -> None:
        async with connection(host, port) as conn:
            while (sent := time.perf_counter()) < end:
                _, copies = await conn.ask(both, 2)
                if copies == b":0":
                    raise Failed("WAIT: nobody else has it")
                latencies.append(time.perf_counter() - sent)

    started = time.perf_counter()
    end = started + seconds
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(client)
    rate = len(latencies) / (time.perf_counter() - started)
    return Reading(rate, percentile(latencies, 50), percentile(latencies, 99), max(latencies))
