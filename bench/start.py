"""How long a start takes with a checkpoint and with a log, and for how long making a checkpoint blocks a node."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import structlog
import trio

from bench.blocking import Blocking
from bench.nodes import PROJECT, data_folder, processor_time, running
from bench.report import goal, ms, run, table
from gcount.core.format.log_records import Header, encode_batch
from gcount.core.options import DEFAULTS
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from gcount.observe.metrics import Metrics
from gcount.storage.checkpoints import Checkpoints
from gcount.storage.disk import RealDisk
from gcount.storage.log import Log, segment_name
from gcount.storage.recovery import recover
from tests.fakes.counting import stage

START = 3.0  # seconds: the goal with 1,000,000 counters in a checkpoint
BLOCKED = 0.010  # seconds: the goal for the longest time in which a task blocks the event loop
REPLAYED = {100: 1_000_000, 1: 250_000}  # updates a second: the goals by updates in a record
LOGGED = {100: 2_000_000, 1: 500_000}  # updates in a log
ME = Identity(b"n" * 16, b"i" * 16)


class Store:
    """A data directory that this process writes as a node does.

    Attributes:
        replica: its state in memory.
        log: its log.
        checkpoints: its checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self._disk = RealDisk(folder)
        self.log = Log(self._disk)
        self.replica = Replica(ME, 10**9)
        self._writer = Writer(self.replica)
        self.checkpoints = Checkpoints(self._disk, self.log, Metrics())

    async def open(self) -> None:
        if await recover(self.replica, self.log, self.checkpoints) is None:
            await self.log.begin(ME)

    async def commit(self, names: list[str]) -> None:
        """Commit one record that increments each of these counters by 1."""
        for name in names:
            stage(self._writer, name, 1)
        await self.log.append(self._writer.seal(), ME)
        self._writer.commit()

    def close(self) -> None:
        self.log.close()
        self._disk.close()


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Store]:
    """A store that is open while the context lasts."""
    store = Store(folder)
    try:
        await store.open()
        yield store
    finally:
        store.close()


@dataclass
class Starts:
    """Starts of a node on one directory: medians.

    Args:
        size: the size of the directory, in bytes.
        ready: seconds until the node serves.
        recovery: the part of these seconds in which it reads its directory.
        processor: the processor time until it serves, in seconds.
    """

    size: int
    ready: float
    recovery: float
    processor: float

    def row(self) -> list[str]:
        return [f"{self.size / 1e6:.1f}", f"{self.ready:.2f}", f"{self.recovery:.2f}", "", f"{self.processor:.2f}", ""]


async def main(arguments: argparse.Namespace) -> None:
    names = [f"counter-{number:012d}" for number in range(arguments.counters)]
    rounds: int = arguments.rounds
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with data_folder(arguments.data) as folder:
        await make_checkpoints(folder / "checkpoint", names, rounds)
        (folder / "nothing").mkdir()
        nothing = await starts(folder / "nothing", rounds)
        checkpoint = await starts(folder / "checkpoint", rounds)
        rows = [["a start with", "MB", "ready after s", "recovery s", "updates/s", "processor s", "updates each"]]
        rows += [["nothing", *nothing.row()], ["a checkpoint", *checkpoint.row()]]
        rates = dict[int, float]()
        for together in REPLAYED:
            for some in (names[: len(names) // 10], names):
                log = folder / f"{together}-{len(some)}"
                fill(log / "1", some, together)
                replay, updates = await starts(log, rounds), LOGGED[together]
                each = updates / (replay.processor - nothing.processor)
                rates.setdefault(together, each)
                rates_of_row = [f"{updates / replay.recovery:,.0f}", f"{replay.processor:.2f}", f"{each:,.0f}"]
                rows.append([f"records of {together}, {len(some)} counters", *replay.row()[:3], *rates_of_row])
    print()
    table(rows)
    met = checkpoint.ready <= START
    goal("start with a checkpoint", f"{checkpoint.ready:.2f} s", f"at most {START:g} s", met=met)
    for together, wanted in REPLAYED.items():
        figure, what = f"{rates[together]:,.0f}", f"replay in records of {together}, updates a second of a processor"
        goal(what, figure, f"at least {wanted:,}", met=rates[together] >= wanted)


async def make_checkpoints(folder: Path, names: list[str], rounds: int) -> None:
    """Make a checkpoint of all counters several times, while another task increments some of them."""
    rows = [["a checkpoint", "s", "MB", "MB of log before", "after", "blocks for ms", "a commit meanwhile ms"]]
    longest = []
    async with opened(folder / "1") as store:
        for number in range(1, rounds + 1):
            for start in range(0, len(names), 10_000):
                await store.commit(names[start : start + 10_000])
            before, blocking = store.log.size, Blocking()
            trio.lowlevel.add_instrument(blocking)
            started = time.perf_counter()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_writing, store, names)
                await nursery.start(_make, store)
                nursery.cancel_scope.cancel()
            seconds = time.perf_counter() - started
            trio.lowlevel.remove_instrument(blocking)
            longest.append(blocking.longest["_make"])
            sizes = [store.checkpoints.size, before, store.log.size]
            blocked = [ms(blocking.longest[task]) for task in ("_make", "keep_writing")]
            rows.append([str(number), f"{seconds:.2f}", *(f"{size / 1e6:.1f}" for size in sizes), *blocked])
    table(rows)
    middle = median(longest)
    figure, wanted = f"{ms(middle)} ms", f"at most {ms(BLOCKED)} ms"
    goal("a checkpoint blocks the event loop for", figure, wanted, met=middle <= BLOCKED)


async def _make(store: Store, task_status: trio.TaskStatus[None]) -> None:
    await store.checkpoints.make(store.replica)
    task_status.started()


async def keep_writing(store: Store, names: list[str]) -> None:
    """Increment random counters, 100 in a record, for ever."""
    random = Random(1)
    while True:
        with trio.CancelScope(shield=True):
            await store.commit(random.sample(names, 100))
        await trio.lowlevel.checkpoint()


def fill(folder: Path, names: list[str], together: int) -> None:
    """Write a log that no checkpoint covers; each update is of a random counter."""
    folder.mkdir(parents=True)
    random, segment, sequence = Random(1), bytearray(), 0
    for version in range(1, LOGGED[together] // together + 1):
        if not segment:
            sequence += 1
            segment += Header(ME.node, ME.incarnation, sequence, version).encode()
        cells = dict.fromkeys(random.choices(names, k=together), version)
        segment += encode_batch(Batch(version, [Delta(ME.incarnation, version - 1, version, cells)]))
        if len(segment) >= DEFAULTS.segment_bytes:
            (folder / segment_name(sequence)).write_bytes(segment)
            segment.clear()
    if segment:
        (folder / segment_name(sequence)).write_bytes(segment)


async def starts(folder: Path, rounds: int) -> Starts:
    """Start a node several times; returns the medians."""
    ready, recovery, processor = list[float](), list[float](), list[float]()
    for _ in range(rounds):
        started = time.perf_counter()
        async with running(1, "127.0.0.1", 0, folder, "on") as node:
            ready.append(time.perf_counter() - started)
            processor.append(processor_time(node.pid))
            recovery.append((await node.metrics())["gcount_recovery_seconds"])
    size = sum(file.stat().st_size for file in (folder / "1").iterdir())
    return Starts(size, median(ready), median(recovery), median(processor))


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    flags.add_argument("--data", type=Path, default=PROJECT / "data", help="folder for temporary data [data]")
    flags.add_argument("--rounds", type=int, default=5, help="rounds of each, for medians [5]")
    flags.add_argument("--counters", type=int, default=1_000_000, help="number of counters [1000000]")
    sys.exit(run(main, flags))
