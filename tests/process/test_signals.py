"""The signals for a daemon: to stop, to read its settings again, to open its log file again."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
import trio

from tests.harness import processes
from tests.harness.checkpointing import count_all, made, pause_in_the_midst, write_launcher
from tests.harness.cluster import running
from tests.harness.load import Ledger, worker
from tests.harness.processes import Node
from tests.harness.waiting import eventually

HOST = "127.0.0.1"
PASSED_OVER = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
STOPPING = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
OTHERS = [f"{number:06d}" + "x" * 200 for number in range(1000)]

passed_over = pytest.mark.parametrize("number", PASSED_OVER)
stopping = pytest.mark.parametrize("number", STOPPING)


def one_node(base: Path) -> Node:
    return Node(1, HOST, 0, base / "data")


def signal_mask(node: Node, *fields: str) -> int:
    """Which signals the process ignores (SigIgn) or has handlers for (SigCgt)."""
    assert node.process is not None
    lines = Path(f"/proc/{node.process.pid}/status").read_text().splitlines()
    masks = dict(line.split(":", 1) for line in lines)
    return sum(int(masks[field], 16) for field in fields)


async def heeds(node: Node, number: int, *fields: str) -> None:
    """The process has begun to treat a signal otherwise than the system does."""

    async def check() -> str | None:
        return None if signal_mask(node, *fields) >> (number - 1) & 1 else "not yet"

    await eventually(check, within=30)


async def said(node: Node, words: str) -> None:
    async def check() -> str | None:
        return None if words in node.stderr() else f"nothing of {words}:\n{node.stderr()}"

    await eventually(check, within=10)


@passed_over
async def test_a_node_goes_on_and_its_log_says_so(tmp_path: Path, number: signal.Signals) -> None:
    node = one_node(tmp_path)
    async with running(node):
        client = node.client()
        assert (await client.request("POST", "/counter/x", b"5")).number() == 5
        node.send_signal(number)
        await said(node, f"signal={number.name}")
        assert (await client.request("POST", "/counter/x", b"5")).number() == 10  # on the connection that was there
        client.drop()
        assert await node.stop() == 0


@passed_over
async def test_a_node_that_starts_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    node = one_node(tmp_path)
    try:
        node.spawn()
        await heeds(node, number, "SigIgn", "SigCgt")  # still the launcher, as a rule
        node.send_signal(number)
        await heeds(node, number, "SigCgt")  # Python, which has yet to import most of itself
        node.send_signal(number)
        while not node.is_ready():
            node.send_signal(number)
            await trio.sleep(0.01)
        await said(node, f"signal={number.name}")
        assert await node.add("x", 1) == 1
        assert await node.stop() == 0
    finally:
        node.kill9()


@stopping
async def test_a_node_that_starts_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    node = one_node(tmp_path)
    try:
        node.spawn()
        await heeds(node, signal.SIGTERM, "SigCgt")  # Python itself begins with a handler for SIGINT
        assert await node.stop(number) == 0
        assert not node.lines(), "the start was over"
    finally:
        node.kill9()


@pytest.mark.parametrize("number", [*PASSED_OVER, signal.SIGQUIT])
async def test_while_a_checkpoint_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Under load. A stop loses nothing, and the checkpoint that was not finished is made later."""
    monkeypatch.setattr(processes, "LAUNCHER", write_launcher(tmp_path))
    node, ledger, stop = one_node(tmp_path), Ledger(), trio.Event()

    async def finished() -> str | None:
        return None if made(node) > before else f"no checkpoint:\n{node.stderr()}"

    async with running(node):
        await count_all(node, OTHERS)
        async with trio.open_nursery() as nursery:
            for seed in range(3):
                nursery.start_soon(worker, node, ["n"], ledger, random.Random(seed), stop, 0.0)
            await pause_in_the_midst(node, tmp_path / "data")
            before = made(node)
            node.send_signal(number)
            node.resume()
            await said(node, f"signal={number.name}")
            if number in STOPPING:
                assert await node.exited(within=3) == 0
                await node.start()
            await eventually(finished, within=20)
            stop.set()
        assert "Traceback" not in node.stderr(whole=True)
        ledger.check_bounds("n", await node.value("n"))
        assert await node.value(OTHERS[7]) == 1
