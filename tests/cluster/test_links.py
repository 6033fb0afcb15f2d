"""What a link refuses, what ends it, and what a node owes to whoever calls it."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import structlog
import trio
from trio.testing import MockClock

from gcount.cluster.links.channel import LOOKS, SILENCE
from gcount.cluster.links.handshake import SETTLE_TIMEOUT
from gcount.cluster.links.peer import BACKOFF_MOST
from gcount.cluster.links.transport import Link
from gcount.core.limits import MAX_MESSAGE_BYTES
from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol import messages as wire
from gcount.core.protocol.write_holds import MAX_HOLD
from gcount.core.state.counters import Delta
from gcount.errors import LinkClosed, LinkRefused
from tests.fakes.caller import HELLO, Caller, call, hello
from tests.fakes.cluster import Host, address_of, open_cluster
from tests.fakes.counting import add


def known(host: Host, incarnation: bytes) -> int:
    return host.node.replica.counters.version(incarnation)


async def test_a_stranger_is_not_urgent(autojump_clock: MockClock) -> None:
    """Or each of his round trips would cost a sync."""
    async with open_cluster(1, options=Options(piggyback_delay=0.2)) as cluster, call(cluster, cluster[1]) as caller:
        await caller.ask(hello())
        began = trio.current_time()
        answer = await caller.ask(wire.Push(1, True, [Delta(HELLO.incarnation, 0, 1, {"x": 7})], urgent=True))
        assert isinstance(answer, wire.Ack)
        assert trio.current_time() - began >= 0.2


async def test_another_clusters_hello_is_refused_with_the_reason(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster, call(cluster, cluster[1]) as caller:
        answer = await caller.ask(hello(cluster="other"))
        assert isinstance(answer, wire.Refused)
        assert "cluster" in answer.reason
        assert await caller.ends() < 0.1


async def test_another_protocol_version_is_refused_with_the_reason(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster, call(cluster, cluster[1]) as caller:
        answer = await caller.ask(hello(protocol=wire.PROTOCOL + 1))
        assert isinstance(answer, wire.Refused)
        assert "protocol" in answer.reason
        assert await caller.ends() < 0.1


async def test_nodes_of_two_clusters_never_share_counts(autojump_clock: MockClock) -> None:
    async with open_cluster(2, configured=False) as cluster:
        cluster[2].name = "other"
        await cluster[2].restart()
        for host in cluster.hosts:
            await host.node.configure({"actors": cluster.addresses})
            await add(host.node, "x", host.number)
        others = [peer for host in cluster.hosts for peer in host.node.peers if peer.address != host.address]
        await cluster.eventually(lambda: all(other.redial.failures >= 10 for other in others), 20 * BACKOFF_MOST)
        for host, other in zip(cluster.hosts, others, strict=True):
            assert host.node.value("x") == host.number
            assert other.sender is None
            assert "cluster" in other.reason


@pytest.mark.parametrize(
    "garbage",
    [b"", "text", b"\xc1", b"\x93\x01\x02", b"x" * (MAX_MESSAGE_BYTES + 1), wire.encode(HELLO)],
    ids=["empty", "text", "no-messagepack", "cut-off", "too-long", "second-hello"],
)
@pytest.mark.parametrize("greeted", [False, True])
async def test_garbage_ends_its_link_only(autojump_clock: MockClock, garbage: bytes | str, greeted: bool) -> None:
    async with open_cluster(2) as cluster, call(cluster, cluster[1]) as caller:
        if greeted:
            assert isinstance(await caller.ask(HELLO), wire.Hello)
        elif garbage == wire.encode(HELLO):
            await caller.send(HELLO)
        with structlog.testing.capture_logs() as logs:
            await caller.send(garbage)
            assert await caller.ends() < 0.1
            await add(cluster[1].node, "x", 1)
            await cluster.converged("x", 1)
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["link refused"]


async def test_a_caller_that_says_no_hello_is_cut_off_after_2_s(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster, call(cluster, cluster[1]) as caller:
        assert 1.9 < await caller.ends() < 2.1


async def test_a_caller_that_falls_silent_is_cut_off_after_1_s(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster, call(cluster, cluster[1]) as caller:
        assert isinstance(await caller.ask(HELLO), wire.Hello)
        assert isinstance(await caller.ask(wire.Heartbeat()), wire.HeartbeatAck)
        assert SILENCE <= await caller.ends() < 1.1 + SILENCE / LOOKS


async def test_an_acknowledged_push_is_on_disk(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        async with call(cluster, cluster[1]) as caller:
            await caller.ask(HELLO)
            answer = await caller.ask(wire.Push(1, True, [Delta(HELLO.incarnation, 0, 3, {"x": 7})]))
        assert answer == wire.Ack(1, {HELLO.incarnation: 3})
        node = await cluster[1].restart()
        assert node.value("x") == 7


@pytest.mark.parametrize("numbers", [(1, 2), (2,), (1, 1)])
async def test_a_push_before_the_last_ones_ack_ends_the_link(
    autojump_clock: MockClock, numbers: tuple[int, ...]
) -> None:
    async with open_cluster(1) as cluster, call(cluster, cluster[1]) as caller:
        await caller.ask(HELLO)
        cluster[1].disk.latency = (0.1, 0.1)
        await caller.send(*(wire.Push(n, True, [Delta(HELLO.incarnation, 0, n, {"x": n})]) for n in numbers))
        assert await caller.ends() < 0.3


async def test_a_stranger_pushes_nothing_but_its_own_incarnations(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster, call(cluster, cluster[1]) as caller:
        await add(cluster[2].node, "x", 1)
        await cluster.converged("x", 1)
        theirs = cluster[2].node.replica.identity.incarnation
        mine, retired, unheard = HELLO.incarnation, b"r" * 16, b"u" * 16
        await caller.ask(hello(retired=[retired]))
        deltas = [Delta(who, 0, 9, {"x": 100}) for who in (mine, retired, unheard)]
        answer = await caller.ask(wire.Push(1, True, [*deltas, Delta(theirs, 1, 9, {"x": 100})]))
        assert answer == wire.Ack(1, {mine: 9, retired: 9})
        assert known(cluster[1], theirs) == 1
        assert known(cluster[1], unheard) == 0
        await cluster.converged("x", 201, 3)


async def test_a_push_of_the_receivers_own_incarnation_is_never_taken(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster, call(cluster, cluster[1]) as caller:
        own = cluster[1].node.replica.identity.incarnation
        await caller.ask(hello(node=cluster[1].node.replica.identity.node, incarnation=own))
        with suppress(LinkClosed):  # to the node this is a twin
            await caller.ask(wire.Push(1, True, [Delta(own, 0, 9, {"x": 100})]))
        await trio.sleep(1)
        assert cluster[1].node.value("x") == 0
        assert known(cluster[1], own) == 0


async def test_another_start_cuts_the_former_ones_links(autojump_clock: MockClock) -> None:
    async with (
        open_cluster(1) as cluster,
        call(cluster, cluster[1]) as former,
        call(cluster, cluster[1]) as sibling,
        call(cluster, cluster[1]) as newer,
    ):
        await former.ask(HELLO)
        await sibling.ask(HELLO)
        assert isinstance(await former.ask(wire.Heartbeat()), wire.HeartbeatAck)
        answer = await newer.ask(hello(start_id=b"2" * 16))
        assert isinstance(answer, wire.Hello)
        assert not answer.duplicate
        assert await former.ends() < 0.1
        assert await sibling.ends() < 0.1
        assert isinstance(await newer.ask(wire.Heartbeat()), wire.HeartbeatAck)


@pytest.mark.parametrize("seed", range(12))
async def test_nothing_of_a_former_process_arrives_after_the_answer_to_the_hello(
    autojump_clock: MockClock, seed: int
) -> None:
    """Both messages arrive at the same instant, in either order, before tasks that run in either order."""
    async with (
        open_cluster(1, seed=seed) as cluster,
        call(cluster, cluster[1]) as former,
        call(cluster, cluster[1]) as newer,
    ):
        await former.ask(HELLO)
        cluster.network.delay = (0.001, 0.001)
        push = wire.Push(1, True, [Delta(HELLO.incarnation, 0, 7, {"x": 7})])
        sends: list[tuple[Caller, wire.Message]] = [(former, push), (newer, hello(start_id=b"2" * 16))]
        for caller, message in sends if seed % 2 else reversed(sends):
            await caller.send(message)
        answer = await newer.receive()
        assert isinstance(answer, wire.Hello)
        await trio.sleep(100 * DEFAULTS.piggyback_delay)  # a push that was taken would be on disk
        assert answer.digest.get(HELLO.incarnation, 0) == known(cluster[1], HELLO.incarnation)


async def test_a_lost_connection_is_dialled_again_at_once(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        cluster.network.drop(one.address, two.address)
        await cluster.eventually(lambda: not cluster.linked(one))
        assert await cluster.eventually(lambda: cluster.linked(one) and cluster.linked(two)) < 0.5


async def test_a_recovering_node_refuses_links(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        await cluster[1].stop()
        cluster[1].disk.latency = (0.3, 0.3)
        await cluster[1].begin()
        with pytest.raises(LinkRefused):
            async with call(cluster, cluster[1]):
                pass


async def test_a_node_that_is_not_there_is_reported_with_the_reason(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        await cluster[2].kill()
        cluster.network.isolate(cluster[3].address)

        def told() -> bool:
            reasons = {peer.address: peer.reason for peer in cluster[1].node.peers}
            stopped, silent = reasons[cluster[2].address], reasons[cluster[3].address]
            return "refused" in stopped and "no connection in time" in silent

        await cluster.eventually(told, 3)
        with pytest.raises(LinkClosed):
            async with call(cluster, cluster[2]):
                pass


async def test_what_a_slow_peer_lacks_costs_one_bounded_push_at_a_time(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        names = [f"{number:0200}" for number in range(1000)]
        sizes: list[int] = []
        waiting: set[int] = set()

        def tap(sender: str, receiver: str, data: bytes) -> None:
            message = wire.decode(data)
            if isinstance(message, wire.Push) and sender == one.address:
                assert not waiting, "a second push before the ack"
                waiting.add(message.number)
                sizes.append(len(data))
            elif isinstance(message, wire.Ack) and receiver == one.address:
                waiting.clear()

        cluster.network.cut(one.address, two.address)
        await cluster.eventually(lambda: not cluster.linked(one))
        cluster.network.tap = tap
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                for name in names:
                    nursery.start_soon(add, one.node, name, 1)
        cluster.network.heal()
        await cluster.eventually(lambda: all(two.node.value(name) == 3 for name in names), 3)
        assert len(sizes) > 2
        assert max(sizes) < DEFAULTS.push_bytes * 1.1
        assert sum(sizes) < 2 * 1000 * 220


async def test_many_held_reads_at_once_cost_no_link(autojump_clock: MockClock) -> None:
    """Each of a hundred busy counters is read constantly, so that there are many rounds with holds at a time."""
    async with open_cluster(3, delay=(0.001, 0.02)) as cluster:

        async def write(host: Host, name: str) -> None:
            while True:
                await add(host.node, name, 1)
                await trio.sleep(0.001)  # a client's own pace

        async def read(name: str) -> None:
            while True:
                await cluster[1].node.consistent_value(name)

        with structlog.testing.capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                for name in (f"n{number}" for number in range(150)):
                    nursery.start_soon(read, name)
                    for host in cluster.hosts:
                        nursery.start_soon(write, host, name)
                await trio.sleep(2 * MAX_HOLD)  # the first holds begin, end and rest
                nursery.cancel_scope.cancel()
        assert logs == []


@pytest.mark.parametrize("slow", [1, 2])
async def test_links_to_and_from_a_node_whose_syncs_take_seconds_come_up_and_stay(
    autojump_clock: MockClock, slow: int
) -> None:
    """It counts all the time, so each hello has to wait for two syncs; meanwhile both ends say that they are there."""
    async with open_cluster(2, configured=False) as cluster:
        host = cluster[slow]
        host.disk.latency = (2.2, 2.2)

        async def count() -> None:
            while True:
                await add(host.node, "load", 1)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(count)
            await cluster[1].node.configure({"actors": cluster.addresses})
            await cluster.eventually(lambda: all(map(cluster.linked, cluster.hosts)), 20)
            with structlog.testing.capture_logs() as logs:
                await trio.sleep(20)
                for other in cluster.hosts:
                    assert await other.node.consistent_value("load", 15) > 0
            assert not [entry for entry in logs if entry["event"] == "link down"]
            nursery.cancel_scope.cancel()


async def test_a_node_that_goes_on_settling_a_hello_for_ever_is_given_up(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        waiting = Waiting()
        cluster.network.listen(address_of(9), waiting, cluster.nursery)
        await cluster[1].node.configure({"actors": [cluster[1].address, address_of(9)]})
        await cluster.eventually(lambda: waiting.dials > 2, 3 * SETTLE_TIMEOUT)
        assert "no hello for 60 s" in str([peer.reason for peer in cluster[1].node.peers])


class Waiting:
    """Says again and again that it is about to say hello."""

    recovered = True

    def __init__(self) -> None:
        self.dials = 0

    async def accept(self, link: Link, caller: str, promote: Callable[[], bool]) -> None:
        self.dials += 1
        with suppress(LinkClosed):
            while True:
                link.post(wire.encode(wire.HeartbeatAck({})))
                with trio.move_on_after(0.5):
                    while True:
                        await link.receive()
