"""The statistics of a node: frozen values of one instant."""

from __future__ import annotations

import dataclasses

import pytest
import trio
from trio.testing import MockClock

from gcount.node.status import gauges, status
from tests.fakes.cluster import open_cluster
from tests.fakes.counting import add


async def test_all_is_of_one_instant_and_can_not_be_changed(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster[1].node, cluster[2]
        await add(one, "x", 1)
        await cluster.converged("x", 1)
        await cluster.eventually(lambda: all(peer.lag == 0 for peer in one.peers.statistics() if peer.linked))
        before = one.statistics()
        assert before.serving is not None
        assert (before.not_ready, before.serving.counters, before.serving.version) == (None, 1, 1)
        assert (before.serving.reads.counters, before.serving.reads.rounds) == (0, 0)
        peers = {peer.address: peer for peer in before.serving.peers}
        assert (peers[two.address].state, peers[two.address].linked, peers[two.address].lag) == ("linked", True, 0)
        assert (peers[cluster[1].address].state, peers[cluster[1].address].linked) == ("self", False)
        await add(one, "y", 1)
        assert before.serving.counters == 1
        with pytest.raises(dataclasses.FrozenInstanceError):
            before.serving.counters = 2  # type: ignore[misc]
        assert one.peers.linked == 1


async def test_reads_that_wait_for_a_member_are_counted_until_they_end(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster, trio.open_nursery() as nursery:
        cluster.network.isolate(cluster[2].address)
        reads = cluster[1].node.parts.reads
        for name in ("x", "x", "y"):
            nursery.start_soon(cluster[1].node.consistent_value, name, 60)
        await cluster.eventually(lambda: reads.statistics().counters == 2)
        assert reads.statistics().rounds == 2
        nursery.cancel_scope.cancel()
    assert (reads.statistics().counters, reads.statistics().rounds) == (0, 0)


async def test_a_node_that_recovers_has_statistics(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        host = cluster[1]
        await host.stop()
        host.disk.restart()
        node = await host.begin()
        assert (node.statistics().not_ready, node.statistics().serving) == ("recovering", None)
        assert {name: value for name, _, _, value in gauges(node)}["gcount_ready"] == 0
        await node.wait_ready()
        assert {name: value for name, _, _, value in gauges(node)}["gcount_ready"] == 1
        assert status(node)["ready"] is True
