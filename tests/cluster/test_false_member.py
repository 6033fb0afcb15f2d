"""A false member: it answers at an address of the config, and lies. No node ends, miscounts or grows without limit."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import trio
from trio.testing import MockClock

from gcount.core.limits import MAX_INCARNATIONS
from gcount.core.protocol import messages
from gcount.core.state.counters import Delta
from tests.cluster.impostor import joined_by_impostor, linked
from tests.cluster.test_hostile_peer import HUGE, incarnation, push, unharmed
from tests.fakes.caller import call
from tests.fakes.cluster import open_cluster
from tests.fakes.counting import add


async def test_a_member_that_holds_one_counter_for_ever_lets_increments_go_on(autojump_clock: MockClock) -> None:
    """250 ms of waiting at most, and as long free again."""
    async with open_cluster(2) as cluster:
        impostor = await joined_by_impostor(cluster)
        async with unharmed(cluster), call(cluster, cluster[1]) as caller:
            await caller.ask(impostor.hello)
            waits: list[tuple[float, float]] = []

            async def hold() -> None:
                for number in range(1000):
                    await caller.send(messages.ReadCells(number, "held", True))
                    await trio.sleep(0.003)  # three seconds of holds in all

            async def count() -> None:
                while True:
                    started = trio.current_time()
                    await add(cluster[1].node, "held", 1)
                    waits.append((started, trio.current_time() - started))
                    await trio.sleep(0.001)  # a client's own pace

            async with trio.open_nursery() as nursery:
                nursery.start_soon(count)
                await hold()
                nursery.cancel_scope.cancel()
        held = [started for started, wait in waits if wait > 0.1]
        assert max(wait for _, wait in waits) < 0.27
        assert len(held) >= 4
        assert min(later - earlier for earlier, later in pairwise(held)) > 0.45


async def test_a_member_cannot_raise_what_the_node_counts_under(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        impostor = await joined_by_impostor(cluster)
        async with unharmed(cluster):
            for after, upto in ((0, 1), (0, HUGE), (1, HUGE)):
                async with call(cluster, cluster[1]) as caller:
                    await caller.ask(impostor.hello)
                    await push(caller, [Delta(incarnation(cluster[1]), after, upto, {"x": 2**64 - 1})])


async def test_a_member_that_claims_new_incarnations_for_ever_is_cut_off(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        impostor = await joined_by_impostor(cluster)
        async with unharmed(cluster):
            most = cut_off = 0
            peer = cluster[1].node.peers.get(impostor.address)
            assert peer
            for number in range(8):
                await cluster.eventually(lambda: linked(cluster[1], impostor.address))
                link = peer.sender
                assert link
                claims = [f"claim {number}-{index:05}".ljust(16).encode() for index in range(1500)]
                await impostor.say(cluster[1], messages.HeartbeatAck(dict.fromkeys(claims, HUGE)))
                await cluster.eventually(partial(link.peer.__contains__, claims[-1]))
                if peer.sender is link:
                    most = max(most, len(link.peer))
                else:
                    cut_off += 1
            assert 0 < most <= MAX_INCARNATIONS
            assert cut_off == 2  # each by the third claim on a link


async def test_a_slow_peer_that_never_acknowledges_costs_one_push(autojump_clock: MockClock) -> None:
    """Nothing waits for it but what can be computed when it takes more."""
    async with open_cluster(2) as cluster:
        impostor = await joined_by_impostor(cluster, acks=False)
        peer = cluster[1].node.peers.get(impostor.address)
        assert peer
        for number in range(2000):
            await add(cluster[1].node, f"n{number % 50}", 1)
        assert impostor.pushed_by.count(cluster[1].address) == 1
        assert peer._channel
        assert peer._channel.unsent == 0
        assert peer.sender
        assert peer.sender._transfer
        assert peer.sender._transfer._last
        assert len(peer.sender._transfer.promised) == 1
        assert peer.sender.peer == {}
        assert peer.lag(cluster[1].node.replica.counters) == sum(cluster[1].node.replica.counters.digest().values())
