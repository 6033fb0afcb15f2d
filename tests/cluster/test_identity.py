"""Which incarnation a node counts under when its disk, its address or its peers are not what they were."""

from contextlib import suppress

import pytest
import structlog
import trio
from trio.testing import MockClock

from gcount.cluster.links.channel import SILENCE
from gcount.core.options import DEFAULTS
from gcount.core.protocol import messages
from gcount.core.state.membership import Membership
from gcount.errors import DiskFull, LinkClosed, ReadUnavailable
from tests.cluster.books import all_equal
from tests.cluster.impostor import joined_by_impostor
from tests.fakes.caller import call, hello
from tests.fakes.cluster import Host, SimCluster, address_of, open_cluster
from tests.fakes.counting import add

DIALLED = 0.1  # seconds after which a dial is on its way, and not yet given up


def incarnation(host: Host) -> bytes:
    return host.node.replica.identity.incarnation


def retired(host: Host) -> tuple[bytes, ...]:
    return host.node.replica.identity.retired


async def older_copy(cluster: SimCluster, *, spread: bool = True) -> bytes:
    """Node 1 counts 1, its disk is copied, it counts 10 more, dies, and the copy takes the disk's place."""
    host = cluster[1]
    await add(host.node, "x", 1)
    await cluster.converged("x", 1)
    copy = host.copy_disk()
    await add(host.node, "x", 10)
    if spread:
        await cluster.converged("x", 11)
    before = incarnation(host)
    await host.kill()
    host.put_disk(copy)
    return before


async def keeps_its_incarnation(host: Host) -> float:
    """Count, start again, count under the same incarnation; the seconds that the second increment took."""
    await add(host.node, "x", 1)
    before = incarnation(host)
    await host.restart()
    started = trio.current_time()
    await add(host.node, "x", 2)
    took = trio.current_time() - started
    assert incarnation(host) == before
    return took


@pytest.mark.parametrize("seed", range(3))
async def test_a_restart_with_all_peers_up_keeps_the_incarnation(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(3, seed=seed) as cluster:
        assert await keeps_its_incarnation(cluster[1]) < 0.2
        assert cluster[1].node.replica.version == 2
        await cluster.converged("x", 3)


async def test_a_node_that_knows_no_other_node_keeps_its_incarnation(autojump_clock: MockClock) -> None:
    async with open_cluster(1, configured=False) as cluster:
        assert await keeps_its_incarnation(cluster[1]) < 0.02


@pytest.mark.parametrize("wait", [0.0, 5 * DEFAULTS.confirm_within])
@pytest.mark.parametrize("trouble", ["stopped", "paused", "cut"])
async def test_without_every_peers_word_the_first_increment_after_1_s_mints(
    autojump_clock: MockClock, trouble: str, wait: float
) -> None:
    async with open_cluster(3) as cluster:
        one, _, three = cluster.hosts
        await add(one.node, "x", 1)
        before = incarnation(one)
        await one.kill()
        if trouble == "stopped":
            await three.kill()
        elif trouble == "paused":
            cluster.network.pause(three.address)
        else:
            cluster.network.cut(one.address, three.address)
        await one.start()
        started = trio.current_time()
        await trio.sleep(wait)  # the time to confirm has begun, or is long over
        assert incarnation(one) == before
        await add(one.node, "x", 2)
        assert max(1.0, wait) <= trio.current_time() - started < max(1.0, wait) + 0.05
        assert incarnation(one) != before
        assert retired(one) == (before,)
        if trouble == "stopped":
            await three.start()
        cluster.network.resume(three.address)
        cluster.network.heal()
        await cluster.converged("x", 3, 4)


async def test_peers_that_come_before_the_first_increment_confirm_in_time(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        await add(cluster[1].node, "x", 1)
        before = incarnation(cluster[1])
        for host in cluster.hosts:
            await host.kill()
        await cluster[1].start()
        await trio.sleep(5 * DEFAULTS.confirm_within)  # long after the first increment would have minted
        await cluster[2].start()
        await cluster[3].start()
        await cluster.eventually(lambda: cluster.linked(cluster[1]), 4)
        await add(cluster[1].node, "x", 2)
        assert incarnation(cluster[1]) == before


@pytest.mark.parametrize("seed", range(3))
async def test_an_older_copy_goes_on_under_a_new_incarnation(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(3, seed=seed) as cluster:
        before = await older_copy(cluster)
        await cluster[1].start()
        with structlog.testing.capture_logs() as logs:
            await add(cluster[1].node, "x", 100)
        assert [line["retired"] for line in logs if line["event"] == "new incarnation"] == [before.hex()]
        assert incarnation(cluster[1]) != before
        await cluster.converged("x", 111, 4)
        await all_equal(cluster)


@pytest.mark.parametrize("trouble", ["stopped", "paused"])
async def test_an_older_copy_mints_though_the_only_peer_that_knows_is_away(
    autojump_clock: MockClock, trouble: str
) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        cluster.network.cut(two.address, three.address)
        cluster.network.cut(one.address, three.address)
        before = await lone_witness(cluster)
        if trouble == "stopped":
            await two.kill()
        else:
            cluster.network.pause(two.address)
        cluster.network.heal()
        await one.start()
        await add(one.node, "x", 100)
        assert incarnation(one) != before
        await cluster.eventually(lambda: three.node.value("x") == 101)
        if trouble == "stopped":
            await two.start()
        cluster.network.resume(two.address)
        await cluster.converged("x", 111, 5)


async def lone_witness(cluster: SimCluster) -> bytes:
    """Only node 2 learns what node 1 counted after it was copied."""
    one, two, three = cluster.hosts
    cluster.network.heal()
    await add(one.node, "x", 1)
    await cluster.converged("x", 1)
    copy = one.copy_disk()
    cluster.network.cut(two.address, three.address)
    cluster.network.cut(one.address, three.address)
    await add(one.node, "x", 10)
    await cluster.eventually(lambda: two.node.value("x") == 11)
    assert three.node.value("x") == 1
    before = incarnation(one)
    await one.kill()
    one.put_disk(copy)
    return before


async def test_an_older_copy_restored_twice_counts_nothing_twice(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        await older_copy(cluster)
        copy = cluster[1].copy_disk()
        total = 11
        lives = set()
        for amount in (100, 1000):
            await cluster[1].start()
            await add(cluster[1].node, "x", amount)
            total += amount
            lives.add(incarnation(cluster[1]))
            await cluster.converged("x", total, 4)
            await cluster[1].kill()
            cluster[1].put_disk(copy)
        assert len(lives) == 2
        await cluster[1].start()
        await cluster.converged("x", total, 4)


@pytest.mark.parametrize("seed", range(3))
async def test_a_wiped_disk_refills_from_the_peers(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(3, seed=seed) as cluster:
        await add(cluster[1].node, "x", 1)
        await cluster.converged("x", 1)
        before = incarnation(cluster[1])
        await cluster[1].kill()
        cluster[1].wipe()
        await cluster[1].start()
        await add(cluster[1].node, "x", 10)
        assert incarnation(cluster[1]) != before
        await cluster.converged("x", 11, 3)
        assert cluster[1].node.config()["self"] == cluster[1].address


@pytest.mark.parametrize("away", [5.0, 75.0])
@pytest.mark.parametrize("seed", range(6))
async def test_a_wiped_node_never_answers_a_read_from_its_empty_disk(
    autojump_clock: MockClock, seed: int, away: float
) -> None:
    async with open_cluster(3, seed=seed) as cluster:
        await add(cluster[2].node, "x", 5)
        await cluster.converged("x", 5)
        await cluster[1].kill()
        cluster[1].wipe()
        cluster.network.silent.add(cluster[1].address)
        await trio.sleep(away + cluster.random.random())  # at any instant between two dials of the others
        await cluster[1].start()
        assert await cluster[1].node.consistent_value("x") == 5


@pytest.mark.parametrize("wiped", [True, False])
async def test_a_node_without_a_config_holds_reads_for_1500_ms(autojump_clock: MockClock, wiped: bool) -> None:
    """Also one that was killed and started again before anybody who knows it could reach its empty directory."""
    async with open_cluster(1, configured=False) as cluster:
        await cluster[1].kill()
        if wiped:
            cluster[1].wipe()
        node = await cluster[1].start()
        with pytest.raises(ReadUnavailable):
            await node.consistent_value("x", 0.5)
        assert await node.consistent_value("x") == 0
        assert 1.49 < trio.current_time() - node.started < 1.52
        started = trio.current_time()
        assert await node.consistent_value("x") == 0
        assert trio.current_time() == started


@pytest.mark.parametrize("seed", range(5))
async def test_both_of_two_processes_with_one_directory_mint_and_say_so(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(3, seed=seed) as cluster:
        await add(cluster[1].node, "x", 1)
        await cluster.converged("x", 1)
        before, node = incarnation(cluster[1]), cluster[1].node.replica.identity.node
        twin = cluster.add()
        twin.put_disk(cluster[1].copy_disk())
        twins = cluster[1], twin
        with structlog.testing.capture_logs() as logs:
            await twin.start()
            async with trio.open_nursery() as nursery:
                for host in twins:
                    for _ in range(5):
                        nursery.start_soon(add, host.node, "x", 10)
            await cluster.eventually(lambda: len({before, *map(incarnation, twins)}) == 3, 3 * SILENCE)
            await trio.sleep(3 * SILENCE)  # long after both have said so; nothing is counted twice meanwhile
        reasons = [line["reason"] for line in logs if line["event"] == "new incarnation"]
        assert len(reasons) >= 2  # the copy may first notice that others know more than it holds
        assert any("copy" in reason for reason in reasons)
        assert len({before, *map(incarnation, twins)}) == 3
        assert cluster[1].node.replica.identity.node != node or twin.node.replica.identity.node != node
        assert cluster[1].node.replica.identity.node != twin.node.replica.identity.node
        for host in cluster.hosts[:3]:
            assert host.node.value("x") == 51  # the copy, which no config names, brings nothing
        await cluster.configure()
        await cluster.converged("x", 101)


async def test_a_node_that_moved_to_another_address_keeps_its_counts(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        await add(cluster[1].node, "x", 1)
        await cluster.converged("x", 1)
        await cluster[1].kill()
        moved = cluster.add()
        moved.put_disk(cluster[1].copy_disk())
        await moved.start()
        await cluster.hosts[1].node.configure({"actors": cluster.addresses[1:]})
        cluster.hosts.remove(cluster[1])
        await cluster.eventually(lambda: moved.node.config()["self"] == moved.address)
        await add(moved.node, "x", 10)
        await cluster.converged("x", 11, 3)
        await all_equal(cluster)


@pytest.mark.parametrize("seed", range(4))
async def test_a_message_of_a_former_process_does_no_harm(autojump_clock: MockClock, seed: int) -> None:
    """What the paused peer has not read yet knows more than the copy that was restored meanwhile."""
    async with open_cluster(2, seed=seed) as cluster:
        one, two = cluster.hosts
        await add(one.node, "x", 1)
        await cluster.converged("x", 1)
        copy = one.copy_disk()
        sent: list[messages.Message] = []
        cluster.network.tap = lambda sender, receiver, data: sent.append(messages.decode(data))
        cluster.network.pause(two.address)
        await add(one.node, "x", 10)
        await cluster.eventually(lambda: any(isinstance(message, messages.Push) for message in sent))
        await one.kill()
        one.put_disk(copy)
        await one.start()
        await trio.sleep(DIALLED)
        cluster.network.resume(two.address)
        await add(one.node, "x", 100)
        await trio.sleep(3 * SILENCE)  # whatever was on its way has arrived, and done its harm
        assert one.node.value("x") == two.node.value("x")
        assert one.node.value("x") in (101, 111)
        await all_equal(cluster)


async def test_a_directory_from_before_the_first_config_begins_a_new_incarnation_when_a_hello_shows_a_loss(
    autojump_clock: MockClock,
) -> None:
    """The members' config comes with the same hello; until they are dialled, that one has to do."""
    async with open_cluster(1, configured=False) as cluster:
        await add(cluster[1].node, "x", 1)
        before = incarnation(cluster[1])
        await cluster[1].restart()
        async with call(cluster, cluster[1]) as caller:
            with suppress(LinkClosed):  # all links begin anew with the new incarnation
                await caller.ask(hello(digest={before: 5}))
            await add(cluster[1].node, "x", 2)
            assert retired(cluster[1]) == (before,)


async def test_a_new_incarnation_that_a_full_disk_prevented_is_tried_again(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        await add(one.node, "x", 1)
        before = incarnation(one)
        await two.kill()
        await one.restart()
        one.disk.capacity = 0
        for _ in range(2):
            with pytest.raises(DiskFull):
                await add(one.node, "x", 2)
        one.disk.capacity = 10**9
        await add(one.node, "x", 4)
        assert retired(one) == (before,)
        assert one.node.value("x") == 5


async def test_a_confirmation_counts_only_once_the_config_that_came_with_it_is_on_disk(
    autojump_clock: MockClock,
) -> None:
    """It names a third member, which may know more."""
    async with open_cluster(1) as cluster:
        one = cluster[1]
        impostor = await joined_by_impostor(cluster)
        await add(one.node, "x", 1)
        before, known = incarnation(one), one.node.replica.membership
        more = Membership().post([*known.actors, address_of(8)], known.version + 1)
        impostor.hello = hello(membership=more)
        await one.restart()
        one.disk.capacity = 0
        await trio.sleep(2 * DEFAULTS.confirm_within)
        one.disk.capacity = 10**9
        await add(one.node, "x", 2)
        assert retired(one) == (before,)


async def test_what_waits_for_the_disk_when_a_member_claims_more_counts_under_the_new_incarnation(
    autojump_clock: MockClock,
) -> None:
    """Under the old one it would be hidden by what the member has of it."""
    async with open_cluster(2) as cluster, trio.open_nursery() as nursery:
        one, two = cluster.hosts
        await add(one.node, "x", 1)
        before, guard = incarnation(one), one.node.parts.guard
        one.disk.latency = (0.1, 0.1)
        for amount in (2, 4):  # the first one is on its way to the disk when the second one comes
            nursery.start_soon(add, one.node, "x", amount)
            await trio.sleep(0.02)
        guard.heard(two.address, b"two".ljust(16), 2**62)
        await one.node.parts.minting.mint_if_due()
        assert one.node.replica.cells("x") == {before: 3, incarnation(one): 4}
