"""Consistent reads: exact, in time, in few rounds, and never at the cost of increments."""

import math

import pytest
import trio
from trio.testing import MockClock

from gcount.cluster.links.channel import SILENCE
from gcount.core.options import DEFAULTS
from gcount.core.protocol import messages
from gcount.core.protocol.consistent_read import STALL
from gcount.core.protocol.write_holds import MAX_HOLD
from gcount.errors import ReadUnavailable
from tests.cluster.books import Books
from tests.fakes.cluster import Host, SimCluster, open_cluster
from tests.fakes.counting import add


class Rounds:
    """Counts the rounds that a node sends, on the wire."""

    def __init__(self, cluster: SimCluster, host: Host) -> None:
        self.numbers: list[int] = []
        self.holds: set[int] = set()
        self._host = host
        cluster.network.tap = self._tap

    def _tap(self, sender: str, receiver: str, data: bytes) -> None:
        message = messages.decode(data)
        if sender == self._host.address and isinstance(message, messages.ReadCells):
            self.numbers.append(message.round)
            if message.hold:
                self.holds.add(message.round)

    @property
    def count(self) -> int:
        return len(set(self.numbers))


@pytest.mark.parametrize("seed", range(5))
async def test_a_read_on_any_node_holds_what_was_just_acknowledged(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(3, seed=seed) as cluster:
        total = 0
        for amount in range(1, 13):
            writer, reader = cluster.random.choices(cluster.hosts, k=2)
            await add(writer.node, "x", amount)
            total += amount
            assert await reader.node.consistent_value("x") == total


async def test_a_quiet_read_takes_one_round(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        await add(cluster[2].node, "x", 5)
        await cluster.converged("x", 5)
        rounds = Rounds(cluster, cluster[1])
        started = trio.current_time()
        assert await cluster[1].node.consistent_value("x") == 5
        assert rounds.count == 1
        assert trio.current_time() - started < 0.025


async def test_a_read_that_lags_takes_two_rounds(autojump_clock: MockClock) -> None:
    async with open_cluster(3, delay=(0.01, 0.01)) as cluster:
        rounds = Rounds(cluster, cluster[1])
        await add(cluster[2].node, "x", 5)
        assert await cluster[1].node.consistent_value("x") == 5
        assert rounds.count == 2
        assert rounds.holds == set()


@pytest.mark.parametrize("seed", range(2))
async def test_reads_end_within_a_few_rounds_under_constant_writers(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(3, seed=seed) as cluster:

        async def write(host: Host) -> None:
            while True:
                await add(host.node, "x", 1)

        async with trio.open_nursery() as nursery:
            for host in cluster.hosts * 2:
                nursery.start_soon(write, host)
            for _ in range(4):
                await trio.sleep(2 * MAX_HOLD)  # no hold of the last read keeps this one from its own
                rounds = Rounds(cluster, cluster[1])
                await cluster[1].node.consistent_value("x")
                assert rounds.count <= 5
                assert rounds.holds, "without a hold no round is confirmed while everybody writes"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(4))
async def test_constant_readers_hold_an_increment_for_250_ms_at_most(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(3, seed=seed, delay=(0.02, 0.08)) as cluster:
        books = Books()

        async def write(host: Host) -> None:
            while True:
                await books.increment(host, "x")

        async def read(host: Host) -> None:
            while True:
                await host.node.consistent_value("x")

        with trio.move_on_after(3):
            async with trio.open_nursery() as nursery:
                for host in cluster.hosts:
                    nursery.start_soon(write, host)
                    nursery.start_soon(read, host)
                    nursery.start_soon(read, host)
        assert 0.05 < books.slowest < 0.25 + 0.02  # the disk takes its part
        assert min(books.answers.values()) > 50


async def test_a_hold_ends_though_its_coordinator_died(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        cluster[1].node.parts.gate.holds.ask("x", "somebody", trio.current_time())
        other = next(peer for peer in cluster[1].node.peers if peer.address == cluster[2].address)
        other.post(messages.ReadCells(10**6, "x", True))
        holds = cluster[2].node.parts.gate.holds
        await cluster.eventually(lambda: holds.until("x", trio.current_time()) is not None)
        cluster.network.isolate(cluster[1].address)
        await cluster[1].kill()
        started = trio.current_time()
        await add(cluster[2].node, "x", 1)
        assert 0.1 < trio.current_time() - started < 0.25 + 0.01  # the disk takes its part


async def test_a_release_lets_increments_go_at_once(autojump_clock: MockClock) -> None:
    delay = 0.01
    async with open_cluster(2, delay=(delay, delay)) as cluster:
        other = next(peer for peer in cluster[1].node.peers if peer.address == cluster[2].address)
        arrived: list[messages.Message] = []
        cluster.network.arrived = lambda sender, receiver, data: arrived.append(messages.decode(data))
        other.post(messages.ReadCells(10**6, "x", True))
        other.post(messages.Release("x"))
        await cluster.eventually(lambda: messages.Release("x") in arrived)
        assert cluster[2].node.parts.gate.holds, "there was a hold"
        started = trio.current_time()
        await add(cluster[2].node, "x", 1)
        assert trio.current_time() - started < 0.02


@pytest.mark.parametrize("timeout", [0.0, 0.3, 1.25])
@pytest.mark.parametrize("trouble", ["cut", "one way", "paused", "stopped", "gone"])
async def test_a_silent_member_makes_a_read_unavailable_in_time(
    autojump_clock: MockClock, trouble: str, timeout: float
) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        await add(one.node, "x", 4)
        await cluster.converged("x", 4)
        if trouble == "cut":
            cluster.network.isolate(three.address)
        elif trouble == "one way":
            cluster.network.cut(three.address, one.address, one_way=True)
        elif trouble == "paused":
            cluster.network.pause(three.address)
        else:
            await three.kill()
            cluster.network.silent |= {three.address} if trouble == "gone" else set()
        await add(two.node, "x", 8)
        started = trio.current_time()
        with pytest.raises(ReadUnavailable) as refusal:
            await one.node.consistent_value("x", timeout)
        assert math.isclose(trio.current_time() - started, timeout, abs_tol=0.02)
        assert refusal.value.value == (12 if timeout else refusal.value.value)
        assert refusal.value.value in (4, 12)
        if timeout:
            assert refusal.value.missing == [three.address]


async def test_when_a_member_returns_the_round_begins_anew(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        await add(cluster[3].node, "x", 4)
        await cluster.converged("x", 4)
        cluster.network.cut(cluster[1].address, cluster[3].address)
        await cluster.eventually(lambda: not cluster.linked(cluster[1]))
        rounds = Rounds(cluster, cluster[1])
        values: list[int] = []

        async def read() -> None:
            values.append(await cluster[1].node.consistent_value("x"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(2 * SILENCE)  # the others' answers are not enough
            assert values == []
            cluster.network.heal()
            assert await cluster.eventually(lambda: values == [4]) < 1
        assert rounds.count == 2


async def test_late_reads_share_the_next_round_and_not_the_running_one(autojump_clock: MockClock) -> None:
    delay = 0.02
    async with open_cluster(3, delay=(delay, delay)) as cluster:
        rounds = Rounds(cluster, cluster[1])
        late: list[int] = []

        async def read() -> None:
            late.append(await cluster[1].node.consistent_value("x"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster[1].node.consistent_value, "x")
            await cluster.eventually(lambda: rounds.count == 1)
            await add(cluster[1].node, "x", 3)
            for _ in range(20):
                nursery.start_soon(read)
            await trio.sleep(delay / 2)  # the first round is still on its way
            assert rounds.count == 1
        assert late == [3] * 20
        assert rounds.count == 2


async def test_a_round_that_waits_for_a_silent_member_keeps_no_later_one_from_starting(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        cluster.network.cut(cluster[1].address, cluster[3].address)
        rounds = Rounds(cluster, cluster[1])

        async def read() -> None:
            with pytest.raises(ReadUnavailable):
                await cluster[1].node.consistent_value("x", 1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(2 * STALL)  # the round has stalled
            nursery.start_soon(read)
            await cluster.eventually(lambda: rounds.count == 2, STALL)
        assert rounds.count == 2


@pytest.mark.parametrize("knows_itself", [True, False])
@pytest.mark.parametrize("pause", [0.0, 0.001, 0.005])
async def test_a_read_right_after_a_restart_is_answered(
    autojump_clock: MockClock, pause: float, knows_itself: bool
) -> None:
    async with open_cluster(3) as cluster:
        await add(cluster[1].node, "x", 1)
        cluster[1].knows_itself = knows_itself
        await cluster[1].restart()
        await trio.sleep(pause)  # the node dials the others meanwhile
        assert await cluster[1].node.consistent_value("x") == 1


async def test_a_read_wakes_when_the_round_that_it_waited_for_is_given_up(autojump_clock: MockClock) -> None:
    """Its round was shared with a read that needed a removed member, and ended with that one."""
    async with open_cluster(4) as cluster, trio.open_nursery() as nursery:
        one, two, three, four = cluster.hosts
        await add(one.node, "x", 1)
        await cluster.converged("x", 1)
        await four.kill()
        rounds = Rounds(cluster, one)

        async def needs_all_four() -> None:
            with pytest.raises(ReadUnavailable):
                await one.node.consistent_value("x", 2)

        nursery.start_soon(needs_all_four)
        await cluster.eventually(lambda: rounds.count == 1)
        await one.node.configure({"actors": [host.address for host in (one, two, three)]})
        await cluster.eventually(lambda: rounds.count > 1)  # it began anew
        await trio.sleep(3 * STALL)  # and has stalled: the next read gets a round of its own
        started = trio.current_time()
        assert await one.node.consistent_value("x", 20) == 1
        assert trio.current_time() - started < 2


async def test_a_read_that_found_no_place_for_a_round_gets_one_when_others_give_up(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster, trio.open_nursery() as nursery:
        one, three = cluster[1], cluster[3]
        await add(one.node, "x", 1)
        await cluster.converged("x", 1)
        cluster.network.isolate(three.address)
        await cluster.eventually(lambda: not cluster.linked(one))
        patience = 1.0

        async def give_up() -> None:
            with pytest.raises(ReadUnavailable):
                await one.node.consistent_value("x", patience)

        async def heal() -> None:
            await trio.sleep(3 * patience)  # long after the others gave up
            cluster.network.heal()

        for _ in range(DEFAULTS.max_rounds):
            nursery.start_soon(give_up)
            await trio.sleep(1.2 * STALL)  # its round has stalled: the next read gets one of its own
        nursery.start_soon(heal)
        started = trio.current_time()
        assert await one.node.consistent_value("x", 30) == 1
        assert trio.current_time() - started < 6
