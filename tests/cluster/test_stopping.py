"""A node that is told to stop while its log is being written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from gcount.storage.disk import RealDisk
from tests.fakes.cluster import open_alone
from tests.fakes.counting import add

T = TypeVar("T")


class GatedDisk(RealDisk):
    """A disk whose operations, once `gate` is closed, wait in their thread until it is opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = trio.Event()

    async def run(self, operation: Callable[[], T], *, brief: bool = False, background: bool = False) -> T:
        if not self.gate.is_set():
            self.entered.set()

        def gated() -> T:
            self.gate.wait(10)
            return operation()

        # Never in the loop: there the gate would hold up the very task that is to end, and prove nothing.
        return await super().run(gated, brief=False, background=background)


async def test_the_log_stays_open_until_the_batch_on_its_way_is_written(tmp_path: Path) -> None:
    """Nobody is answered, but a file that is closed under the writing thread would be an error, or another file."""
    disk = GatedDisk(tmp_path / "data")
    async with open_alone(disk) as node, trio.open_nursery() as nursery:
        await node.wait_ready()
        disk.gate.clear()
        nursery.start_soon(add, node, "x", 5)
        await disk.entered.wait()
        nursery.cancel_scope.cancel()
        disk_opens = threading.Timer(0.1, disk.gate.set)
        disk_opens.start()
    disk.close()
    again = RealDisk(tmp_path / "data")
    async with open_alone(again) as node:
        await node.wait_ready()
        assert node.value("x") == 5
    again.close()
