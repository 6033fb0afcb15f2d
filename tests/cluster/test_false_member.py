"""A false member: it answers at an address of the config, and lies. No node ends, miscounts or grows without limit."""

from __future__ import annotations

from functools import partial
from itertools import groupby, pairwise

import pytest
import trio
from trio.testing import MockClock

from gcount.cluster.links.accepted_link import AcceptedLink
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


async def test_other_tasks_run_between_the_answers_to_a_members_thousand_questions(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_cluster(2) as cluster:
        one, impostor = cluster[1], await joined_by_impostor(cluster)
        one.disk.latency = (0.2, 0.2)
        order, answering, reply = list[str](), trio.Event(), AcceptedLink._reply

        def answer(link: AcceptedLink, question: messages.ReadCells) -> None:
            order.append(question.name)
            answering.set()
            reply(link, question)

        async def run_beside() -> None:
            await answering.wait()
            while order.count("a") < 500:
                order.append("another task")
                await trio.lowlevel.checkpoint()

        async with unharmed(cluster), call(cluster, one) as caller, trio.open_nursery() as nursery:
            await caller.ask(impostor.hello)
            monkeypatch.setattr(AcceptedLink, "_reply", answer)
            nursery.start_soon(run_beside)
            nursery.start_soon(add, one.node, "a", 1)
            nursery.start_soon(add, one.node, "b", 1)
            asked = [messages.ReadCells(number, "ab"[number % 2], True) for number in range(1000)]
            await caller.send(*asked, messages.Release("b"))
            await answering.wait()
        runs = [len([*run]) for name, run in groupby(order) if name == "a"]
        assert (order.count("a"), order.count("b")) == (500, 0)  # those that were released are not answered
        assert max(runs) <= 2  # in each turn, any of two tasks may come first


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
