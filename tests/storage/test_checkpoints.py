"""Checkpoints on a disk: safe to interrupt anywhere, removed only when nothing needs them, never in anybody's way."""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import replace

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from gcount.core.format.checkpoint import Capture
from gcount.core.state.columns import Frozen
from gcount.core.state.counters import Counters
from gcount.core.state.replica import Replica
from gcount.errors import DiskFailed, DiskFull
from gcount.storage.checkpoints import checkpoint_name
from gcount.storage.inspect.survey import survey
from gcount.storage.log import SUFFIX, segment_name
from tests.fakes.disk import SimulatedCrash
from tests.fakes.process import until
from tests.storage.checkpointed import NAMES, SMALL, Store, files, opened, segments, writing, written
from tests.storage.commit_store import ME, contents, sim_disk


async def test_a_start_goes_on_from_the_checkpoint_and_the_segments_before_it_are_gone(
    autojump_clock: MockClock,
) -> None:
    disk, store = await written()
    before, size = store.log.segments, store.log.size
    await store.make()
    sequence = store.checkpoints.sequence
    assert disk.names() == [checkpoint_name(sequence), segment_name(sequence)]
    assert store.checkpoints.size == len(disk.read(checkpoint_name(sequence)))
    assert store.log.segments == 1 < before
    assert store.log.size == len(disk.read(segment_name(sequence))) < size
    await store.fill()
    again = await opened(disk)
    assert again.replica.counters == store.replica.counters
    assert again.replica.next_batch == store.replica.next_batch
    assert (again.log.size, again.log.segments) == (store.log.size, store.log.segments)
    assert again.checkpoints.size == store.checkpoints.size
    store.check(again.replica.counters)


@pytest.mark.parametrize("power", [True, False])
async def test_a_crash_before_any_operation_of_a_checkpoint_loses_nothing(
    autojump_clock: MockClock, *, power: bool
) -> None:
    """While increments are made, too; and a loss of power before any operation of the start after it."""
    crashes = old = new = 0
    for operations in range(10_000):
        disk, store = await written(operations)
        before = disk.names()
        disk.crash_after(operations)
        done = False
        with suppress(BaseExceptionGroup):
            async with writing(store):
                await store.make()
                done = True
        crashes += not done
        disk.crash() if power else disk.restart()
        disk.crash_after(operations % 23)
        with suppress(SimulatedCrash):
            await opened(disk)
        disk.crash()
        start = await opened(disk)
        store.check(start.replica.counters)
        (kept,) = files(disk)
        old, new = old + (kept in before), new + (kept not in before)
        assert survey(disk).corruptions == []
        assert segments(disk)[0] == segment_name(start.checkpoints.sequence)
        if done:
            break
    assert crashes > 20
    assert old > 5
    assert new > 3


async def test_what_a_crash_left_is_removed_by_the_start_after_it_has_synced_the_directory(
    autojump_clock: MockClock,
) -> None:
    """Until then nobody knows whether the rename of the checkpoint is durable."""
    disk, store = await written()
    before = contents(disk)
    await store.make()
    for name, data in before.items():
        disk.poke(name, data)
    disk.poke("00000099.checkpoint.new", b"unfinished")
    disk.poke("notes.txt", b"not ours")
    disk.history.clear()
    again = await opened(disk)
    steps = list(disk.history)
    removed = [step.removeprefix("remove ") for step in steps if step.startswith("remove")]
    kept = checkpoint_name(again.checkpoints.sequence)
    assert {*before, "00000099.checkpoint.new"} - {segment_name(again.checkpoints.sequence)} == set(removed)
    assert disk.names() == [kept, segment_name(again.checkpoints.sequence), "notes.txt"]
    assert removed[0] == "00000099.checkpoint.new"  # nothing reads it, and it may hold the room that the start needs
    assert steps.index("sync_names") < steps.index(f"remove {removed[1]}")
    assert steps[-1] == "sync_names"
    store.check(again.replica.counters)


async def test_each_step_of_a_checkpoint_is_on_disk_before_the_next_one_begins(autojump_clock: MockClock) -> None:
    disk, store = await written()
    disk.history.clear()
    await store.make()
    steps, name = list(disk.history), checkpoint_name(store.checkpoints.sequence)

    def last(step: str) -> int:
        return len(steps) - 1 - steps[::-1].index(step)

    renamed = steps.index(f"rename {name}.new {name}")
    removals = [at for at, step in enumerate(steps) if step.startswith("remove ")]
    assert last(f"write {name}.new") < last(f"sync {name}.new") < renamed
    assert renamed < steps.index("sync_names", renamed) < removals[0]
    assert removals[-1] < last("sync_names")


async def test_a_checkpoint_is_synced_piece_by_piece(autojump_clock: MockClock) -> None:
    """One sync of all of it would keep the log's own syncs waiting."""
    disk, store = await written()
    await store.fill(3)
    disk.history.clear()
    await store.make()
    name = checkpoint_name(store.checkpoints.sequence)
    kinds = [step.split()[0] for step in disk.history if step.endswith(f" {name}.new")]
    unsynced = "".join("w" if kind == "write" else " " for kind in kinds).split()
    assert len(unsynced) > 1
    assert max(map(len, unsynced)) <= SMALL.checkpoint_sync_bytes // SMALL.checkpoint_write_bytes


async def test_a_lack_of_space_is_logged_once_each_time(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, store = await written()
    script = iter([False, False, True, False, True, True, False, False])

    async def make(replica: Replica) -> None:
        made = next(script, None)
        if made is None:
            await trio.sleep_forever()
        if not made:
            raise DiskFull("no room")
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(store.checkpoints, "make", make)
    with capture_logs() as logs, trio.move_on_after(9 * SMALL.checkpoint_retry):
        await store.checkpoints.run(store.replica)
    assert [line["event"] for line in logs] == ["checkpoint failed"] * 3
    assert b"gcount_checkpoints_failed_total 5.0" in store.metrics.text()


async def test_without_space_there_is_no_checkpoint_and_all_goes_on(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the disk says so before, or in the midst of it. It is tried again."""
    disk, store = await written()
    names, used = disk.names(), disk.capacity - disk.free_bytes()
    disk.capacity = used + SMALL.segment_bytes
    with pytest.raises(DiskFull, match="the checkpoint needs about"):
        await store.make()
    disk.capacity = used + 700
    guess_nothing(monkeypatch, store)
    with pytest.raises(DiskFull):
        await store.make()
    assert disk.names() == names
    assert disk.open_files == 1
    await store.add("n1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.checkpoints.run, store.replica)
        await trio.sleep(SMALL.checkpoint_retry / 2)  # it has failed, and is not tried again yet
        disk.capacity = 10**9
        await store.add("n1")
        with trio.fail_after(SMALL.checkpoint_retry):
            await until(lambda: store.checkpoints.sequence == store.log.live.sequence)
        nursery.cancel_scope.cancel()
    assert b"gcount_checkpoints_failed_total 1.0" in store.metrics.text()
    store.check((await opened(disk)).replica.counters)


def guess_nothing(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """So that a disk without room says so in the midst of it."""
    monkeypatch.setattr(Capture, "guess", 0)
    store.checkpoints.size = 0


async def test_a_checkpoint_that_failed_takes_no_space_again_before_there_is_enough(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would take the room of the increments again and again, when names are longer than was guessed."""
    disk, store = await written()
    last = store.checkpoints.size
    guess_nothing(monkeypatch, store)
    disk.capacity -= disk.free_bytes() - (last - 50)
    with pytest.raises(DiskFull, match="the disk is full"):
        await store.make()
    operations = disk.operations
    with pytest.raises(DiskFull, match=f"the checkpoint needs about {last} bytes"):
        await store.make()
    assert disk.operations == operations
    disk.capacity += 50 + SMALL.segment_bytes
    await store.make()
    assert store.checkpoints.size == last


async def test_the_next_one_is_taken_to_be_at_least_as_large_as_the_last_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, store = await written()
    monkeypatch.setattr(Capture, "guess", 0)
    for each in (store, await opened(disk)):
        disk.capacity -= disk.free_bytes() - SMALL.segment_bytes - store.checkpoints.size + 1
        with pytest.raises(DiskFull, match=f"the checkpoint needs about {store.checkpoints.size} bytes"):
            await each.make()


@pytest.mark.parametrize("kill", [True, False])
async def test_an_unfinished_checkpoint_never_keeps_the_space_that_a_start_needs(
    autojump_clock: MockClock, *, kill: bool
) -> None:
    """Whether its process was killed in the midst of it, or ended it in order."""
    disk, store = await written()
    with trio.CancelScope() as scope, suppress(SimulatedCrash):
        if kill:
            disk.crash_from(f"write {checkpoint_name(store.log.live.sequence)}.new", 2)
        else:
            disk.stepped = lambda operation, name: scope.cancel() if "checkpoint.new" in name else None
        await store.make()
    left = [name for name in disk.names() if name.endswith("checkpoint.new")]
    assert len(left) == kill
    disk.restart()
    live = len(disk.read(segments(disk)[-1]))
    disk.capacity -= disk.free_bytes() - (live if not kill else live - 1)
    start = await opened(disk)
    assert not any(name.endswith(".new") for name in disk.names())
    store.check(start.replica.counters)


async def test_a_start_says_how_much_of_a_checkpoint_it_has_read(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, store = await written()
    await store.make()
    store.log.close()
    with capture_logs() as logged:
        start = await opened(disk, replace(SMALL, progress_interval=0.0))
    told = [entry for entry in logged if entry["event"] == "recovering" and entry["file"] == files(disk)[0]]
    size = start.checkpoints.size
    assert len(told) > 5
    assert {(entry["of"], entry["size"]) for entry in told} == {(segments(disk)[-1], size)}
    offsets = [entry["offset"] for entry in told]
    assert offsets == sorted(offsets)
    assert 0 < offsets[0] < offsets[-1] < size
    assert told[-1]["counters"] == len(NAMES)


async def test_a_disk_that_does_not_report_its_free_space_ends_the_process(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, store = await written()

    def fail() -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk, "free_bytes", fail)
    with pytest.raises(DiskFailed, match="Input/output error"):
        await store.make()


async def test_nothing_of_a_checkpoint_keeps_the_logs_own_writes_waiting(autojump_clock: MockClock) -> None:
    disk, store = await written()
    disk.background, disk.latency = (1.0, 1.0), (1000.0, 1000.0)
    started = trio.current_time()
    await store.make()
    assert 5.0 < trio.current_time() - started < 1000.0


async def test_a_log_below_the_floor_is_kept_however_small_the_state_is(autojump_clock: MockClock) -> None:
    disk, store = await written(options=replace(SMALL, checkpoint_floor_bytes=3000))
    first, most = store.checkpoints.sequence, 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.checkpoints.run, store.replica)
        for _ in range(100):
            most = max(most, store.log.closed_bytes(first))
            await store.add("n1")
            await trio.sleep(1000 * disk.background[1])  # any checkpoint that is due has been made
        nursery.cancel_scope.cancel()
    assert store.checkpoints.sequence > first
    assert SMALL.checkpoint_factor * store.checkpoints.size < 3000 - 2 * SMALL.segment_bytes < most <= 3000


async def test_a_log_smaller_than_the_last_checkpoint_is_kept(autojump_clock: MockClock) -> None:
    """Else each byte of a large state's log would cost many of a checkpoint."""
    disk, store = await written(options=replace(SMALL, checkpoint_factor=1.0))
    store.checkpoints.size, first, most = 5000, store.checkpoints.sequence, 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.checkpoints.run, store.replica)
        for _ in range(500):
            most = max(most, store.log.closed_bytes(first))
            await store.add("n1")
            await trio.sleep(1000 * disk.background[1])  # any checkpoint that is due has been made
        nursery.cancel_scope.cancel()
    assert store.checkpoints.sequence > first
    assert SMALL.checkpoint_floor_bytes < 5000 - 2 * SMALL.segment_bytes < most <= 5000


BATCH_BYTES = 100  # about, in the log


async def test_the_log_stays_within_a_small_factor_of_the_state(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    store = await opened(disk)
    most = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.checkpoints.run, store.replica)
        for _ in range(60):
            await store.fill()
            most = max(most, store.log.size)
        nursery.cancel_scope.cancel()
    assert most < store.replica.counters.version(ME.incarnation) * BATCH_BYTES / 4
    assert most < SMALL.checkpoint_floor_bytes + 3 * store.checkpoints.size + 4 * SMALL.segment_bytes
    assert store.log.size == sum(len(data) for name, data in contents(disk).items() if name.endswith(SUFFIX))
    store.check((await opened(disk)).replica.counters)


class Steps(trio.abc.Instrument):
    """Counts what is captured from one step of any task to the next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = self._now = self.all = 0
        read, names = Frozen.read, Counters.names

        def counting_read(frozen: Frozen, size: int) -> object:
            indexes, cells, stamps = read(frozen, size)
            self._now += len(cells)
            return indexes, cells, stamps

        def counting_names(counters: Counters, start: int, end: int) -> list[str]:
            some = names(counters, start, end)
            self._now += len(some)
            return some

        monkeypatch.setattr(Frozen, "read", counting_read)
        monkeypatch.setattr(Counters, "names", counting_names)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.most, self.all, self._now = max(self.most, self._now), self.all + self._now, 0


async def test_a_checkpoint_lets_others_run_after_each_few_cells_and_they_commit_meanwhile(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_waits = replace(SMALL, checkpoint_write_bytes=10**6, checkpoint_sync_bytes=10**6)  # for the disk
    disk, store = await written(options=never_waits)
    version = store.replica.counters.version(ME.incarnation)
    steps = Steps(monkeypatch)
    trio.lowlevel.add_instrument(steps)
    async with writing(store):
        await store.make()
    trio.lowlevel.remove_instrument(steps)
    assert steps.all == 2 * len(NAMES)
    assert 0 < steps.most <= SMALL.record_cells
    assert store.replica.counters.version(ME.incarnation) > version
    assert not any(column.frozen for column in store.replica.counters._columns.values())
    store.log.close()
    assert (await opened(disk)).replica.counters == store.replica.counters
