"""A node that is told to stop while its log is being written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random
from typing import TypeVar

import trio

from gcount.node.node import Node, open_node
from gcount.settings import Settings
from gcount.storage.disk import RealDisk
from tests.fakes.counting import add
from tests.fakes.network import SimNetwork

T = TypeVar("T")


class GatedDisk(RealDisk):
    """A disk whose operations, once `gate` is closed, wait in their thread until it is opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = trio.Event()

    async def run(self, operation: Callable[[], T], *, brief: bool = False, aside: bool = False) -> T:
        if not self.gate.is_set():
            self.entered.set()

        def gated() -> T:
            self.gate.wait(10)
            return operation()

        # Never in the loop: there the gate would hold up the very task that is to end, and prove nothing.
        return await super().run(gated, brief=False, aside=aside)


def open_one(tmp_path: Path, disk: RealDisk) -> AbstractAsyncContextManager[Node]:
    settings = Settings(1, "10.0.0.1", 7777, tmp_path, 5.0, "", 1000, "text")
    transport = SimNetwork(Random(1), (0.0, 0.0)).transport("10.0.0.1:7777")
    return open_node(settings, disk, transport, random=Random(2), wall_clock=lambda: 0.0)


async def test_the_log_stays_open_until_the_batch_on_its_way_is_written(tmp_path: Path) -> None:
    """Nobody is answered, but a file that is closed under the writing thread would be an error, or another file."""
    disk = GatedDisk(tmp_path / "data")
    async with open_one(tmp_path, disk) as node, trio.open_nursery() as nursery:
        await node.wait_ready()
        disk.gate.clear()
        nursery.start_soon(add, node, "x", 5)
        await disk.entered.wait()
        nursery.cancel_scope.cancel()
        disk_opens = threading.Timer(0.1, disk.gate.set)
        disk_opens.start()
    disk.close()
    again = RealDisk(tmp_path / "data")
    async with open_one(tmp_path, again) as node:
        await node.wait_ready()
        assert node.value("x") == 5
    again.close()
