"""Increments with ids between whole nodes: reads are exact, and nodes that do not understand ids stay outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
import trio
from trio.testing import MockClock

from gcount.cluster.links.handshake import TOO_OLD
from gcount.cluster.settling import Settling
from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol import messages, told_ids
from gcount.core.protocol.consistent_read import CATCH_UP
from gcount.core.protocol.write_holds import MAX_HOLD
from gcount.core.state.counters import Delta, Digest
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.writes.increments import Raise
from gcount.core.writes.known_ids import KnownIds
from gcount.errors import IdLimitReached, IdsUnavailable, ReadUnavailable
from tests.cluster.impostor import joined_by_impostor, linked
from tests.cluster.test_consistent_reads import Rounds
from tests.fakes.caller import HELLO, call, hello
from tests.fakes.cluster import WALL_CLOCK, Host, open_cluster
from tests.fakes.counting import accepted, add

MINE = HELLO.incarnation
TIME = int(WALL_CLOCK)


async def send(host: Host, id_: str, amount: int, name: str = "x") -> int:
    """Increment a counter with an id; returns the value after it."""
    return accepted((await host.node.count([Raise(name, f"{TIME}-{id_}", amount, once=True)])).values[0])


@pytest.mark.parametrize("seed", range(3))
async def test_a_read_on_any_node_holds_each_id_once_wherever_it_was_sent(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(3, seed=seed) as cluster:
        total = 0
        for number in range(1, 13):
            for host in cluster.random.choices(cluster.hosts, k=cluster.random.choice((1, 2))):
                await send(host, str(number), 2**number)
            total += 2**number
            assert await cluster.random.choice(cluster.hosts).node.consistent_value("x") == total
        await cluster.converged("x", total)


async def test_a_quiet_read_takes_one_round_beside_ids(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        await send(cluster[2], "a", 5)
        await cluster.converged("x", 5)
        rounds = Rounds(cluster, cluster[1])
        assert await cluster[1].node.consistent_value("x") == 5
        assert rounds.count == 1


async def test_a_read_that_lags_behind_ids_takes_two_rounds_and_waits_only_for_their_push(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3, delay=(0.02, 0.02)) as cluster:
        rounds, started = Rounds(cluster, cluster[1]), trio.current_time()
        await send(cluster[2], "a", 5)
        assert await cluster[1].node.consistent_value("x") == 5
        assert rounds.count == 2
        assert rounds.holds == set()
        assert trio.current_time() - started < CATCH_UP


@pytest.mark.parametrize("delay", [0.03, 0.08, 0.1])
async def test_reads_end_within_a_few_rounds_under_constant_writers_of_ids(
    autojump_clock: MockClock, delay: float
) -> None:
    """On slow links as well: a hold lasts for two rounds, and answers bring the ids that were not pushed meanwhile."""
    async with open_cluster(3, delay=(delay, delay)) as cluster:
        numbers = count()

        async def write(host: Host) -> None:
            while True:
                await send(host, str(next(numbers)), 1)
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            for host in cluster.hosts[1:]:
                nursery.start_soon(write, host)
            for _ in range(2):
                await trio.sleep(2 * MAX_HOLD)  # no hold of the last read keeps this one from its own
                rounds = Rounds(cluster, cluster[1])
                await cluster[1].node.consistent_value("x", timeout=5.0)
                assert rounds.count <= 6
                assert rounds.holds
            nursery.cancel_scope.cancel()


def pushes_nothing(host: Host, to: Host) -> None:
    """Keep a node from pushing to another one; it goes on answering."""
    peer = host.node.peers.get(to.address)
    assert peer is not None
    assert peer.sender is not None
    peer.sender._quiet_until = 99.0


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are always too many ids to be told in an answer."""
    monkeypatch.setattr(told_ids, "MOST_TOLD", 0)


async def test_a_read_takes_from_an_answer_the_ids_that_no_member_can_push(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        await send(two, "a", 5)
        await cluster.converged("x", 5)
        pushes_nothing(two, one)
        await send(two, "b", 8)
        rounds = Rounds(cluster, one)
        assert await one.node.consistent_value("x") == 13
        assert rounds.count == 2
        assert one.node.value("x") == 5


@pytest.mark.usefixtures("untold")
async def test_a_read_waits_for_ids_that_only_another_member_can_bring(autojump_clock: MockClock) -> None:
    """The member that has them can answer, but it can push nothing; a third one passes them on."""
    async with open_cluster(3) as cluster:
        one, two, _ = cluster.hosts
        pushes_nothing(two, one)
        await send(two, "a", 5)
        assert await one.node.consistent_value("x", timeout=4.0) == 5


@pytest.mark.usefixtures("untold")
async def test_a_read_that_can_not_learn_the_ids_that_are_there_gives_up(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        pushes_nothing(two, one)
        await add(one.node, "x", 2)
        await send(two, "a", 5)
        rounds = Rounds(cluster, one)
        with pytest.raises(ReadUnavailable) as caught:
            await one.node.consistent_value("x", timeout=1.0)
        assert caught.value.value == 2
        assert 1.0 / CATCH_UP - 2 <= rounds.count <= 1.0 / CATCH_UP + 2


async def test_ids_are_refused_until_all_members_understand_them(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, _ = cluster.hosts
        impostor = await joined_by_impostor(cluster)
        for host in cluster.hosts:
            host.node.peers.hang_up()
        impostor.hello = hello(floor=None)  # as a node of before says hello
        await cluster.eventually(lambda: not one.node.parts.members.hellos[impostor.address].knows_ids)
        with pytest.raises(IdsUnavailable, match=impostor.address):
            await send(one, "a", 5)
        assert await add(one.node, "x", 1) == 1
        impostor.hello = hello()
        one.node.peers.hang_up()
        await cluster.eventually(lambda: one.node.parts.members.hellos[impostor.address].knows_ids)
        assert await send(one, "a", 5) == 6


async def test_a_node_that_does_not_understand_ids_is_refused_once_they_are_in_use(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        async with call(cluster, one) as caller:
            assert isinstance(await caller.ask(hello(floor=None)), messages.Hello)
            await send(two, "a", 5)
            await cluster.converged("x", 5)
            await caller.send(messages.ReadCells(1, "x", False))
            await caller.ends()
        async with call(cluster, one) as caller:
            refused = await caller.ask(hello(floor=None))
            assert isinstance(refused, messages.Refused)
            assert refused.reason == TOO_OLD
        await one.restart()  # it is known after a start, too
        async with call(cluster, one) as caller:
            assert isinstance(await caller.ask(hello(floor=None)), messages.Refused)
        async with call(cluster, one) as caller:
            assert isinstance(await caller.ask(hello()), messages.Hello)


async def test_nothing_is_pushed_to_a_member_that_does_not_understand_ids_once_they_are_in_use(
    autojump_clock: MockClock,
) -> None:
    """It would leave them out, and say that it has them; after its upgrade nobody would send them again."""
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        await send(two, "a", 5)
        await cluster.converged("x", 5)
        impostor = await joined_by_impostor(cluster)
        for host in cluster.hosts:
            host.node.peers.hang_up()
        impostor.hello = hello(floor=None)
        await trio.sleep(1.0)  # by now what was on its way has arrived
        impostor.pushed_by.clear()
        await send(one, "b", 1)
        await trio.sleep(3.0)
        assert impostor.pushed_by == []
        peer = one.node.peers.get(impostor.address)
        assert peer is not None
        assert peer.reason == TOO_OLD


async def test_a_link_to_a_node_that_does_not_understand_ids_ends_when_the_first_one_comes(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        impostor = await joined_by_impostor(cluster)
        one.node.peers.hang_up()
        impostor.hello = hello(floor=None)
        await cluster.eventually(lambda: not one.node.parts.members.hellos[impostor.address].knows_ids)
        await cluster.eventually(lambda: linked(one, impostor.address))
        await send(two, "a", 1)  # it has not heard the new hello
        await cluster.eventually(lambda: not linked(one, impostor.address))


async def test_a_stranger_brings_no_ids_into_use_while_a_member_does_not_understand_them(
    autojump_clock: MockClock,
) -> None:
    """That member would be refused from then on, and consistent reads with it."""
    async with open_cluster(1) as cluster:
        one = cluster[1]
        impostor = await joined_by_impostor(cluster)
        one.node.peers.hang_up()
        impostor.hello = hello(floor=None)
        await cluster.eventually(lambda: not one.node.parts.members.hellos[impostor.address].knows_ids)
        stranger, other = b"m" * 16, b"r" * 16
        async with call(cluster, one) as caller:
            await caller.ask(hello(node=stranger, incarnation=stranger, retired=[other]))
            ids = Delta(stranger, 0, 1, {}, Keyed({f"{TIME}-1 x": (1, 1)}))
            settled = Delta(stranger, 0, 1, {}, Keyed({}, {other: Settlement(1, 1, {})}))
            for number, keyed in enumerate((ids, settled), start=1):
                taken = {other: 1} if number == 1 else {}
                push = messages.Push(number, True, [keyed, Delta(other, 0, 1, {"y": 1})])
                assert await caller.ask(push) == messages.Ack(number, taken)
            assert (one.node.replica.floor, linked(one, impostor.address)) == (None, True)
            impostor.hello = hello()
            one.node.peers.hang_up()
            await cluster.eventually(lambda: one.node.parts.members.hellos[impostor.address].knows_ids)
            assert await caller.ask(messages.Push(3, True, [ids])) == messages.Ack(3, {stranger: 1})
        assert (one.node.value("x"), one.node.replica.floor) == (1, 0)


@asynccontextmanager
async def limited(most: int, options: Options = DEFAULTS) -> AsyncIterator[Host]:
    """A node that takes so many ids from clients."""
    async with open_cluster(0, configured=False, options=options) as cluster:
        cluster.max_ids = most
        await cluster.add().start()
        yield cluster[1]


def ids_of(incarnation: bytes, after: int, *numbers: int) -> Delta:
    """A delta with so many new ids."""
    keyed = Keyed({f"{TIME}-{incarnation.hex()}{number} x": (1, after + 1) for number in numbers})
    return Delta(incarnation, after, after + 1, {}, keyed)


async def test_strangers_bring_a_quarter_of_the_ids_that_clients_may_bring(autojump_clock: MockClock) -> None:
    async with limited(8) as one:
        other = b"r" * 16
        async with call(one.cluster, one) as caller:
            await caller.ask(hello(retired=[other]))
            both = [ids_of(MINE, 0, 1), ids_of(other, 0, 1), Delta(b"q" * 16, 0, 1, {"y": 1})]
            assert await caller.ask(messages.Push(1, True, both)) == messages.Ack(1, {MINE: 1, other: 1})
            more = [ids_of(MINE, 1, 2), Delta(other, 1, 2, {"y": 2})]
            assert await caller.ask(messages.Push(2, True, more)) == messages.Ack(2, {other: 2})
        assert (one.node.value("x"), one.node.value("y")) == (2, 2)


async def test_a_stranger_brings_no_ids_of_the_future_and_opens_few_spans_of_time(autojump_clock: MockClock) -> None:
    """Each span takes time of each settlement; those of the future are never settled."""
    async with limited(1_000_000, Options(id_span=60, max_spans=10)) as one, call(one.cluster, one) as caller:
        future, many, few = b"f" * 16, b"m" * 16, b"w" * 16
        await caller.ask(hello(incarnation=future, retired=[many, few]))

        def of_minutes(incarnation: bytes, *minutes: int) -> Delta:
            return Delta(incarnation, 0, 1, {}, Keyed({f"{TIME + 60 * n}-a x": (1, 1) for n in minutes}))

        deltas = [of_minutes(future, 10_000), of_minutes(many, *range(-11, 0)), of_minutes(few, *range(-10, 0))]
        assert await caller.ask(messages.Push(1, True, deltas)) == messages.Ack(1, {few: 1})
        assert (one.node.value("x"), len(one.node.replica.counters.entries.spans)) == (10, 10)
        await send(one, "client", 1)
        await caller.ask(messages.Push(2, True, [of_minutes(many, -20)]))
        assert one.node.value("x") == 11


async def test_a_strangers_push_without_ids_does_not_look_at_those_that_are_there(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with limited(8) as one, call(one.cluster, one) as caller:
        await caller.ask(hello())
        assert await caller.ask(messages.Push(1, True, [ids_of(MINE, 0, 1)])) == messages.Ack(1, {MINE: 1})
        monkeypatch.setattr(KnownIds, "left_for_strangers", None)  # a call of it would end the node
        assert await caller.ask(messages.Push(2, True, [])) == messages.Ack(2, {})
        more = Delta(MINE, 1, 2, {"y": 1})
        assert await caller.ask(messages.Push(3, True, [more])) == messages.Ack(3, {MINE: 2})


async def test_ids_of_strangers_take_none_of_the_clients(autojump_clock: MockClock) -> None:
    async with limited(4) as one:
        async with call(one.cluster, one) as caller:
            await caller.ask(hello())
            assert await caller.ask(messages.Push(1, True, [ids_of(MINE, 0, 1)])) == messages.Ack(1, {MINE: 1})
        for number in range(4):
            await send(one, str(number), 1)
        with pytest.raises(IdLimitReached):
            await send(one, "4", 1)


async def test_a_floor_is_passed_on_with_what_its_member_had_on_disk_by_then(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[tuple[str, int, Digest]]()  # without repetitions

    def note(_: Settling, address: str, floor: int, digest: Digest) -> None:
        last = next((known for at, known, _ in reversed(told) if at == address), None)
        if floor != last:
            told.append((address, floor, dict(digest)))

    monkeypatch.setattr(Settling, "told", note)
    async with open_cluster(0, configured=False, options=Options(id_span=2)) as cluster:
        for host in (cluster.add(), cluster.add()):
            host.retry_window = 6.0
            await host.start()
        await cluster.configure()
        one, two = cluster.hosts
        await send(one, "a", 1)
        await send(two, "a", 1)
        await trio.sleep(12.0)
        of_two = [(floor, digest) for address, floor, digest in told if address == two.address]
        floors = [floor for floor, _ in of_two]
        assert floors == [0, two.node.replica.floor]
        digest = two.node.replica.counters.digest()
        assert of_two[-1][1].keys() == digest.keys()
        assert all(version >= 1 for version in of_two[-1][1].values())
        told.clear()
        await two.restart()
        await cluster.eventually(lambda: cluster.linked(one))
        assert [floor for address, floor, _ in told if address == two.address] == floors[-1:]
