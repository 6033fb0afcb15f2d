"""A data directory that is removed under a running node: the node says so, ends, and loses nothing acknowledged."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
import trio

from tests.harness import processes
from tests.harness.checkpointing import made, write_launcher
from tests.harness.client import NoAnswer, NotSent
from tests.harness.cluster import running
from tests.harness.processes import Node
from tests.harness.waiting import eventually

HOST = "127.0.0.1"
CLIENTS = 4


def one_node(base: Path, number: int = 1) -> Node:
    return Node(number, HOST, 0, base / "data", log_dir=base / f"of-{number}")


async def ended(node: Node, *words: str) -> None:
    """It has ended, or does within seconds, with one last line that has these words."""
    assert await node.exited(within=10) == 1, node.stderr()
    said = [line for line in node.lines() if line.startswith("gcount-node:")]
    assert said == node.lines()[-1:], node.stderr()
    assert "Traceback" not in node.stderr()
    for word in words:
        assert word in said[0]


async def test_deleting_the_lock_file_lets_no_second_node_in(tmp_path: Path) -> None:
    first, second = one_node(tmp_path), one_node(tmp_path, 2)
    async with running(first):
        assert await first.add("x", 1) == 1
        (tmp_path / "data" / "lock").unlink()
        second.spawn()
        try:
            await ended(second, "is in use by another node", str(tmp_path / "data"))
        finally:
            second.kill9()
        assert await first.add("x", 1) == 2
        first.kill9()
        await first.start()
        assert await first.value("x") == 2


class Load:
    """The load of clients that each send an increment when the last one is answered.

    Attributes:
        acknowledged: how many increments were.
        late: how many of them had been sent when the directory was gone already.
    """

    def __init__(self, node: Node) -> None:
        self.acknowledged = self.late = 0
        self.gone = False
        self._node = node

    async def count(self) -> None:
        client = self._node.client()
        try:
            while True:
                late = self.gone
                try:
                    answer = await client.request("POST", "/counter/x", b"1")
                except (NoAnswer, NotSent):
                    return
                assert answer.status == 200
                self.acknowledged += 1
                self.late += late
        finally:
            client.drop()


@asynccontextmanager
async def loaded(node: Node) -> AsyncIterator[Load]:
    """A node under load; it has ended when the context ends."""
    load = Load(node)

    async def under_way() -> str | None:
        return None if load.acknowledged >= 20 else f"{load.acknowledged} acknowledged"

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(load.count)
            await eventually(under_way, within=10)
            yield load
            load.gone = True


async def test_a_directory_deleted_under_load_ends_the_node_which_acknowledges_nothing_more(tmp_path: Path) -> None:
    node = one_node(tmp_path)
    async with running(node):
        async with loaded(node) as load:
            shutil.rmtree(tmp_path / "data")
        await ended(node, str(tmp_path / "data"), "was deleted, moved or replaced", "acknowledges nothing any more")
        assert load.late == 0
        await node.start()  # on an empty one
        assert await node.add("x", 1) == 1


async def test_a_directory_moved_away_under_load_has_all_that_was_acknowledged_when_it_is_back(tmp_path: Path) -> None:
    node, aside = one_node(tmp_path), tmp_path / "aside"
    async with running(node):
        async with loaded(node) as load:
            (tmp_path / "data").rename(aside)
        await ended(node, str(tmp_path / "data"), "was deleted, moved or replaced")
        assert load.late == 0
        assert not (tmp_path / "data").exists()
        aside.rename(tmp_path / "data")
        await node.start()
        assert load.acknowledged <= await node.value("x") <= load.acknowledged + CLIENTS


def replace_by_a_copy(directory: Path) -> None:
    directory.rename(directory.with_name("aside"))
    shutil.copytree(directory.with_name("aside"), directory)


def replace_the_live_segment(directory: Path) -> None:
    """Replace it as a node would do that does not know of the lock."""
    live = max(directory.glob("*.log"))
    shutil.copy(live, directory / "copy")
    (directory / "copy").rename(live)


@pytest.mark.parametrize("take", [shutil.rmtree, replace_by_a_copy, replace_the_live_segment])
async def test_a_node_without_increments_finds_it_out_too(tmp_path: Path, take: Callable[[Path], None]) -> None:
    node, directory = one_node(tmp_path), tmp_path / "data"
    async with running(node):
        await node.add("x", 1)
        take(directory)
        left = {file.name: file.read_bytes() for file in directory.glob("*")}
        await ended(node, str(directory), "was deleted, moved or replaced")
        assert {file.name: file.read_bytes() for file in directory.glob("*")} == left, "it touched what is not its own"


def lowest_free_descriptor(pid: int) -> int:
    """The descriptor that the next opened file would get. As the limit of open files, it lets no file be opened."""
    used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    return next(fd for fd in count() if fd not in used)


@pytest.fixture
def small_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(processes, "LAUNCHER", write_launcher(tmp_path))
        yield


async def test_without_a_descriptor_for_the_next_segment_increments_are_refused_until_there_is_one(
    tmp_path: Path, small_segments: None
) -> None:
    node = one_node(tmp_path)
    async with running(node):
        assert node.process is not None
        pid, client = node.process.pid, node.client()  # further connections would need descriptors
        assert (await client.request("POST", "/counter/x", b"1")).number() == 1
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free_descriptor(pid), limits[1]))
        total, answer = 1, await client.request("POST", "/counter/x", b"1")
        while answer.status == 200:
            total, answer = total + 1, await client.request("POST", "/counter/x", b"1")
            assert total < 1000, "it never needs another segment"
        for refused in (answer, await client.request("GET", "/health/ready")):
            assert refused.status == 503
            assert "no file descriptor is left" in refused.json()["detail"]
        assert (await client.request("GET", "/counter/x/value")).number() == total

        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

        async def resumed() -> str | None:
            ready = await client.request("GET", "/health/ready")
            return None if ready.status == 200 else f"{ready.body!r}"

        await eventually(resumed, within=10)
        client.drop()
        while made(node) < 1:
            total = await node.add("x", 1)
        assert node.starts == 1
        assert node.stderr().count("log not writable") == 1, "one line, however often it was tried"
        assert "log writable again" in node.stderr()
        node.kill9()
        await node.start()
        assert await node.value("x") == total
