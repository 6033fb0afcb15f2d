"""kill -9 during checkpoints loses nothing, and the directory is whole after each kill."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.harness import processes
from tests.harness.checkpointing import count_all, pause_in_the_midst, unfinished, write_launcher
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

    async with running(node):
        await count_all(node, OTHERS)
        async with trio.open_nursery() as load:
            load.start_soon(never_down, node, NAMES, ledger, stop)
            for number in range(3):
                load.start_soon(worker, node, NAMES, ledger, random.Random(number), stop, 0.0)
            for number in range(KILLS):
                await made_more(newest(folder))
                await trio.sleep(rng.uniform(0.0, 0.3))  # any instant
                if number % 2:
                    await pause_in_the_midst(node, folder)
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
