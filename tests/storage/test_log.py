"""The log: what was appended is replayed, torn tails are cut, damage stops the start and changes nothing."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from trio.testing import MockClock

from gcount.core.format.log_records import HEADER_BYTES, Header
from gcount.core.options import Options
from gcount.errors import DiskFailed, DiskFull
from gcount.storage import log as room
from gcount.storage.disk import Disk, RealDisk
from gcount.storage.log import segment_name
from tests.storage.commit_store import ME, batch, contents, filled, opened, sim_disk

FIRST = segment_name(1)


@pytest.fixture(params=["simulated", "real"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "simulated":
        yield sim_disk()
    else:
        real = RealDisk(tmp_path / "data")
        yield real
        real.close()


async def test_appended_batches_are_replayed(disk: Disk, autojump_clock: MockClock) -> None:
    assert (await opened(disk))[1:] == ([], None)
    made = await filled(disk, 5, size=3)
    log, found, header = await opened(disk)
    assert found == made
    assert header == Header(ME.node, ME.incarnation, 1, 1)
    await log.append(batch(6), ME)
    assert log.size == len(disk.read(FIRST))
    log.close()
    log, found, _ = await opened(disk)
    assert found == [*made, batch(6)]
    assert (log.segments, disk.names()) == (1, [FIRST])
    log.close()


async def test_segments_rotate_and_are_replayed_in_order(disk: Disk, autojump_clock: MockClock) -> None:
    made = await filled(disk, 40, options=Options(segment_bytes=300))
    assert len(disk.names()) > 5
    assert disk.names() == [segment_name(number + 1) for number in range(len(disk.names()))]
    log, found, _ = await opened(disk)
    assert found == made
    assert log.segments == len(disk.names())
    assert log.size == sum(map(len, contents(disk).values()))
    log.close()


async def test_a_torn_tail_of_the_last_segment_is_cut_with_a_warning(disk: Disk, autojump_clock: MockClock) -> None:
    made = await filled(disk, 3)
    whole = disk.read(FIRST)
    file = disk.create(FIRST)
    file.write(whole[:-5])
    file.close()
    with capture_logs() as logged:
        log, found, _ = await opened(disk)
    assert found == made[:2]
    (warning,) = logged
    offset = len(disk.read(FIRST))
    assert (warning["event"], warning["log_level"]) == ("torn tail removed", "warning")
    assert warning["file"].endswith(FIRST)
    assert (warning["offset"], warning["bytes"]) == (offset, len(whole) - 5 - offset)
    await log.append(batch(3), ME)
    log.close()
    with capture_logs() as logged:
        log, found, _ = await opened(disk)
    assert (found, logged) == (made, [])
    log.close()


@pytest.mark.parametrize(
    "name",
    [
        *("00000000.log", "1.log", "000000001.log", "0000000a.log", "0000000\N{ARABIC-INDIC DIGIT ONE}.log"),
        *("-0000001.log", "00000001", ".log", "00000001.log.new", "00000001.checkpoint", "9" * 40 + ".log"),
    ],
)
def test_only_one_spelling_is_the_name_of_a_segment(name: str) -> None:
    assert room.sequence_of(name) is None


@pytest.mark.parametrize("sequence", [1, 99_999_999, 100_000_000, 10**15])
def test_the_name_of_a_segment_has_its_number(sequence: int) -> None:
    assert room.sequence_of(segment_name(sequence)) == sequence


async def test_other_files_and_unfinished_segments_are_no_part_of_the_log(
    disk: Disk, autojump_clock: MockClock
) -> None:
    made = await filled(disk, 2)
    for name in ("notes.txt", segment_name(1) + ".new", segment_name(2) + ".new"):
        disk.create(name).close()
    log, found, _ = await opened(disk)
    assert (found, log.segments) == (made, 1)
    log.close()


async def test_a_full_disk_refuses_a_batch_and_leaves_the_log_as_it_was(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    made = await filled(disk, 2)
    log, _, _ = await opened(disk)
    before = disk.read(FIRST)
    for room_left in (0, 1, 20):
        disk.capacity = len(before) + room_left
        with pytest.raises(DiskFull):
            await log.append(batch(3, size=50), ME)
        assert (disk.read(FIRST), log.size) == (before, len(before))
    disk.capacity = 10**6
    await log.append(batch(3), ME)
    log.close()
    disk.crash()
    log, found, _ = await opened(disk)
    assert found == [*made, batch(3)]
    log.close()


async def test_a_full_disk_at_a_rotation_refuses_the_batch_and_a_later_one_rotates(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    log, _, _ = await opened(disk, Options(segment_bytes=100))
    await log.append(batch(1, size=20), ME)
    size = log.size
    for room_left in (0, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 10):
        disk.capacity = size + room_left
        with pytest.raises(DiskFull):
            await log.append(batch(2, size=9), ME)
    disk.capacity = 10**6
    await log.append(batch(2), ME)
    assert log.size == sum(map(len, contents(disk).values()))
    log.close()
    disk.crash()
    assert (await opened(disk))[1] == [batch(1, size=20), batch(2)]
    assert disk.names() == [FIRST, segment_name(2)]


async def test_a_start_on_a_full_disk_changes_nothing(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    made = await filled(disk, 3)
    before = contents(disk)
    disk.capacity = len(before[FIRST]) + 10
    with pytest.raises(DiskFull):
        await opened(disk)
    assert contents(disk) == before
    disk.capacity = 10**6
    assert (await opened(disk))[1] == made


@pytest.mark.parametrize("failing", ["truncate", "sync"])
async def test_a_partial_write_that_cannot_be_cut_back_ends_the_process(
    autojump_clock: MockClock, failing: str
) -> None:
    disk = sim_disk()
    made = await filled(disk, 1)
    log, _, _ = await opened(disk)
    disk.capacity = log.size + 10
    disk.fail(failing)
    with pytest.raises(DiskFailed):
        await log.append(batch(2), ME)
    disk.crash()
    disk.capacity = 10**6
    assert (await opened(disk))[1] == made


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
async def test_a_failed_sync_ends_the_process_even_for_lack_of_space(autojump_clock: MockClock, error: int) -> None:
    disk = sim_disk()
    log, _, _ = await opened(disk)
    disk.fail_sync(error=error)
    with pytest.raises(DiskFailed):
        await log.append(batch(1), ME)


@pytest.mark.parametrize("operation", ["write", "create", "rename", "sync_names", "read"])
async def test_any_other_failure_of_the_disk_ends_the_process(autojump_clock: MockClock, operation: str) -> None:
    disk = sim_disk()
    await filled(disk, 1)
    disk.fail(operation)
    with pytest.raises(DiskFailed):
        await opened(disk)


@pytest.mark.parametrize("reborn", [True, False])
async def test_a_start_writes_the_live_segment_again_and_syncs_it(autojump_clock: MockClock, reborn: bool) -> None:
    """A process whose sync failed leaves pages that can be read but never reach the disk (fsyncgate)."""
    lost = 0
    for seed in range(40):
        disk = sim_disk(seed)
        log, _, _ = await opened(disk)
        await log.append(batch(1), ME)
        disk.fail_sync()
        with pytest.raises(DiskFailed):
            await log.append(batch(2, size=100), ME)
        disk.restart()
        seen = (await opened(disk))[1] if reborn else [batch(1), batch(2, size=100)]
        assert seen == [batch(1), batch(2, size=100)]
        disk.crash()
        found = (await opened(disk))[1]
        if reborn:
            assert found == seen
        lost += found != seen
    assert (lost > 0) == (not reborn)  # without that start the simulated disk does forget


ORDERLY: list[Callable[[list[str]], bool]] = [
    lambda steps: steps.index(f"write {FIRST}.new") < steps.index(f"sync {FIRST}.new"),
    lambda steps: steps.index(f"sync {FIRST}.new") < steps.index(f"rename {FIRST}.new {FIRST}"),
    lambda steps: steps.index(f"rename {FIRST}.new {FIRST}") < steps.index("sync_names"),
    lambda steps: steps.index("sync_names") < steps.index(f"write {FIRST}") < steps.index(f"sync {FIRST}"),
]


async def test_content_is_synced_before_the_rename_and_the_directory_before_anything_is_appended(
    autojump_clock: MockClock,
) -> None:
    disk = sim_disk()
    for number in (1, 2):  # a new log, and one that was there
        disk.history.clear()
        log, _, _ = await opened(disk)
        await log.append(batch(number), ME)
        log.close()
        assert [rule(list(disk.history)) for rule in ORDERLY] == [True] * len(ORDERLY)


async def test_no_file_stays_open_but_the_live_segment(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    log, _, _ = await opened(disk, Options(segment_bytes=200))
    for number in range(1, 12):
        await log.append(batch(number), ME)
        assert disk.open_files == 1
    log.close()
    log.close()
    assert disk.open_files == 0
    with pytest.raises(DiskFailed, match="closed"):
        await log.append(batch(12), ME)


async def test_only_a_small_write_and_its_sync_may_be_done_in_the_loop(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A huge batch would hold it, and so would the first one of a segment, which takes four syncs."""
    disk = sim_disk()
    log, _, _ = await opened(disk, Options(segment_bytes=200_000))
    brief, run = list[tuple[int, bool]](), disk.run

    async def tell(operation: Callable[[], object], **how: bool) -> object:
        brief.append((log.live.sequence, how["brief"]))
        return await run(operation, **how)

    monkeypatch.setattr(disk, "run", tell)
    for number, size in enumerate((1, 100_000, 1, 1), start=1):
        await log.append(batch(number, size), ME)
    log.close()
    assert brief == [(1, True), (1, False), (1, False), (2, True)]


async def test_a_long_start_says_how_far_it_has_come_and_how_far_it_has_to_go(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(segment_bytes=300, replay_slice=0, progress_interval=0.0)
    disk = sim_disk()
    await filled(disk, 10, options=options)
    last = disk.names()[-1]
    with capture_logs() as logged:
        log, _, _ = await opened(disk, options)
    log.close()
    told = [entry for entry in logged if entry["event"] == "recovering"]
    assert len(told) == 10
    assert {entry["file"] for entry in told} == set(disk.names())
    assert {entry["of"] for entry in told} == {last}
    assert all(entry["size"] == len(disk.read(entry["file"])) for entry in told)
    assert (told[-1]["file"], told[-1]["offset"]) == (last, told[-1]["size"])


async def test_a_batch_of_another_number_than_the_next_is_never_written(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    await filled(disk, 2)
    log, _, _ = await opened(disk)
    before = contents(disk)
    for number in (1, 2, 4):
        with pytest.raises(AssertionError, match=f"batch {number} follows 2"):
            await log.append(batch(number), ME)
    assert contents(disk) == before
    await log.append(batch(3), ME)
    log.close()
