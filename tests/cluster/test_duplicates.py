"""A copy of a member's directory outside the config is refused, with its counts and its config."""

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from gcount.core.options import Options
from gcount.errors import IncarnationLimitReached, ReadUnavailable
from tests.cluster.test_identity import incarnation, retired
from tests.fakes.cluster import Host, SimCluster, address_of, open_cluster
from tests.fakes.counting import add


async def staging_copy(cluster: SimCluster, original: Host) -> Host:
    """A node that runs with a copy of a member's directory at an address outside the config."""
    copy = cluster.add()
    copy.put_disk(original.copy_disk())
    await copy.start()
    return copy


def reasons(host: Host) -> set[str]:
    """Why it has no links."""
    return {peer.reason for peer in host.node.peers if peer.address != host.address}


async def refused_by_all(cluster: SimCluster, copy: Host) -> None:
    def refused() -> bool:
        why = reasons(copy)
        return bool(why) and all("copy of the data directory of the member at" in reason for reason in why)

    await cluster.eventually(refused, 5)


@pytest.mark.parametrize("seed", range(3))
async def test_a_copy_of_a_member_that_is_up_counts_nothing_into_the_cluster(
    autojump_clock: MockClock, seed: int
) -> None:
    async with open_cluster(3, seed=seed) as cluster:
        original = cluster[1]
        await add(original.node, "x", 1)
        await cluster.converged("x", 1)
        await original.restart()  # so that its start does not vouch for its incarnation
        await cluster.configure(*cluster.hosts)
        copy = await staging_copy(cluster, original)
        await add(copy.node, "x", 5000)
        await add(copy.node, "y", 5000)
        await refused_by_all(cluster, copy)
        await add(copy.node, "x", 5000)
        await trio.sleep(5)
        await add(original.node, "x", 10)
        for host in cluster.hosts[:3]:
            await cluster.eventually(lambda host=host: host.node.value("x") == 11)  # type: ignore[misc]
            assert await host.node.consistent_value("x") == 11
            assert await host.node.consistent_value("y") == 0
        assert copy.node.value("x") == 10_001
        with pytest.raises(ReadUnavailable):
            await copy.node.consistent_value("x", 1)


async def test_the_original_and_its_copy_both_begin_new_incarnations_once(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        before = incarnation(cluster[1])
        copy = await staging_copy(cluster, cluster[1])
        await refused_by_all(cluster, copy)
        await trio.sleep(150)
        for host in (cluster[1], copy):
            assert retired(host) == (before,)


async def ids_apart(cluster: SimCluster, *hosts: Host) -> None:
    """Return when each node has an id of its own, and all are linked."""
    nodes = {host.node.replica.identity.node for host in hosts}
    assert len(nodes) == 1
    await cluster.configure(*cluster.hosts)
    await cluster.eventually(lambda: all(len(set(host.node.peers.nodes().values())) == 4 for host in cluster.hosts), 5)


async def test_two_nodes_of_one_id_with_fresh_incarnations_are_distinguished_at_once(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        original = cluster[1]
        copy = cluster.add()
        copy.put_disk(original.copy_disk())
        for host in cluster.hosts[:3]:
            cluster.network.cut(copy.address, host.address)
        await copy.start()
        for host, amount in (copy, 1), (original, 2):
            host.node.parts.guard.heard(cluster[2].address, b"two".ljust(16), 2**62)
            await add(host.node, "x", amount)
        before = [retired(host) for host in (copy, original)]
        cluster.network.heal()
        await ids_apart(cluster, copy, original)
        await cluster.converged("x", 3, 5)
        assert await cluster[3].node.consistent_value("x") == 3
        assert [retired(host) for host in (copy, original)] == before  # they counted apart already


async def test_two_nodes_of_one_id_are_distinguished_also_if_no_new_incarnation_can_begin(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3, options=Options(reborn_below=1)) as cluster:
        original = cluster[1]
        await add(original.node, "x", 1)
        await cluster.converged("x", 1)
        copy = cluster.add()
        copy.put_disk(original.copy_disk())
        for host in cluster.hosts[:3]:
            cluster.network.cut(copy.address, host.address)
        await copy.start()
        cluster.network.heal()
        await ids_apart(cluster, copy, original)
        for host in cluster.hosts:
            assert await host.node.consistent_value("x") == 1
        for host in (copy, original):
            with pytest.raises(IncarnationLimitReached):
                await add(host.node, "x", 1)
            assert retired(host) == ()


async def test_a_copy_that_becomes_a_member_brings_what_it_counted(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        await add(cluster[1].node, "x", 1)
        await cluster.converged("x", 1)
        copy = await staging_copy(cluster, cluster[1])
        await refused_by_all(cluster, copy)
        await add(copy.node, "x", 100)
        await cluster.configure(*cluster.hosts)
        await cluster.converged("x", 101, 5)


@pytest.mark.parametrize("told_apart", [True, False])
async def test_a_duplicate_that_gets_a_config_of_its_own_takes_no_member_with_it(
    autojump_clock: MockClock, *, told_apart: bool
) -> None:
    async with open_cluster(3) as cluster:
        original, *members = cluster.hosts
        await add(original.node, "x", 1)
        await cluster.converged("x", 1)
        copy = cluster.add()
        copy.put_disk(original.copy_disk())
        if not told_apart:  # then the original lets it in, to tell it
            for host in (original, *members):
                cluster.network.cut(copy.address, host.address)
        await copy.start()
        if told_apart:
            await refused_by_all(cluster, copy)
        await add(copy.node, "x", 5000)
        await copy.node.configure({"actors": [copy.address]})
        cluster.network.heal()
        await trio.sleep(8)
        assert copy.node.config()["actors"] == [copy.address]
        assert await copy.node.consistent_value("x") == 5001
        for host in (original, *members):
            assert len(host.node.config()["actors"]) == 3  # type: ignore[arg-type]
            assert host.node.value("x") == await host.node.consistent_value("x") == 1


@pytest.mark.parametrize("beside", [True, False])
async def test_a_copy_becomes_a_member_by_a_config_posted_to_it_alone_only_beside_its_original(
    autojump_clock: MockClock, *, beside: bool
) -> None:
    async with open_cluster(3) as cluster:
        await add(cluster[1].node, "x", 1)
        await cluster.converged("x", 1)
        copy = await staging_copy(cluster, cluster[1])
        await refused_by_all(cluster, copy)
        await add(copy.node, "x", 100)
        before = cluster[2].node.config()
        await copy.node.configure({"actors": cluster.addresses[0 if beside else 1 :]})
        if beside:
            await cluster.converged("x", 101, 5)
        else:
            await trio.sleep(3)
            assert [host.node.value("x") for host in cluster.hosts] == [1, 1, 1, 101]
            assert cluster[2].node.config() == before


async def agreed(cluster: SimCluster, value: int) -> None:
    """Return when the three members have that value."""
    await cluster.eventually(lambda: all(host.node.value("x") == value for host in cluster.hosts[:3]))
    for host in cluster.hosts[:3]:
        assert await host.node.consistent_value("x") == value


async def heard_by(cluster: SimCluster, host: Host, original: Host) -> None:
    """Return when a node has a link to the original."""
    await cluster.eventually(lambda: any(p.address == original.address and p.sender for p in host.node.peers), 5)


@pytest.mark.parametrize("met", [True, False])
async def test_a_copy_that_was_let_in_while_the_original_was_cut_off_is_refused_once_that_one_is_back(
    autojump_clock: MockClock, *, met: bool
) -> None:
    async with open_cluster(3) as cluster:
        original, two, _ = cluster.hosts
        await add(original.node, "x", 1)
        await cluster.converged("x", 1)
        copy = await staging_copy(cluster, original)
        await refused_by_all(cluster, copy)
        cluster.network.cut(original.address, two.address)
        if not met:
            await two.restart()
        linked = [peer for peer in copy.node.peers if peer.address == two.address]
        await cluster.eventually(lambda: linked[0].sender is not None, 10)
        await add(copy.node, "x", 10)
        await cluster.eventually(lambda: two.node.value("x") == 11)
        cluster.network.heal()
        await heard_by(cluster, two, original)
        await add(copy.node, "x", 5000)
        await refused_by_all(cluster, copy)
        await agreed(cluster, 11)


async def test_a_member_with_the_past_of_another_one_is_accepted_though_it_does_not_know_its_own_entry(
    autojump_clock: MockClock,
) -> None:
    """As behind an address translation that does not lead a node's own dial back to it."""
    async with open_cluster(2) as cluster:
        original = cluster[1]
        await add(original.node, "x", 1)
        await cluster.converged("x", 1)
        member = cluster.add()
        member.put_disk(original.copy_disk())
        member.knows_itself = False
        cluster.network.names.lead(member.address, address_of(99), observer=member.address)
        await member.start()
        await original.node.configure({"actors": cluster.addresses})
        await cluster.eventually(lambda: all(p.sender for p in member.node.peers if p.address != member.address), 5)
        await add(member.node, "x", 100)
        await cluster.eventually(lambda: all(host.node.value("x") == 101 for host in cluster.hosts))


async def test_a_config_that_names_a_copy_wins_over_the_newer_one_by_which_it_stood_alone(
    autojump_clock: MockClock,
) -> None:
    """It is posted to the original, which the copy takes for a copy by then."""
    async with open_cluster(3) as cluster:
        original = cluster[1]
        await add(original.node, "x", 1)
        await cluster.converged("x", 1)
        copy = await staging_copy(cluster, original)
        await refused_by_all(cluster, copy)
        await add(copy.node, "x", 100)
        copy.clock_skew = 3600
        await copy.node.configure({"actors": [copy.address]})
        await trio.sleep(copy.timeout + 1)  # it dials the former members no more
        await cluster.configure(*cluster.hosts)
        await cluster.converged("x", 101)


async def test_a_member_that_is_started_at_another_address_is_no_copy(autojump_clock: MockClock) -> None:
    """Nobody answers at its old one."""
    async with open_cluster(3) as cluster:
        await add(cluster[3].node, "x", 1)
        await cluster.converged("x", 1)
        await cluster[3].kill()
        moved = cluster.add()
        moved.put_disk(cluster[3].disk.copy())
        await moved.start()
        await add(moved.node, "x", 10)
        await cluster.eventually(lambda: cluster[1].node.value("x") == cluster[2].node.value("x") == 11, 3)


async def test_a_restart_beside_its_own_dead_connections_is_no_copy(autojump_clock: MockClock) -> None:
    """As after a loss of power: the others take their links to the former life for alive for up to a second."""
    async with open_cluster(3) as cluster:
        await add(cluster[3].node, "x", 1)
        await cluster.converged("x", 1)
        before = incarnation(cluster[3])
        cluster.network.isolate(cluster[3].address)
        await cluster[3].kill(lose=False)
        cluster.network.heal()
        await cluster[3].start()
        await cluster.converged("x", 1)
        await add(cluster[3].node, "x", 1)
        await cluster.converged("x", 2)
        assert incarnation(cluster[3]) == before
