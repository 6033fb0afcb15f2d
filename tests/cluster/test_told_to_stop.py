"""What becomes of the requests in flight when a node is told to stop: whatever waits for others is answered at once."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from gcount.cluster.consistent_reads import NodeStops
from gcount.core.options import DEFAULTS
from gcount.core.protocol.consistent_read import STALL
from gcount.errors import Recovering
from tests.fakes.cluster import open_cluster
from tests.fakes.counting import add


async def test_a_consistent_read_in_flight_is_refused_with_what_is_known(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        await add(cluster[1].node, "x", 5)
        await cluster.converged("x", 5)
        await cluster[3].kill()
        refused = trio.Event()

        async def read() -> None:
            with pytest.raises(NodeStops, match="stops") as caught:
                await cluster[1].node.consistent_value("x", 60)
            assert (caught.value.value, caught.value.missing) == (5, [cluster[3].address])
            refused.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(read)
            await trio.sleep(5 * STALL)  # the rounds are stalled, which refuses no read
            assert not refused.is_set()
            told = trio.current_time()
            cluster[1].node.stopping.set()
        assert trio.current_time() == told
        with pytest.raises(NodeStops):  # one that comes later, too
            await cluster[1].node.consistent_value("y", 60)
        assert trio.current_time() == told


async def test_a_read_that_needs_no_member_is_still_answered(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        await add(cluster[1].node, "x", 5)
        cluster[1].node.stopping.set()
        assert await cluster[1].node.consistent_value("x") == 5


async def test_a_read_of_an_empty_node_that_waits_to_be_known_is_refused(autojump_clock: MockClock) -> None:
    """It must not answer 0: members who know this node may not have reached it yet."""
    async with open_cluster(1, configured=False) as cluster, trio.open_nursery() as nursery:
        cluster[1].wipe()
        await cluster[1].restart()
        started = trio.current_time()

        async def read() -> None:
            with pytest.raises(NodeStops):
                await cluster[1].node.consistent_value("x", 60)

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        cluster[1].node.stopping.set()
        nursery.cancel_scope.deadline = started + 1.0
    assert trio.current_time() == started


async def test_an_increment_that_waits_for_confirmations_is_finished(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        await cluster[2].kill()
        await cluster[1].restart()
        counted = trio.Event()

        async def count() -> None:
            assert await add(cluster[1].node, "x", 5) == 5
            counted.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await trio.sleep(0.1 * DEFAULTS.confirm_within)  # not yet time to mint without the other's word
            assert not counted.is_set()
            told = trio.current_time()
            cluster[1].node.stopping.set()
        assert trio.current_time() - told < 0.1
        await cluster[1].restart()
        assert cluster[1].node.value("x") == 5


async def test_a_config_that_waits_to_find_itself_is_answered(autojump_clock: MockClock) -> None:
    async with open_cluster(2, configured=False) as cluster:
        await cluster[2].kill()
        actors = [host.address for host in cluster.hosts]
        cluster[1].knows_itself = False
        await cluster[1].restart()
        answers = []

        async def configure() -> None:
            answers.append(await cluster[1].node.configure({"actors": [*actors, "10.9.9.9:7777"]}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(configure)
            await cluster.eventually(lambda: cluster[1].node.config()["version"] != 0)
            told = trio.current_time()
            cluster[1].node.stopping.set()
        assert trio.current_time() == told
        assert len(answers) == 1


async def test_a_request_that_waits_for_the_end_of_the_start_is_refused(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        host = cluster[1]
        await host.stop()
        host.disk.restart()
        node = await host.begin()

        async def wait() -> None:
            with pytest.raises(Recovering):
                await node.wait_recovered()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            node.stopping.set()
        assert not node.recovered


async def test_a_node_that_is_stopped_while_it_starts_keeps_no_client_waiting(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        host = cluster[1]
        await cluster[2].kill()
        await host.stop()
        host.disk.restart()
        node = await host.begin()
        node.stopping.set()
        await node.wait_ready()
        told = trio.current_time()
        with pytest.raises(NodeStops):
            await node.consistent_value("x", 60)
        assert trio.current_time() == told
