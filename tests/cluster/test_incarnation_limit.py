"""The limit of incarnations: increments that would need one more are refused, everything else goes on."""

import pytest
import structlog
import trio
from trio.testing import MockClock

from gcount.cluster.minting import CLAIM_PAUSE
from gcount.core.options import Options
from gcount.core.writes.increments import Repeat
from gcount.errors import IncarnationLimitReached
from gcount.node.status import status
from tests.cluster.test_identity import incarnation, retired
from tests.fakes.cluster import SimCluster, open_cluster
from tests.fakes.counting import add, add_one_to_each

LIMIT = 4
FEW = Options(reborn_below=LIMIT)


async def crash_loop(cluster: SimCluster) -> int:
    """Node 1 is started and counts again and again while node 2 is down; returns how often it could count."""
    counted = 0
    await cluster[2].kill()
    for _ in range(LIMIT + 2):
        await cluster[1].restart()
        if not cluster[1].node.parts.context.pending.may_be_reborn:
            with pytest.raises(IncarnationLimitReached, match=f"not confirmed by {cluster[2].address}"):
                await add(cluster[1].node, "x", 1)
            continue
        await add(cluster[1].node, "x", 1)
        counted += 1
    return counted


async def test_a_crash_loop_beside_a_dead_member_ends_in_a_refusal_and_goes_on_when_the_member_is_back(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2, options=FEW) as cluster:
        await add(cluster[1].node, "x", 1)
        await cluster.converged("x", 1)
        counted = 1 + await crash_loop(cluster)
        assert 1 < counted <= LIMIT
        assert cluster[1].node.value("x") == counted
        assert status(cluster[1].node)["incarnations_known"] == LIMIT
        with pytest.raises(IncarnationLimitReached):
            await add(cluster[1].node, "x", 1)
        await cluster[2].start()
        await cluster.converged("x", counted)
        await add(cluster[1].node, "x", 1)
        await add(cluster[2].node, "x", 1)
        await cluster.converged("x", counted + 2)


async def test_a_batch_is_refused_as_a_whole(autojump_clock: MockClock) -> None:
    async with open_cluster(2, options=FEW) as cluster:
        await crash_loop(cluster)
        before = cluster[1].node.value("x")
        refusals = await add_one_to_each(cluster[1].node, ["x", "y"])
        assert [type(refusal) for refusal in refusals] == [IncarnationLimitReached] * 2
        assert not cluster[1].node.submit(Repeat(["x"], 1), lambda outcome: None)
        assert (cluster[1].node.value("x"), cluster[1].node.value("y")) == (before, 0)


async def test_at_the_limit_a_claim_keeps_a_node_from_counting_until_the_claimant_leaves_the_config(
    autojump_clock: MockClock,
) -> None:
    """A member may lie, as anybody can post a config; a true claim of a node outside of it nothing is promised of."""
    async with open_cluster(3, options=FEW) as cluster:
        one = cluster[1]
        while one.node.parts.context.pending.may_be_reborn:
            one.node.parts.guard.heard(cluster[3].address, b"three".ljust(16), 2**62)
            await add(one.node, "x", 1)
            await trio.sleep(CLAIM_PAUSE)
        one.node.parts.guard.heard(cluster[3].address, b"three".ljust(16), 2**62)
        with pytest.raises(IncarnationLimitReached, match=f"{cluster[3].address} knows {2**62} commits"):
            await add(one.node, "x", 1)
        await one.node.configure({"actors": [one.address, cluster[2].address]})
        await add(one.node, "x", 1)


async def test_claims_of_members_begin_a_new_incarnation_once_a_minute_at_most(autojump_clock: MockClock) -> None:
    async with open_cluster(2, options=FEW) as cluster:
        one, two = cluster.hosts
        first = incarnation(one)
        for _ in range(20):
            one.node.parts.guard.heard(two.address, b"two".ljust(16), 2**62)
            await add(one.node, "x", 1)
            await trio.sleep(1)
        assert retired(one) == (first,)
        await trio.sleep(CLAIM_PAUSE)
        one.node.parts.guard.heard(two.address, b"two".ljust(16), 2**62)
        await add(one.node, "x", 1)
        assert len(retired(one)) == 2


async def test_operators_see_how_near_the_limit_is(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_cluster(2, options=FEW) as cluster:
            await crash_loop(cluster)
            shown = status(cluster[1].node)
    assert isinstance(shown["incarnations_known"], int)
    assert isinstance(shown["incarnations_limit"], int)
    assert [entry for entry in logs if entry["event"] == "few incarnations left"]


async def test_at_the_limit_a_node_on_an_older_copy_refuses_increments_and_one_with_an_empty_directory_counts(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2, options=FEW) as cluster:
        one, two = cluster.hosts
        await crash_loop(cluster)
        await two.start()
        before = one.node.value("x")
        await cluster.converged("x", before)
        copy = one.copy_disk()
        await add(one.node, "x", 1)
        await cluster.converged("x", before + 1)
        await one.kill()
        one.put_disk(copy)
        await one.start()
        with pytest.raises(IncarnationLimitReached, match=f"{two.address} knows"):
            await add(one.node, "x", 1)
        await add(two.node, "x", 1)
        assert await one.node.consistent_value("x") == before + 2 == await two.node.consistent_value("x")
        await one.kill()
        one.wipe()
        await one.start()
        await add(one.node, "x", 1)
        await cluster.converged("x", before + 3, within=5)  # what the old directory held comes back by a relay
