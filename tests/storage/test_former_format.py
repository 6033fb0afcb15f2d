"""A log of the former format: it is read as ever and never continued, so that no former version overlooks an id."""

from __future__ import annotations

from contextlib import suppress
from unittest.mock import patch

import pytest
from trio.testing import MockClock

from gcount.core.format import log_records as room
from gcount.core.format.log_records import CHECKPOINT_MAGIC, FORMAT, FORMER, MAGIC
from gcount.storage.inspect.corruption import DAMAGED_SUFFIX
from gcount.storage.inspect.survey import survey
from tests.fakes.disk import SimDisk, SimulatedCrash
from tests.storage.checkpointed import SMALL, opened, segments, written
from tests.storage.commit_store import contents, sim_disk
from tests.storage.written import mend


def formats(disk: SimDisk) -> dict[str, int]:
    """The format of each file that is a checkpoint or a segment."""
    found = ((name, data) for name, data in contents(disk).items() if data[:8] in (MAGIC, CHECKPOINT_MAGIC))
    return {name: int.from_bytes(data[8:10], "little") for name, data in found}


async def of_former_version(seed: int = 0) -> SimDisk:
    """A checkpoint and some segments."""
    with patch.object(room, "FORMAT", FORMER):
        disk, store = await written(seed)
        store.log.close()
    assert set(formats(disk).values()) == {FORMER}
    return disk


async def test_the_first_batch_after_a_start_begins_a_segment_of_the_present_format(autojump_clock: MockClock) -> None:
    disk = await of_former_version()
    before = contents(disk)
    store = await opened(disk)
    assert contents(disk) == before
    live = segments(disk)[-1]
    await store.add("n1")
    await store.add("n1")
    last = segments(disk)[-1]
    assert formats(disk) == {**dict.fromkeys(before, FORMER), last: FORMAT}
    assert (last > live, disk.read(live)) == (True, before[live])
    assert store.log.segments == len(segments(disk))
    assert store.log.size == sum(len(disk.read(name)) for name in segments(disk))
    again = await opened(disk)
    store.check(again.replica.counters)
    assert survey(disk).corruptions == []


async def test_a_segment_that_was_begun_by_this_version_is_continued_after_a_start(autojump_clock: MockClock) -> None:
    disk = await of_former_version()
    await (await opened(disk)).add("n1")
    names = disk.names()
    await (await opened(disk)).add("n1")
    assert disk.names() == names


async def test_a_checkpoint_that_follows_one_of_the_former_format_has_the_present_one(
    autojump_clock: MockClock,
) -> None:
    disk = await of_former_version()
    store = await opened(disk)
    await store.add("n1")
    await store.make()
    assert set(formats(disk).values()) == {FORMAT}
    store.check((await opened(disk)).replica.counters)


@pytest.mark.parametrize("power", [True, False])
async def test_a_crash_before_any_operation_of_the_change_loses_nothing(
    autojump_clock: MockClock, *, power: bool
) -> None:
    stored = contents(await of_former_version())
    for operations in range(100):
        disk = sim_disk(operations)
        for name, data in stored.items():
            disk.poke(name, data)
        disk.crash_after(operations)
        done = False
        with suppress(SimulatedCrash):
            store = await opened(disk)
            for _ in range(3):
                await store.add("n1")
            done = True
        disk.crash() if power else disk.restart()
        assert survey(disk).corruptions == []
        start = await opened(disk)
        assert start.replica.counters.total("n1") in range(2, 6)
        await start.add("n1")
        assert formats(disk)[segments(disk)[-1]] == FORMAT
        if done:
            break
    else:
        pytest.fail("the change never came to its end")
    assert operations > 10


async def test_what_a_repair_writes_anew_has_the_present_format(autojump_clock: MockClock) -> None:
    disk = await of_former_version()
    first, damaged, *_ = segments(disk)
    bad = bytearray(disk.read(damaged))
    bad[-1] ^= 1
    disk.poke(damaged, bytes(bad))
    assert mend(disk, options=SMALL) == [damaged + DAMAGED_SUFFIX]
    found = formats(disk)
    assert (found[first], found[damaged], found[segments(disk)[-1]]) == (FORMER, FORMAT, FORMAT)
    assert (await opened(disk)).replica.detached
