"""The log of a node with a real disk that fills up: it has exactly the acknowledged increments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.harness.cluster import free_port, running
from tests.harness.processes import Node
from tests.harness.strace import TracedNode
from tests.harness.strace import why_not as why_not_trace
from tests.harness.tmpfs import LONG, Filesystem, assert_refused, increments_until_refused, resumes
from tests.harness.waiting import eventually


async def test_acknowledged_increments_count_under_load_though_the_disk_fills_again_and_again(
    disk: Filesystem, tmp_path: Path
) -> None:
    """Batches of many increments reach the end of the space; some records are written in part and cut back."""
    node = Node(1, "127.0.0.1", free_port(["127.0.0.1"]), disk.path / "data", log_dir=tmp_path)
    acknowledged: Counter[str] = Counter()
    refused = 0
    stop = trio.Event()

    async def worker(name: str) -> None:
        nonlocal refused
        client = node.client()
        while not stop.is_set():
            answer = await client.request("POST", f"/counter/{name}", b"1")
            if answer.status == 200:
                acknowledged[name] += 1
                assert answer.number() == acknowledged[name], "an increment that was refused is counted"
            else:
                assert_refused(answer)
                refused += 1
        client.drop()

    async def until(progress: Callable[[], int], more: int) -> None:
        goal = progress() + more

        async def check() -> str | None:
            return None if progress() >= goal else f"{progress()} of {goal}"

        await eventually(check, within=20)

    async with running(node):
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(worker, f"{number}" * (20 * number + 1))
            for _ in range(3):
                await until(acknowledged.total, 50)
                disk.fill()
                await until(lambda: refused, 50)
                disk.free_space()
            await until(acknowledged.total, 50)
            stop.set()
        print(f"{acknowledged.total()} acknowledged, {refused} refused")
        for _ in range(2):
            for name, total in acknowledged.items():
                assert await node.value(name) == total
            node.kill9()
            await node.start()
            assert "torn" not in node.stderr()


async def test_a_record_that_was_written_in_part_is_cut_back_and_that_is_synced_before_the_next_one(
    disk: Filesystem, tmp_path: Path
) -> None:
    reason = why_not_trace()
    if reason is not None:
        pytest.skip(reason)
    node = TracedNode(1, "127.0.0.1", free_port(["127.0.0.1"]), disk.path / "data", log_dir=tmp_path)
    async with running(node):
        disk.fill()
        acknowledged = await increments_until_refused(node, LONG)
        disk.free_space()
        await resumes(node)
        await node.add(LONG, 1)
        node.kill9()
        calls = [call for call in await node.trace() if call.fd.endswith(".log")]
        in_part = next(at for at, call in enumerate(calls) if len(call.data) < len(b"".join(call.strings)))
        assert [(call.name, call.result == 0) for call in calls[in_part + 1 : in_part + 4]] == [
            ("write", False),
            ("ftruncate", True),
            ("fdatasync", True),
        ]
        assert any(call.name == "write" for call in calls[in_part + 4 :])
        await node.start()
        assert "torn" not in node.stderr()
        assert await node.value(LONG) == acknowledged + 1
