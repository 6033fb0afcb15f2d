"""A checkpoint that is damaged stops the start; a repair keeps what is left of it."""

from __future__ import annotations

import errno
from contextlib import suppress

import pytest
from trio.testing import MockClock

from gcount.core.format.frames import FRAME_HEAD_BYTES, read_frame
from gcount.core.format.log_records import HEADER_BYTES
from gcount.errors import Busy, LogDamaged, Unreadable
from gcount.storage.checkpoints import SUFFIX, checkpoint_name
from gcount.storage.inspect.corruption import DAMAGED_SUFFIX
from gcount.storage.inspect.survey import LOOKS, survey
from gcount.storage.log import segment_name, sequence_of
from tests.fakes.disk import SimDisk, SimulatedCrash
from tests.storage import written as written_log
from tests.storage.checkpointed import NAMES, SMALL, Store, files, opened, segments, written
from tests.storage.commit_store import ME, contents, sim_disk


def mend(disk: SimDisk, seed: int = 1) -> list[str]:
    return written_log.mend(disk, seed, SMALL)


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
        assert survey(disk).corruptions[0].file == name
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
    with pytest.raises(LogDamaged, match="belongs to another file"):
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


@pytest.mark.parametrize("power", [True, False])
async def test_a_repair_of_a_checkpoint_can_be_interrupted_anywhere(autojump_clock: MockClock, *, power: bool) -> None:
    """Until it is complete no node starts; then all that could be read is there, joined or detached."""
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
        disk.crash() if power else disk.restart()
        assert bytes(bad) in contents(disk).values()
        if survey(disk).corruptions:
            with pytest.raises(LogDamaged):
                await opened(disk)
            refused += 1
            mend(disk, seed=2)
        done += 1
        start = await opened(disk)
        kept = sum(start.replica.detached.cell(name, ME.incarnation) == 2 for name in NAMES)
        assert kept == len(NAMES) - SMALL.record_names
        assert start.replica.identity.incarnation != ME.incarnation
        assert any(name.endswith(DAMAGED_SUFFIX) for name in disk.names())
        if complete:
            break
    else:
        pytest.fail("the repair never came to its end")
    assert refused > 5
    assert done > refused


def damage(disk: SimDisk, name: str) -> None:
    """Invert all but the header, which says whose checkpoint it is."""
    good = disk.read(name)
    disk.poke(name, good[:64] + bytes(n ^ 255 for n in good[64:]))


async def left_by_a_crash(seed: int = 0, *, first: bool = False, more: int = 0) -> tuple[SimDisk, Store, str]:
    """A damaged newest checkpoint, and all that it covers: the older checkpoint, or the log from its beginning.

    `more` whole ones, of which each covers all before it, lie between the two.
    """
    if first:
        disk = sim_disk(seed)
        store = await opened(disk)
        await store.fill()
    else:
        disk, store = await written(seed)
    before: dict[str, bytes] = {}
    for _ in range(1 + more):
        before |= contents(disk)
        await store.make()
        await store.fill()
    store.log.close()
    for name, data in before.items():
        if name not in disk.names():
            disk.poke(name, data)
    name = checkpoint_name(store.checkpoints.sequence)
    damage(disk, name)
    return disk, store, name


@pytest.mark.parametrize("first", [True, False])
async def test_a_repair_loses_nothing_while_all_that_the_checkpoint_covers_is_still_there(
    autojump_clock: MockClock, *, first: bool
) -> None:
    """A crash has left it before it was removed. The start after the repair would remove it for good."""
    disk, store, name = await left_by_a_crash(first=first)
    others = {file: data for file, data in contents(disk).items() if file != name}
    with pytest.raises(LogDamaged, match=name):
        await opened(disk)
    found = survey(disk)
    assert ([corruption.file for corruption in found.corruptions], found.lossless) == ([name], True)
    assert found.replica.counters == store.replica.counters
    assert mend(disk) == [name + DAMAGED_SUFFIX]
    assert {file: data for file, data in contents(disk).items() if file != name + DAMAGED_SUFFIX} == others
    assert survey(disk).corruptions == []
    start = await opened(disk)
    assert start.replica.counters == store.replica.counters
    assert start.replica.identity == ME
    assert not start.replica.detached
    await start.fill(3)
    await start.make()
    assert survey(disk).corruptions == []
    assert (await opened(disk)).replica.counters == start.replica.counters


@pytest.mark.parametrize("power", [True, False])
async def test_a_repair_of_a_damaged_checkpoint_can_be_interrupted_anywhere(
    autojump_clock: MockClock, *, power: bool
) -> None:
    """Also one of two damaged checkpoints, and of a segment behind them, which costs the incarnation."""
    for operations in range(100):
        disk, store, name = await left_by_a_crash(operations)
        disk.poke(checkpoint_name(store.checkpoints.sequence + 1), bytes(500))
        behind = segments(disk)[-2]
        data = bytearray(disk.read(behind))
        data[70] ^= 1
        disk.poke(behind, bytes(data))
        assert [corruption.file for corruption in survey(disk).corruptions][1:] == [name, behind]
        disk.crash_after(operations)
        complete = False
        with suppress(SimulatedCrash):
            complete = bool(mend(disk))
        disk.crash() if power else disk.restart()
        if survey(disk).corruptions:
            with pytest.raises(LogDamaged):
                await opened(disk)
            mend(disk, seed=2)
        start = await opened(disk)
        assert start.replica.counters.version(ME.incarnation) >= 20
        assert start.replica.identity.incarnation != ME.incarnation
        assert not any(sequence_of(file, SUFFIX) for file in files(disk) if file >= name)
        if complete:
            break
    else:
        pytest.fail("the repair never came to its end")
    assert operations > 5


@pytest.mark.parametrize("power", [True, False])
async def test_a_repair_that_loses_nothing_does_so_too_when_it_was_interrupted_between_two_moves(
    autojump_clock: MockClock, *, power: bool
) -> None:
    left: set[int] = set()
    for operations in range(100):
        disk, store, newest = await left_by_a_crash(operations, more=1)
        older = files(disk)[-2]
        damage(disk, older)
        assert ([corruption.file for corruption in survey(disk).corruptions], survey(disk).lossless) == (
            [newest, older],
            True,
        )
        disk.crash_after(operations)
        complete = False
        with suppress(SimulatedCrash):
            complete = bool(mend(disk))
        disk.crash() if power else disk.restart()
        found = survey(disk)
        left.add(len(found.corruptions))
        if found.corruptions:
            assert found.lossless
            mend(disk, seed=2)
        start = await opened(disk)
        assert start.replica.counters == store.replica.counters
        assert start.replica.identity == ME
        if complete:
            break
    else:
        pytest.fail("the repair never came to its end")
    assert left == {0, 1, 2}


@pytest.mark.parametrize("power", [True, False])
async def test_what_looks_torn_behind_a_damaged_checkpoint_may_have_rotted_so_the_incarnation_ends(
    autojump_clock: MockClock, *, power: bool
) -> None:
    """The newest batch was acknowledged, and may be on no other disk. However often the repair is interrupted."""
    for operations in range(100):
        disk, store, name = await left_by_a_crash(operations)
        live = segments(disk)[-1]
        data = disk.read(live)
        disk.poke(live, data[:-1] + bytes([data[-1] ^ 1]))
        found = survey(disk)
        assert ([corruption.file for corruption in found.corruptions], found.lossless) == ([name, live], False)
        disk.crash_after(operations)
        complete = False
        with suppress(SimulatedCrash):
            complete = bool(mend(disk))
        disk.crash() if power else disk.restart()
        assert data[:-1] + bytes([data[-1] ^ 1]) in contents(disk).values()
        if survey(disk).corruptions:
            mend(disk, seed=2)
        start = await opened(disk)
        assert start.replica.identity.incarnation != ME.incarnation
        version = store.replica.counters.version(ME.incarnation)
        assert start.replica.counters.version(ME.incarnation) == version - 1
        if complete:
            break
    else:
        pytest.fail("the repair never came to its end")
    assert operations > 5


async def test_a_checkpoint_of_which_nothing_can_be_read_may_have_held_more_than_one_that_was_moved_away(
    autojump_clock: MockClock,
) -> None:
    disk, _, newest = await left_by_a_crash(more=1)
    older = files(disk)[-2]
    damage(disk, older)
    disk.rename(older, older + DAMAGED_SUFFIX)
    assert survey(disk).lossless
    disk.poke(newest, bytes(500))
    found = survey(disk)
    assert ([corruption.file for corruption in found.corruptions], found.lossless) == ([newest], False)


@pytest.mark.parametrize("damage", ["a covered segment is gone", "one has rotted", "the log ends too early"])
async def test_what_is_left_of_a_checkpoint_is_kept_where_not_all_that_it_covers_is(
    autojump_clock: MockClock, damage: str
) -> None:
    disk, store, name = await left_by_a_crash()
    covered = segments(disk)[0]
    if damage == "a covered segment is gone":
        disk.remove(covered)
    elif damage == "one has rotted":
        disk.poke(covered, disk.read(covered)[:-20])
    else:
        for segment in segments(disk):
            if segment >= segment_name(store.checkpoints.sequence):
                disk.remove(segment)
    found = survey(disk)
    assert not found.lossless
    assert found.checkpoint is not None
    assert (found.checkpoint.source, found.needless) == (name, ())
    mend(disk)
    assert (await opened(disk)).replica.identity.incarnation != ME.incarnation


async def test_what_a_damaged_checkpoint_holds_is_not_given_up_for_a_log_that_has_lost_it(
    autojump_clock: MockClock,
) -> None:
    """Batches of the segment that was live when it was made: it does not cover that, but has seen them."""
    disk, store, name = await left_by_a_crash()
    inverted = disk.read(name)
    disk.poke(name, inverted[:64] + bytes(n ^ 255 for n in inverted[64:-1]) + inverted[-1:])
    live = segment_name(store.checkpoints.sequence)
    data = bytearray(disk.read(live))
    data[HEADER_BYTES + FRAME_HEAD_BYTES + 4] ^= 1
    disk.poke(live, bytes(data))
    found = survey(disk)
    assert found.checkpoint is not None
    assert (found.checkpoint.source, found.needless) == (name, ())
    mend(disk)
    assert (await opened(disk)).replica.counters.version(ME.incarnation) > 0


@pytest.mark.parametrize("covered", ["all", "the older checkpoint", "the segments", "a segment is gone"])
async def test_a_repair_joins_what_is_whole_of_all_that_a_damaged_checkpoint_covers(
    autojump_clock: MockClock, covered: str
) -> None:
    """It is not enough to do without the checkpoint, but the start after the repair would remove it for good."""
    disk, store, name = await left_by_a_crash(first=covered == "the segments")
    damage(disk, name)  # inverts all once more: it is whole
    good = disk.read(name)
    head = read_frame(good, HEADER_BYTES)[1]
    disk.poke(name, good[:head] + bytes(n ^ 255 for n in good[head:]))
    live = segment_name(store.checkpoints.sequence)
    data = bytearray(disk.read(live))
    data[HEADER_BYTES + FRAME_HEAD_BYTES + 4] ^= 1
    disk.poke(live, bytes(data))
    below = [segment for segment in segments(disk) if segment < live]
    for segment in {"the older checkpoint": below, "a segment is gone": below[1:2]}.get(covered, []):
        disk.remove(segment)
    rest = sim_disk()
    for file in disk.names():
        if file < name:
            rest.poke(file, disk.read(file))
    left = survey(rest).replica.counters
    assert left.version(ME.incarnation) > 0
    found = survey(disk)
    assert not found.lossless
    mend(disk)
    start = await opened(disk)
    assert found.replica.counters == start.replica.counters
    assert start.replica.counters.version(ME.incarnation) >= left.version(ME.incarnation)
    assert all(start.replica.counters.total(each) >= left.total(each) for each in NAMES)
    assert ME.incarnation in start.replica.identity.retired


@pytest.mark.parametrize("busy", [LOOKS - 1, LOOKS])
async def test_a_look_at_a_busy_node_is_tried_again_and_then_given_up(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, busy: int
) -> None:
    disk, store = await written()
    looks, read = 0, disk.read

    def gone(name: str, start: int = 0, size: int = -1) -> bytes:
        nonlocal looks
        if name.endswith(".checkpoint"):
            looks += 1
            if looks <= busy:
                raise FileNotFoundError(errno.ENOENT, "No such file", name)
        return read(name, start, size)

    monkeypatch.setattr(disk, "read", gone)
    if busy < LOOKS:
        assert survey(disk).replica.counters == store.replica.counters
    else:
        with pytest.raises(Busy, match="faster than they can be checked"):
            survey(disk)
