"""A peer that passes hello and then lies: what it must not be able to do.

A *stranger* is no member: it may do nothing but add incarnations of its own. A *false member* answers at an address of
the config; nodes are taken to be honest, so it may say what it likes of its own incarnations and of others', and spoil
what is summed up with them; but no node ends, miscounts its own increments, or grows without limit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from sys import getsizeof

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from gcount.cluster.links import accepted_link
from gcount.cluster.minting import CLAIM_PAUSE
from gcount.core.limits import MAX_INCARNATIONS, MAX_MEMBERS, MAX_VERSION
from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol import messages
from gcount.core.state.counters import Delta
from gcount.core.state.membership import Membership
from gcount.errors import LinkClosed
from tests.cluster.books import all_equal
from tests.cluster.impostor import joined_by_impostor
from tests.fakes.caller import HELLO, Caller, call, hello
from tests.fakes.cluster import Host, SimCluster, open_cluster
from tests.fakes.counting import add, add_one_to_each

MINE = HELLO.incarnation
HUGE = MAX_VERSION
CALLS = 20  # of somebody who takes a node's name
STAY = CLAIM_PAUSE / CALLS / 6  # seconds that each lasts: all of them fall into one pause


def made_up(count: int) -> list[bytes]:
    return [f"made-up {number:08}".encode() for number in range(count)]


def own(host: Host, name: str = "x") -> int:
    """What a node's own incarnations have added to a counter, as it says itself."""
    replica = host.node.replica
    return sum(n for who, n in replica.counters.cells(name).items() if replica.identity.owns(who))


def incarnation(host: Host) -> bytes:
    return host.node.replica.identity.incarnation


def bytes_of_cells(host: Host) -> int:
    """What the cells of all incarnations take in memory; not what comes with each incarnation, however few it has."""
    columns = host.node.replica.counters._columns.values()
    return sum(getsizeof(words) for column in columns for words in (column.cells, column.stamps, column.indexes))


@asynccontextmanager
async def unharmed(cluster: SimCluster) -> AsyncIterator[None]:
    """The nodes go on as if nothing had happened: links stay, own increments count exactly, all can start again."""
    before = {host.address: own(host) for host in cluster.hosts}
    with structlog.testing.capture_logs() as logs:
        yield
        for host in cluster.hosts:
            assert host.running, host.failure
            await add(host.node, "x", 1)
            assert own(host) == before[host.address] + 1
    honest = set(cluster.addresses)
    assert [line for line in logs if line["event"] == "link down" and line["peer"] in honest] == []
    await agreed(cluster)
    for host in cluster.hosts:
        await host.restart()
    await agreed(cluster)


async def agreed(cluster: SimCluster) -> None:
    """All nodes come to hold the same, their logs too, and consistent reads answer just that."""
    first = cluster[1].node.replica
    await cluster.eventually(lambda: all(h.node.replica.counters == first.counters for h in cluster.hosts), 10)
    await all_equal(cluster)
    for host in cluster.hosts:
        assert await host.node.consistent_value("x") == first.counters.total("x")


def the_link(cluster: SimCluster) -> accepted_link.AcceptedLink:
    """The first node's end of the caller's link."""
    (link,) = (link for link in cluster[1].node.parts.acceptor._links if link.hello.node == HELLO.node)
    return link


async def push(caller: Caller, deltas: list[Delta], number: int = 1) -> messages.Ack:
    answer = await caller.ask(messages.Push(number, True, deltas))
    assert isinstance(answer, messages.Ack)
    return answer


# A stranger's state


async def _push_all(cluster: SimCluster, host: Host, made: list[bytes]) -> None:
    async with call(cluster, host) as caller:
        await caller.ask(hello(retired=made, node=made[0]))
        for number in range(0, len(made), 1024):
            await push(
                caller, [Delta(who, 0, HUGE, {"spam": 1}) for who in made[number : number + 1024]], number // 1024 + 1
            )


async def test_thousands_of_made_up_incarnations_leave_enough_for_members_and_are_the_same_at_all(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster:
        names = made_up(2 * MAX_INCARNATIONS)
        await add_one_to_each(cluster[1].node, [f"n{n}" for n in range(900)])
        await cluster.converged("n899", 1)  # so "spam" is a late name everywhere
        async with trio.open_nursery() as nursery:  # at both, so that neither has heard of what the other one takes
            for host, part in zip(cluster.hosts, (names[:MAX_INCARNATIONS], names[MAX_INCARNATIONS:]), strict=True):
                nursery.start_soon(_push_all, cluster, host, part)
        one, two = (host.node.replica.counters for host in cluster.hosts)
        await cluster.eventually(lambda: two.digest() == one.digest(), 5 * DEFAULTS.relay_after)
        assert MAX_INCARNATIONS / 2 - 4 < len(two.digest()) <= MAX_INCARNATIONS / 2
        for _ in range(2):
            for host in cluster.hosts:
                await add(host.node, "x", 1)
                assert len(host.node.replica.counters.digest()) < MAX_INCARNATIONS
                assert bytes_of_cells(host) < 500 * MAX_INCARNATIONS + 50_000
        await cluster.converged("x", 4)
        for host in cluster.hosts:
            await host.restart()
        await cluster.converged("x", 4)


async def test_deltas_without_cells_leave_a_log_that_can_be_read(autojump_clock: MockClock) -> None:
    """One by one they weigh nothing; 60,000 of them in one batch made a record too long for the next start."""
    async with open_cluster(2) as cluster, unharmed(cluster), call(cluster, cluster[1]) as caller:
        await caller.ask(HELLO)
        try:
            await push(caller, [Delta(MINE, 0, 1, {})])
            for number in range(2, 9):
                upto = 10_000 * number
                chunk = [Delta(MINE, 0, version, {}) for version in range(upto, upto + 8000)]
                await caller.ask(messages.Push(number, number == 8, chunk))
        except LinkClosed:
            pass  # as good


async def test_a_push_of_more_deltas_than_there_can_be_incarnations_ends_its_link(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster, call(cluster, cluster[1]) as caller:
        await caller.ask(HELLO)
        deltas = [Delta(MINE, 0, version, {"y": version}) for version in range(1, MAX_INCARNATIONS + 2)]
        await caller.send(messages.Push(1, True, deltas))
        assert await caller.ends() < 0.1
        assert MINE not in cluster[1].node.replica.counters.digest()


async def test_many_incarnations_in_one_push_pass_the_limit_of_counters_no_further_than_one(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster, unharmed(cluster), call(cluster, cluster[1]) as caller:
        await caller.ask(hello(retired=made_up(9)))
        deltas = [Delta(who, 0, 1, {f"{who.decode()}-{n}": 1 for n in range(150)}) for who in made_up(9)]
        await push(caller, deltas)
        assert len(cluster[1].node.replica.counters) <= cluster[1].max_counters


@pytest.mark.parametrize("member", [False, True])
async def test_a_push_that_never_ends_ends_its_link(autojump_clock: MockClock, member: bool) -> None:
    options = Options(max_stranger_cells=1500, max_uncounted_cells=50_000, push_cells=1000)
    async with open_cluster(2, options=options) as cluster:
        if member:
            await joined_by_impostor(cluster)
        async with unharmed(cluster), call(cluster, cluster[1]) as caller:
            await caller.ask(HELLO)
            link, most = the_link(cluster), 0
            for number in range(1, 1000):
                cells = {f"{number}-{n}": 1 for n in range(100)}
                try:
                    await caller.ask(messages.Push(number, False, [Delta(MINE, 0, HUGE, cells)]))
                except LinkClosed:
                    break
                most = max(most, link.buffered)
            assert number < 999
            assert 1400 < most <= (cluster[1].node.replica.max_uncounted_cells if member else 1500)


# A stranger's questions and its names


async def test_a_strangers_holds_are_no_holds(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster, unharmed(cluster), call(cluster, cluster[1]) as caller:
        await caller.ask(HELLO)
        await caller.ask(messages.ReadCells(1, "x", True))
        assert cluster[1].node.parts.gate.holds.until("x", trio.current_time()) is None


async def test_a_peer_that_asks_without_end_and_reads_no_answers_loses_its_link(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster, unharmed(cluster), call(cluster, cluster[1]) as caller:
        await caller.ask(hello(retired=made_up(60)))
        await push(caller, [Delta(who, 0, 1, {"x": 1}) for who in made_up(60)])  # so that answers are long
        link, most = the_link(cluster), 0
        for number in range(20_000):
            await caller.send(
                messages.ReadCells(number, "x", True), messages.Release(f"n{number}"), messages.Heartbeat()
            )
            if number % 50 == 0:
                await trio.sleep(cluster.network.delay[1])  # no more than so many on their way
            most = max(most, link._channel.unsent)
            if link not in cluster[1].node.parts.acceptor._links:
                break
        assert number < 19_000
        assert 100_000 < most <= DEFAULTS.max_unsent_answers + 10_000


async def test_many_starts_under_one_node_id_leave_one_link(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster, unharmed(cluster), trio.open_nursery() as nursery:
        for number in range(200):
            link = await nursery.start(_linked, cluster, hello(start_id=number.to_bytes(16, "big")))
        await link.ask(messages.Heartbeat())
        known = [link for link in cluster[1].node.parts.acceptor._links if link.hello.node == HELLO.node]
        assert len(known) == 1
        nursery.cancel_scope.cancel()


async def _linked(cluster: SimCluster, said: messages.Hello, task_status: trio.TaskStatus[Caller]) -> None:
    async with call(cluster, cluster[1]) as caller:
        await caller.ask(said)
        task_status.started(caller)
        await trio.sleep_forever()


async def test_a_caller_that_claims_to_be_the_node_makes_it_mint_once_a_minute(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        for number in range(CALLS):
            replica, mine = cluster[1].node.replica, incarnation(cluster[1])
            before, node = len(replica.identity.retired), replica.identity.node
            async with call(cluster, cluster[1]) as caller:
                start_id = number.to_bytes(16, "big")
                await caller.ask(
                    hello(node=replica.identity.node, start_id=start_id, incarnation=incarnation(cluster[1]))
                )
                await caller.send(messages.Heartbeat(), messages.Push(1, True, [Delta(mine, 0, HUGE, {"x": 9})]))
                await add(cluster[1].node, "x", 1)
                await trio.sleep(STAY)
            assert len(replica.identity.retired) - before == (number == 0)
            assert (replica.identity.node != node) == (number == 0)
        assert own(cluster[1]) == cluster[1].node.value("x") == CALLS


async def test_a_caller_with_a_members_name_does_not_make_that_member_mint_again_and_again(
    autojump_clock: MockClock,
) -> None:
    """It asks the member for its id and says hello to another node with it: that one then warns the member."""
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        for number in range(CALLS):
            async with call(cluster, two) as caller:
                answer = await caller.ask(HELLO)
                assert isinstance(answer, messages.Hello)
            async with call(cluster, one) as caller:
                await caller.ask(hello(node=answer.node, start_id=number.to_bytes(16, "big"), incarnation=bytes(16)))
                await caller.ask(messages.Heartbeat())
                await trio.sleep(STAY)
            await add(two.node, "x", 1)
        assert len(two.node.replica.identity.retired) <= 1
        assert own(two) == two.node.value("x") == CALLS
        await cluster.converged("x", CALLS)


# Memberships: whoever reaches the port can post one


async def test_a_member_does_not_report_the_unfinished_transfers_of_a_stranger(autojump_clock: MockClock) -> None:
    """Whose word it would be that this node has forgotten some of what it counted."""
    async with open_cluster(2) as cluster, call(cluster, cluster[2]) as caller:
        one = cluster[1]
        await add(one.node, "x", 1)
        await cluster.converged("x", 1)
        life = incarnation(one)
        await caller.ask(HELLO)
        await caller.ask(messages.Push(1, False, [Delta(life, 50, 99, {"x": 5})], transfer=7))
        cluster.network.drop(one.address, cluster[2].address)
        await cluster.eventually(lambda: not cluster.linked(one))
        await cluster.eventually(lambda: cluster.linked(one))
        await add(one.node, "x", 1)
        await one.restart()
        await add(one.node, "x", 1)
        assert one.node.parts.forks.shown == {}
        assert one.node.replica.identity.retired == ()
        assert isinstance(await caller.ask(messages.Heartbeat()), messages.HeartbeatAck)  # it was there all the time


def dials(host: Host, addresses: list[str]) -> bool:
    return all(host.node.peers.get(address) for address in addresses)


async def test_a_flood_of_memberships_dials_no_more_than_the_last_ones(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster, call(cluster, cluster[1]) as caller:
        await caller.ask(HELLO)
        most = 0
        for version in range(12):
            others = [f"10.{version + 1}.{number // 64}.{number % 64}:7777" for number in range(MAX_MEMBERS - 1)]
            actors = tuple(sorted([cluster[1].address, *others]))
            await caller.send(messages.Members(Membership(HUGE - 12 + version, actors)), messages.Heartbeat())
            await cluster.eventually(partial(dials, cluster[1], others))
            await wait_all_tasks_blocked()  # it has also let go of whom it lets go
            most = max(most, len(list(cluster[1].node.peers)))
        assert cluster[1].node.config()["version"] == HUGE - 1
        assert most <= 2 * MAX_MEMBERS
        await add(cluster[1].node, "x", 3)
        assert own(cluster[1]) == 3
