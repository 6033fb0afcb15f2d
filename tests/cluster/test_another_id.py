"""A node that takes another id while it is at two entries of the config is one node all the time."""

from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from gcount.errors import ReadUnavailable
from tests.cluster.test_identity import incarnation, retired
from tests.fakes.cluster import Host, address_of, open_cluster
from tests.fakes.counting import add


async def takes_another_id(host: Host) -> None:
    """As when two processes have one id."""
    minting, before = host.node.parts.minting, host.node.replica.identity.node
    minting._shares_node = True
    minting.begin()
    await host.cluster.eventually(lambda: host.node.replica.identity.node != before)


@pytest.mark.parametrize("seed", range(10))
async def test_its_answers_to_a_read_are_those_of_one_node(autojump_clock: MockClock, seed: int) -> None:
    """Also one that it gave before, at one entry, and one that it gave after, at the other."""
    async with open_cluster(3, seed=seed, delay=(0.001, 0.03)) as cluster:
        one, two, three = cluster.hosts
        await add(one.node, "x", 1)
        await cluster.converged("x", 1)
        cluster.network.isolate(three.address)
        await add(three.node, "x", 10)
        cluster.network.names.lead(three.address, two.address, observer=one.address, breaks=True)
        await cluster.eventually(lambda: cluster.linked(one), 5)
        exact: list[int] = []

        async def read() -> None:
            while True:
                with suppress(ReadUnavailable):
                    exact.append(await one.node.consistent_value("x", 0.2))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(read)
                await trio.sleep(0.01)
            for _ in range(20):
                await takes_another_id(two)
                await trio.sleep(cluster.random.uniform(0, 0.3))
            nursery.cancel_scope.cancel()
        assert exact == []


async def test_a_node_with_another_id_confirms_an_incarnation_once(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        await add(one.node, "x", 1)
        await cluster.converged("x", 1)
        before = incarnation(one)
        cluster.network.isolate(three.address)
        cluster.network.names.lead(three.address, two.address, observer=one.address)
        await one.restart()
        await cluster.eventually(lambda: len(one.node.peers.nodes()) == 3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, one.node, "x", 1)
            await takes_another_id(two)
        assert retired(one) == (before,)  # nobody has asked the third node


async def test_a_node_with_another_id_counts_once_as_a_holder_of_an_increment(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        third = address_of(3)
        cluster.network.names.lead(third, two.address)
        await one.node.configure({"actors": [*cluster.addresses, third]})
        await add(one.node, "x", 1)
        known = one.node.replica.counters.digest()
        await cluster.eventually(lambda: sum(peer.has(known) for peer in one.node.peers) == 2, 5)
        cluster.network.names.lead(third, address_of(9), breaks=True)
        await takes_another_id(two)
        before = one.node.peers.nodes().get(two.address)
        await cluster.eventually(lambda: one.node.peers.nodes().get(two.address) not in (None, before))
        assert sum(peer.has(known) for peer in one.node.peers) == 2
        assert one.node.peers.holders(known) == 1
