"""The log: what was appended is replayed, torn tails are cut, damage stops the start and changes nothing."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from trio.testing import MockClock

from gcount.core.counters import Delta
from gcount.core.records import HEADER_BYTES, Batch, Header
from gcount.errors import DiskFailed, DiskFull, LogDamaged
from gcount.storage import log as room
from gcount.storage.disk import Disk, RealDisk
from gcount.storage.log import Log, segment_name
from tests.simulation.disk import SimDisk
from tests.storage.stores import ME, sim_disk

FIRST = segment_name(1)


@pytest.fixture(params=["simulated", "real"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "simulated":
        yield sim_disk()
    else:
        real = RealDisk(tmp_path / "data")
        yield real
        real.close()


def batch(number: int, size: int = 1) -> Batch:
    return Batch(number, True, [Delta(ME.incarnation, number - 1, number, {f"n{n}": number for n in range(size)})])


async def opened(disk: Disk) -> tuple[Log, list[Batch], Header | None]:
    log, found = Log(disk), list[Batch]()
    header = await log.recover(found.append)
    if header is None:
        await log.begin(ME)
    return log, found, header


async def filled(disk: Disk, count: int, size: int = 1) -> list[Batch]:
    log, _, _ = await opened(disk)
    made = [batch(number, size) for number in range(1, count + 1)]
    for one in made:
        await log.append(one, ME)
    log.close()
    return made


def contents(disk: Disk) -> dict[str, bytes]:
    return {name: disk.read(name) for name in disk.names()}


async def test_what_was_appended_is_replayed(disk: Disk, autojump_clock: MockClock) -> None:
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


async def test_segments_rotate_and_are_replayed_in_order(
    disk: Disk, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SEGMENT_BYTES", 300)
    made = await filled(disk, 40)
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
    file = disk.append(FIRST)
    file.truncate(len(whole) - 5)
    file.close()
    with capture_logs() as logged:
        log, found, _ = await opened(disk)
    assert found == made[:2]
    (warning,) = logged
    offset = len(disk.read(FIRST))
    assert (warning["event"], warning["log_level"]) == ("torn tail cut", "warning")
    assert warning["file"].endswith(FIRST)
    assert (warning["offset"], warning["bytes"]) == (offset, len(whole) - 5 - offset)
    await log.append(batch(3), ME)
    log.close()
    with capture_logs() as logged:
        log, found, _ = await opened(disk)
    assert (found, logged) == (made, [])
    log.close()


async def three_segments(monkeypatch: pytest.MonkeyPatch) -> tuple[SimDisk, list[Batch]]:
    disk = sim_disk()
    monkeypatch.setattr(room, "SEGMENT_BYTES", 300)
    made = await filled(disk, 25)
    assert len(disk.names()) >= 3
    return disk, made


async def refused(disk: SimDisk, file: str) -> LogDamaged:
    """A start that has to be refused and to leave everything as it is."""
    before = contents(disk)
    with pytest.raises(LogDamaged) as caught:
        await opened(disk)
    assert caught.value.file == file
    assert file in str(caught.value)
    assert str(caught.value.offset) in str(caught.value)
    assert contents(disk) == before
    return caught.value


async def test_a_torn_tail_of_any_other_segment_stops_the_start(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, _ = await three_segments(monkeypatch)
    disk.poke(FIRST, disk.read(FIRST)[:-1])
    assert (await refused(disk, FIRST)).offset > HEADER_BYTES


async def test_a_bad_record_before_others_stops_the_start_in_any_segment(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, _ = await three_segments(monkeypatch)
    for name in disk.names()[:-1]:
        good = disk.read(name)
        for at in range(0, len(good), 7):
            bad = bytearray(good)
            bad[at] ^= 0x10
            disk.poke(name, bytes(bad))
            assert (await refused(disk, name)).offset <= at
        disk.poke(name, good)
    assert (await opened(disk))[1]


async def test_damage_in_the_last_segment_before_a_whole_record_stops_the_start(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    await filled(disk, 3)
    bad = bytearray(disk.read(FIRST))
    bad[HEADER_BYTES + 20] ^= 1
    disk.poke(FIRST, bytes(bad))
    assert (await refused(disk, FIRST)).offset == HEADER_BYTES


async def test_a_damaged_or_cut_header_stops_the_start_even_of_the_last_segment(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    await filled(disk, 1)
    good = disk.read(FIRST)
    for bad in (b"", good[:10], bytes(len(good)), good[:-1].replace(b"gcount", b"GCOUNT")):
        disk.poke(FIRST, bad)
        assert (await refused(disk, FIRST)).offset == 0


@pytest.mark.parametrize("missing", [1, 2])
async def test_a_missing_segment_stops_the_start(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    disk, _ = await three_segments(monkeypatch)
    disk.remove(segment_name(missing))
    assert "missing" in str(await refused(disk, segment_name(missing)))


async def test_a_segment_in_the_place_of_another_stops_the_start(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, _ = await three_segments(monkeypatch)
    disk.poke(segment_name(2), disk.read(segment_name(3)))
    assert "segment 2" in str(await refused(disk, segment_name(2)))


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


async def test_a_full_disk_at_a_rotation_refuses_the_batch_and_a_later_one_rotates(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = sim_disk()
    log, _, _ = await opened(disk)
    await log.append(batch(1, size=20), ME)
    monkeypatch.setattr(room, "SEGMENT_BYTES", 100)
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
async def test_a_failed_sync_ends_the_process_even_for_want_of_space(autojump_clock: MockClock, error: int) -> None:
    disk = sim_disk()
    log, _, _ = await opened(disk)
    disk.fail_sync(error=error)
    with pytest.raises(DiskFailed):
        await log.append(batch(1), ME)


@pytest.mark.parametrize("operation", ["write", "create", "rename", "append", "sync_names", "read"])
async def test_any_other_failure_of_the_disk_ends_the_process(autojump_clock: MockClock, operation: str) -> None:
    disk = sim_disk()
    await filled(disk, 1)
    disk.fail(operation)
    with pytest.raises(DiskFailed):
        await opened(disk)


@pytest.mark.parametrize("reborn", [True, False])
async def test_a_start_writes_and_syncs_the_live_segment_anew(autojump_clock: MockClock, reborn: bool) -> None:
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
    lambda steps: steps.index("sync_names") < steps.index(f"append {FIRST}"),
    lambda steps: steps.index(f"append {FIRST}") < steps.index(f"write {FIRST}") < steps.index(f"sync {FIRST}"),
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


async def test_no_file_stays_open_but_the_live_segment(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SEGMENT_BYTES", 200)
    disk = sim_disk()
    log, _, _ = await opened(disk)
    for number in range(1, 12):
        await log.append(batch(number), ME)
        assert disk.open_files == 1
    log.close()
    log.close()
    assert disk.open_files == 0
    with pytest.raises(DiskFailed, match="closed"):
        await log.append(batch(12), ME)
