"""The view of a node: its names, the members that hold a position, its state."""

from __future__ import annotations

import pytest
import trio

from gcount.core.writes.increments import Add
from gcount.errors import Recovering
from gcount.node.view import NodeView
from tests.fakes.cluster import open_cluster


async def test_names_are_listed_in_the_order_in_which_they_became_known(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster(1) as cluster:
        node = cluster[1].node
        view = NodeView(node)
        assert (view.counters, view.names(0, 10)) == (0, [])
        await node.count([Add(name, 1) for name in ("c", "a", "b")])
        assert (view.counters, view.names(0, 2), view.names(2, 10)) == (3, ["c", "a"], ["b"])
        assert await view.consistent_value("a", None) == 1


async def test_a_wait_for_holders_ends_as_soon_as_there_are_enough(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        node = cluster[1].node
        view = NodeView(node)
        position = (await node.count([Add("x", 1)])).position
        before = trio.current_time()
        await view.wait_for_holders(position, 2, 60.0)
        assert view.holders(position) == 2
        assert trio.current_time() < before + 10.0


async def test_a_wait_for_more_holders_than_there_are_ends_at_its_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster(2) as cluster:
        node = cluster[1].node
        view = NodeView(node)
        position = (await node.count([Add("x", 1)])).position
        before = trio.current_time()
        await view.wait_for_holders(position, 2, 7.0)
        assert trio.current_time() == before + 7.0
        assert view.holders(position) == 1


async def test_an_overview_is_of_one_instant(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster(3) as cluster:
        host = cluster[1]
        before = NodeView(host.node).overview()
        await host.node.count([Add("x", 1), Add("y", 1)])
        await trio.sleep(2.0)
        after = NodeView(host.node).overview()
        assert (before.counters, after.counters, after.linked) == (0, 2, 2)
        assert after.uptime >= before.uptime + 2.0
        assert after.log_bytes > before.log_bytes
        assert (after.recovered, after.not_ready) == (True, None)
        assert after.port == host.settings().port


async def test_before_the_start_is_over_only_the_overview_can_be_read(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster(1) as cluster:
        host = cluster[1]
        await host.stop()
        host.disk.latency = (1.0, 1.0)
        node = await host.begin()
        view = NodeView(node)
        found = view.overview()
        assert (found.recovered, found.not_ready, found.counters, found.linked) == (False, "recovering", 0, 0)
        for read in (
            lambda: view.counters,
            lambda: view.names(0, 1),
            lambda: view.start_id,
            lambda: view.holders({}),
        ):
            with pytest.raises(Recovering):
                read()
