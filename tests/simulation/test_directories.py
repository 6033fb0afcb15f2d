"""The case that the faults leave out: only nodes outside the config know what a member's directory has forgotten."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fakes.cluster import SimCluster, open_cluster, replayed
from tests.fakes.counting import add
from tests.fakes.disk import SimDisk
from tests.simulation.faults.directories import only_outside


@asynccontextmanager
async def forgetful_cluster() -> AsyncIterator[tuple[SimCluster, SimDisk, SimDisk]]:
    """Three nodes that know all of each other, an older copy of the third one's disk, a fresh one of the first's."""
    async with open_cluster(3) as cluster:
        await add(cluster[3].node, "x", 1)
        older = cluster[3].copy_disk()
        await add(cluster[3].node, "x", 2)
        await cluster.converged("x", 3)
        yield cluster, older, cluster[1].copy_disk()


async def test_an_older_copy_is_allowed_while_a_member_knows_what_it_has_forgotten() -> None:
    async with forgetful_cluster() as (cluster, older, outside):
        assert not only_outside([cluster[1].disk, older], [outside])
        await cluster[1].kill()
        assert not only_outside([cluster[1].disk, older], [outside])


async def test_an_older_copy_is_left_out_if_no_member_knows_what_it_has_forgotten() -> None:
    async with forgetful_cluster() as (cluster, older, outside):
        assert only_outside([older], [outside])
        assert only_outside([older, cluster.new_disk()], [outside])
        assert only_outside([older, older.copy()], [outside])  # as when another member got back an older one, too


async def test_an_older_copy_is_allowed_if_no_node_at_all_knows_what_it_has_forgotten() -> None:
    async with forgetful_cluster() as (cluster, older, _):
        assert not only_outside([older, cluster.new_disk()], [])
        assert not only_outside([older], [older.copy()])


async def test_a_lost_directory_is_allowed_since_no_node_goes_on_under_its_incarnation() -> None:
    async with forgetful_cluster() as (cluster, _, outside):
        await cluster[1].kill()
        assert not only_outside([cluster.new_disk(), cluster[1].disk], [outside])
        assert not only_outside([cluster.new_disk()], [outside])


async def test_an_older_copy_under_a_retired_incarnation_is_allowed() -> None:
    async with forgetful_cluster() as (cluster, older, outside):
        await cluster[3].kill()
        cluster[3].put_disk(older)
        await cluster[3].start()
        await cluster.eventually(lambda: cluster[3].node.replica.identity.retired != ())
        await cluster[3].kill()
        forgetful = await replayed(cluster[3].disk)
        assert [forgetful.counters.version(incarnation) for incarnation in forgetful.identity.retired] == [1]
        assert not only_outside([cluster[3].disk], [outside])
