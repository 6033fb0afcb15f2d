"""Entries of a config that lead elsewhere: which machine is dialled, which connections end, which is a node's own."""

from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from gcount.cluster.links.transport import Link
from gcount.errors import LinkClosed
from tests.fakes.cluster import SimCluster, address_of, open_cluster
from tests.fakes.names import Names

ONE, TWO, THREE = (address_of(number) for number in (1, 2, 3))


def test_an_entry_leads_to_its_own_machine_until_it_moves_or_is_stale_somewhere() -> None:
    names = Names(lambda entry: None)
    assert names.leads_to(ONE, TWO) == TWO
    names.lead(TWO, THREE)
    names.lead(TWO, ONE, observer=ONE)
    assert [names.leads_to(observer, TWO) for observer in (ONE, TWO, THREE)] == [ONE, THREE, THREE]
    names.mend(THREE)
    assert names.leads_to(ONE, TWO) == ONE
    names.mend(TWO)
    assert names.leads_to(ONE, TWO) == names.leads_to(THREE, TWO) == TWO


def reached(cluster: SimCluster) -> list[tuple[str, str]]:
    """The pairs of sender and receiver when each node sends each other node one message."""
    found: list[tuple[str, str]] = []
    cluster.network.tap = lambda sender, receiver, data: found.append((sender, receiver))
    return found


async def dial(cluster: SimCluster, dialled: AsyncExitStack, entry: str) -> Link:
    return await dialled.enter_async_context(cluster.network.transport(address_of(9)).connect(entry))


async def test_a_dial_goes_where_the_entry_leads_and_a_machine_knows_that_it_is_that_one() -> None:
    async with open_cluster(3, configured=False) as cluster, AsyncExitStack() as dialled:
        cluster.network.names.lead(TWO, THREE)
        found = reached(cluster)
        (await dial(cluster, dialled, TWO)).post(b"?")
        assert found == [(address_of(9), THREE)]
        assert await cluster.network.transport(THREE).is_self(TWO)
        assert not await cluster.network.transport(TWO).is_self(TWO)


@pytest.mark.parametrize("breaks", [False, True])
async def test_a_connection_stays_when_a_name_changes_and_ends_when_an_address_moves(breaks: bool) -> None:
    async with open_cluster(3, configured=False) as cluster, AsyncExitStack() as dialled:
        moved, other = [await dial(cluster, dialled, entry) for entry in (TWO, THREE)]
        cluster.network.names.lead(TWO, ONE, breaks=breaks)
        found = reached(cluster)
        moved.post(b"?")
        other.post(b"?")
        assert ((address_of(9), TWO) in found) is not breaks
        assert (address_of(9), THREE) in found
        if breaks:
            with pytest.raises(LinkClosed):
                await moved.flush()


@pytest.mark.parametrize("breaks", [False, True])
async def test_a_dial_under_way_goes_on_when_a_name_changes_and_fails_when_an_address_moves(
    autojump_clock: MockClock, breaks: bool
) -> None:
    async with (
        open_cluster(3, configured=False) as cluster,
        AsyncExitStack() as dialled,
        trio.open_nursery() as nursery,
    ):
        names = cluster.network.names

        @nursery.start_soon
        async def move() -> None:
            names.lead(TWO, THREE, breaks=breaks)

        if breaks:
            with pytest.raises(LinkClosed, match="no route"):
                await dial(cluster, dialled, TWO)
        else:
            assert (await dial(cluster, dialled, TWO)).remote == TWO
