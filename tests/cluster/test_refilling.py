"""A node that has to be filled over a bad road gets further with each link, and never takes a part for the whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from gcount.cluster.links.channel import SILENCE
from gcount.cluster.links.handover import Handover
from gcount.cluster.links.peer import Peer
from gcount.core.limits import MAX_VERSION
from gcount.core.options import Options
from gcount.core.protocol import messages
from gcount.core.protocol.suspended_transfers import KEEP
from gcount.core.state.counters import Delta
from tests.cluster.books import all_equal
from tests.cluster.impostor import Impostor, joined_by_impostor, linked
from tests.fakes.caller import HELLO, Caller, call, hello
from tests.fakes.cluster import Host, SimCluster, open_cluster
from tests.fakes.counting import add, add_one_to_each

NAMES = [f"name-{number:03}" for number in range(200)]
CHUNKS = 40  # that all of them take, at least
MINE = HELLO.incarnation
SMALL = Options(push_bytes=160)
WHOLE = dict.fromkeys(NAMES[:6], 1)


class Watch:
    """Counts what one node pushes to another."""

    def __init__(self, cluster: SimCluster, one: Host, other: Host) -> None:
        self.pushes: list[messages.Push] = []
        self._way = (one.address, other.address)
        cluster.network.tap = self._sent

    def _sent(self, sender: str, receiver: str, data: bytes) -> None:
        if (sender, receiver) == self._way and isinstance(message := messages.decode(data), messages.Push):
            self.pushes.append(message)

    @property
    def chunks(self) -> list[messages.Push]:
        return [push for push in self.pushes if push.transfer]


def peer_of(one: Host, other: Host) -> Peer:
    peer = one.node.peers.get(other.address)
    assert peer is not None
    return peer


def filled(host: Host) -> bool:
    return len(host.node.replica.counters) == len(NAMES)


async def break_links(cluster: SimCluster, one: Host, other: Host, every: float) -> int:
    """Lose all connections between two nodes again and again until one holds all; returns how often."""
    lost = 0
    with trio.fail_after(60):
        while True:
            with trio.move_on_after(every):
                await cluster.eventually(lambda: filled(other), 60)
                return lost
            lost += 1
            cluster.network.drop(one.address, other.address)


@asynccontextmanager
async def full_and_empty() -> AsyncIterator[tuple[SimCluster, Host, Host]]:
    """A node with all names and a member without any, over a road of round trips of 100 ms, which is cut."""
    async with open_cluster(2, options=SMALL) as cluster:
        one, two = cluster.hosts
        await cluster.converged("none", 0)
        cluster.network.cut(one.address, two.address)
        await trio.sleep(2 * SILENCE)
        await add_one_to_each(one.node, NAMES)
        cluster.network.delay = (0.05, 0.05)
        yield cluster, one, two


async def test_an_empty_node_is_filled_though_no_link_lasts_long_enough_for_all(autojump_clock: MockClock) -> None:
    async with full_and_empty() as (cluster, one, two):
        watch = Watch(cluster, one, two)
        cluster.network.heal()
        lost = await break_links(cluster, one, two, every=1.5)
        await cluster.eventually(lambda: peer_of(one, two).lag(one.node.replica.counters) == 0)
        assert lost >= 3
        assert len({push.transfer for push in watch.chunks}) == 1
        assert len({tuple(delta.cells) for push in watch.chunks for delta in push.deltas}) > CHUNKS
        assert len(watch.chunks) <= len({str(push.deltas) for push in watch.chunks}) + lost
        await all_equal(cluster)


async def test_what_is_counted_meanwhile_arrives_too(autojump_clock: MockClock) -> None:
    async with full_and_empty() as (cluster, one, two):
        cluster.network.heal()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count, one)
            nursery.start_soon(count, two)
            assert await break_links(cluster, one, two, every=1.5) >= 3
            nursery.cancel_scope.cancel()
        total = one.node.value(NAMES[0]) + two.node.value(NAMES[0])
        await cluster.eventually(lambda: one.node.value(NAMES[0]) == two.node.value(NAMES[0]))
        assert total // 2 <= one.node.value(NAMES[0])
        assert await two.node.consistent_value(NAMES[0]) == one.node.value(NAMES[0])
        await all_equal(cluster)


async def count(host: Host) -> None:
    while True:
        await add(host.node, NAMES[0], 1)
        await trio.sleep(0.3)


async def half_way(cluster: SimCluster, watch: Watch) -> None:
    await cluster.eventually(lambda: len(watch.chunks) >= CHUNKS // 2, 20)


@pytest.mark.parametrize("which", [0, 1])
async def test_a_node_that_starts_anew_in_the_midst_of_a_transfer_begins_anew(
    autojump_clock: MockClock, which: int
) -> None:
    async with full_and_empty() as (cluster, one, two):
        watch = Watch(cluster, one, two)
        cluster.network.heal()
        await half_way(cluster, watch)
        await cluster.hosts[which].restart()
        await cluster.eventually(lambda: filled(two), 20)
        assert len({push.transfer for push in watch.chunks}) == 2
        await all_equal(cluster)


async def test_a_sender_keeps_what_is_left_for_a_minute_and_no_longer(autojump_clock: MockClock) -> None:
    async with full_and_empty() as (cluster, one, two):
        watch = Watch(cluster, one, two)
        for away, transfers in [(KEEP / 2, 1), (KEEP + 10, 2)]:
            cluster.network.heal()
            await half_way(cluster, watch)
            cluster.network.cut(one.address, two.address)
            await trio.sleep(away)
            assert bool(peer_of(one, two).resumes) == (transfers == 1)
            assert len({push.transfer for push in watch.chunks}) == 1
            assert not filled(two)
        cluster.network.heal()
        await cluster.eventually(lambda: filled(two), 20)
        assert len({push.transfer for push in watch.chunks}) == 2
        await all_equal(cluster)


async def test_a_node_that_says_hello_under_a_new_identity_begins_anew(autojump_clock: MockClock) -> None:
    async with full_and_empty() as (cluster, one, two):
        watch = Watch(cluster, one, two)
        for host in (one, two):
            before = len({push.transfer for push in watch.chunks})
            cluster.network.heal()
            await cluster.eventually(lambda: len(watch.chunks) % CHUNKS > CHUNKS // 2, 20)
            host.node.parts.hang_up()
            await trio.sleep(1.0)
            assert len({push.transfer for push in watch.chunks}) == max(1, before) + 1
            assert not filled(two)
        await cluster.eventually(lambda: filled(two), 20)
        await all_equal(cluster)


async def test_a_node_that_gets_a_new_identity_while_there_is_no_link_begins_anew(autojump_clock: MockClock) -> None:
    async with full_and_empty() as (cluster, one, two):
        watch = Watch(cluster, one, two)
        cluster.network.heal()
        await half_way(cluster, watch)
        cluster.network.drop(one.address, two.address)
        await cluster.eventually(lambda: bool(peer_of(one, two).resumes))
        one.node.parts.hang_up()
        assert not peer_of(one, two).resumes
        await cluster.eventually(lambda: filled(two), 20)
        await all_equal(cluster)


async def test_nothing_is_left_for_an_address_that_turns_out_to_be_the_nodes_own(autojump_clock: MockClock) -> None:
    async with full_and_empty() as (cluster, one, two):
        watch = Watch(cluster, one, two)
        cluster.network.heal()
        await half_way(cluster, watch)
        cluster.network.drop(one.address, two.address)
        await cluster.eventually(lambda: bool(peer_of(one, two).resumes))
        peer_of(one, two).here()
        assert not peer_of(one, two).resumes


@pytest.mark.parametrize("what", ["start_id", "node", "nothing kept", "too much", "too little"])
async def test_a_sender_continues_only_where_the_same_process_says_that_it_is(
    autojump_clock: MockClock, what: str
) -> None:
    async with open_cluster(1, options=SMALL) as cluster:
        impostor = await joined_by_impostor(cluster)
        sent: list[messages.Push] = []

        def tap(sender: str, receiver: str, data: bytes) -> None:
            if receiver == impostor.address and isinstance(message := messages.decode(data), messages.Push):
                sent.append(message)

        cluster.network.tap = tap
        await add_one_to_each(cluster[1].node, NAMES)
        await cluster.eventually(lambda: len(sent) == 5, 20)
        changes: dict[str, dict[str, Any]] = {
            "start_id": {"start_id": b"2" * 16, "kept": 4},
            "node": {"node": b"o" * 16, "kept": 4},
            "nothing kept": {"kept": 0},
            "too much": {"kept": 6},
            "too little": {"kept": 3},
        }
        await lose_link(cluster, impostor, changes[what])
        await cluster.eventually(lambda: len(sent) >= 6, 5)
        assert sent[5].transfer != sent[0].transfer
        assert sent[5].deltas == sent[0].deltas


async def lose_link(cluster: SimCluster, impostor: Impostor, changes: dict[str, Any]) -> None:
    impostor.hello = hello(**changes)
    cluster.network.drop(cluster[1].address, impostor.address)
    await trio.sleep(0.1)


# By hand, from the sending end


def piece(number: int) -> list[Delta]:
    return [Delta(MINE, 0, 9, dict.fromkeys(NAMES[2 * number : 2 * number + 2], 1))]


def chunk(number: int, *, push: int | None = None) -> messages.Push:
    """The chunks of transfer 7 are three."""
    return messages.Push(push or number + 1, number == 2, piece(number), transfer=7)


def handover(cluster: SimCluster) -> Handover:
    return cluster[1].node.parts.acceptor._handover


async def answer_to(caller: Caller, **changes: Any) -> messages.Hello:
    answer = await caller.ask(hello(**changes))
    assert isinstance(answer, messages.Hello)
    return answer


def taken(cluster: SimCluster) -> dict[str, int]:
    counters = cluster[1].node.replica.counters
    return {name: n for name in WHOLE if (n := counters.cell(name, MINE))}


async def joined_by_silent_impostor(cluster: SimCluster) -> None:
    """A member that was met, and does not answer any more: a hello of another of its starts is no copy's."""
    impostor = await joined_by_impostor(cluster)
    cluster.network.close(impostor.address)
    await cluster.eventually(lambda: not linked(cluster[1], impostor.address))


@asynccontextmanager
async def two_chunks_left() -> AsyncIterator[SimCluster]:
    """A member's link was lost after two of three chunks."""
    async with open_cluster(1, options=SMALL) as cluster:
        await joined_by_silent_impostor(cluster)
        async with call(cluster, cluster[1]) as caller:
            await answer_to(caller)
            await caller.ask(chunk(0))
            await caller.ask(chunk(1))
            assert handover(cluster).seen({MINE}) == {MINE: 9}
        await cluster.eventually(lambda: len(handover(cluster).kept) == 1)
        yield cluster


async def test_the_next_link_continues_and_nothing_is_acknowledged_before_all_of_it_is_on_disk(
    autojump_clock: MockClock,
) -> None:
    async with two_chunks_left() as cluster:
        assert handover(cluster).seen({MINE, bytes(16)}) == {MINE: 9}
        async with call(cluster, cluster[1]) as caller:
            answer = await answer_to(caller, resumes=7)
            assert (answer.kept, answer.digest.get(MINE)) == (2, None)
            assert taken(cluster) == {}
            assert len(handover(cluster).kept) == 0
            assert handover(cluster).seen({MINE}) == {MINE: 9}
            assert await caller.ask(chunk(2, push=1)) == messages.Ack(1, {MINE: 9})
            assert taken(cluster) == WHOLE
            assert handover(cluster).seen({MINE}) == {}
        await cluster[1].restart()
        assert taken(cluster) == WHOLE


async def test_the_answer_to_a_hello_has_what_suspended_transfers_show_of_the_nodes_incarnations(
    autojump_clock: MockClock,
) -> None:
    async with two_chunks_left() as cluster, call(cluster, cluster[1]) as caller:
        answer = await answer_to(caller, node=b"o" * 16, start_id=b"2" * 16, incarnation=b"o" * 16, retired=[MINE])
        assert (answer.seen, answer.digest.get(MINE)) == ({MINE: 9}, None)


@pytest.mark.parametrize("late", [False, True])
async def test_a_link_that_is_open_by_half_gives_up_its_transfer_and_ends(
    autojump_clock: MockClock, late: bool
) -> None:
    async with open_cluster(1, options=SMALL) as cluster:
        await joined_by_impostor(cluster)
        async with call(cluster, cluster[1]) as first, call(cluster, cluster[1]) as second:
            await answer_to(first)
            await first.ask(chunk(0))
            await (first.send if late else first.ask)(chunk(1))
            cluster.network.delay = (0.0, 0.0)
            assert (await answer_to(second, resumes=7)).kept in (1, 2)
            if late:
                await first.send(chunk(2))  # it is not the whole any more
            assert await first.ends() < SILENCE / 2
            assert taken(cluster) == {}
            async with call(cluster, cluster[1]) as third:
                next_one = (await answer_to(third, resumes=7)).kept
                for number in range(next_one, 3):
                    await third.ask(chunk(number, push=number - next_one + 1))
            assert taken(cluster) == WHOLE


@pytest.mark.parametrize(
    "changes", [{"resumes": 8}, {"resumes": 0}, {"resumes": MAX_VERSION}, {"start_id": b"2" * 16}, {"node": b"o" * 16}]
)
async def test_no_other_node_and_no_other_transfer_gets_what_is_kept(
    autojump_clock: MockClock, changes: dict[str, Any]
) -> None:
    async with two_chunks_left() as cluster, call(cluster, cluster[1]) as caller:
        assert (await answer_to(caller, **{"resumes": 7} | changes)).kept == 0
        await caller.ask(messages.Push(1, True, [Delta(MINE, 0, 1, {"x": 1})], transfer=0))
        assert taken(cluster) == {}


async def test_another_start_drops_what_was_kept_of_the_one_before(autojump_clock: MockClock) -> None:
    async with two_chunks_left() as cluster:
        async with call(cluster, cluster[1]) as caller:
            await answer_to(caller, start_id=b"2" * 16)
            assert handover(cluster).seen({MINE}) == {}
        async with call(cluster, cluster[1]) as caller:
            assert (await answer_to(caller, resumes=7)).kept == 0


async def test_another_start_drops_what_is_on_an_open_link_too(autojump_clock: MockClock) -> None:
    async with open_cluster(1, options=SMALL) as cluster:
        await joined_by_silent_impostor(cluster)
        async with call(cluster, cluster[1]) as first, call(cluster, cluster[1]) as second:
            await answer_to(first)
            await first.ask(chunk(0))
            await answer_to(second, start_id=b"2" * 16)
            assert await first.ends() < SILENCE
            assert len(handover(cluster).kept) == 0
            assert handover(cluster).seen({MINE}) == {}


async def test_nothing_is_kept_of_a_node_that_is_no_member_nor_given_to_one(autojump_clock: MockClock) -> None:
    async with open_cluster(1, options=SMALL) as cluster:
        async with call(cluster, cluster[1]) as caller:
            await answer_to(caller)
            await caller.ask(chunk(0))
        await trio.sleep(2 * SILENCE)
        assert handover(cluster).seen({MINE}) == {}
    async with two_chunks_left() as cluster:
        await cluster[1].node.configure({"actors": cluster.addresses})
        async with call(cluster, cluster[1]) as caller:
            assert (await answer_to(caller, resumes=7)).kept == 0


async def test_a_suspended_transfer_is_dropped_after_a_minute_without_any_link(autojump_clock: MockClock) -> None:
    async with two_chunks_left() as cluster:
        await trio.sleep(KEEP - 2)
        assert len(handover(cluster).kept) == 1
        await trio.sleep(4)
        assert len(handover(cluster).kept) == 0


async def test_what_is_kept_goes_with_the_identity_of_the_node_that_keeps_it(autojump_clock: MockClock) -> None:
    async with two_chunks_left() as cluster:
        cluster[1].node.parts.acceptor.hang_up()
        assert handover(cluster).seen({MINE}) == {}


async def test_a_sender_that_begins_anew_after_all_is_taken_at_its_word(autojump_clock: MockClock) -> None:
    async with two_chunks_left() as cluster, call(cluster, cluster[1]) as caller:
        assert (await answer_to(caller, resumes=7)).kept == 2
        assert await caller.ask(messages.Push(1, True, [Delta(MINE, 0, 10, {"x": 5})], transfer=0)) == messages.Ack(
            1, {MINE: 10}
        )
        assert taken(cluster) == {}
        assert cluster[1].node.value("x") == 5


async def test_the_size_of_suspended_transfers_is_limited(autojump_clock: MockClock) -> None:
    async with open_cluster(1, options=replace(SMALL, max_suspended=3)) as cluster:
        await joined_by_impostor(cluster)
        for transfer in range(1, 9):
            async with call(cluster, cluster[1]) as caller:
                await answer_to(caller)
                await caller.ask(messages.Push(1, False, piece(0), transfer=transfer))
        await trio.sleep(2 * SILENCE)
        assert len(handover(cluster).kept) == 3


@pytest.mark.parametrize("seed", range(4))
async def test_members_whose_pushes_are_too_much_together_fill_a_node_one_after_the_other(
    autojump_clock: MockClock, seed: int
) -> None:
    """A pushes as much as the node keeps of all, B and C each more than half of it."""
    options = replace(SMALL, max_uncounted_cells=200, push_cells=100)
    async with open_cluster(4, seed=seed, options=options) as cluster:
        *members, empty = cluster.hosts
        for number, host in enumerate(members):
            host.max_counters = 1000
            names = NAMES if number == 0 else NAMES[:120]
            await add_one_to_each(host.node, names)
        await cluster.converged(NAMES[0], 3)
        await empty.kill()
        empty.wipe()
        empty.max_counters = 50  # 200 cells are buffered for so many, too
        cluster.network.delay = (0.02, 0.03)
        await empty.start()
        most, began = 0, trio.current_time()
        while empty.node.replica.counters != members[0].node.replica.counters:
            most = max(most, sum(link.buffered for link in empty.node.parts.acceptor._links))
            assert trio.current_time() < began + 60
            await trio.sleep(0.01)
        assert 150 < most <= 200


async def test_suspended_transfers_count_towards_the_limit_and_are_dropped_only_for_larger_ones(
    autojump_clock: MockClock,
) -> None:
    other = b"o" * 16

    def push(number: int, cells: int) -> messages.Push:
        return messages.Push(number, False, [Delta(other, 0, 1, {f"{n}": 1 for n in range(cells)})], transfer=number)

    async with two_chunks_left() as cluster, call(cluster, cluster[1], 8) as caller:
        handover(cluster)._max_cells = 5
        await answer_to(caller, node=other, incarnation=other)
        refused = await caller.ask(push(1, 2))
        assert isinstance(refused, messages.Ack)
        assert refused.refused
        assert (handover(cluster).kept.cells, handover(cluster).strangers_buffered) == (4, 0)
        assert await caller.ask(push(2, 5)) == messages.Ack(2, {})
        assert (handover(cluster).kept.cells, handover(cluster).strangers_buffered) == (0, 5)
