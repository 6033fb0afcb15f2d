"""Nodes to measure: processes of this project, each with a data directory that is deleted afterwards."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import trio

from bench.client import Failed, get, once, post
from bench.processes import free_port, process

PROJECT = Path(__file__).resolve().parent.parent
PRODUCT = ("-P", "-m", "gcount")  # what bin/gcount-node executes
START_WITHIN = 60.0  # seconds
_READY = re.compile(r"ready on http://\S+:(\d+)")
_SETTINGS = re.compile(r"GCOUNT_|CHALLENGE_TIMEOUT")


class Node:
    """A running node.

    Attributes:
        host: the address on which it listens.
        port: the port on which it listens.
        pid: the id of its process.
    """

    def __init__(self, host: str, port: int, pid: int) -> None:
        self.host, self.port, self.pid = host, port, pid

    async def ask(self, request: bytes) -> bytes:
        return await once(self.host, self.port, request)

    async def metrics(self) -> dict[str, float]:
        """All metrics of the node that have no labels."""
        rows = (await self.ask(get("/metrics"))).decode().splitlines()
        pairs = (row.split(" ") for row in rows if row[0] != "#" and "{" not in row)
        return {pair[0]: float(pair[1]) for pair in pairs}


@contextmanager
def data_folder(parent: Path) -> Iterator[Path]:
    """A folder for data directories, deleted afterwards. It is not in /tmp, which is often in memory."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as folder:
        yield Path(folder)


@asynccontextmanager
async def running(
    number: int,
    host: str,
    port: int,
    folder: Path,
    fast_path: str,
    command: tuple[str, ...] = PRODUCT,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Node]:
    """Run a node for as long as the context lasts.

    Args:
        number: the node's ID.
        host: the address on which it listens.
        port: the port on which it listens; 0 for any free port.
        folder: the folder for its data directory and its log lines.
        fast_path: "on" or "off", the node's --fast-path.
        command: the arguments with which this Python runs a node.
        settings: environment variables of the node.
    """
    arguments = [
        str(number),
        "--listen",
        f"{host}:{port}",
        "--data-dir",
        str(folder / str(number)),
        "--fast-path",
        fast_path,
    ]
    environment = {name: text for name, text in os.environ.items() if not _SETTINGS.match(name)}
    environment |= {"PYTHONPATH": str(PROJECT), **(settings or {})}
    log = folder / f"{number}.log"
    with process([sys.executable, *command, *arguments], log, environment) as started:
        deadline = time.monotonic() + START_WITHIN
        while (ready := _READY.search(log.read_text())) is None:
            if started.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"node {number} did not start:\n{log.read_text()}")
            await trio.sleep(0.02)
        yield Node(host, int(ready[1]), started.pid)
        if started.poll() is not None:
            raise Failed(f"node {number} ended:\n{log.read_text()}")


@asynccontextmanager
async def cluster(
    folder: Path,
    fast_path: str,
    size: int = 3,
    command: tuple[str, ...] = PRODUCT,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[list[Node]]:
    """Run nodes on 127.0.0.1, 127.0.0.2, ..., linked in all directions; see `running`."""
    port = await free_port("0.0.0.0")
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                running(number, f"127.0.0.{number}", port, folder, fast_path, command, settings)
            )
            for number in range(1, size + 1)
        ]
        await nodes[0].ask(post("/config", json.dumps({"actors": [node.host for node in nodes]}).encode()))
        deadline = time.monotonic() + START_WITHIN
        while not all([await _is_linked(node, len(nodes) - 1) for node in nodes]):
            if time.monotonic() > deadline:
                raise Failed("the nodes did not link up")
            await trio.sleep(0.05)
        yield nodes


async def _is_linked(node: Node, others: int) -> bool:
    peers = json.loads(await node.ask(get("/status")))["peers"]
    return len(peers) == others and all(peer["state"] == "linked" for peer in peers)


class Cpu:
    """The processor time that processes use from now on.

    Args:
        pids: the ids of the processes.
    """

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._started = time.monotonic()
        self._before = self._seconds()

    def shares(self) -> list[float]:
        """The share of one processor that each process has used."""
        elapsed = time.monotonic() - self._started
        return [(now - before) / elapsed for now, before in zip(self._seconds(), self._before, strict=True)]

    def _seconds(self) -> list[float]:
        return [processor_time(pid) for pid in self._pids]


def processor_time(pid: int) -> float:
    """The processor time that a process has used since it began, in seconds."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
