"""Verify and repair: all damage is seen, what is whole is kept, and an interrupted repair is not taken for a log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from gcount.core.counters import Counters, Delta
from gcount.core.membership import Membership
from gcount.core.records import HEADER_BYTES, Batch, Header, Identity, encode_batch
from gcount.core.replica import Replica
from gcount.errors import DiskFailed, LogDamaged, NotRepairable
from gcount.storage import log as log_room
from gcount.storage.log import Log, segment_name
from gcount.storage.repair import repair
from gcount.storage.verify import ASIDE, MAX_MISSING, holds_log, survey
from tests.core.histories import NAMES, History, knowing
from tests.simulation.disk import SimDisk, SimulatedCrash
from tests.storage.stores import ME, batch, contents, filled, opened, run_simulated, sim_disk

BLANK = Identity(bytes(16), bytes(16))
ROTTEN = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def ids(seed: int = 1) -> Iterator[bytes]:
    random = Random(f"ids of a repair {seed}")
    while True:
        yield random.randbytes(16)


def mend(disk: SimDisk, seed: int = 1) -> list[str]:
    new = ids(seed)
    return repair(disk, survey(disk), lambda: next(new))


async def recovered(disk: SimDisk) -> Replica:
    """What a start makes of a directory; raises `LogDamaged` when it refuses."""
    replica, log = Replica(BLANK, 1000), Log(disk)
    header = await log.recover(replica.recover)
    assert header is not None
    if replica.identity == BLANK:
        replica.identity = Identity(header.node, header.incarnation)
    log.close()
    return replica


@dataclass
class Written:
    """A log that a real replica wrote, and the truth about it."""

    disk: SimDisk
    batches: list[Batch] = field(default_factory=list)
    histories: dict[bytes, History] = field(default_factory=dict)
    places: dict[int, tuple[str, int, int]] = field(default_factory=dict)  # of batches: file, first byte, end

    def add(self, incarnation: bytes, commit: dict[str, int]) -> Delta:
        history = self.histories.setdefault(incarnation, History(incarnation, []))
        history.commits.append(commit)
        return history.delta(len(history.commits) - 1, len(history.commits))

    def check(self, replica: Replica) -> None:
        """Law 3, and nothing that nobody counted."""
        known = []
        for incarnation, version in replica.counters.digest().items():
            assert version <= len(self.histories[incarnation].commits)
            known.append((self.histories[incarnation], version))
        assert replica.counters == knowing(known)
        for name in NAMES:
            for incarnation, n in replica.cells(name).items():
                history = self.histories[incarnation]
                assert n <= history.state(len(history.commits))[name]

    def check_kept(self, replica: Replica, intact: list[int]) -> None:
        """Each batch that no damage touched is there, joined or aside."""
        for number in intact:
            for delta in self.batches[number - 1].deltas:
                for name, n in delta.cells.items():
                    assert replica.cells(name).get(delta.incarnation, 0) >= n

    def refill(self, replica: Replica) -> None:
        """What peers who know everything push."""
        for incarnation, history in self.histories.items():
            if incarnation != replica.identity.incarnation:
                assert replica.stage_delta(history.delta(0, len(history.commits)))
        replica.seal()
        replica.commit()


async def _write(seed: int, steps: int) -> Written:
    random = Random(seed)
    written = Written(sim_disk(seed))
    me = Identity(b"n" * 16, random.randbytes(16))
    peers = [random.randbytes(16) for _ in range(2)]
    log, _, _ = await opened_as(written.disk, me)
    replica = Replica(me, 1000)
    for _ in range(steps):
        kind = random.choice(("add", "add", "add", "peer", "mint", "config"))
        name = random.choice(NAMES)
        if kind == "peer":
            replica.stage_delta(written.add(random.choice(peers), {name: random.randint(1, 9)}))
        elif kind == "mint":
            replica.stage_identity(replica.identity.reborn(random.randbytes(16)))
        elif kind == "config":
            replica.stage_membership(Membership(random.randint(1, 99), ("h:1",)))
        if kind in ("add", "mint"):
            amount = random.randint(1, 9)
            replica.stage_increment(name, amount)
        batch = replica.seal()
        if kind in ("add", "mint"):
            written.add((batch.identity or replica.identity).incarnation, {name: amount})
        await log.append(batch, batch.identity or replica.identity)
        written.batches.append(batch)
        replica.commit()
    log.close()
    _place(written)
    return written


def _place(written: Written) -> None:
    files = iter(contents(written.disk).items())
    file, data = next(files)
    at = HEADER_BYTES
    for made in written.batches:
        if at == len(data):
            file, data = next(files)
            at = HEADER_BYTES
        end = at + len(encode_batch(made))
        written.places[made.number] = file, at, end
        at = end


async def opened_as(disk: SimDisk, identity: Identity) -> tuple[Log, list[Batch], None]:
    log = Log(disk)
    assert await log.recover(lambda batch: None) is None
    await log.begin(identity)
    return log, [], None


def write(seed: int, steps: int, segment: int) -> Written:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_room, "SEGMENT_BYTES", segment)
        return run_simulated(partial(_write, seed, steps))


@st.composite
def damages(draw: st.DrawFn, written: Written) -> list[int]:
    """Damage some files; returns the numbers of the batches that are still as they were."""
    intact = set(written.places)
    for name in draw(st.lists(st.sampled_from(written.disk.names()), min_size=1, max_size=3, unique=True)):
        good = written.disk.read(name)
        size = len(good)
        kind = draw(st.sampled_from(["flip", "head", "cut", "missing", "garbage", "deleted", "zeros"]))
        start, end = draw(st.integers(0, size - 1)), size
        if kind in ("flip", "head"):
            start = start if kind == "flip" else start % HEADER_BYTES
            end = start + 1
            bad = good[:start] + bytes([good[start] ^ draw(st.integers(1, 255))]) + good[end:]
        elif kind == "missing":
            start, bad = 0, None
        elif kind == "garbage":
            start, bad = 0, draw(st.binary(max_size=200))
        elif kind == "cut":
            bad = good[:start]
        else:
            end = draw(st.integers(start + 1, size))
            bad = good[:start] + (bytes(end - start) if kind == "zeros" else b"") + good[end:]
        if bad is None:
            written.disk.remove(name)
            written.disk.sync_names()
        else:
            written.disk.poke(name, bad)
        intact -= {
            n for n, (file, first, last) in written.places.items() if file == name and first < end and start < last
        }
    return sorted(intact)


def without_tail(written: Written, intact: list[int]) -> list[int]:
    """A missing segment at the end, as well as a tail cut off, leaves no trace: nothing is behind it."""
    names = set(written.disk.names())
    return [number for number in intact if written.places[number][0] in names]


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([150, 400, 10**6]), st.data())
@ROTTEN
def test_whatever_rots_a_start_refuses_it_or_it_is_whole_and_a_repair_keeps_what_is_untouched(
    seed: int, steps: int, segment: int, data: st.DataObject
) -> None:
    written = write(seed, steps, segment)
    disk = written.disk
    before = run_simulated(partial(recovered, disk)).identity
    intact = without_tail(written, data.draw(damages(written)))
    as_is = contents(disk)
    found = survey(disk)
    assert contents(disk) == as_is
    if not found.flaws:
        if holds_log(disk):
            written.check(run_simulated(partial(recovered, disk)))
        return
    with pytest.raises(LogDamaged):
        run_simulated(partial(recovered, disk))
    assert contents(disk) == as_is

    moved = mend(disk)
    assert {as_is[name.partition(ASIDE)[0]] for name in moved} == {disk.read(name) for name in moved}
    again = survey(disk)
    assert (again.flaws, again.contradictions) == ([], [])
    replica = run_simulated(partial(recovered, disk))
    written.check(replica)
    written.check_kept(replica, intact)
    known_lives = {batch.identity.incarnation for n in intact if (batch := written.batches[n - 1]).identity}
    assert known_lives <= set(replica.identity.retired)
    assert replica.identity.incarnation not in written.histories
    assert replica.identity.node == before.node or not found.lives.node
    replica.recover(Batch(replica.next_batch, []))
    written.refill(replica)
    assert not replica.salvage
    assert replica.counters == knowing([(each, len(each.commits)) for each in written.histories.values()])


@given(st.integers(0, 10**6), st.sampled_from([150, 10**6]), st.data())
@ROTTEN
def test_what_was_repaired_can_rot_and_be_repaired_again(seed: int, segment: int, data: st.DataObject) -> None:
    written = write(seed, 25, segment)
    intact = set(written.places)
    for round_ in range(2):
        names = [name for name in written.disk.names() if name.endswith(".log")]
        first = round_ == 0
        if first:
            intact &= set(without_tail(written, data.draw(damages(written))))
        else:
            name = data.draw(st.sampled_from(names[:-1]))
            good = written.disk.read(name)
            written.disk.poke(name, good[: data.draw(st.integers(0, len(good) - 1))])
        if not survey(written.disk).flaws:
            return
        mend(written.disk, seed=round_)
        replica = run_simulated(partial(recovered, written.disk))
        written.check(replica)
        if first:
            written.check_kept(replica, sorted(intact))
    assert len(replica.identity.retired) == len(set(replica.identity.retired))


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("kind", ["flip", "missing", "garbage", "first and last"])
def test_a_repair_that_is_interrupted_anywhere_leaves_a_log_that_is_refused_or_repaired(kind: str, power: bool) -> None:
    """Never one that starts under the old incarnation, and never one that has less than the whole repair keeps."""

    base = write(7, 30, 300).disk
    names = base.names()
    for name in names[1:3] if kind != "first and last" else [names[0], names[-1]]:
        good = base.read(name)
        base.poke(name, b"junk" if kind == "garbage" else good[:100] + bytes([good[100] ^ 1]) + good[101:])
    if kind == "missing":
        base.remove(names[1])
        base.sync_names()

    def rotten(seed: int) -> SimDisk:
        disk = base.copy()
        disk.random = Random(seed)
        return disk

    def state(disk: SimDisk) -> tuple[Counters, dict[str, dict[bytes, int]], set[bytes]]:
        replica = run_simulated(partial(recovered, disk))
        return replica.counters, {name: replica.cells(name) for name in NAMES}, set(replica.identity.retired)

    whole = rotten(0)
    damaged_bytes = {whole.read(name) for name in {flaw.file for flaw in survey(whole).flaws} & set(whole.names())}
    mend(whole)
    expected = state(whole)
    refused = done = 0
    for seed in range(400):
        disk = rotten(seed)
        disk.crash_after(seed // 8 if power else seed)
        try:
            mend(disk)
        except SimulatedCrash:
            if power:
                disk.crash()
            else:
                disk.restart()
        else:
            break
        assert damaged_bytes <= set(contents(disk).values())  # nothing is thrown away, at no moment
        if not survey(disk).flaws:
            done += 1
            assert state(disk) == expected
            continue
        with pytest.raises(LogDamaged):
            state(disk)
        refused += 1
        mend(disk, seed=2)
        counters, cells, retired = state(disk)
        assert (counters, cells) == expected[:2]
        assert expected[2] <= retired
    else:
        pytest.fail("the repair never came to its end")
    assert refused > 10
    assert done > 0


async def damaged(monkeypatch: pytest.MonkeyPatch, count: int = 25) -> tuple[SimDisk, list[Batch]]:
    disk = sim_disk()
    monkeypatch.setattr(log_room, "SEGMENT_BYTES", 300)
    made = await filled(disk, count)
    return disk, made


async def test_each_kind_of_damage_is_told_with_its_file_its_offset_and_what_it_cost(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, made = await damaged(monkeypatch)
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
        (flaw,) = found.flaws
        return flaw.file, flaw.offset, flaw.reason, flaw.lost

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
    assert found.flaws == []
    assert found.torn is not None
    assert found.torn.offset < len(whole) - 3
    assert (found.whole, found.next_batch) == (2, 3)


async def test_a_torn_tail_behind_damage_is_cut_by_the_repair(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not in the last segment any more."""
    disk, made = await damaged(monkeypatch)
    live = disk.names()[-1]
    disk.poke(live, disk.read(live)[:-3])
    disk.poke(segment_name(1), b"")
    assert mend(disk) == [segment_name(1) + ASIDE]
    assert survey(disk).flaws == []
    assert (await recovered(disk)).next_batch == len(made) + 1


async def test_what_only_looks_written_in_the_live_segment_is_synced_before_it_is_closed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start does so for the segment that is live then; the repair puts another one behind it."""
    monkeypatch.setattr(log_room, "SEGMENT_BYTES", 300)
    for seed in range(30):
        disk = sim_disk(seed)
        await filled(disk, 10)
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


async def test_a_full_disk_leaves_a_log_that_is_refused_until_there_is_room(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 0
    for room_left in range(0, 700, 50):
        disk, made = await damaged(monkeypatch)
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
        assert survey(disk).flaws == []
        assert (await recovered(disk)).next_batch > len(made)
    assert failures > 3


async def test_copies_of_what_was_damaged_are_never_replaced(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, _ = await damaged(monkeypatch)
    for junk in (b"one", b"two", b"three"):
        disk.poke(segment_name(1), junk)
        mend(disk)
    copies = [name for name in disk.names() if ASIDE in name]
    assert {disk.read(name) for name in copies} == {b"one", b"two", b"three"}


async def test_only_the_damaged_segments_are_written_anew(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, _ = await damaged(monkeypatch)
    before = contents(disk)
    disk.poke(segment_name(2), before[segment_name(2)][:90])
    mend(disk)
    after = contents(disk)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {segment_name(2), segment_name(2) + ASIDE, segment_name(len(before) + 1)}


async def test_a_log_of_which_nothing_is_left_goes_on_as_another_node(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    await filled(disk, 3)
    disk.poke(segment_name(1), b"nothing of it")
    mend(disk)
    new = ids()
    replica = await recovered(disk)
    assert {replica.identity.incarnation, replica.identity.node} == {next(new), next(new)}
    assert replica.identity.retired == ()
    assert len(replica.counters) == 0


@pytest.mark.parametrize("kind", ["swapped", "newer", "far away", "again"])
async def test_what_no_rot_explains_is_refused_and_nothing_is_changed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A segment in the place of another is whole: a repair would throw it away."""
    disk, _ = await damaged(monkeypatch)
    two = disk.read(segment_name(2))
    if kind == "swapped":
        disk.poke(segment_name(2), disk.read(segment_name(3)))
        disk.poke(segment_name(3), two)
    elif kind == "newer":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gcount.core.records.FORMAT", 2)
            disk.poke(segment_name(2), Header(BLANK.node, BLANK.incarnation, 2, 1).encode() + two[HEADER_BYTES:])
    elif kind == "far away":
        disk.poke(segment_name(MAX_MISSING + 100), two)
    else:
        disk.poke(segment_name(3), Header(BLANK.node, BLANK.incarnation, 3, 1).encode() + two[HEADER_BYTES:])
    before = contents(disk)
    with pytest.raises(NotRepairable):
        mend(disk)
    assert contents(disk) == before
    assert survey(disk).flaws
