"""What a run takes for whole after rot: known from the intact files, and equal to what a repair keeps."""

from random import Random

import pytest

from gcount.core.format.log_records import HEADER_BYTES
from gcount.storage.inspect.repair import repair
from gcount.storage.inspect.survey import survey
from tests.fakes.cluster import open_cluster
from tests.fakes.counting import add
from tests.fakes.disk import SimDisk
from tests.simulation.campaign.history import Stored
from tests.simulation.campaign.recorder import LogReader
from tests.simulation.faults.rot import batches_in, left_of, rotten, some_hits
from tests.simulation.laws.durable_state import DurableState

NAME = "00000001.log"


async def some_disk() -> SimDisk:
    """The disk of a node, with a log of some batches."""
    async with open_cluster(2) as cluster:
        for amount in range(1, 9):
            await add(cluster[1].node, f"x{amount % 3}", amount)
        await cluster.converged("x1", 12)
        return cluster[1].copy_disk()


async def test_a_batch_is_lost_if_one_of_its_bytes_rots_and_all_others_are_whole() -> None:
    files = (await some_disk()).durable()
    found = list(batches_in(files[NAME]))
    start, end, second = found[1]
    for offset in (start, end - 1):
        left = left_of(files, {NAME: {offset}})
        assert left.damaged
        assert not left.torn
        assert left.batches == [batch for *_, batch in found if batch != second]
    assert not left_of(files, {}).damaged


async def test_rot_of_nothing_but_the_newest_batches_looks_torn() -> None:
    files = (await some_disk()).durable()
    last = list(batches_in(files[NAME]))[-1][0]
    assert left_of(files, {NAME: {last}}).torn
    assert not left_of(files, {NAME: {last, HEADER_BYTES}}).torn
    assert not left_of(files, {NAME: {last, 0}}).torn


@pytest.mark.parametrize("seed", range(20))
async def test_a_repair_keeps_what_is_whole(seed: int) -> None:
    disk, random = await some_disk(), Random(seed)
    files = disk.durable()
    hits = some_hits(files, random)
    left = left_of(files, hits)
    for name, offsets in hits.items():
        disk.poke(name, rotten(files[name], offsets, random))
    found = survey(disk)
    assert bool(found.corruptions) == (left.damaged and not left.torn)
    if found.corruptions:
        repair(disk, found, lambda: random.randbytes(16))
    state = DurableState()
    for line, batches in ("left", left.batches), ("kept", LogReader(disk).news()):
        for batch in batches:
            state.put(Stored(0, line, tuple(batch.deltas), needs=batch.needs))
    assert state.versions["left"] == state.versions["kept"]
    assert state.cells["left"] == state.cells["kept"]
    assert state.detached["left"] == state.detached["kept"]
