"""Ids on a disk: entries, settlements and the floor are there after any crash; a repair keeps what is left of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from random import Random

import pytest
from trio.testing import MockClock

from gcount.core.format.frames import FRAME_HEAD_BYTES, MARK
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.replica import Replica
from gcount.errors import NotRepairable
from gcount.storage.checkpoints import checkpoint_name
from gcount.storage.inspect.survey import survey
from gcount.storage.log import segment_name
from tests.core.histories import incarnation
from tests.core.keyed_histories import SPAN, KeyedHistory, assert_is_what_the_model_says, three_of
from tests.fakes.disk import SimDisk, SimulatedCrash
from tests.storage.checkpointed import SMALL, Store, files, opened
from tests.storage.commit_store import ME, contents, sim_disk
from tests.storage.written import mend

TINY = replace(SMALL, id_span=SPAN, record_names=2, record_cells=1, segment_bytes=200)
Histories = tuple[KeyedHistory, KeyedHistory, KeyedHistory]


class Ids:
    """A store that takes the commits of some histories, and what was acknowledged of them."""

    def __init__(self, store: Store, made: Histories) -> None:
        self.store = store
        self.floor = 0
        self.known = {one.incarnation: 0 for one in made}
        self._made = made

    async def commit(self, one: KeyedHistory) -> None:
        version = self.known[one.incarnation]
        if version < len(one.commits):
            number = self.store.log.next_batch
            batch = Batch(number, [one.delta(version, version + 1)], floor=number if number % 3 == 0 else None)
            await self.store.log.append(batch, ME)
            self.store.replica.apply(batch)
            self.known[one.incarnation] = version + 1
            self.floor = batch.floor or self.floor

    async def write(self) -> None:
        """All commits, and two checkpoints among them."""
        for step in range(5):
            for one in self._made:
                await self.commit(one)
            if step in (1, 3):
                await self.store.make()

    def check(self, replica: Replica) -> None:
        assert_is_what_the_model_says(replica.counters, self._made)
        assert all(replica.counters.version(who) in (version, version + 1) for who, version in self.known.items())
        assert (replica.floor or 0) >= self.floor


async def all_of(seed: int) -> tuple[SimDisk, Ids]:
    """A checkpoint and a log behind it."""
    disk = sim_disk(seed)
    ids = Ids(await opened(disk, TINY), three_of(seed))
    await ids.write()
    return disk, ids


@pytest.mark.parametrize("power", [True, False])
async def test_a_crash_before_any_operation_of_the_disk_loses_no_id(autojump_clock: MockClock, *, power: bool) -> None:
    crashes = 0
    for operations in range(10_000):
        disk, done = sim_disk(operations), False
        ids = Ids(await opened(disk, TINY), three_of(2))
        disk.crash_after(operations)
        with suppress(SimulatedCrash):
            await ids.write()
            done = True
        crashes += not done
        disk.crash() if power else disk.restart()
        disk.crash_after(operations % 23)
        with suppress(SimulatedCrash):
            await opened(disk, TINY)
        disk.crash()
        start = await opened(disk, TINY)
        ids.check(start.replica)
        assert survey(disk).corruptions == []
        if done:
            break
    assert crashes > 50


async def test_a_start_goes_on_where_the_ids_were(autojump_clock: MockClock) -> None:
    for seed in range(8):
        disk, ids = await all_of(seed)
        again = await opened(disk, TINY)
        ids.check(again.replica)
        assert again.replica.counters == ids.store.replica.counters
        assert again.replica.floor == ids.store.replica.floor
        found = survey(disk)
        assert (found.corruptions, found.ids) == ([], again.replica.counters.entries.live)
        assert found.counters == len(again.replica.counters)
        await again.make()
        assert (await opened(disk, TINY)).replica.counters == ids.store.replica.counters


async def test_a_repair_keeps_the_ids_that_can_be_read_and_claims_no_others(autojump_clock: MockClock) -> None:
    """Rot anywhere. Then the members push what they know, and nothing is lost at all."""
    repaired = 0
    for seed in range(60):
        chance = Random(seed)
        disk, ids = await all_of(seed % 8)
        made = three_of(seed % 8)
        ids.store.log.close()
        name = chance.choice(disk.names())
        data = bytearray(disk.read(name))
        data[chance.randrange(64, len(data))] ^= 1
        disk.poke(name, bytes(data))
        if survey(disk).corruptions:
            mend(disk, seed, TINY)
            repaired += 1
        start = await opened(disk, TINY)
        assert_is_what_the_model_says(start.replica.counters, made)
        for one in made:
            for version in range(start.replica.counters.version(one.incarnation), ids.known[one.incarnation]):
                start.replica.apply(Batch(1000, [one.delta(version, version + 1)]))
        assert_is_what_the_model_says(start.replica.counters, made)
        assert not start.replica.detached
        assert start.replica.counters.digest() == {who: version for who, version in ids.known.items() if version}
    assert repaired > 40


async def test_a_repair_keeps_what_a_delta_needs_and_the_next_one_detaches_it(autojump_clock: MockClock) -> None:
    """Rot takes another batch of the segment first, and then the one with the settlement."""
    disk, holder, settler = sim_disk(), incarnation(1), incarnation(3)
    store = await opened(disk)
    counted, later = Delta(holder, 0, 2, {"n1": 1}), Delta(settler, 1, 2, {"n2": 7})
    settled = Delta(settler, 0, 1, {}, Keyed({}, {holder: Settlement(9, 1, {"n1": 5})}))
    for delta in (Delta(incarnation(2), 0, 1, {"n3": 1}), settled, counted, later):
        store.writer.stage_delta(delta)
        await store.log.append(store.writer.seal(), ME)
        store.writer.commit()
    store.log.close()
    values = []
    for lost in (0, 1):
        data = bytearray(disk.read(segment_name(1)))
        frames = [at for at in range(len(data)) if data.startswith(MARK, at)]
        data[frames[lost] + FRAME_HEAD_BYTES] ^= 1
        disk.poke(segment_name(1), bytes(data))
        mend(disk, lost)
        replica = (await opened(disk)).replica
        values.append((replica.counters.total("n1"), replica.counters.version(holder)))
    assert values == [(6, 2), (0, 0)]
    assert replica.detached.deltas() == [Delta(holder, 2, 2, {"n1": 1}), later]


async def test_a_checkpoint_of_a_newer_format_is_not_taken_for_a_damaged_one(autojump_clock: MockClock) -> None:
    """A repair would drop what it does not know."""
    disk, _ = await all_of(1)
    (name,) = files(disk)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gcount.core.format.log_records.FORMAT", 3)
        newer = sim_disk()
        await (await opened(newer, TINY)).make()
        disk.poke(name, newer.read(checkpoint_name(1)))
    before = contents(disk)
    with pytest.raises(NotRepairable, match=r"has format 3, .* Use the version that wrote it"):
        mend(disk)
    assert contents(disk) == before
