"""A node whose disk rotted, repaired and back among peers who know more, less or nothing of what it lost."""

from collections.abc import Callable
from random import Random

import msgspec
import pytest
import structlog
import trio
from trio.testing import MockClock

from gcount.cluster import gap_closer
from gcount.cluster.gap_closer import QUIET
from gcount.core.format.frames import MARK
from gcount.core.format.log_records import HEADER_BYTES, encode_batch, find_batches
from gcount.core.options import Options
from gcount.core.state.batch import Batch
from gcount.core.state.replica import Replica
from gcount.storage.inspect.repair import repair
from gcount.storage.inspect.survey import survey
from gcount.storage.log import segment_name
from tests.cluster.books import all_equal
from tests.cluster.impostor import joined_by_impostor
from tests.fakes.cluster import Host, SimCluster, address_of, open_cluster, replayed
from tests.fakes.counting import add, add_one_to_each
from tests.fakes.disk import SimDisk

FIRST = segment_name(1)
REFILLED = 4.0  # seconds: others relay what they know of a node after one to two
FOR_GOOD = 15 * QUIET  # seconds after which a gap that is still open will not be closed


def replica(host: Host) -> Replica:
    return host.node.replica


def cell(host: Host, incarnation: bytes, name: str = "x") -> int:
    return replica(host).counters.cell(name, incarnation)


def rot(disk: SimDisk, chosen: Callable[[Batch], bool]) -> int:
    """Flip a byte in each batch that is chosen; returns how many were."""
    data = bytearray(disk.read(FIRST))
    at, hit = HEADER_BYTES, 0
    for batch in find_batches(bytes(data)):
        if chosen(batch):
            data[at + 20] ^= 1
            hit += 1
        at += len(encode_batch(batch))
    disk.poke(FIRST, bytes(data))
    return hit


def mend(disk: SimDisk, seed: int = 0) -> None:
    random = Random(f"ids {seed}")
    repair(disk, survey(disk), lambda: random.randbytes(16))
    assert survey(disk).corruptions == []


def counts(incarnation: bytes, name: str, *values: int) -> Callable[[Batch], bool]:
    """Whether a batch took a cell to one of these values."""

    def has(batch: Batch) -> bool:
        cells = [delta.cells.get(name) for delta in batch.deltas if delta.incarnation == incarnation]
        return any(value in values for value in cells)

    return has


async def count(host: Host, *amounts: int) -> None:
    for amount in amounts:
        await add(host.node, "x", amount)


async def part(cluster: SimCluster, host: Host, *others: Host) -> None:
    """Cut a machine from others, until nothing is on its way between them any more."""
    for other in others:
        cluster.network.cut(host.address, other.address)

    def parted() -> bool:
        ends = [(host, other) for other in others] + [(other, host) for other in others]
        return not any(peer.sender for one, other in ends for peer in one.node.peers if peer.address == other.address)

    await cluster.eventually(parted)


async def apart(cluster: SimCluster, host: Host, *amounts: int) -> None:
    """Count what nobody else gets to know."""
    await part(cluster, host, *(other for other in cluster.hosts if other is not host))
    await count(host, *amounts)


async def repaired(host: Host, chosen: Callable[[Batch], bool]) -> bytes:
    """Kill the node, let its disk rot, repair it; returns the incarnation that it had."""
    before = replica(host).identity.incarnation
    await host.kill()
    assert rot(host.disk, chosen)
    host.disk.random = Random(1)
    mend(host.disk)
    return before


async def test_what_the_peers_know_comes_back_and_nothing_has_to_be_closed(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        one = cluster[1]
        await count(one, 1, 2, 4, 8, 16)
        await cluster.converged("x", 31)
        before = await repaired(one, counts(replica(one).identity.incarnation, "x", 3, 7))
        await one.start()
        assert replica(one).identity.incarnation != before
        assert before in replica(one).identity.retired
        assert one.node.value("x") == 1
        assert replica(one).detached.cell("x", before) == 31
        await cluster.converged("x", 31, REFILLED)
        assert replica(one).counters.version(before) == 5
        assert not replica(one).detached
        await add(one.node, "x", 32)
        await cluster.converged("x", 63)
        await all_equal(cluster)


@pytest.mark.parametrize("seed", range(3))
async def test_a_gap_that_no_member_can_fill_is_closed_and_counts_everywhere_once(
    autojump_clock: MockClock, seed: int
) -> None:
    """Only what the rotten batch alone held is gone."""
    async with open_cluster(3, seed=seed) as cluster:
        one = cluster[1]
        await count(one, 1)
        await cluster.converged("x", 1)
        await apart(cluster, one, 2)
        await add(one.node, "y", 5)
        await add(one.node, "z", 7)
        await count(one, 4)
        before = await repaired(one, counts(replica(one).identity.incarnation, "y", 5))
        cluster.network.heal()
        with structlog.testing.capture_logs() as logs:
            await one.start()
            await cluster.converged("x", 7, QUIET + REFILLED)
        assert [line["version"] for line in logs if line["event"] == "gap closed"] == [6]
        await cluster.converged("z", 7)
        await cluster.converged("y", 0)
        assert not replica(one).detached
        assert [cell(host, before) for host in cluster.hosts] == [7, 7, 7]
        await all_equal(cluster)
        await one.restart()
        await cluster.converged("x", 7, REFILLED)
        await all_equal(cluster)


async def test_consistent_reads_count_detached_deltas_of_own_former_incarnations_at_once(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        one = cluster[1]
        await count(one, 1)
        await cluster.converged("x", 1)
        await apart(cluster, one, 2, 4)
        await repaired(one, counts(replica(one).identity.incarnation, "x", 3))
        cluster.network.heal()
        await one.start()
        assert [await host.node.consistent_value("x") for host in cluster.hosts] == [7, 7, 7]
        assert replica(one).detached
        assert one.node.value("x") == 1


async def test_consistent_reads_do_not_count_detached_deltas_of_other_nodes(autojump_clock: MockClock) -> None:
    """Its owner, back with an older disk, may go on from before that: nobody claims to know more."""
    async with open_cluster(3) as cluster:
        one, two = cluster[1], cluster[2]
        for total, amount in ((1, 1), (3, 2), (7, 4)):
            await count(two, amount)
            await cluster.converged("x", total)
        before = replica(two).identity.incarnation
        await repaired(one, counts(before, "x", 3))
        cluster.network.isolate(one.address)
        await one.start()
        assert replica(one).detached.cell("x", before) == 7
        assert replica(one).cells("x")[before] == 1


async def test_peers_that_have_a_part_of_the_gap_fill_it_before_the_rest_is_closed(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        await count(one, 1)
        await cluster.converged("x", 1)
        await part(cluster, three, one, two)
        await count(one, 2)
        await cluster.eventually(lambda: two.node.value("x") == 3)
        await apart(cluster, one, 4, 8, 16)
        before = await repaired(one, counts(replica(one).identity.incarnation, "x", 3, 7))
        cluster.network.heal()
        await one.start()
        await cluster.converged("x", 31, QUIET + REFILLED)
        assert [cell(host, before) for host in cluster.hosts] == [31] * 3
        await all_equal(cluster)


@pytest.mark.parametrize("trouble", ["stopped", "paused", "cut"])
async def test_a_gap_stays_open_while_a_member_is_away_that_may_fill_it(
    autojump_clock: MockClock, trouble: str
) -> None:
    """The others count on meanwhile; the gap is filled by the one who comes back, not papered over."""
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        await count(one, 1)
        await cluster.converged("x", 1)
        await part(cluster, two, one, three)
        await add(one.node, "y", 5)
        await cluster.eventually(lambda: three.node.value("y") == 5)
        await apart(cluster, one, 2)
        if trouble == "stopped":
            await three.kill()
        elif trouble == "paused":
            three.pause()
        before = await repaired(one, counts(replica(one).identity.incarnation, "y", 5))
        cluster.network.heal()
        if trouble == "cut":
            for other in (one, two):
                cluster.network.cut(other.address, three.address)
        await one.start()
        await add(one.node, "x", 4)
        await cluster.eventually(lambda: two.node.value("x") == 5, REFILLED)
        await trio.sleep(FOR_GOOD)
        assert (one.node.value("x"), one.node.value("y")) == (5, 0)
        assert replica(one).detached.cell("x", before) == 3
        three.resume()
        cluster.network.heal()
        if trouble == "stopped":
            await three.start()
        await cluster.converged("x", 7, QUIET + REFILLED)
        await cluster.converged("y", 5)
        assert replica(one).counters.version(before) == 3
        await all_equal(cluster)


@pytest.mark.parametrize("configured", [True, False])
async def test_a_lone_node_counts_what_is_behind_the_gap_as_soon_as_it_knows_that_it_is_alone(
    autojump_clock: MockClock, configured: bool
) -> None:
    """Without a config it can't know: a config that names others may be among what the rot has taken."""
    async with open_cluster(1, configured=configured) as cluster:
        one = cluster[1]
        await count(one, 1, 2, 4)
        await add(one.node, "y", 1)
        await repaired(one, counts(replica(one).identity.incarnation, "x", 3))
        await one.start()
        if not configured:
            await trio.sleep(FOR_GOOD)
            assert one.node.value("x") == 1
            assert await one.node.consistent_value("x") == 7
            await one.node.configure({"actors": [one.address]})
        await cluster.eventually(lambda: one.node.value("x") == 7, QUIET + 0.2)
        assert one.node.value("y") == 1
        await one.restart()
        assert (one.node.value("x"), one.node.value("y")) == (7, 1)
        assert not replica(one).detached


async def test_a_node_that_lost_its_config_closes_nothing_before_its_peers_have_found_it(
    autojump_clock: MockClock,
) -> None:
    """What it holds of others shows that there are some."""
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        await count(two, 100)
        await count(one, 1)
        await cluster.converged("x", 101)
        await add(one.node, "y", 5)
        await cluster.converged("y", 5)
        await apart(cluster, one, 2)
        await two.kill()
        mine = counts(replica(one).identity.incarnation, "y", 5)
        await repaired(one, lambda batch: batch.membership is not None or mine(batch))
        cluster.network.heal()
        await one.start()
        assert one.node.config()["actors"] == []
        await trio.sleep(FOR_GOOD)
        assert one.node.value("x") == 101
        await two.start()
        await cluster.converged("x", 103, QUIET + REFILLED)
        await cluster.converged("y", 5)
        await all_equal(cluster)


@pytest.mark.parametrize("kind", ["first half", "all"])
async def test_a_disk_that_lost_its_identity_is_refilled_under_another(autojump_clock: MockClock, kind: str) -> None:
    async with open_cluster(3) as cluster:
        one = cluster[1]
        await count(one, 1, 2, 4)
        await count(cluster[2], 8)
        await cluster.converged("x", 15)
        node = replica(one).identity.node
        await one.kill()
        data = one.disk.read(FIRST)
        one.disk.poke(FIRST, bytes(len(data) // 2) + data[len(data) // 2 :] if kind == "first half" else b"junk")
        mend(one.disk)
        await one.start()
        assert replica(one).identity.node != node
        await add(one.node, "x", 16)
        await cluster.converged("x", 31, REFILLED)
        await all_equal(cluster)


async def test_detached_deltas_of_another_node_are_given_back_and_never_claimed(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        for amount in (1, 2, 4):
            await count(two, amount)
            await cluster.eventually(lambda: one.node.value("x") == two.node.value("x"))
        theirs = replica(two).identity.incarnation
        await two.kill()
        await repaired(one, counts(theirs, "x", 3))
        await one.start()
        await trio.sleep(FOR_GOOD)
        assert (one.node.value("x"), replica(one).counters.version(theirs)) == (1, 1)
        assert replica(one).detached.cell("x", theirs) == 7
        await two.start()
        await cluster.converged("x", 7, REFILLED)
        assert not replica(one).detached
        await all_equal(cluster)


@pytest.mark.parametrize("disk_is", ["older", "empty"])
async def test_detached_deltas_of_a_node_that_has_forgotten_them_are_reported_and_given_back_to_it(
    autojump_clock: MockClock, disk_is: str
) -> None:
    """Nobody but a member whose log rotted knows of the commits; what is behind the gap is whole, and counts."""
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        await count(three, 1)
        await cluster.converged("x", 1)
        copy, life = three.copy_disk(), replica(three).identity.incarnation
        await part(cluster, one, two, three)
        for amount in (2, 4):
            await count(three, amount)
            await cluster.eventually(lambda: two.node.value("x") == three.node.value("x"))
        await three.kill()
        await repaired(two, counts(life, "x", 3))
        cluster.network.heal()
        if disk_is == "older":
            three.put_disk(copy)
        else:
            three.wipe()
        await two.start()
        assert replica(two).detached.cell("x", life) == 7
        await three.start()
        await count(three, 8)
        assert replica(three).identity.incarnation != life
        if disk_is == "older":
            await cluster.converged("x", 15, REFILLED + 3 * QUIET)
            assert not any(replica(host).detached for host in cluster.hosts)
            await all_equal(cluster)
        else:  # whose life it was nobody can tell who has lost all memory of it
            await cluster.converged("x", 9, REFILLED)


async def test_detached_deltas_are_given_back_though_their_owner_links_to_the_member_late(
    autojump_clock: MockClock,
) -> None:
    """It takes it only from members that it has met, and by then the member has offered it in vain many times."""
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        await count(three, 1)
        await cluster.converged("x", 1)
        copy, life = three.copy_disk(), replica(three).identity.incarnation
        await part(cluster, one, two, three)
        for amount in (2, 4):
            await count(three, amount)
            await cluster.eventually(lambda: two.node.value("x") == three.node.value("x"))
        await three.kill()
        await repaired(two, counts(life, "x", 3))
        cluster.network.heal()
        three.put_disk(copy)
        cluster.network.names.lead(two.address, address_of(8), observer=three.address)
        await two.start()
        await three.start()
        await count(three, 8)
        await trio.sleep(10)
        assert not replica(three).detached
        cluster.network.names.mend(two.address)
        await cluster.converged("x", 15, REFILLED + 3 * QUIET)
        await all_equal(cluster)


async def test_a_gap_stays_open_while_another_node_answers_for_the_member_that_can_fill_it(
    autojump_clock: MockClock,
) -> None:
    """All entries are linked, but to one node."""
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        life = replica(one).identity.incarnation
        await add(one.node, "x", 1)
        await cluster.converged("x", 1)
        await part(cluster, two, one, three)
        for name, amount in (("y", 2), ("x", 4)):
            await add(one.node, name, amount)
            await cluster.eventually(lambda: three.node.value(name) == one.node.value(name))  # noqa: B023
        await three.kill()
        await repaired(one, counts(life, "y", 2))
        cluster.network.heal()
        cluster.network.names.lead(three.address, two.address, breaks=True)
        await one.start()
        await cluster.eventually(lambda: cluster.linked(one), 4)
        await trio.sleep(FOR_GOOD)
        assert replica(one).counters.version(life) == 1
        cluster.network.names.mend(three.address, breaks=True)
        await three.start()
        await cluster.converged("y", 2, REFILLED)
        await cluster.converged("x", 5)
        await all_equal(cluster)


async def test_a_gap_stays_open_while_a_member_can_be_asked_but_can_give_nothing_back(
    autojump_clock: MockClock,
) -> None:
    """It keeps detached what the gap has lost, which it does not claim to know, and can't dial the node itself."""
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        life = replica(one).identity.incarnation
        for name, amount in (("a", 1), ("b", 2), ("y", 4)):
            await add(one.node, name, amount)
            await cluster.eventually(lambda: two.node.value(name) == one.node.value(name))  # noqa: B023
        await part(cluster, one, two)
        await add(one.node, "a", 8)
        await repaired(two, counts(life, "a", 1))
        await one.kill()
        assert rot(one.disk, counts(life, "a", 1)) == rot(one.disk, counts(life, "y", 4)) == 1
        mend(one.disk, 1)
        cluster.network.heal()
        cluster.network.names.lead(one.address, address_of(8), observer=two.address)
        await two.start()
        await one.start()
        assert (replica(one).detached.cell("a", life), replica(two).detached.cell("y", life)) == (9, 4)
        await cluster.eventually(lambda: cluster.linked(one), 4)
        await trio.sleep(FOR_GOOD)
        assert replica(one).counters.version(life) == 0
        cluster.network.names.mend(one.address)
        for name, value in (("a", 9), ("b", 2), ("y", 4)):
            await cluster.converged(name, value, REFILLED + 2 * QUIET)
        await all_equal(cluster)


@pytest.mark.parametrize("trouble", ["", "lost links", "full disk"])
async def test_a_gap_stays_open_until_a_member_has_given_back_all_its_detached_deltas(
    autojump_clock: MockClock, trouble: str
) -> None:
    """The owner keeps something detached that is newer, and the give-back takes much longer than the watch."""
    async with open_cluster(2, options=Options(push_bytes=200)) as cluster:
        one, two = cluster.hosts
        life = replica(one).identity.incarnation
        for name in ("a", "b"):
            await add(one.node, name, 1)
            await cluster.converged(name, 1)
        await add_one_to_each(one.node, [f"name-{number:03}" for number in range(400)])
        await cluster.converged("name-399", 1)
        await part(cluster, one, two)
        await add(one.node, "c", 1)
        await repaired(two, counts(life, "b", 1))
        await one.kill()
        lost = counts(life, "b", 1), counts(life, "name-000", 1)
        assert rot(one.disk, lambda batch: any(chosen(batch) for chosen in lost)) == 2
        mend(one.disk, 1)
        cluster.network.delay = (0.05, 0.05)
        cluster.network.heal()
        await two.start()
        await one.start()
        assert (replica(one).detached.reaches(life), replica(two).detached.reaches(life)) == (4, 3)
        if trouble == "full disk":
            one.disk.capacity = 0
        for _ in range(3):
            await trio.sleep(2 * QUIET)
            if trouble == "lost links":
                cluster.network.drop(one.address, two.address)
        one.disk.capacity = 10**9
        await cluster.converged("c", 1, FOR_GOOD)
        for name, value in (("a", 1), ("b", 0), ("name-000", 1), ("name-399", 1)):
            await cluster.converged(name, value)
        await all_equal(cluster)
        assert not any(replica(host).detached for host in cluster.hosts)


async def test_a_member_gives_back_detached_deltas_until_the_owners_present_process_has_acknowledged_them(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        life = replica(one).identity.incarnation
        await part(cluster, three, one, two)
        for name in ("a", "b", "c"):
            await add(one.node, name, 1)
            await cluster.eventually(lambda: two.node.value(name) == 1)  # noqa: B023
        await part(cluster, one, two)
        await add(one.node, "d", 1)
        await repaired(two, counts(life, "b", 1))
        await one.kill()
        assert rot(one.disk, lambda batch: any(counts(life, name, 1)(batch) for name in ("b", "c"))) == 2
        mend(one.disk, 1)
        await one.start()
        await two.start()
        told = one.node.parts.handshake.hello()
        assert two.node.peers.owes(told)
        cluster.network.heal(one.address, two.address)
        await cluster.eventually(lambda: replica(one).detached.cell("c", life) == 1, REFILLED)
        await trio.sleep(1)
        assert not two.node.peers.owes(told)
        assert two.node.peers.owes(msgspec.structs.replace(told, start_id=bytes(16)))
        assert two.node.peers.owes(msgspec.structs.replace(told, retired=[*told.retired, bytes(16)]))
        assert not two.node.peers.owes(msgspec.structs.replace(told, start_id=bytes(16), retired=[bytes(16)]))
        cluster.network.cut(one.address, two.address)
        await cluster.eventually(lambda: not any(peer.sender for peer in two.node.peers), REFILLED)
        assert two.node.peers.owes(told)


async def test_a_member_of_an_earlier_version_which_gives_nothing_back_keeps_no_gap_open(
    autojump_clock: MockClock,
) -> None:
    """It never dials, and says nothing of what it owes."""
    async with open_cluster(1) as cluster:
        one = cluster[1]
        await joined_by_impostor(cluster)
        await count(one, 1, 2, 4)
        await repaired(one, counts(replica(one).identity.incarnation, "x", 3))
        await one.start()
        await cluster.eventually(lambda: one.node.value("x") == 7, QUIET + REFILLED)


async def test_a_member_that_lost_its_disk_while_the_gap_was_watched_starts_the_watch_anew(
    autojump_clock: MockClock,
) -> None:
    """What it knew may have reached another member in its last moment, who then tells it."""
    async with open_cluster(3) as cluster:
        one, two, three = cluster.hosts
        await count(one, 1)
        await cluster.converged("x", 1)
        await apart(cluster, one, 2, 4)
        await repaired(one, counts(replica(one).identity.incarnation, "x", 3))
        cluster.network.heal()
        await one.start()
        await cluster.eventually(lambda: cluster.linked(one))
        for host in (two, three):
            await trio.sleep(0.75 * QUIET)  # the watch goes on, and is not over yet
            await host.kill()
            host.wipe()
            await host.start()
            assert one.node.value("x") == 1
            await cluster.eventually(lambda: cluster.linked(one))
        await cluster.converged("x", 7, QUIET + REFILLED)
        await all_equal(cluster)


async def test_a_gap_that_a_member_can_fill_stays_open_however_long_that_takes(autojump_clock: MockClock) -> None:
    relay_after = 10 * QUIET
    async with open_cluster(3, options=Options(relay_after=relay_after)) as cluster:
        one = cluster[1]
        await count(one, 1, 2, 4)
        await add(one.node, "y", 5)
        await cluster.converged("y", 5)
        await repaired(one, counts(replica(one).identity.incarnation, "x", 3))
        await one.start()
        await trio.sleep(0.75 * relay_after)  # not yet relayed, though for long it has been quiet
        assert (one.node.value("x"), one.node.value("y")) == (1, 0)
        await cluster.converged("y", 5, 3 * relay_after)
        await cluster.converged("x", 7)
        await all_equal(cluster)


async def test_only_what_was_asked_while_all_were_linked_counts_as_an_answer(autojump_clock: MockClock) -> None:
    """A heartbeat that was answered before may not tell what the member has learned since."""
    async with open_cluster(3) as cluster:
        one = cluster[1].node
        peer = one.peers.get(cluster[2].address)
        assert peer is not None
        watch = gap_closer._watch(one.replica, one.parts.members, one.peers)
        assert watch is not None
        sent = peer.heartbeats_sent
        assert await gap_closer._nothing_changed(one.parts.members, one.peers, watch)
        assert peer.heartbeats_sent > sent
        assert peer.heartbeats_answered > sent


async def test_repairs_of_the_same_node_again_and_again_lose_nothing_that_is_known(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        one, total = cluster[1], 0
        for round_ in range(3):
            await count(one, 1 << round_, 1 << 10 + round_, 1 << 20 + round_)
            total += (1 << round_) + (1 << 10 + round_) + (1 << 20 + round_)
            await cluster.converged("x", total, REFILLED)
            await one.kill()
            name = next(name for name in one.disk.names() if len(one.disk.read(name)) > 200)
            data = bytearray(one.disk.read(name))
            data[data.index(MARK) + 20] ^= 1
            one.disk.poke(name, bytes(data))
            if not survey(one.disk).corruptions:
                one.disk.poke(name, b"")
            mend(one.disk, seed=round_)
            await one.start()
            await cluster.converged("x", total, REFILLED + QUIET)
        await all_equal(cluster)
        assert (await replayed(one.disk)).counters == replica(cluster[2]).counters


async def test_a_full_disk_puts_the_closing_off(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        one = cluster[1]
        await count(one, 1, 2, 4)
        await repaired(one, counts(replica(one).identity.incarnation, "x", 3))
        await one.start()
        one.disk.capacity = 0
        await trio.sleep(3 * QUIET)  # with room it would be closed by now
        assert one.node.value("x") == 1
        one.disk.capacity = 10**9
        await cluster.eventually(lambda: one.node.value("x") == 7, 2 * QUIET + 0.5)
