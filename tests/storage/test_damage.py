"""A log that cannot be read: the start is refused with file and offset, and nothing is changed."""

import pytest
from trio.testing import MockClock

from gcount.core.format.log_records import HEADER_BYTES, decode_header, encode_batch
from gcount.core.options import Options
from gcount.core.state.batch import Batch
from gcount.errors import LogDamaged
from gcount.storage.inspect.survey import survey
from gcount.storage.log import segment_name
from tests.fakes.disk import SimDisk
from tests.storage.commit_store import contents, filled, opened, sim_disk

FIRST = segment_name(1)


async def three_segments() -> tuple[SimDisk, list[Batch]]:
    disk = sim_disk()
    made = await filled(disk, 25, options=Options(segment_bytes=300))
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
    assert "`bin/gcount repair ." in str(caught.value)
    assert survey(disk).corruptions  # what operators look with sees it, too
    assert contents(disk) == before
    return caught.value


async def test_a_torn_tail_of_any_other_segment_stops_the_start(autojump_clock: MockClock) -> None:
    disk, _ = await three_segments()
    disk.poke(FIRST, disk.read(FIRST)[:-1])
    assert (await refused(disk, FIRST)).offset > HEADER_BYTES


async def test_batches_that_are_gone_before_a_segment_without_any_stop_the_start(autojump_clock: MockClock) -> None:
    """Only the header of the last segment still tells that there were more."""
    disk, made = await three_segments()
    *_, closed, live = disk.names()
    header = disk.read(live)[:HEADER_BYTES]
    last = made[decode_header(header).first_batch - 2]
    disk.poke(closed, disk.read(closed).removesuffix(encode_batch(last)))
    disk.poke(live, header)
    assert f"at batch {last.number} is due" in str(await refused(disk, live))


async def test_a_bad_record_before_others_stops_the_start_in_any_segment(autojump_clock: MockClock) -> None:
    disk, _ = await three_segments()
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
async def test_a_missing_segment_stops_the_start(autojump_clock: MockClock, missing: int) -> None:
    disk, _ = await three_segments()
    disk.remove(segment_name(missing))
    assert "missing" in str(await refused(disk, segment_name(missing)))


async def test_a_segment_in_the_place_of_another_stops_the_start(autojump_clock: MockClock) -> None:
    disk, _ = await three_segments()
    disk.poke(segment_name(2), disk.read(segment_name(3)))
    assert "segment 2" in str(await refused(disk, segment_name(2)))
