"""Nodes with unequal limits agree: a limit of counters bounds what clients make, never what members tell."""

import pytest
import trio
from trio.testing import MockClock

from gcount.core.protocol import messages
from gcount.core.protocol.transfer import UNTAKEN_PAUSE
from gcount.core.state.counters import Delta
from tests.fakes.caller import HELLO, call, hello
from tests.fakes.cluster import Host, open_cluster
from tests.fakes.counting import add, add_one_to_each

NAMES = [f"name-{number:03}" for number in range(200)]
MINE = HELLO.incarnation


def filled(host: Host) -> bool:
    return len(host.node.replica.counters) == len(NAMES)


async def test_members_may_send_more_names_than_clients_may_create(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        two.max_counters = 5
        await two.restart()
        await add_one_to_each(one.node, NAMES)
        await cluster.eventually(lambda: filled(two), 20)
        await add(two.node, NAMES[-1], 1)
        assert "--max-counters" in str((await add_one_to_each(two.node, ["new", NAMES[0]]))[0])
        await cluster.converged(NAMES[0], 2)
        assert await two.node.consistent_value(NAMES[-1]) == 2
        await two.restart()
        await cluster.converged(NAMES[-1], 2)


async def test_a_node_with_more_names_than_its_limit_takes_known_ones_of_strangers(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        two.max_counters = 5
        await two.restart()
        await add_one_to_each(one.node, NAMES)
        await cluster.eventually(lambda: filled(two), 20)
        async with call(cluster, two) as caller:
            await caller.ask(hello(retired=[b"r" * 16]))
            known, new = Delta(MINE, 0, 1, {NAMES[0]: 7}), Delta(b"r" * 16, 0, 1, {"new": 7})
            assert await caller.ask(messages.Push(1, True, [known, new])) == messages.Ack(1, {MINE: 1})
        assert (two.node.value(NAMES[0]), two.node.value("new")) == (8, 0)


@pytest.mark.parametrize("known", [False, True], ids=["anew", "while it is still dialled"])
async def test_what_was_not_taken_of_a_node_that_was_no_member_is_taken_soon_after_it_is_one(
    autojump_clock: MockClock, known: bool
) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        for member in (one, two):  # two would relay it
            member.max_counters, member.timeout = 0, 60.0 if known else 1.0
            await member.restart()
        await cluster.eventually(lambda: {one.address, two.address} <= three.node.peers.nodes().keys())
        await two.node.configure({"actors": [one.address, two.address]})
        await trio.sleep(2)
        assert (one.node.peers.get(three.address) is not None) is known
        await add(three.node, "new", 1)
        await trio.sleep(4 * UNTAKEN_PAUSE)  # by now it is offered each eight seconds
        assert one.node.value("new") == 0
        await two.node.configure({"actors": cluster.addresses})
        await cluster.eventually(lambda: one.node.value("new") == 1, 1.5 * UNTAKEN_PAUSE)
