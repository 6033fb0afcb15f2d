"""kill -9 while checkpoints are made loses nothing, and the directory is whole after each."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.harness import processes
from tests.harness.checkpointing import unfinished, write_launcher
from tests.harness.cluster import free_port, running
from tests.harness.load import Ledger, fresh_seed, never_down, worker
from tests.harness.processes import REPOSITORY, Node
from tests.harness.waiting import eventually

HOST = "127.0.0.1"
KILLS = 6
NAMES = ["a", "b", "c"]
OTHERS = [f"{number:06d}" + "x" * 200 for number in range(2000)]


@pytest.fixture(autouse=True)
def checkpointing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(processes, "LAUNCHER", write_launcher(tmp_path))
        yield


def newest(folder: Path) -> int:
    """The number of the newest checkpoint; 0 when there is none."""
    return max((int(file.stem) for file in folder.iterdir() if file.suffix == ".checkpoint"), default=0)


def thread_states(node: Node) -> set[str]:
    """What the kernel says of a node's threads; T is stopped."""
    assert node.process is not None
    tasks = Path(f"/proc/{node.process.pid}/task").iterdir()
    return {(task / "stat").read_text().rpartition(") ")[2][0] for task in tasks}


async def count_all(node: Node) -> None:
    """One for each of the other counters, so that a checkpoint takes a while."""
    stream = await trio.open_tcp_stream(node.host, node.port)
    async with stream:
        commands = (b"*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n" % (len(name), name.encode()) for name in OTHERS)
        await stream.send_all(b"".join(commands))
        answers = 0
        while answers < len(OTHERS):
            data = await stream.receive_some()
            assert data, "the connection ended"
            answers += data.count(b":1\r")


def verify(folder: Path) -> None:
    told = subprocess.run(
        [REPOSITORY / "bin" / "gcount", "verify", folder], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


async def test_kills_while_checkpoints_are_made_lose_nothing(tmp_path: Path) -> None:
    rng = random.Random(fresh_seed())
    folder = tmp_path / "data"
    node, ledger, stop, interrupted = Node(1, HOST, free_port([HOST]), folder), Ledger(), trio.Event(), 0

    async def made_more(than: int) -> None:
        async def check() -> str | None:
            return None if newest(folder) > than else f"no checkpoint after {than}:\n{node.stderr()}"

        await eventually(check, within=20)

    async def stopped() -> str | None:
        states = thread_states(node)
        return None if states == {"T"} else f"its threads are {states}"

    async def caught_in_the_midst() -> str | None:
        """Leaves it stopped: what is unfinished now is so when it is killed."""
        node.pause()
        await eventually(stopped, within=10)
        if unfinished(folder):
            return None
        node.resume()
        return f"no checkpoint is being made:\n{node.stderr()}"

    async with running(node):
        await count_all(node)
        async with trio.open_nursery() as load:
            load.start_soon(never_down, node, NAMES, ledger, stop)
            for number in range(3):
                load.start_soon(worker, node, NAMES, ledger, random.Random(number), stop, 0.0)
            for number in range(KILLS):
                await made_more(newest(folder))
                await trio.sleep(rng.uniform(0.0, 0.3))  # any instant
                if number % 2:
                    await eventually(caught_in_the_midst, within=20)
                node.kill9()
                interrupted += unfinished(folder)
                verify(folder)
                await node.start()
                assert "recovering" in node.stderr()
            await made_more(newest(folder))
            stop.set()
        assert not ledger.complaints, ledger.complaints[:10]
        for name in NAMES:
            ledger.check_bounds(name, await node.value(name))
        assert await node.value(OTHERS[7]) == 1
        status = (await node.get("/status")).json()
        print(f"{interrupted} of {KILLS} kills in the midst of a checkpoint; {status['log']}, {status['checkpoint']}")
        assert interrupted >= KILLS // 2
        assert status["counters"] == len(OTHERS) + len(NAMES)
        assert status["checkpoint"]["bytes"] > 200 * len(OTHERS)
        assert "Traceback" not in node.stderr(whole=True)
    verify(folder)
