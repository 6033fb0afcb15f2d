"""An entry of the config is this node only for as long as that is proven anew, and not when it is disproved."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from gcount.cluster.links.dial_loops import SELF_CHECK
from gcount.cluster.links.handshake import WAIT_NOTICE_INTERVAL
from gcount.cluster.links.transport import Link
from gcount.cluster.members import SELF_VALID
from gcount.core.protocol import messages
from gcount.errors import LinkClosed, ReadUnavailable
from tests.fakes.cluster import address_of, open_cluster
from tests.fakes.counting import add


class Busy:
    """A node with a very slow disk: it says again and again that its hello has to wait."""

    recovered = True

    async def accept(self, link: Link, caller: str, promote: Callable[[], bool]) -> None:
        try:
            while True:
                link.post(messages.encode(messages.HeartbeatAck({})))
                await link.flush()
                await trio.sleep(WAIT_NOTICE_INTERVAL)
        except LinkClosed:
            pass


async def test_an_entry_that_leads_to_a_node_which_takes_long_to_answer_is_this_nodes_own_no_more(
    autojump_clock: MockClock,
) -> None:
    """Nothing proves that it is this node, and for a minute nothing says that it is another one."""
    async with open_cluster(2) as cluster:
        one = cluster[1]
        one.knows_itself = False
        await one.restart()
        await cluster.eventually(lambda: one.node.config()["self"] == one.address)
        cluster.network.listen(address_of(9), Busy(), cluster.nursery)
        cluster.network.names.lead(one.address, address_of(9))
        await trio.sleep(SELF_CHECK + SELF_VALID)
        assert one.node.config()["self"] is None
        with pytest.raises(ReadUnavailable) as refusal:
            await one.node.consistent_value("x", 0.5)
        assert one.address in refusal.value.missing


async def test_an_entry_is_given_up_as_soon_as_it_is_found_to_lead_elsewhere(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        await two.kill()
        cluster.network.names.lead(two.address, one.address, breaks=True)
        await cluster.eventually(lambda: two.address in one.node.parts.members.here)
        cluster.network.names.mend(two.address, breaks=True)
        took = await cluster.eventually(lambda: two.address not in one.node.parts.members.here)
        assert took < SELF_VALID - SELF_CHECK


async def test_a_read_under_way_asks_the_node_to_which_an_entry_leads_that_was_this_nodes_own(
    autojump_clock: MockClock,
) -> None:
    """It began when the node had not noticed yet; as it waits for another one, it can still be exact."""
    async with open_cluster(4, configured=False) as cluster, trio.open_nursery() as nursery:
        one, two, three, four = cluster.hosts
        await cluster.configure(one, two, three)
        await cluster.converged("x", 0)
        cluster.network.cut(one.address, three.address)
        cluster.network.names.lead(one.address, four.address, breaks=True)
        await add(four.node, "x", 8)
        values: list[int] = []

        async def read() -> None:
            values.append(await one.node.consistent_value("x"))

        assert one.node.config()["self"] == one.address
        nursery.start_soon(read)
        await cluster.eventually(lambda: one.node.config()["self"] is None)
        assert values == []
        cluster.network.heal()
        await cluster.eventually(lambda: bool(values))
        assert values == [8]
