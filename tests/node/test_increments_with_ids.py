"""Increments with ids on a node: known ones are answered at once, new ones take the way of all increments."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from gcount.core.protocol.write_holds import MAX_HOLD
from gcount.core.writes.increments import Add, Outcome, Peek, Raise, Together
from gcount.errors import IdAhead, IdGone, IdsUnavailable, IdUnknown
from gcount.node.node import Node
from gcount.node.view import NodeView
from tests.fakes.cluster import WALL_CLOCK, open_cluster
from tests.node.test_increments import submitted


def made(node: Node, id_: str, amount: int, ago: float = 0.0, name: str = "x") -> Raise:
    """An increment with an id that was made so many seconds ago."""
    return Raise(name, f"{int(WALL_CLOCK + trio.current_time() - ago)}-{id_}", amount, once=True)


async def test_a_retry_is_answered_at_once_and_rests_on_the_node_that_took_it(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = (host.node for host in cluster.hosts)
        asked = [made(one, "i", 5)]
        first = await one.count(asked)
        assert first == Outcome([5], {one.replica.identity.incarnation: 1})
        assert submitted(one, asked) == [Outcome([5], first.position, replayed=True)]
        await one.peers.wait_held(first.position, 1)
        [again] = submitted(two, [*asked, Peek("x"), Together([Raise("x", asked[0].id, 3)])])
        assert (again.values, again.replayed) == ([5, 5, 5], True)
        assert again.position == first.position | {two.replica.identity.incarnation: 0}
        assert await two.peers.wait_held(again.position, 1) == 1
        assert (two.value("x"), two.replica.version) == (5, 0)


async def test_a_new_id_waits_for_a_hold_and_a_known_one_does_not(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        node = cluster[1].node
        known, new = [made(node, "i", 5)], [made(node, "j", 1)]
        await node.count(known)
        node.parts.gate.ask("x", "reader")
        assert submitted(node, known)[0].replayed
        assert not node.submit(new, lambda outcome: None)
        began = trio.current_time()
        assert (await node.count(new)).values == [6]
        assert MAX_HOLD <= trio.current_time() - began < 1.5 * MAX_HOLD


async def test_a_read_that_holds_waits_for_ids_that_are_on_their_way_to_the_disk(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        node = cluster[1].node
        told = submitted(node, [made(node, "i", 5)])
        assert "x" in node.parts.context.pending
        await wait_all_tasks_blocked()
        again = submitted(node, [made(node, "i", 5)])
        assert told == again == []
        await node.count([Add("y", 1)])
        assert "x" not in node.parts.context.pending
        own = node.replica.identity.incarnation
        assert [*told, *again] == [Outcome([5], {own: 1}), Outcome([5], {own: 2}, replayed=True)]


async def test_an_id_is_taken_by_the_nodes_clock_and_settings(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        node = cluster[1].node
        assert node.parts.context.rules.window == 3600
        assert isinstance((await node.count([made(node, "i", 5, 3600)])).values[0], IdGone)
        assert isinstance((await node.count([made(node, "i", 5, -301)])).values[0], IdAhead)
        cluster[1].clock_skew = -60.0
        assert (await node.count([made(node, "i", 5, 3600)])).values == [5]
        assert isinstance((await node.count([made(node, "j", 5, -300)])).values[0], IdAhead)


async def test_ids_wait_until_every_member_was_heard(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        node = cluster[1].node
        entry = cluster[1].address
        await node.configure({"actors": [entry, "10.0.0.99:7777"]})
        [refused] = (await node.count([made(node, "i", 5)])).values
        assert isinstance(refused, IdsUnavailable)
        assert "10.0.0.99:7777" in str(refused)
        assert (await node.count([Add("x", 1)])).values == [1]


async def test_what_is_known_of_an_id_can_be_read(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        node = cluster[1].node
        view, one = NodeView(node), made(node, "i", 5)
        with pytest.raises(IdUnknown):
            view.id_total("x", one.id)
        submitted(node, [one])
        with pytest.raises(IdUnknown):
            view.id_total("x", one.id)
        await node.count([one])
        assert view.id_total("x", one.id) == 5
        with pytest.raises(IdUnknown):
            view.id_total("y", one.id)
