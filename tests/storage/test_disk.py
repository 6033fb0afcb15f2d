"""The real disk keeps the port's promises; the simulated one breaks all that a real one may break."""

import errno
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from gcount.errors import DirectoryInUse, DiskFailed
from gcount.storage import locking
from gcount.storage.disk import RealDisk
from tests.fakes.disk import SimDisk, SimulatedCrash
from tests.storage.commit_store import sim_disk

HOLDER = """
import sys
from pathlib import Path
from gcount.storage.disk import RealDisk
held = RealDisk(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_directory_is_locked_by_one_process_at_a_time(tmp_path: Path) -> None:
    held = RealDisk(tmp_path)
    with pytest.raises(DirectoryInUse, match="in use by another node"):
        RealDisk(tmp_path)
    held.close()
    RealDisk(tmp_path).close()


def test_a_directory_that_another_process_has_locked_is_in_use_until_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DirectoryInUse):
            RealDisk(tmp_path)
        holder.kill()
    RealDisk(tmp_path).close()


def test_missing_directories_are_made_and_each_made_durable_in_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(locking, "_sync_directory", synced.append)
    RealDisk(tmp_path / "a" / "b" / "c").close()
    assert set(synced) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}
    synced.clear()
    RealDisk(tmp_path / "a" / "b" / "c").close()
    assert synced == []


def test_a_directory_that_cannot_be_made_is_a_failure_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskFailed, match="can't be used"):
        RealDisk(tmp_path / "file" / "data")


def test_real_files_are_appended_to_cut_renamed_and_removed(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    file = disk.create("one")
    file.write(b"hello")
    file.truncate(3)
    file.write(b"p!")
    file.sync()
    assert disk.read("one") == b"help!"
    disk.create("two").close()
    disk.rename("one", "two")
    disk.sync_names()
    file.write(b"!")
    file.close()
    assert (disk.names(), disk.read("two")) == (["two"], b"help!!")
    disk.create("two").close()
    assert disk.read("two") == b""
    disk.remove("two")
    assert disk.names() == []
    assert disk.free_bytes() > 0
    for missing in (disk.read, disk.size, disk.remove):
        with pytest.raises(FileNotFoundError):
            missing("two")
    disk.close()


async def test_real_operations_run_beside_the_event_loop(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    in_loop = trio.lowlevel.current_task()

    def operation() -> bool:
        try:
            return trio.lowlevel.current_task() is in_loop
        except RuntimeError:
            return False

    assert operation()
    assert not await disk.run(operation)
    disk.close()


def survivors(prepare: Callable[[SimDisk], None], count: int = 300) -> list[dict[str, bytes]]:
    """What different crashes leave of the same work."""
    left = []
    for seed in range(count):
        disk = sim_disk(seed)
        prepare(disk)
        disk.crash()
        left.append({name: disk.read(name) for name in disk.names()})
    return left


SYNCED, UNSYNCED = b"s" * 700, b"u" * 3000


def half_synced(disk: SimDisk) -> None:
    file = disk.create("f")
    file.write(SYNCED)
    file.sync()
    disk.sync_names()
    file.write(UNSYNCED)
    assert disk.read("f") == SYNCED + UNSYNCED


def test_a_crash_never_loses_what_was_synced_and_may_lose_keep_or_tear_the_rest() -> None:
    found = [left["f"] for left in survivors(half_synced)]
    assert all(data.startswith(SYNCED) for data in found)
    rest = [data[len(SYNCED) :] for data in found]
    assert any(not data for data in rest)
    assert any(data == UNSYNCED for data in rest)
    assert any(data and data == UNSYNCED[: len(data)] and len(data) < len(UNSYNCED) for data in rest)
    assert any(b"\0" * 500 in data and b"u" * 500 in data for data in rest)
    assert any(set(data) - set(b"u\0") for data in rest)


def test_a_crash_keeps_or_loses_a_truncation_that_was_not_synced() -> None:
    def cut(disk: SimDisk) -> None:
        half_synced(disk)
        file = disk.append("f")
        file.sync()
        file.truncate(len(SYNCED))

    assert {len(left["f"]) for left in survivors(cut)} == {len(SYNCED), len(SYNCED + UNSYNCED)}


def names_only(prepare: Callable[[SimDisk], None]) -> set[tuple[str, ...]]:
    return {tuple(left) for left in survivors(prepare, 100)}


def test_a_crash_keeps_or_loses_each_change_of_names_by_itself() -> None:
    def change(disk: SimDisk, *, sync: bool = False) -> None:
        disk.create("old")
        disk.create("gone")
        disk.sync_names()
        disk.rename("old", "new")
        disk.remove("gone")
        disk.create("made")
        if sync:
            disk.sync_names()

    assert names_only(change) == {
        tuple(sorted((name, *gone, *made)))
        for name in ("old", "new")
        for gone in ((), ("gone",))
        for made in ((), ("made",))
    }
    assert names_only(partial(change, sync=True)) == {("made", "new")}


def test_data_of_a_failed_sync_may_be_lost_though_later_syncs_succeed() -> None:
    def fail(disk: SimDisk) -> None:
        half_synced(disk)
        disk.fail_sync()
        file = disk.append("f")
        with pytest.raises(OSError, match="failure") as caught:
            file.sync()
        assert caught.value.errno == errno.EIO
        file.sync()
        assert disk.read("f") == SYNCED + UNSYNCED

    found = [left["f"] for left in survivors(fail)]
    assert all(data.startswith(SYNCED) for data in found)
    assert sum(data != SYNCED + UNSYNCED for data in found) > 100


def test_a_killed_process_leaves_what_it_wrote_but_no_more_durable_than_it_was() -> None:
    def kill(disk: SimDisk) -> None:
        half_synced(disk)
        disk.restart()
        assert disk.read("f") == SYNCED + UNSYNCED

    assert any(left["f"] == SYNCED for left in survivors(kill))


def test_a_write_to_a_full_disk_writes_what_fits() -> None:
    disk = sim_disk()
    disk.capacity = 10
    file = disk.create("f")
    file.write(b"1234567")
    with pytest.raises(OSError, match="space") as caught:
        file.write(b"abcdef")
    assert caught.value.errno == errno.ENOSPC
    assert (disk.read("f"), disk.free_bytes()) == (b"1234567abc", 0)
    disk.capacity = 20
    file.write(b"!")
    assert (disk.read("f"), disk.free_bytes()) == (b"1234567abc!", 9)


def test_a_crash_can_come_before_any_operation_and_nothing_happens_after_it() -> None:
    disk = sim_disk()
    disk.crash_after(2)
    file = disk.create("f")
    file.write(b"a")
    for doomed in (file.sync, file.sync, disk.sync_names, partial(disk.create, "g")):
        with pytest.raises(SimulatedCrash):
            doomed()
    assert (disk.names(), disk.operations) == (["f"], 2)
    disk.crash()
    disk.create("g").sync()
    with pytest.raises(OSError, match="before the crash"):
        file.write(b"b")


async def test_an_operation_takes_its_time_and_never_outlives_a_crash(autojump_clock: MockClock) -> None:
    disk = SimDisk(Random(1), latency=(1.0, 2.0))
    started = trio.current_time()
    assert await disk.run(disk.names) == []
    assert 1.0 <= trio.current_time() - started <= 2.0
    async with trio.open_nursery() as nursery:

        async def ghost() -> None:
            with pytest.raises(OSError, match="crashed"):
                await disk.run(lambda: disk.create("ghost"))

        nursery.start_soon(ghost)
        await trio.testing.wait_all_tasks_blocked()  # it is under way
        disk.crash()
    assert disk.names() == []


def test_a_disk_that_is_cut_off_fails_each_operation_until_it_is_opened_again() -> None:
    disk = sim_disk()
    file = disk.create("f")
    file.write(b"a")
    file.sync()
    disk.sync_names()
    disk.cut()
    with pytest.raises(OSError, match="gone"):
        file.write(b"b")
    disk.crash()
    assert disk.read("f") == b"a"


def test_a_copy_holds_what_is_durable_and_goes_its_own_way() -> None:
    disk = sim_disk()
    half_synced(disk)
    copy = disk.copy()
    assert copy.read("f") == SYNCED
    copy.append("f").write(b"more")
    copy.remove("f")
    assert disk.read("f") == SYNCED + UNSYNCED
