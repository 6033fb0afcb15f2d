"""Want of a file descriptor is like want of room: what needs one is refused and says why, and all else goes on."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from gcount.core.format.log_records import HEADER_BYTES
from gcount.core.options import Options
from gcount.errors import DiskFailed, DiskFull
from gcount.storage.disk import SHORTAGES, RealDisk
from gcount.storage.group_commit import PROBE_AFTER
from gcount.storage.log import Log, segment_name
from tests.fakes.disk import SimDisk
from tests.fakes.process import until
from tests.storage.checkpointed import SMALL, Store, files, written
from tests.storage.commit_store import ME, batch, contents, filled, opened, running, sim_disk

FIRST = segment_name(1)
SCARCE = pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])


@contextmanager
def no_descriptors() -> Iterator[None]:
    """While the context lasts this process can open nothing."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def state(log: Log) -> tuple[object, ...]:
    return log.live, log.size, log.segments


@SCARCE
@pytest.mark.parametrize("operation", ["create", "write", "rename"])
async def test_a_new_segment_that_cannot_be_made_leaves_the_log_as_it_was(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, operation: str, error: int
) -> None:
    disk = sim_disk()
    made = await filled(disk, 3)
    log, _, _ = await opened(disk, Options(segment_bytes=100))
    before, was = contents(disk), state(log)
    for _ in range(3):
        disk.fail(operation, error=error)
        with pytest.raises(DiskFull, match=SHORTAGES[error].split(";")[0]):
            await log.append(batch(4), ME)
        assert (contents(disk), state(log), disk.open_files) == (before, was, 1)
    monkeypatch.setattr(log, "_segment_bytes", 10**6)  # the live segment can still be appended to
    await log.append(batch(4), ME)
    monkeypatch.setattr(log, "_segment_bytes", 100)
    await log.append(batch(5), ME)
    assert (log.segments, disk.open_files) == (2, 1)
    log.close()
    disk.crash()
    assert (await opened(disk))[1] == [*made, batch(4), batch(5)]


@SCARCE
@pytest.mark.parametrize("operation", ["sync", "sync_names"])
async def test_what_fails_behind_the_write_of_a_new_segment_ends_the_node(
    autojump_clock: MockClock, operation: str, error: int
) -> None:
    """Nobody knows any more what is durable."""
    disk = sim_disk()
    log, _, _ = await opened(disk, Options(segment_bytes=100))
    await log.append(batch(1), ME)
    disk.fail(operation, error=error)
    with pytest.raises(DiskFailed, match="a sync failed"):
        await log.append(batch(2), ME)


async def test_a_real_segment_that_no_descriptor_is_left_for_comes_later(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    log, _, _ = await opened(disk, Options(segment_bytes=HEADER_BYTES + 1))
    await log.append(batch(1), ME)
    await log.append(batch(2), ME)
    was = state(log)
    with no_descriptors():
        for _ in range(3):
            with pytest.raises(DiskFull, match="no file descriptor is left"):
                await log.append(batch(3), ME)
            assert state(log) == was
    await log.append(batch(3), ME)
    assert log.segments == 3
    log.close()
    disk.close()
    log, found, _ = await opened(RealDisk(tmp_path))
    assert found == [batch(1), batch(2), batch(3)]
    log.close()


async def test_nothing_but_a_new_file_takes_a_descriptor(tmp_path: Path) -> None:
    """Renames, the sync of the directory and the look at the live segment do without: they come when it is too late."""
    disk = RealDisk(tmp_path)
    file = disk.create("a")
    with no_descriptors():
        file.write(b"a")
        file.sync()
        disk.rename("a", "b")
        disk.sync_names()
        assert disk.has_in_place("b", file)
        assert disk.is_in_place()
        assert disk.size("b") == 1
        assert disk.free_bytes() > 0
        disk.remove("b")
        file.close()
    disk.close()


@SCARCE
async def test_a_committer_refuses_with_the_reason_tries_again_by_itself_and_goes_on(
    autojump_clock: MockClock, error: int
) -> None:
    disk = sim_disk()
    with capture_logs() as logged:
        async with running(disk, Options(segment_bytes=100)) as store:
            await store.add("a")
            lasting(disk, "create", error)
            for _ in range(3):
                with pytest.raises(DiskFull, match=SHORTAGES[error].split(";")[0]):
                    await store.add("a")
            assert store.committer.full == SHORTAGES[error]
            disk.stepped = lambda operation, name: None
            with trio.fail_after(2.5 * PROBE_AFTER):
                await until(lambda: store.committer.full is None)
            await store.add("a")
            assert store.replica.counters.total("a") == 2
    assert [(entry["event"], entry.get("reason")) for entry in logged] == [
        ("log not writable", SHORTAGES[error]),
        ("log writable again", None),
    ]


def lasting(disk: SimDisk, operation: str, error: int) -> None:
    """Let an operation fail until `stepped` is set anew."""

    def fail(step: str, name: str) -> None:
        if step == operation:
            raise OSError(error, os.strerror(error), name)

    disk.stepped = fail


@SCARCE
async def test_a_checkpoint_without_a_descriptor_is_tried_again_later(autojump_clock: MockClock, error: int) -> None:
    disk, store = await written()
    before = files(disk)
    lasting(disk, "create", error)
    with pytest.raises(DiskFull, match=SHORTAGES[error].split(";")[0]):
        await store.make()
    assert files(disk) == before
    with capture_logs() as logged:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.checkpoints.run, store.replica)
            await trio.sleep(1.5 * SMALL.checkpoint_retry)
            assert files(disk) == before
            disk.stepped = lambda operation, name: None
            await trio.sleep(SMALL.checkpoint_retry)
            assert files(disk) != before
            nursery.cancel_scope.cancel()
    refused = [entry for entry in logged if entry["event"] == "checkpoint failed"]
    assert [entry["reason"] for entry in refused] == [SHORTAGES[error]], "one line, however often it was tried"


async def test_a_checkpoint_that_is_made_counts_though_what_it_covers_cannot_be_removed_yet(
    autojump_clock: MockClock,
) -> None:
    disk, store = await written()
    segments = store.log.segments
    disk.fail("remove", error=errno.ENOMEM)
    await store.make()
    assert store.checkpoints.sequence == store.log.live.sequence
    assert store.log.segments == segments, "what is there is counted"
    await store.fill()
    await store.make()
    assert len(files(disk)) == 1
    assert store.log.segments == 1
    await restarted(disk, store)


async def restarted(disk: SimDisk, store: Store) -> None:
    store.log.close()
    again = Store(disk)
    await again.open()
    store.check(again.replica.counters)


@SCARCE
async def test_a_start_that_can_open_nothing_changes_nothing_and_can_be_tried_again(
    autojump_clock: MockClock, error: int
) -> None:
    options = replace(SMALL, checkpoint_read_bytes=500)
    disk, store = await written(options=options)
    before = contents(disk)
    for operation in ("read", "create"):
        for after in range(3 if operation == "read" else 1):
            disk.fail(operation, after, error)
            with pytest.raises(DiskFull, match=SHORTAGES[error].split(";")[0]):
                await Store(disk, options).open()
            assert contents(disk) == before
    await restarted(disk, store)


def test_each_reason_says_what_it_is() -> None:
    assert SHORTAGES[errno.ENOSPC] == SHORTAGES[errno.EDQUOT] == "the disk is full"
    others = [reason for error, reason in SHORTAGES.items() if error not in (errno.ENOSPC, errno.EDQUOT)]
    assert len(set(others)) == 3
    assert not [reason for reason in others if "full" in reason]
