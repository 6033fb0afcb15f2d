"""A small data directory with checkpoints, and what was acknowledged there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from gcount.core.options import Options
from gcount.core.state.counters import Counters
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from gcount.observe.metrics import Metrics
from gcount.storage.checkpoints import SUFFIX, Checkpoints
from gcount.storage.disk import Disk
from gcount.storage.live_segment import UNFINISHED
from gcount.storage.log import SUFFIX as SEGMENT_SUFFIX
from gcount.storage.log import Log
from gcount.storage.recovery import recover
from tests.fakes.counting import stage
from tests.fakes.disk import SimDisk
from tests.storage.commit_store import ME, sim_disk

NAMES = [f"n{number}" for number in range(40)]


SMALL = Options(
    segment_bytes=300,
    checkpoint_floor_bytes=300,
    checkpoint_factor=0.1,
    checkpoint_write_bytes=300,
    checkpoint_sync_bytes=600,
    record_cells=8,
    record_names=8,
)
"""So that a few increments fill segments, and a checkpoint takes many operations of the disk."""


class Store:
    """What a start makes of a directory; like a node it writes one batch after the other."""

    def __init__(self, disk: Disk, options: Options = SMALL) -> None:
        self.replica = Replica(ME, 1000, options)
        self.writer = Writer(self.replica)
        self.log = Log(disk, options)
        self.metrics = Metrics()
        self.checkpoints = Checkpoints(disk, self.log, self.metrics, options)
        self.acknowledged: dict[str, int] = {}
        self.asked: dict[str, int] = {}

    async def open(self) -> None:
        if await recover(self.replica, self.log, self.checkpoints) is None:
            await self.log.begin(ME)
        self.acknowledged = {name: self.replica.counters.total(name) for name in NAMES}
        self.asked = self.acknowledged.copy()

    async def add(self, *names: str) -> None:
        for name in names:
            self.asked[name] += 1
            stage(self.writer, name, 1)
        await self.log.append(self.writer.seal(), ME)
        self.writer.commit()
        for name in names:
            self.acknowledged[name] += 1

    async def fill(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            for at in range(0, len(NAMES), 4):
                await self.add(*NAMES[at : at + 4])

    async def make(self) -> None:
        await self.checkpoints.make(self.replica)

    def check(self, counters: Counters) -> None:
        for name in NAMES:
            assert self.acknowledged[name] <= counters.total(name) <= self.asked[name], name


async def opened(disk: SimDisk, options: Options = SMALL) -> Store:
    store = Store(disk, options)
    await store.open()
    return store


async def written(seed: int = 0, options: Options = SMALL) -> tuple[SimDisk, Store]:
    """A directory with an older checkpoint, and some segments behind it."""
    disk = sim_disk(seed)
    store = await opened(disk, options)
    await store.fill()
    await store.make()
    await store.fill()
    return disk, store


@asynccontextmanager
async def writing(store: Store) -> AsyncIterator[None]:
    """While the context lasts, increments are made as fast as the disk can."""

    async def write() -> None:
        while True:
            for name in NAMES:
                await store.add(name)
                await trio.lowlevel.checkpoint()  # a disk's operation can't be cancelled

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        yield
        nursery.cancel_scope.cancel()


def files(disk: SimDisk) -> list[str]:
    return [name for name in disk.names() if name.removesuffix(UNFINISHED).endswith(SUFFIX)]


def segments(disk: SimDisk) -> list[str]:
    return [name for name in disk.names() if name.endswith(SEGMENT_SUFFIX)]
