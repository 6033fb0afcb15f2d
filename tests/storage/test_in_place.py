"""A log that is no longer found at its path acknowledges nothing, and says why; what stands there is left alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from gcount.errors import DiskFailed, NotInPlace, leaves
from gcount.storage.checkpoints import Checkpoints
from gcount.storage.disk import RealDisk
from gcount.storage.group_commit import LOOK_AFTER
from gcount.storage.log import segment_name
from tests.fakes.disk import SimDisk
from tests.storage.checkpointed import Store
from tests.storage.checkpointed import opened as opened_store
from tests.storage.commit_store import ME, batch, filled, opened, replayed, running, sim_disk

FIRST = segment_name(1)
LOST = "was deleted, moved or replaced under the running node, which acknowledges nothing any more"


def delete_real(path: Path) -> None:
    shutil.rmtree(path)


def move_real(path: Path) -> None:
    path.rename(path.with_name("aside"))


def copy_real(path: Path) -> None:
    move_real(path)
    shutil.copytree(path.with_name("aside"), path)


def link_real(path: Path) -> None:
    """As some backups do: files that are still written are copied, and all others are the same by another name."""
    move_real(path)
    path.mkdir()
    for file in path.with_name("aside").iterdir():
        (shutil.copy if file.name == FIRST else os.link)(file, path / file.name)


def delete_segment_real(path: Path) -> None:
    (path / FIRST).unlink()


def replace_segment_real(path: Path) -> None:
    shutil.copy(path / FIRST, path / "copy")
    (path / "copy").rename(path / FIRST)


REAL = [delete_real, move_real, copy_real, link_real, delete_segment_real, replace_segment_real]


def delete(disk: SimDisk) -> None:
    disk.delete()


def move(disk: SimDisk) -> None:
    disk.in_place = False


def delete_segment(disk: SimDisk) -> None:
    disk.remove(FIRST)


def replace_segment(disk: SimDisk) -> None:
    disk.poke(FIRST, disk.read(FIRST))


SIMULATED = [delete, move, delete_segment, replace_segment]


@pytest.mark.parametrize("take", REAL)
async def test_a_batch_behind_which_the_real_log_is_not_in_its_place_counts_for_nothing(
    tmp_path: Path, take: Callable[[Path], None]
) -> None:
    path = tmp_path / "data"
    disk = RealDisk(path)
    log, _, _ = await opened(disk)
    await log.append(batch(1), ME)
    await log.look()
    take(path)
    for failing in (log.append(batch(2), ME), log.look()):
        with pytest.raises(NotInPlace, match=f"^{path / FIRST} {LOST}"):
            await failing
    log.close()
    disk.close()


@pytest.mark.parametrize("take", SIMULATED)
async def test_a_batch_behind_which_the_simulated_log_is_not_in_its_place_counts_for_nothing(
    autojump_clock: MockClock, take: Callable[[SimDisk], None]
) -> None:
    disk = sim_disk()
    log, _, _ = await opened(disk)
    await log.append(batch(1), ME)
    await log.look()
    take(disk)
    for failing in (log.append(batch(2), ME), log.look()):
        with pytest.raises(NotInPlace, match=LOST):
            await failing
    log.close()


async def test_a_simulated_directory_that_is_put_back_has_all_and_a_deleted_one_nothing(
    autojump_clock: MockClock,
) -> None:
    disk = sim_disk()
    made = await filled(disk, 3)
    disk.in_place = False
    disk.restart()
    disk.in_place = True
    log, found, _ = await opened(disk)
    log.close()
    assert found == made
    disk.delete()
    with pytest.raises(FileNotFoundError):
        disk.create("x")
    disk.crash()
    assert (disk.names(), disk.is_in_place()) == ([], True)
    assert await filled(disk, 2)


@pytest.mark.parametrize("take", SIMULATED)
async def test_a_waiter_is_never_answered_once_the_log_is_not_in_its_place(
    autojump_clock: MockClock, take: Callable[[SimDisk], None]
) -> None:
    disk, answered = sim_disk(), list[object]()

    async def work() -> None:
        async with running(disk) as store:
            await store.add("b")
            take(disk)
            store.stage("a").add_done_callback(lambda commit: answered.append(commit.failure))
            await trio.sleep(60)

    with pytest.raises(BaseExceptionGroup) as caught:
        await work()
    assert [type(leaf) for leaf in leaves(caught.value)] == [NotInPlace]
    assert answered == []


@pytest.mark.parametrize("take", SIMULATED)
async def test_an_idle_committer_finds_it_out_within_about_a_second(
    autojump_clock: MockClock, take: Callable[[SimDisk], None]
) -> None:
    disk, taken_at = sim_disk(), 0.0

    async def work() -> None:
        nonlocal taken_at
        async with running(disk) as store:
            await store.add("a")
            await trio.sleep(100.5 * LOOK_AFTER)
            take(disk)
            taken_at = trio.current_time()
            await trio.sleep(60)

    with pytest.raises(BaseExceptionGroup) as caught:
        await work()
    assert [type(leaf) for leaf in leaves(caught.value)] == [NotInPlace]
    assert trio.current_time() - taken_at < 1.1 * LOOK_AFTER


async def test_a_waiting_delta_is_committed_in_time_while_the_log_is_checked(
    autojump_clock: MockClock,
) -> None:
    """An idle committer that looks forgets neither a deadline nor a wake-up that comes meanwhile."""
    disk = SimDisk(sim_disk().random, latency=(0.2, 0.2))
    async with running(disk) as store:
        for part in range(20):
            await trio.sleep(LOOK_AFTER + 0.2 + part * 0.03)
            began = trio.current_time()
            with trio.fail_after(10):
                await store.add("a") if part % 2 else await store.committer.take([]).wait()
            assert trio.current_time() - began < 0.7
    assert (await replayed(disk))[0].counters.total("a") == 10


@pytest.mark.parametrize("at", ["a new segment", "a checkpoint"])
async def test_files_made_in_a_directory_that_is_gone_end_the_node_with_the_same_words(
    autojump_clock: MockClock, at: str
) -> None:
    disk = sim_disk()
    store = await opened_store(disk)
    await store.fill()
    disk.delete()
    with pytest.raises(NotInPlace, match=LOST):
        await (store.fill() if at == "a new segment" else store.make())


@pytest.mark.parametrize("at", ["a new segment", "a checkpoint"])
async def test_a_directory_in_the_place_of_a_real_one_is_left_alone(tmp_path: Path, at: str) -> None:
    """It may be a copy, with files of the same names, which a checkpoint would remove."""
    path = tmp_path / "data"
    disk = RealDisk(path)
    store = Store(disk)
    await store.open()
    await store.fill()
    copy_real(path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    if at == "a checkpoint":
        await store.make()  # in the directory that is the node's own, wherever it is now
        assert Checkpoints(disk, store.log, store.metrics)._find()[0] is not None
    else:
        with pytest.raises(NotInPlace):
            await store.fill()
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    disk.close()


async def test_a_place_that_cannot_be_checked_ends_the_node(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is on disk already: whatever the error, it can't be taken back."""
    disk = sim_disk()
    log, _, _ = await opened(disk)

    def fail(_name: str, _file: object) -> bool:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(disk, "has_in_place", fail)
    with pytest.raises(DiskFailed, match=f"{FIRST} can't be looked at: Cannot allocate memory"):
        await log.append(batch(1), ME)
    log.close()


async def test_a_directory_that_is_gone_when_a_start_reads_it_says_so(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path / "data")
    await filled(disk, 2)
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(NotInPlace, match=f"^{tmp_path / 'data'} {LOST}"):
        await opened(disk)
    disk.close()
