"""A config forwards itself, and decides whom reads and links include from then on."""

from random import Random

import pytest
import structlog
import trio
from trio.testing import MockClock

from gcount.cluster.config import ASK_WITHIN
from gcount.cluster.links.channel import SILENCE
from gcount.cluster.members import SELF_VALID
from gcount.core.protocol.replication import REFUSED_PAUSE
from gcount.core.state.membership import Membership
from gcount.errors import DiskFull, ReadUnavailable
from tests.cluster.impostor import linked
from tests.fakes.cluster import PORT, WALL_CLOCK, Host, SimCluster, address_of, open_alone, open_cluster
from tests.fakes.counting import add
from tests.fakes.disk import SimDisk


def agreed(*hosts: Host) -> bool:
    configs = [host.node.config() for host in hosts]
    return all(config["version"] == configs[0]["version"] for config in configs) and all(
        config["actors"] == configs[0]["actors"] for config in configs
    )


async def post(host: Host, *members: Host) -> None:
    await host.node.configure({"actors": [member.address for member in members]})


async def left_alone(cluster: SimCluster, host: Host) -> None:
    """Return when nobody dials a removed node any more."""
    others = [other for other in cluster.hosts if other is not host]
    await cluster.eventually(
        lambda: all(other.node.peers.get(host.address) is None for other in others), 2 * host.timeout
    )


@pytest.mark.parametrize("knows_itself", [True, False])
@pytest.mark.parametrize("size", [1, 2, 5])
async def test_a_config_posted_to_one_reaches_all_and_each_finds_itself(
    autojump_clock: MockClock, size: int, knows_itself: bool
) -> None:
    async with open_cluster(size, configured=False) as cluster:
        for host in cluster.hosts:
            host.knows_itself = knows_itself
            await host.restart()
        answer = await cluster[size].node.configure({"actors": cluster.addresses})
        assert answer["actors"] == cluster.addresses
        assert answer["self"] == cluster[size].address
        took = await cluster.eventually(
            lambda: agreed(*cluster.hosts) and all(host.node.config()["self"] == host.address for host in cluster.hosts)
        )
        assert took < 1


@pytest.mark.parametrize("seed", range(6))
async def test_conflicting_configs_converge_on_one(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(4, seed=seed, configured=False) as cluster:
        one, two, three, four = cluster.hosts
        lists = {one: (one, two, three), two: (one, two, four), four: (one, two, three, four)}
        async with trio.open_nursery() as nursery:
            for host, members in lists.items():
                nursery.start_soon(post, host, *members)
        await cluster.eventually(lambda: agreed(one, two), 3)
        await trio.sleep(2 * SILENCE)  # no config that is still on its way changes that
        assert agreed(one, two)
        assert one.node.config()["actors"] in [[host.address for host in members] for members in lists.values()]


async def test_the_newer_of_two_conflicting_configs_wins_after_a_partition(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        cluster.network.isolate(cluster[3].address)
        await post(cluster[3], *cluster.hosts[1:])
        cluster[1].clock_skew = 1.0  # the next one is newer by the clock
        await post(cluster[1], *cluster.hosts[:2])
        cluster.network.heal()
        await cluster.eventually(lambda: agreed(*cluster.hosts))
        assert cluster[3].node.config()["actors"] == cluster.addresses[:2]


async def test_the_same_list_again_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        before = cluster[1].node.config()
        for host in cluster.hosts:
            await post(host, *reversed(cluster.hosts), host)
            assert host.node.config()["version"] == before["version"]


async def test_a_config_survives_the_death_of_all(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        before = cluster[1].node.config()
        for host in cluster.hosts:
            await host.kill()
        for host in cluster.hosts:
            await host.start()
        assert cluster[1].node.config()["actors"] == before["actors"]
        await cluster.eventually(lambda: all(cluster.linked(host) for host in cluster.hosts))


async def test_an_added_node_gets_all_and_counts(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        await add(cluster[1].node, "x", 1)
        await add(cluster[2].node, "x", 2)
        await cluster.add().start()
        await cluster.configure()
        await add(cluster[3].node, "x", 4)
        await cluster.converged("x", 7, 3)


async def test_a_removed_nodes_increments_still_arrive(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        await post(one, one, two)
        await cluster.eventually(lambda: agreed(*cluster.hosts))
        assert three.node.config()["self"] is None
        await left_alone(cluster, three)
        await add(three.node, "x", 4)
        await cluster.converged("x", 4, 3)


async def test_reads_of_members_do_not_wait_for_a_node_that_is_in_no_entry(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        await post(three, one, two)
        await cluster.eventually(lambda: agreed(*cluster.hosts))
        await three.kill()
        assert await one.node.consistent_value("x", 1) == 0


async def test_a_node_removed_while_it_was_away_learns_of_it(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        await three.kill()
        await post(one, one, two)
        await left_alone(cluster, three)
        await three.start()
        await cluster.eventually(lambda: agreed(*cluster.hosts))
        await add(three.node, "x", 4)
        await cluster.converged("x", 4, 4)


async def test_a_node_that_was_removed_and_added_again_is_a_member(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        for alone in (False, True):  # the others still dial it, or have stopped
            await post(cluster[1], *cluster.hosts[:2])
            await cluster.eventually(lambda: agreed(*cluster.hosts))
            if alone:
                await left_alone(cluster, cluster[3])
            await cluster.configure()
            await add(cluster[3].node, "x", 1)
            assert await cluster[1].node.consistent_value("x", 1) == cluster[3].node.value("x")
        await cluster.converged("x", 2)


async def test_a_read_under_way_also_asks_members_it_learns_of(autojump_clock: MockClock) -> None:
    async with open_cluster(4, configured=False) as cluster:
        await cluster.configure(*cluster.hosts[:3])
        await add(cluster[4].node, "x", 4)
        cluster.network.cut(cluster[1].address, cluster[3].address)
        values: list[int] = []

        async def read() -> None:
            values.append(await cluster[1].node.consistent_value("x"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await cluster.eventually(lambda: not cluster.linked(cluster[1]))
            cluster.network.cut(cluster[1].address, cluster[4].address)
            await post(cluster[2], *cluster.hosts)
            await cluster.eventually(lambda: agreed(*cluster.hosts))
            cluster.network.heal(cluster[1].address, cluster[3].address)
            await cluster.eventually(lambda: linked(cluster[1], cluster[3].address))
            await trio.sleep(SILENCE)  # the third one's answer is not enough
            assert values == []
            cluster.network.heal()
        assert values == [4]


async def test_a_read_under_way_still_asks_a_member_that_is_removed_meanwhile(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        cluster.network.isolate(three.address)
        await add(three.node, "x", 4)

        async def read() -> None:
            with pytest.raises(ReadUnavailable):
                await one.node.consistent_value("x", 3)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(0.2)
            await post(two, one, two)
            await cluster.eventually(lambda: agreed(one, two))


PATIENCE = [2 + 0.37 * number for number in range(20)]  # seconds of each reader


class HotReads:
    """Readers that never rest, and the numbers of those whose reads were answered, or were not in time."""

    def __init__(self, cluster: SimCluster) -> None:
        self.answered: set[int] = set()
        self.gave_up: set[int] = set()
        self._node = cluster[1].node

    async def run(self, number: int) -> None:
        await trio.sleep(number * 0.1)  # so that they don't give up at once
        while True:
            try:
                await self._node.consistent_value("x", PATIENCE[number])
                self.answered.add(number)
            except ReadUnavailable:
                self.gave_up.add(number)
            await trio.sleep(0.01)  # a client's own pace

    def forget(self) -> None:
        self.answered.clear()
        self.gave_up.clear()


async def test_removing_a_dead_member_ends_the_trouble_of_a_counter_that_is_always_read(
    autojump_clock: MockClock,
) -> None:
    """There is never a moment without a read of it under way."""
    async with open_cluster(3) as cluster, trio.open_nursery() as nursery:
        reads = HotReads(cluster)
        for number in range(len(PATIENCE)):
            nursery.start_soon(reads.run, number)
        await cluster.eventually(lambda: len(reads.answered) == len(PATIENCE), 3)
        await cluster[3].kill()
        await cluster.eventually(lambda: len(reads.gave_up) == 3, 3)  # and wait anew; the others still wait
        await post(cluster[1], *cluster.hosts[:2])
        reads.forget()
        within = max(PATIENCE) + 1
        await cluster.eventually(lambda: len(reads.answered | reads.gave_up) == len(PATIENCE), within)
        reads.forget()  # no read of before is left
        await cluster.eventually(lambda: bool(reads.answered), 1)
        nursery.cancel_scope.cancel()


async def test_a_read_never_leaves_out_a_member_that_could_not_be_written_down(autojump_clock: MockClock) -> None:
    """The node was told of the fourth member, but its disk is full."""
    async with open_cluster(4, configured=False) as cluster:
        one, two, three, four = cluster.hosts
        await cluster.configure(one, two, three)
        one.disk.capacity = 0
        with pytest.raises(DiskFull):
            await add(one.node, "x", 1)
        await post(two, *cluster.hosts)
        await cluster.eventually(lambda: agreed(two, three, four), 3)
        await cluster.eventually(lambda: four.address in one.node.parts.members.readable[-1], 3 * REFUSED_PAUSE)
        cluster.network.isolate(four.address)
        await add(four.node, "x", 5)
        for _ in range(3):
            with pytest.raises(ReadUnavailable):
                await one.node.consistent_value("x", 1)


async def test_a_config_that_came_while_the_disk_was_full_is_in_force_when_there_is_space(
    autojump_clock: MockClock,
) -> None:
    """It is told once on each link."""
    async with open_cluster(3, configured=False) as cluster:
        one, two, three = cluster.hosts
        await cluster.configure(one, two)
        one.disk.capacity = 0
        await post(two, *cluster.hosts)
        await cluster.eventually(lambda: agreed(two, three), 3)
        await trio.sleep(REFUSED_PAUSE)
        assert three.address not in one.node.replica.membership.actors
        one.disk.capacity = 10**9
        await cluster.eventually(lambda: agreed(*cluster.hosts), 3)


async def test_a_config_that_lost_at_a_removed_node_gives_way(autojump_clock: MockClock) -> None:
    """Nobody dials the removed node any more, so it has to learn of the better config on the links that it dials."""
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        await post(two, two, three)
        await cluster.eventually(lambda: agreed(one, two, three), 3)
        await left_alone(cluster, one)
        one.clock_skew = -1000.0
        await three.node.configure({"actors": [two.address, three.address, "10.0.0.9:7777"]})
        await cluster.eventually(lambda: agreed(two, three), 1)
        cluster.network.isolate(one.address)  # so that it can't ask first
        await one.node.configure({"actors": [one.address, two.address]})
        cluster.network.heal()
        await cluster.eventually(lambda: agreed(one, two, three), 3)
        assert "10.0.0.9:7777" in one.node.replica.membership.actors


async def test_a_later_config_wins_over_an_older_one_of_a_node_with_a_clock_that_is_ahead(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3, configured=False) as cluster:
        one, two, three = cluster.hosts
        three.clock_skew = 30.0
        await post(three, three)
        await post(one, one, two, three)
        await cluster.eventually(lambda: agreed(one, two, three), 3)
        await trio.sleep(2)
        assert len(three.node.replica.membership.actors) == 3


async def test_the_same_list_posted_again_wins_over_another_one_that_only_a_member_of_it_knows(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        cluster.network.isolate(three.address)
        three.clock_skew = 30.0
        await post(three, three)
        cluster.network.heal()
        await post(one, one, two, three)
        await cluster.eventually(lambda: agreed(one, two, three), 3)
        assert len(three.node.replica.membership.actors) == 3


async def test_a_config_does_not_wait_long_for_members_that_are_down(autojump_clock: MockClock) -> None:
    async with open_cluster(2, configured=False) as cluster:
        cluster.network.silent.add(address_of(9))
        started = trio.current_time()
        answer = await cluster[1].node.configure({"actors": [cluster[1].address, cluster[2].address, address_of(9)]})
        assert trio.current_time() - started < ASK_WITHIN + 0.1
        assert answer["self"] == cluster[1].address


@pytest.mark.parametrize("moves", [True, False])
async def test_a_node_says_that_an_entry_is_not_its_own_any_more_if_that_is_so_and_not_because_it_was_paused(
    autojump_clock: MockClock, *, moves: bool
) -> None:
    async with open_cluster(2) as cluster:
        one = cluster[1]
        await trio.sleep(2 * SELF_VALID)
        with structlog.testing.capture_logs() as logs:
            one.pause()
            await trio.sleep(2 * SELF_VALID)
            if moves:
                cluster.network.names.lead(one.address, address_of(9))
            one.resume()
            await trio.sleep(SILENCE)
        said = [line["event"] for line in logs if "entry" in line or line["event"] == "this node is not in the config"]
        assert said == (["entry is no longer this node", "this node is not in the config"] if moves else [])


async def test_a_posted_config_is_in_force_though_the_one_that_beat_it_was_lost_with_a_full_disk(
    autojump_clock: MockClock,
) -> None:
    """A newer config is on its way to the disk when another one is posted, and never gets there."""
    disk = SimDisk(Random(0))
    async with open_alone(disk) as node:
        await node.wait_ready()
        disk.latency = (1.0, 1.0)
        newer = Membership(int(WALL_CLOCK * 1000) + 1, ("10.0.0.9:7777",))
        lost = node.parts.context.committer.adopt(newer)
        await trio.sleep(0.1)
        disk.capacity = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.configure, {"actors": ["127.0.0.1"]})
            with pytest.raises(DiskFull):
                await lost.wait()
            disk.capacity = 10**9
        assert node.replica.membership.actors == (f"127.0.0.1:{PORT}",)
