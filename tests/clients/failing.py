"""A stream of increments by a third-party client, during which its node fails: how many are counted then."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.clients.fronts import front
from tests.clients.fronts import version as front_version
from tests.clients.known import Client
from tests.clients.proxy import Cut, Road, opened
from tests.harness.cluster import free_port, running
from tests.harness.processes import Node
from tests.harness.waiting import eventually

HOST = "127.0.0.1"
PAUSE = 7.0  # seconds
GRACE = 8.0  # seconds in which a client may finish its last increment after its time


@dataclass(frozen=True)
class Fault:
    """A fault of the node or of the road to it.

    Attributes:
        name: its name in the table.
        seconds: for how long the client counts, its start included.
        strike: causes the fault.
        over_road: whether clients reach the node over a road that can be cut.
    """

    name: str
    seconds: float
    strike: Callable[[Node, Road], Awaitable[None]]
    over_road: bool = False


async def _kill(node: Node, _road: Road) -> None:
    for _ in range(3):
        await trio.sleep(0.5)
        node.kill9()
        await node.start()


async def _pause(node: Node, _road: Road) -> None:
    node.pause()
    await trio.sleep(PAUSE)
    node.resume()


async def _cut(_node: Node, road: Road) -> None:
    for cut in (Cut.RESET, Cut.END, Cut.BEFORE) * 4:
        await trio.sleep(0.2)
        road.next = cut


async def _silence(_node: Node, road: Road) -> None:
    road.next = Cut.SILENCE


FAULTS = [
    Fault("kill -9, three times", 8, _kill),
    Fault("paused for 7 s", 11, _pause),
    Fault("connection cut", 5, _cut, over_road=True),
    Fault("answers swallowed", 9, _silence, over_road=True),
]


@dataclass(frozen=True)
class Outcome:
    """What was counted, and the answers that the client got.

    Attributes:
        ok: the number of increments that were acknowledged.
        error: the number of increments that failed, and of which the client knows that they were not counted.
        unknown: the number of increments of which the client knows nothing.
        counted: the final value of the counter.
        hung: whether the last increment never ended.
        version: the version of the client.
        words: the texts of errors and unknown outcomes, with how often each occurred.
    """

    client: str
    settings: str
    fault: str
    version: str
    ok: int
    error: int
    unknown: int
    counted: int
    hung: bool
    words: Counter[str]

    @property
    def lost(self) -> int:
        """The number of increments that were acknowledged and are not counted; it has to be 0."""
        return max(0, self.ok - self.counted)

    @property
    def excess(self) -> int:
        """The number of increments that were counted twice, as far as the client's answers show it."""
        return max(0, self.counted - self.ok - self.unknown)


async def measure(client: Client, settings: str, environment: dict[str, str], base: Path) -> list[Outcome]:
    """Let a client count under every fault; all run at the same time, each with a node of its own."""
    outcomes: dict[str, Outcome] = {}

    async def one(fault: Fault, folder: Path) -> None:
        outcomes[fault.name] = await _under(fault, client, settings, environment, folder)

    async with trio.open_nursery() as nursery:
        for number, fault in enumerate(FAULTS):
            nursery.start_soon(one, fault, base / str(number))
    return [outcomes[fault.name] for fault in FAULTS]


async def _under(fault: Fault, client: Client, settings: str, environment: dict[str, str], folder: Path) -> Outcome:
    node = Node(1, HOST, free_port([HOST]), folder / "data")
    async with running(node), opened(node.port) as road:
        port = road.port if fault.over_road else node.port
        async with _fronted(client, settings, folder, port) as port, trio.open_nursery() as nursery:
            nursery.start_soon(_strike, fault, node, road, folder)
            arguments = [str(port), "n", settings, str(fault.seconds), *client.arguments]
            said, hung = await _run(client, arguments, environment, folder, fault.seconds + GRACE)
        assert not fault.over_road or road.cuts, "the road was never cut"
        counted = await _at_rest(node)
        assert "Traceback" not in node.stderr(whole=True)
    return _outcome(client, settings, fault.name, said, hung, counted)


def _outcome(client: Client, settings: str, fault: str, said: list[str], hung: bool, counted: int) -> Outcome:
    version, *lines = said
    told = Counter(line.split()[0] for line in lines)
    assert set(told) <= {"ok", "error", "unknown"}, lines
    assert told["ok"] > 20, lines
    words = Counter(line for line in lines if line != "ok")
    unknown = told["unknown"] + hung
    which = version.removeprefix("version ")
    if client.front is not None:
        which = f"{front_version(client.front)}, {which}"
    return Outcome(client.name, settings, fault, which, told["ok"], told["error"], unknown, counted, hung, words)


async def _strike(fault: Fault, node: Node, road: Road, folder: Path) -> None:
    """Cause a fault when the client has begun to count; how long its start takes depends on the machine."""

    async def under_way() -> str | None:
        file = folder / "said"
        return None if file.exists() and file.read_bytes().count(b"ok\n") > 20 else "the client counts not"

    await eventually(under_way, within=fault.seconds)
    await fault.strike(node, road)


@asynccontextmanager
async def _fronted(client: Client, settings: str, folder: Path, port: int) -> AsyncIterator[int]:
    if client.front is None:
        yield port
        return
    async with front(client.front, folder / "front", [port], retries=settings == "retries") as fronted:
        yield fronted


async def _run(
    client: Client, arguments: list[str], environment: dict[str, str], folder: Path, within: float
) -> tuple[list[str], bool]:
    """Run a program; returns the lines that it printed, and whether it had to be killed."""
    process = _started([*client.command(), *arguments], environment, folder)

    async def ended() -> str | None:
        return None if process.poll() is not None else "it runs"

    try:
        with trio.move_on_after(within):
            await eventually(ended, within * 2)
        hung = process.poll() is None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    errors = (folder / "errors").read_text()
    lines = [line for line in (folder / "said").read_text().splitlines() if line]
    assert hung or process.returncode == 0, errors
    assert lines, errors
    assert lines[0].startswith("version "), lines[0]
    return lines, hung


def _started(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "said").open("wb") as said, (folder / "errors").open("wb") as errors:
        return subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=errors,
            start_new_session=True,
        )


async def _at_rest(node: Node) -> int:
    """The counter's value when no request is on its way any more."""
    before, now = -1, await node.value("n")
    while before != now:
        await trio.sleep(0.5)
        before, now = now, await node.value("n")
    return now
