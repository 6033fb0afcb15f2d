import pytest
import trio
from trio.testing import MockClock

from tests.simulation.cluster import open_cluster


async def test_increments_reach_all(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        for host in cluster.hosts:
            assert host.node.config()["self"] == host.address
            assert await host.node.increment("x", host.number) > 0
        await cluster.converged("x", 6)
