"""A look at a data directory: it tells what is whole, damaged and lost, and changes nothing."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from gcount.core.format.log_records import HEADER_BYTES, encode_batch
from gcount.core.options import Options
from gcount.core.state.batch import Batch
from gcount.storage.checkpoints import checkpoint_name
from gcount.storage.inspect.contents import Contents
from gcount.storage.inspect.corruption import DAMAGED_SUFFIX
from gcount.storage.inspect.survey import holds_log, survey
from gcount.storage.log import segment_name
from tests.fakes.disk import SimDisk
from tests.fakes.process import run_simulated
from tests.storage.checkpointed import opened as opened_store
from tests.storage.checkpointed import writing, written
from tests.storage.commit_store import contents, filled, sim_disk
from tests.storage.written import recovered, write

SMALL = Options(segment_bytes=300)


async def segments(count: int = 25) -> tuple[SimDisk, list[Batch]]:
    disk = sim_disk()
    return disk, await filled(disk, count, options=SMALL)


@given(st.integers(0, 2**32), st.integers(0, 25), st.sampled_from([200, 400, 2000]))
@settings(max_examples=30)
def test_a_survey_of_a_whole_log_finds_what_a_start_makes_of_it(seed: int, steps: int, segment: int) -> None:
    made = write(seed, steps, segment)
    found = survey(made.disk)
    start = run_simulated(lambda: recovered(made.disk))
    assert (found.corruptions, found.torn, found.contradictions, found.lost) == ([], None, [], 0)
    assert (found.whole, found.next_batch) == (len(made.batches), start.next_batch)
    assert found.replica.counters == start.counters
    assert found.replica.membership == start.membership
    assert (found.counters, found.incarnations) == (len(start.counters), len(start.counters.digest()))
    assert found.size == sum(len(data) for name, data in contents(made.disk).items() if name.endswith(".log"))


@st.composite
def rot(draw: st.DrawFn) -> tuple[int, int, int]:
    """A file, a place in it, and which bits change there."""
    return draw(st.integers(0, 9)), draw(st.integers(0, 2**16)), draw(st.integers(1, 255))


@given(st.integers(0, 2**32), st.lists(rot(), min_size=1, max_size=6), st.data())
@settings(max_examples=60)
def test_a_survey_of_any_damage_changes_nothing_and_makes_nothing_up(
    seed: int, damage: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    made = write(seed % 50, 20, 300)
    disk = made.disk
    for file, at, bits in damage:
        name = disk.names()[file % len(disk.names())]
        bytes_ = bytearray(disk.read(name))
        bytes_[at % len(bytes_)] ^= bits
        disk.poke(name, bytes(bytes_))
    if data.draw(st.booleans()):
        disk.remove(disk.names()[data.draw(st.integers(0, 9)) % len(disk.names())])
    before, operations = contents(disk), disk.operations
    found = survey(disk)
    assert contents(disk) == before
    assert all(step.split()[0] in ("names", "read", "size") for step in list(disk.history)[operations:])
    made.check(found.replica)
    assert found.whole <= len(made.batches)
    assert survey(disk).corruptions == found.corruptions


async def test_while_a_node_writes_it_finds_no_damage_at_any_moment(autojump_clock: MockClock) -> None:
    """Files come and go as checkpoints are made."""
    disk, store = await written()
    looks = list[Contents]()

    def look(_operation: str, _name: str) -> None:
        stepped, disk.stepped = disk.stepped, lambda operation, name: None
        looks.append(survey(disk))
        disk.stepped = stepped

    disk.stepped = look
    async with writing(store):
        await store.make()
        await trio.sleep(0.5)
    disk.stepped = lambda operation, name: None
    assert len(looks) > 50
    assert [found.corruptions for found in looks if found.corruptions] == []
    totals = [sum(total for _, total in found.replica.counters.digest().items()) for found in looks]
    assert totals == sorted(totals)


async def test_a_checkpoint_is_where_the_log_begins(autojump_clock: MockClock) -> None:
    disk, store = await written()
    found = survey(disk)
    assert found.checkpoint is not None
    assert (found.checkpoint.source, found.checkpoint.corruption) == (checkpoint_name(found.base.sequence), None)
    assert found.segments[0].sequence == found.base.sequence > 1
    assert found.replica.counters == store.replica.counters == (await opened_store(disk)).replica.counters


async def test_each_kind_of_damage_is_reported_with_its_file_its_offset_and_its_loss(autojump_clock: MockClock) -> None:
    disk, made = await segments()
    first, second, *_ = good = contents(disk)
    size = len(good[second])
    begins = survey(disk).segments
    in_second = begins[1].whole

    def told(name: str, bad: bytes | None) -> tuple[str, int, str, int]:
        other = sim_disk()
        for file, data in good.items():
            other.poke(file, data)
        if bad is None:
            other.remove(name)
        else:
            other.poke(name, bad)
        found = survey(other)
        assert found.whole + found.lost == len(made)
        (corruption,) = found.corruptions
        return corruption.file, corruption.offset, corruption.reason, corruption.lost

    flipped = bytearray(good[second])
    flipped[HEADER_BYTES + 20] ^= 1
    assert told(second, bytes(flipped))[:2] == (second, HEADER_BYTES)
    assert told(second, bytes(flipped))[3] == 1
    flipped[HEADER_BYTES + 20] ^= 1
    flipped[40] ^= 1
    assert told(second, bytes(flipped))[1:] == (0, "the segment's header does not match its checksum", 0)
    assert told(second, None) == (second, 0, "the segment is missing", in_second)
    assert told(first, None) == (first, 0, "the segment is missing", begins[0].whole)
    assert told(second, b"") == (second, 0, "the segment's header is cut off after 0 bytes", in_second)
    assert told(second, good[second][:-1])[3] == 1
    boundary = size - len(encode_batch(made[begins[2].first - 2]))
    assert told(second, good[second][:boundary]) == (second, boundary, "the segment is cut off", 1)
    assert told("notes.log", b"")[:3] == ("notes.log", 0, "no segment of this log")


async def test_a_torn_tail_is_no_damage(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    await filled(disk, 3)
    whole = disk.read(segment_name(1))
    disk.poke(segment_name(1), whole[:-3])
    found = survey(disk)
    assert found.corruptions == []
    assert found.torn is not None
    assert found.torn.offset < len(whole) - 3
    assert (found.whole, found.next_batch) == (2, 3)


async def test_what_an_interrupted_repair_left_of_a_segment_is_read_from_its_newest_copy(
    autojump_clock: MockClock,
) -> None:
    disk, made = await segments()
    name = segment_name(2)
    for copy in (name + DAMAGED_SUFFIX, f"{name}{DAMAGED_SUFFIX}-2", f"{name}{DAMAGED_SUFFIX}-10"):
        disk.poke(copy, disk.read(name) if copy.endswith("-10") else b"an older one")
    disk.remove(name)
    found = survey(disk)
    assert found.segments[1].source == f"{name}{DAMAGED_SUFFIX}-10"
    assert [corruption.reason for corruption in found.corruptions] == [
        f"the segment is missing; {name}{DAMAGED_SUFFIX}-10 is what an interrupted repair left of it"
    ]
    assert (found.whole, found.lost) == (len(made), 0)


@pytest.mark.parametrize(
    ("names", "holds"),
    [
        ([], False),
        (["lock", "notes.txt"], False),
        (["00000001.log.new", "00000001.log.damaged"], False),
        (["0000001.log", "x.log", "00000000.log"], False),
        ([segment_name(1)], True),
        (["notes.txt", segment_name(123_456_789)], True),
        ([checkpoint_name(7)], True),
    ],
)
def test_a_directory_holds_a_log_if_a_file_is_named_like_one(names: list[str], holds: bool) -> None:
    disk = sim_disk()
    for name in names:
        disk.poke(name, b"")
    assert holds_log(disk) is holds


def test_an_empty_directory_is_whole() -> None:
    found = survey(sim_disk())
    assert (found.corruptions, found.torn, found.whole, found.lost, found.size) == ([], None, 0, 0, 0)
    assert (found.segments, found.checkpoint, found.counters, found.incarnations) == ([], None, 0, 0)
