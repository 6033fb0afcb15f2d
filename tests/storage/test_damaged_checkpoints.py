"""A checkpoint that is damaged stops the start; a repair keeps what is left of it."""

from __future__ import annotations

import errno
from contextlib import suppress

import pytest
from trio.testing import MockClock

from gcount.core import checkpoint as core_room
from gcount.errors import LogDamaged, Unreadable
from gcount.storage.checkpoints import checkpoint_name
from gcount.storage.findings import ASIDE
from gcount.storage.log import segment_name
from gcount.storage.verify import survey
from tests.simulation.disk import SimulatedCrash
from tests.storage.checkpointed import NAMES, files, make_small, opened, segments, written
from tests.storage.stores import ME, contents
from tests.storage.written import mend


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


async def test_damage_stops_the_start_with_file_and_offset_and_changes_nothing(autojump_clock: MockClock) -> None:
    disk, store = await written()
    await store.make()
    await store.fill()
    name, good = files(disk)[0], contents(disk)
    for at in range(0, len(good[name]), 29):
        disk.poke(name, good[name][:at] + bytes([good[name][at] ^ 4]) + good[name][at + 1 :])
        bad = contents(disk)
        with pytest.raises(LogDamaged, match=rf"{name} at offset (\d+)") as caught:
            await opened(disk)
        assert int(str(caught.value).split("at offset ")[1].split(":")[0]) <= at
        assert contents(disk) == bad
        assert survey(disk).flaws[0].file == name
    for cut in (0, 10, len(good[name]) // 2, len(good[name]) - 1):
        disk.poke(name, good[name][:cut])
        with pytest.raises(LogDamaged, match=name):
            await opened(disk)


async def test_a_log_that_does_not_go_on_from_the_checkpoint_stops_the_start(autojump_clock: MockClock) -> None:
    disk, store = await written()
    await store.make()
    sequence, good = store.checkpoints.sequence, contents(disk)
    disk.remove(segment_name(sequence))
    with pytest.raises(LogDamaged, match=f"{segment_name(sequence)} at offset 0: the segment is missing"):
        await opened(disk)
    disk.poke(segment_name(sequence), good[segment_name(sequence)][:-1])
    with pytest.raises(LogDamaged, match="the log ends before batch"):
        await opened(disk)
    disk.poke(segment_name(sequence), good[segment_name(sequence)])
    disk.poke(checkpoint_name(sequence + 1), good[checkpoint_name(sequence)])
    with pytest.raises(LogDamaged, match="another one by its header"):
        await opened(disk)
    disk.remove(checkpoint_name(sequence + 1))
    disk.remove(checkpoint_name(sequence))
    with pytest.raises(LogDamaged, match=f"{segment_name(1)} at offset 0: the segment is missing"):
        await opened(disk)


async def test_a_file_that_the_disk_cannot_read_is_named_with_what_to_do(autojump_clock: MockClock) -> None:
    """By a start, by verify and by repair alike."""
    disk, store = await written()
    store.log.close()
    for number, name in enumerate([*files(disk), *segments(disk)]):
        disk.fail("read", after=number)
        with pytest.raises(Unreadable, match=rf"{name} can't be read: .* skips bad sectors, .* `bin/gcount repair"):
            await opened(disk)
        disk.fail("read", after=number)
        with pytest.raises(Unreadable, match=f"{name} can't be read"):
            survey(disk)
    disk.fail("read", error=errno.EACCES)
    with pytest.raises(Unreadable) as caught:
        survey(disk)
    assert "sectors" not in str(caught.value)


async def test_a_repair_of_a_checkpoint_can_be_interrupted_anywhere(autojump_clock: MockClock) -> None:
    """Until it is complete no node starts; then all that could be read is there, joined or aside."""
    refused = done = 0
    for operations in range(100):
        disk, store = await written(operations)
        await store.make()
        store.log.close()
        name = files(disk)[0]
        bad = bytearray(disk.read(name))
        bad[bad.index(b"n10")] ^= 1  # a record of names
        disk.poke(name, bytes(bad))
        disk.crash_after(operations)
        complete = False
        with suppress(SimulatedCrash):
            complete = bool(mend(disk))
        disk.crash() if operations % 2 and not complete else disk.restart()
        assert bytes(bad) in contents(disk).values()
        if survey(disk).flaws:
            with pytest.raises(LogDamaged):
                await opened(disk)
            refused += 1
            mend(disk, seed=2)
        done += 1
        start = await opened(disk)
        kept = sum(start.replica.salvage.cell(name, ME.incarnation) == 2 for name in NAMES)
        assert kept == len(NAMES) - core_room.NAMES_A_RECORD
        assert start.replica.identity.incarnation != ME.incarnation
        assert any(name.endswith(ASIDE) for name in disk.names())
        if complete:
            break
    else:
        pytest.fail("the repair never came to its end")
    assert refused > 5
    assert done > refused
