"""The load tools: each loads a server over some connections for some seconds, and returns what it measured."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Protocol

from bench.comparison import output, resp
from bench.comparison.programs import output as said_by
from bench.comparison.results import Reading
from bench.comparison.rivals import OWNER, Server

HERE = Path(__file__).resolve().parent
FIRST_GUESS = 2000.0  # operations a second, before a pipeline


class Tool(Protocol):
    """Loads a server."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The tool's programs."""
        ...

    async def measure(self, server: Server, connections: int, seconds: int, folder: Path) -> Reading:
        """Measure once.

        Args:
            server: the server to load.
            connections: how many connections to use.
            seconds: how long.
            folder: a folder for the tool's files.

        Raises:
            Failed: a request failed.
        """
        ...


class Wrk:
    """Sends HTTP requests, one after the other on each connection, in an order that is the same in each run."""

    needs = ("wrk",)

    def __init__(self, requests: Iterable[str]) -> None:
        self._requests = list(requests)
        random.Random(0).shuffle(self._requests)

    async def measure(self, server: Server, connections: int, seconds: int, folder: Path) -> Reading:
        file = folder / "requests"
        file.write_text("".join(f"{request}\n" for request in self._requests))
        return output.wrk(await wrk("requests.lua", 1, server, connections, seconds, str(file)))


class CompareAndSwap:
    """Increments one key in etcd by compare and swap, so that concurrent increments lose nothing."""

    needs = ("wrk",)

    async def measure(self, server: Server, connections: int, seconds: int, folder: Path) -> Reading:
        said = await wrk("cas.lua", connections, server, connections, seconds, "hot")
        return output.wrk_increments(said)


async def wrk(script: str, threads: int, server: Server, connections: int, seconds: int, argument: str) -> str:
    numbers = [f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
    url = f"http://{server.host}:{server.port}"
    return await said_by(seconds, "wrk", *numbers, "-s", str(HERE / script), url, "--", argument)


class RedisBenchmark:
    """Sends INCR. redis-benchmark takes a number of commands instead of seconds; the last rate decides that number."""

    needs = ("redis-benchmark",)

    def __init__(self, keys: int = 1, pipeline: int = 1) -> None:
        self._keys, self._pipeline = keys, pipeline
        self._rates: dict[tuple[Server, int], float] = {}

    async def measure(self, server: Server, connections: int, seconds: int, folder: Path) -> Reading:
        if (server, connections) not in self._rates:
            await self._run(server, connections, FIRST_GUESS * self._pipeline)
        return await self._run(server, connections, self._rates[server, connections] * seconds)

    async def _run(self, server: Server, connections: int, commands: float) -> Reading:
        numbers = {"-c": connections, "-P": self._pipeline, "-n": max(1, round(commands)), "-r": self._keys}
        flags = chain(*((flag, str(number)) for flag, number in numbers.items()))
        address = ("-h", server.host, "-p", str(server.port))
        key = "hot" if self._keys == 1 else "bench-__rand_int__"
        reading = output.redis_benchmark(await said_by(60, "redis-benchmark", *address, *flags, "--csv", "INCR", key))
        self._rates[server, connections] = reading.rate
        return reading


class IncrementAndWait:
    """Sends INCR and WAIT 1 in one piece, by this project's own load generator."""

    needs = ()

    async def measure(self, server: Server, connections: int, seconds: int, folder: Path) -> Reading:
        return await resp.increments_and_waits(server.host, server.port, connections, seconds)


class Pgbench:
    """Executes one prepared INSERT ... ON CONFLICT DO UPDATE.

    Args:
        name: the counter's name, as an SQL expression.
        before: lines of the script before the statement.
    """

    needs = ("pgbench",)

    def __init__(self, name: str, before: str = "") -> None:
        self._script = (
            f"{before}INSERT INTO counters VALUES ({name}, 1) "
            "ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value;\n"
        )

    async def measure(self, server: Server, connections: int, seconds: int, folder: Path) -> Reading:
        script = folder / "script"
        script.write_text(self._script)
        address = (f"--host={server.host}", f"--port={server.port}", f"--username={OWNER}")
        numbers = (f"--client={connections}", "--jobs=1", f"--time={seconds}", "--protocol=prepared", "--no-vacuum")
        files = ("--log", f"--log-prefix={folder / 'transactions'}", f"--file={script}")
        said = await said_by(seconds, "pgbench", *address, *numbers, *files, "postgres")
        return output.pgbench(said, _lines(folder, "transactions.*"))


def _lines(folder: Path, pattern: str) -> list[str]:
    """Read all lines of some files, and delete the files."""
    lines = []
    for file in folder.glob(pattern):
        lines += file.read_text().splitlines()
        file.unlink()
    return lines
