"""Verify and repair: each kind of damage is told as it is, what is whole is kept, and a bad repair is refused."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from gcount.core.format.log_records import HEADER_BYTES, Header, encode_batch
from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol.floors import FORGOTTEN, Floors, Hold
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.ids import key_of
from gcount.core.state.keyed import Keyed
from gcount.errors import DiskFailed, LogDamaged, NotRepairable
from gcount.storage.inspect.corruption import DAMAGED_SUFFIX
from gcount.storage.inspect.survey import MAX_MISSING, survey
from gcount.storage.log import segment_name
from tests.fakes.disk import SimDisk
from tests.storage.commit_store import ME, batch, contents, filled, opened, sim_disk
from tests.storage.written import BLANK, ids, mend, recovered

SMALL = Options(segment_bytes=300)


async def damaged(count: int = 25) -> tuple[SimDisk, list[Batch]]:
    disk = sim_disk()
    made = await filled(disk, count, options=SMALL)
    return disk, made


@pytest.mark.parametrize("stranger", [0, 1, 2])
async def test_batches_that_do_not_belong_into_a_damaged_segment_are_left_out(
    autojump_clock: MockClock, stranger: int
) -> None:
    """A disk may show a block of another file, or of an earlier time: its records are whole, too."""
    disk, made = await damaged()
    good, begins = contents(disk), survey(disk).segments
    second = begins[1]
    first, behind = second.first, second.first + second.whole
    batches = made[first - 2], made[first - 1], made[behind - 2]  # the one before the segment, its first, its last
    bad = bytearray(good[segment_name(2)] + encode_batch(batches[stranger]))
    bad[HEADER_BYTES + 20] ^= 1
    disk.poke(segment_name(2), bytes(bad))
    mend(disk)
    assert survey(disk).corruptions == []
    replica = await recovered(disk)
    assert replica.next_batch > len(made)
    if stranger == 1:  # the one that was damaged, after all
        assert replica.cells("n0") == {ME.incarnation: len(made)}


async def test_a_torn_tail_behind_damage_is_cut_by_the_repair(autojump_clock: MockClock) -> None:
    """It is not in the last segment any more."""
    disk, made = await damaged()
    live = disk.names()[-1]
    disk.poke(live, disk.read(live)[:-3])
    disk.poke(segment_name(1), b"")
    assert mend(disk) == [segment_name(1) + DAMAGED_SUFFIX]
    assert survey(disk).corruptions == []
    assert (await recovered(disk)).next_batch == len(made) + 1


async def test_what_only_looks_written_in_the_live_segment_is_synced_before_it_is_closed(
    autojump_clock: MockClock,
) -> None:
    """Each start does so for the segment that is live then; the repair puts another one behind it."""
    for seed in range(30):
        disk = sim_disk(seed)
        await filled(disk, 10, options=SMALL)
        log, _, _ = await opened(disk)
        disk.fail_sync()
        with pytest.raises(DiskFailed):
            await log.append(batch(11, size=9), ME)
        disk.restart()
        disk.poke(segment_name(1), b"")
        mend(disk)
        seen = {name: (await recovered(disk.copy())).cells(name) for name in ("n0", "n8")}
        disk.crash()
        after = await recovered(disk)
        assert {name: after.cells(name) for name in seen} == seen
        assert seen["n8"]


async def test_a_full_disk_leaves_a_log_that_is_refused_until_there_is_space(autojump_clock: MockClock) -> None:
    failures = 0
    for room_left in range(0, 700, 50):
        disk, made = await damaged()
        for sequence in (1, 3):
            disk.poke(segment_name(sequence), disk.read(segment_name(sequence))[:150])
        disk.capacity = sum(map(len, contents(disk).values())) + room_left
        try:
            mend(disk)
        except OSError:
            failures += 1
            assert not [name for name in disk.names() if name.endswith(".new")]
            with pytest.raises(LogDamaged):
                await recovered(disk)
            disk.capacity = 10**6
            mend(disk)
        disk.capacity = 10**6
        assert survey(disk).corruptions == []
        assert (await recovered(disk)).next_batch > len(made)
    assert failures > 3


async def test_copies_of_what_was_damaged_are_never_replaced(autojump_clock: MockClock) -> None:
    disk, _ = await damaged()
    for junk in (b"one", b"two", b"three"):
        disk.poke(segment_name(1), junk)
        mend(disk)
    copies = [name for name in disk.names() if DAMAGED_SUFFIX in name]
    assert {disk.read(name) for name in copies} == {b"one", b"two", b"three"}


async def test_only_the_damaged_segments_are_written_again(autojump_clock: MockClock) -> None:
    disk, _ = await damaged()
    before = contents(disk)
    disk.poke(segment_name(2), before[segment_name(2)][:90])
    mend(disk)
    after = contents(disk)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {segment_name(2), segment_name(2) + DAMAGED_SUFFIX, segment_name(len(before) + 1)}


async def test_a_log_of_which_nothing_is_left_goes_on_as_another_node(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    await filled(disk, 3)
    disk.poke(segment_name(1), b"nothing of it")
    mend(disk)
    new = ids()
    replica = await recovered(disk)
    assert {replica.identity.incarnation, replica.identity.node} == {next(new), next(new)}
    assert replica.identity.retired == (next(new),)
    assert len(replica.counters) == 0


@pytest.mark.parametrize("left", [b"nothing of it", b""])
async def test_a_node_of_whose_log_no_header_is_left_settles_no_ids_as_if_it_never_had_members(
    autojump_clock: MockClock, left: bytes
) -> None:
    """Members may have the same ids. If it settled them without those, they would count twice for good."""
    disk, end = sim_disk(), DEFAULTS.id_span - 1
    taken = Keyed({key_of("x", "5-a"): (1, 1)})
    batches = [Batch(1, [Delta(ME.incarnation, 0, 1, {}, taken)], floor=end)]
    disk.poke(segment_name(1), left or b"rotten" * 11 + b"".join(map(encode_batch, batches)))
    mend(disk)
    replica = await recovered(disk)
    if left:  # it takes ids again, and promises
        incarnation = replica.identity.incarnation
        replica.apply(Batch(replica.next_batch, [Delta(incarnation, 0, 1, {}, taken)], floor=end))
    assert (replica.counters.total("x"), replica.floor) == (1, end)
    floors = Floors(replica)
    assert floors.until((), ()) is None
    assert floors.hold(end, (), ()) == Hold("this node", FORGOTTEN)
    assert floors.until(("a:1",), ["a:1"]) == end  # the operator has said so


@pytest.mark.parametrize("kind", ["swapped", "newer", "far away", "again"])
async def test_damage_that_rot_does_not_explain_is_refused_and_nothing_is_changed(
    autojump_clock: MockClock, kind: str
) -> None:
    """A segment in the place of another is whole: a repair would throw it away."""
    disk, _ = await damaged()
    two = disk.read(segment_name(2))
    if kind == "swapped":
        disk.poke(segment_name(2), disk.read(segment_name(3)))
        disk.poke(segment_name(3), two)
    elif kind == "newer":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gcount.core.format.log_records.FORMAT", 3)
            disk.poke(segment_name(2), Header(BLANK.node, BLANK.incarnation, 2, 1).encode() + two[HEADER_BYTES:])
    elif kind == "far away":
        disk.poke(segment_name(MAX_MISSING + 100), two)
    else:
        disk.poke(segment_name(3), Header(BLANK.node, BLANK.incarnation, 3, 1).encode() + two[HEADER_BYTES:])
    before = contents(disk)
    with pytest.raises(NotRepairable):
        mend(disk)
    assert contents(disk) == before
    assert survey(disk).corruptions
