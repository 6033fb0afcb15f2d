"""Increments reach every node, exactly once, whatever happens to the nodes, their disks and the network."""

import pytest
import trio
from trio.testing import MockClock

from gcount.cluster.links.channel import SILENCE
from gcount.cluster.links.peer import BACKOFF_MOST
from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol.replication import REFUSED_PAUSE
from gcount.errors import DiskFull
from gcount.storage.group_commit import PROBE_AFTER
from tests.cluster.books import Books, all_equal
from tests.fakes.cluster import Host, SimCluster, address_of, open_cluster
from tests.fakes.counting import add


async def count(books: Books, host: Host, *, pause: float = 0.01) -> None:
    """Count on one machine for as long as nobody stops it, also across restarts of its node."""
    while True:
        await host.cluster.uptime(host)
        await books.increment(host, host.cluster.random.choice("xyz"), host.cluster.random.choice((1, 7, 2**40)))
        if host.running and host.node.recovered:
            for name in "xyz":
                books.look(host, name)
        await trio.sleep(host.cluster.random.uniform(0, pause))  # a client's own pace


async def settled(cluster: SimCluster, books: Books, within: float) -> None:
    """All nodes answer the same, within what the books allow, and so do their logs."""
    await cluster.eventually(lambda: same(cluster), within)
    for name in "xyz":
        value = cluster[1].node.value(name)
        books.check(name, value)
        for host in cluster.hosts:
            assert await host.node.consistent_value(name) == value
    await all_equal(cluster)


def linked_to_none(cluster: SimCluster, alone: Host) -> bool:
    dialled = [(host, peer) for host in cluster.hosts for peer in host.node.peers]
    return not any(peer.sender for host, peer in dialled if host is alone or peer.address == alone.address)


def same(cluster: SimCluster) -> bool:
    digests = [host.node.replica.counters.digest() for host in cluster.hosts]
    return all(digest == digests[0] for digest in digests)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_increments_reach_all_within_50_ms(autojump_clock: MockClock, size: int) -> None:
    async with open_cluster(size) as cluster:
        for host in cluster.hosts:
            await add(host.node, "x", 2**60 + host.number)
        total = size * 2**60 + sum(range(1, size + 1))
        assert await cluster.eventually(lambda: all(h.node.value("x") == total for h in cluster.hosts)) < 0.05
        await cluster.converged("x", total)


async def test_a_wait_for_other_disks_does_not_wait_for_more_increments(autojump_clock: MockClock) -> None:
    async with open_cluster(2, options=Options(push_interval=60.0, piggyback_delay=60.0)) as cluster:
        node = cluster[1].node
        await add(node, "x", 1)
        await node.peers.wait_held(node.replica.counters.digest(), 1)  # that push may have set out already
        for number in range(1, 20):
            await add(node, "x", 1)
            began = trio.current_time()
            assert await node.peers.wait_held(node.replica.counters.digest(), 1) == 1
            assert cluster[2].node.value("x") == number + 1
            assert trio.current_time() - began < 1.0


async def test_a_wait_for_too_many_members_or_for_members_that_lack_nothing_hastens_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster:
        node = cluster[1].node
        await add(node, "x", 1)
        known = node.replica.counters.digest()
        await cluster.eventually(lambda: node.peers.holders(known) == 1)
        for versions, members in [({}, 1), (known, 1), (known, 99), ({b"?" * 16: 1}, 2)]:
            [sender] = [peer.sender for peer in node.peers if peer.sender is not None]
            before = sender._urgent_until
            with trio.move_on_after(0.5):
                await node.peers.wait_held(versions, members)
            assert sender._urgent_until == before


async def test_a_wait_for_a_member_goes_on_when_its_address_becomes_this_nodes_own(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        await add(one.node, "x", 1)
        known = one.node.replica.counters.digest()
        await cluster.eventually(lambda: one.node.peers.holders(known) == 1)
        await two.kill()
        cluster.network.names.lead(two.address, one.address, breaks=True)
        await cluster.eventually(lambda: two.address in one.node.parts.members.here)
        with trio.move_on_after(0.5) as waiting:
            await one.node.peers.wait_held(known, 1)
        assert waiting.cancelled_caught
        assert one.node.peers.holders(known) == 0


async def test_two_entries_that_lead_to_one_node_have_an_increment_once(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        cluster.network.names.lead(address_of(3), two.address)
        await one.node.configure({"actors": [*cluster.addresses, address_of(3)]})
        await add(one.node, "x", 1)
        known = one.node.replica.counters.digest()
        await cluster.eventually(lambda: sum(peer.has(known) for peer in one.node.peers) == 2, 5)
        assert one.node.peers.holders(known) == 1


async def test_values_are_exact_beyond_64_bits(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        for host in cluster.hosts:
            await add(host.node, "x", 2**64 - 1)
        await cluster.converged("x", 3 * (2**64 - 1))


@pytest.mark.parametrize("seed", range(3))
async def test_constant_load_on_all_nodes_converges_to_the_exact_sum(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(3, seed=seed) as cluster:
        books = Books()
        with trio.move_on_after(2):
            async with trio.open_nursery() as nursery:
                for host in cluster.hosts * 3:
                    nursery.start_soon(count, books, host)
        assert books.slowest < 0.05
        await settled(cluster, books, 0.1)


async def test_a_pair_that_is_cut_is_relayed_through_the_third(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        cluster.network.cut(one.address, two.address)
        await add(one.node, "x", 1)
        await add(two.node, "x", 10)
        assert three.node.value("x") in (0, 1, 10, 11)
        took = await cluster.eventually(lambda: one.node.value("x") == two.node.value("x") == 11, 4)
        assert took > 0.5, "only what its owner did not tell for a second is relayed"


async def test_a_one_way_cut_is_relayed_too(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        cluster.network.cut(cluster[1].address, cluster[2].address, one_way=True)
        await add(cluster[1].node, "x", 1)
        await cluster.eventually(lambda: cluster[2].node.value("x") == 1, 4)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("how", ["cut", "in", "out", "paused"])
async def test_increments_go_on_everywhere_while_a_node_is_isolated(
    autojump_clock: MockClock, number: int, how: str
) -> None:
    async with open_cluster(3) as cluster:
        books = Books()
        alone = cluster[number]
        async with trio.open_nursery() as nursery:
            for host in cluster.hosts:
                nursery.start_soon(count, books, host)
            await cluster.eventually(lambda: len(books.answers) == 3)
            if how == "paused":
                cluster.network.pause(alone.address)
            for other in cluster.hosts:
                if how in ("cut", "out") and other is not alone:
                    cluster.network.cut(alone.address, other.address, one_way=True)
                if how in ("cut", "in") and other is not alone:
                    cluster.network.cut(other.address, alone.address, one_way=True)
            await cluster.eventually(lambda: linked_to_none(cluster, alone), 2 * SILENCE)
            books.answers.clear()
            await trio.sleep(2 * SILENCE)  # long enough for any wait for the one that is away to show
            assert len(books.answers) == 3
            assert min(books.answers.values()) > 150
            assert books.slowest < 0.05
            nursery.cancel_scope.cancel()
        cluster.network.heal()
        cluster.network.resume(alone.address)
        await settled(cluster, books, 2)


@pytest.mark.parametrize("pause", [0.3, 0.9, 1.5, 20.0])
async def test_a_paused_peer_catches_up(autojump_clock: MockClock, pause: float) -> None:
    async with open_cluster(3) as cluster:
        cluster.network.pause(cluster[3].address)
        for _ in range(10):
            await add(cluster[1].node, "x", 1)
        await trio.sleep(pause)
        assert cluster[2].node.value("x") == 10
        assert cluster[3].node.value("x") == 0
        cluster.network.resume(cluster[3].address)
        await cluster.converged("x", 10, 2)


async def test_a_heal_after_a_long_time_is_noticed_within_2_s(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        cluster.network.isolate(cluster[3].address)
        await trio.sleep(60 * BACKOFF_MOST)  # for so many dials in vain
        await add(cluster[3].node, "x", 1)
        cluster.network.heal()
        started = trio.current_time()
        await cluster.converged("x", 1, 2)
        assert trio.current_time() - started < 2


@pytest.mark.parametrize("seed", range(6))
async def test_crashes_with_torn_disks_lose_nothing_that_was_acknowledged(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(3, seed=seed) as cluster:
        books = Books()
        random = cluster.random
        async with trio.open_nursery() as nursery:
            for host in cluster.hosts:
                nursery.start_soon(count, books, host)
            for _ in range(8):
                await trio.sleep(random.uniform(0.05, 0.5))  # any instant
                host = random.choice(cluster.hosts)
                await host.kill()
                await trio.sleep(random.choice((0, 0.2, 1.5)))  # how long it is away
                await host.start()
            await trio.sleep(DEFAULTS.confirm_within)  # after which increments go on in any case
            nursery.cancel_scope.cancel()
        assert sum(books.answers.values()) > 200
        await settled(cluster, books, 4)


@pytest.mark.parametrize("seed", range(6))
async def test_crashes_during_partitions_lose_nothing_either(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(4, seed=seed, delay=(0.001, 0.1)) as cluster:
        books = Books()
        random = cluster.random
        async with trio.open_nursery() as nursery:
            for host in cluster.hosts:
                nursery.start_soon(count, books, host)
            for _ in range(6):
                one, two, three = random.sample(cluster.hosts, 3)
                cluster.network.cut(one.address, two.address, one_way=random.random() < 0.5)
                cluster.network.pause(three.address)
                await trio.sleep(random.uniform(0, 1.5))  # any instant
                await random.choice(cluster.hosts).restart()
                await trio.sleep(random.uniform(0, 1.5))  # how long that lasts
                cluster.network.resume(three.address)
                if random.random() < 0.5:
                    cluster.network.heal()
            nursery.cancel_scope.cancel()
        cluster.network.heal()
        await settled(cluster, books, 6)


async def test_no_node_has_more_of_a_node_than_its_disk(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        for host in cluster.hosts:
            host.disk.latency = (0.02, 0.05)
        async with trio.open_nursery() as nursery:
            for host in cluster.hosts * 2:
                nursery.start_soon(count, Books(), host)
            for _ in range(300):
                await trio.sleep(0.003)  # between two looks, of which many fall into each write to a disk
                for host in cluster.hosts:
                    own = host.node.replica
                    for other in cluster.hosts:
                        known = other.node.replica.counters.version(own.identity.incarnation)
                        assert known <= own.version
            nursery.cancel_scope.cancel()


async def test_a_node_with_a_full_disk_says_so_keeps_its_links_and_answers_reads(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        one, two, _ = cluster.hosts
        await add(one.node, "x", 1)
        await cluster.converged("x", 1)
        one.disk.capacity = 0
        with pytest.raises(DiskFull):
            await add(one.node, "x", 10)
        assert one.node.not_ready is not None
        await add(two.node, "x", 100)
        assert await two.node.consistent_value("x") == 101
        assert await one.node.consistent_value("x") == 101
        await trio.sleep(5 * REFUSED_PAUSE)  # the others offer theirs again and again
        assert all(cluster.linked(host) for host in cluster.hosts)
        assert one.node.value("x") == 1
        one.disk.capacity = 10**9
        await cluster.converged("x", 101, 3)
        await cluster.eventually(lambda: one.node.not_ready is None, 3)
        await add(one.node, "x", 10)
        await cluster.converged("x", 111)
        await all_equal(cluster)


async def test_a_full_disk_tears_no_record(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        books = Books()
        used = 10**12 - cluster[1].disk.free_bytes()
        async with trio.open_nursery() as nursery:
            for host in cluster.hosts:
                nursery.start_soon(count, books, host)
            for room in range(0, 2000, 177):
                cluster[1].disk.capacity = used + room
                await trio.sleep(0.07 * PROBE_AFTER)  # so that it stays full from one room to the next
            assert cluster[1].node.not_ready is not None
            cluster[1].disk.capacity = 10**12
            await cluster.eventually(lambda: cluster[1].node.not_ready is None, 2 * PROBE_AFTER)
            nursery.cancel_scope.cancel()
        await cluster[1].restart()
        await settled(cluster, books, 3)
