"""Increments with ids become plain numbers again, when no member takes their ids any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog
import trio
from trio.testing import MockClock

from gcount.cluster.settling import Settling
from gcount.core.options import Options
from gcount.core.protocol.floors import BEHIND_THERE, DETACHED_OF_OTHERS
from gcount.core.writes.increments import Raise
from gcount.node.node import Node
from gcount.node.status import gauges, status
from tests.cluster.test_repair import counts, repaired
from tests.fakes.cluster import WALL_CLOCK, Host, SimCluster, open_cluster
from tests.fakes.counting import accepted, add

WINDOW = 12.0
SPAN = 2
PAUSE = WINDOW / 6
DUE = WINDOW * 1.25 + SPAN + 2 * PAUSE + 1  # seconds within which an id is promised, heard of and settled


@asynccontextmanager
async def counting_with_ids(size: int, *, configured: bool = True) -> AsyncIterator[SimCluster]:
    """A cluster with a retry window of 12 seconds, in which ids of 2 seconds are settled together."""
    async with open_cluster(0, configured=False, options=Options(id_span=SPAN)) as cluster:
        for _ in range(size):
            host = cluster.add()
            host.retry_window = WINDOW
            await host.start()
        if configured:
            await cluster.configure()
        yield cluster


def new_id(name: str = "a") -> str:
    """An id that is made now."""
    return f"{int(WALL_CLOCK + trio.current_time())}-{name}"


async def raised(node: Node, name: str, id_: str, total: int) -> int:
    """Raise what an id has added to a counter; returns the value after it."""
    return accepted((await node.count([Raise(name, id_, total)])).values[0])


async def configure(*hosts: Host) -> None:
    """Post a config to the first of these, whether or not the former members can be reached."""
    await hosts[0].node.configure({"actors": [host.address for host in hosts]})


def promised_by_all_others(host: Host) -> bool:
    """Whether a node has heard that all other members have promised something."""
    serving = host.node.statistics().serving
    return serving is not None and all(serving.ids.floors.values())


def live(host: Host) -> int:
    return host.node.replica.counters.entries.live


def all_settled(cluster: SimCluster, *hosts: Host) -> bool:
    return not any(live(host) for host in hosts or cluster.hosts)


def alike(cluster: SimCluster) -> bool:
    first = cluster[1].node.replica.counters
    return all(host.node.replica.counters == first for host in cluster.hosts)


def ids_of(host: Host) -> dict[str, object]:
    """What `/status` says of ids."""
    found = status(host.node)["ids"]
    assert isinstance(found, dict)
    return found


def promised_by_all(host: Host) -> bool:
    """Whether a node has heard that all members have promised something."""
    found = ids_of(host)
    floors = found["floors"]
    assert isinstance(floors, dict)
    return bool(found["floor"]) and all(floors.values())


def floor_of(host: Host) -> int | None:
    return host.node.replica.floor


def metric(host: Host, name: str) -> float:
    return next(value for each, _, _, value in gauges(host.node) if each == name)


async def test_an_id_that_several_nodes_took_is_settled_once(autojump_clock: MockClock) -> None:
    async with counting_with_ids(3) as cluster:
        id_ = new_id()
        for host, total in zip(cluster.hosts, (3, 7, 5), strict=True):  # at once: none has heard of another one
            cluster.nursery.start_soon(raised, host.node, "x", id_, total)
        await raised(cluster[1].node, "y", id_, 2)
        await add(cluster[2].node, "x", 100)
        await cluster.converged("x", 107)
        await cluster.eventually(lambda: all(live(host) == 2 for host in cluster.hosts))
        await cluster.eventually(lambda: all_settled(cluster), DUE)
        await cluster.converged("x", 107)
        await cluster.converged("y", 2)
        for host in cluster.hosts:
            counters = host.node.replica.counters
            assert (counters.keyed("x"), sum(counters.parts("x").values())) == (7, 7)
            assert not [*counters.entries.items()]
        assert alike(cluster)
        assert [metric(host, "gcount_settlements_total") for host in cluster.hosts] == [1, 0, 0]
        assert [metric(host, "gcount_ids_settled_total") for host in cluster.hosts] == [2, 2, 2]


async def test_a_cluster_without_new_ids_writes_nothing(autojump_clock: MockClock) -> None:
    async with counting_with_ids(2) as cluster:
        await raised(cluster[2].node, "x", new_id(), 1)
        await cluster.eventually(lambda: all(live(host) for host in cluster.hosts))
        await trio.sleep(WINDOW)
        written = [host.node.log.size for host in cluster.hosts]
        await trio.sleep(WINDOW / 4 - 1)
        assert [host.node.log.size for host in cluster.hosts] == written  # what there is may be sent again
        await cluster.eventually(lambda: all_settled(cluster), DUE)
        await trio.sleep(1)
        batches = [host.node.replica.next_batch for host in cluster.hosts]
        await trio.sleep(5 * WINDOW)
        assert [host.node.replica.next_batch for host in cluster.hosts] == batches


async def test_ids_of_many_buckets_are_settled_one_after_another(autojump_clock: MockClock) -> None:
    async with counting_with_ids(2) as cluster:
        for number in range(30):
            await raised(cluster[1 + number % 2].node, f"x{number % 3}", new_id(str(number)), number + 1)
            await trio.sleep(1)
        assert 0 < live(cluster[1]) < 30
        await cluster.eventually(lambda: all_settled(cluster), DUE)
        for number in range(3):
            await cluster.converged(f"x{number}", sum(range(number + 1, 31, 3)))
        assert alike(cluster)


async def test_a_node_alone_settles_by_its_own_promise(autojump_clock: MockClock) -> None:
    async with counting_with_ids(1, configured=False) as cluster:
        await raised(cluster[1].node, "x", new_id(), 4)
        await cluster.eventually(lambda: all_settled(cluster), DUE)
        assert cluster[1].node.value("x") == 4
        await cluster.configure(cluster[1])
        await raised(cluster[1].node, "x", new_id(), 4)
        await cluster.eventually(lambda: all_settled(cluster), DUE)
        await cluster.converged("x", 8)


async def test_nothing_is_settled_under_an_incarnation_that_may_not_be_continued(autojump_clock: MockClock) -> None:
    async with counting_with_ids(1) as cluster:
        node = cluster[1].node
        before = node.replica.identity.incarnation
        await raised(node, "x", new_id(), 4)
        node.parts.guard.claim.doubt("for a test")
        await trio.sleep(DUE + PAUSE)
        assert (live(cluster[1]), node.replica.version) == (1, 1)
        await add(node, "x", 1)
        assert node.replica.identity.incarnation != before
        await cluster.eventually(lambda: all_settled(cluster), PAUSE + 1)
        assert node.value("x") == 5
        assert node.replica.counters.parts("x") == {before: 4}


async def test_a_member_that_is_away_holds_settlement_back_until_it_returns(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with counting_with_ids(3) as cluster:
            id_ = new_id()
            await raised(cluster[1].node, "x", id_, 4)
            await cluster.eventually(lambda: all(live(host) for host in cluster.hosts))
            cluster.network.isolate(cluster[3].address)
            await raised(cluster[3].node, "x", id_, 9)
            await trio.sleep(3 * DUE)
            assert [live(host) for host in cluster.hosts] == [1, 1, 1]
            for host in cluster.hosts[:2]:
                found = ids_of(host)
                assert (found["live"], found["retry_window_seconds"]) == (1, WINDOW)
                assert found["held_back_by"] == cluster[3].address
                assert found["held_back_because"] == BEHIND_THERE
                assert WALL_CLOCK + WINDOW < found["held_back_since"] < WALL_CLOCK + DUE  # type: ignore[operator]
                assert metric(host, "gcount_settlement_held_back_seconds") > DUE
            assert ids_of(cluster[3])["held_back_by"] == cluster[1].address
            cluster.network.heal()
            await cluster.converged("x", 9, 10)
            await cluster.eventually(lambda: all_settled(cluster), 3 * PAUSE)
            await cluster.converged("x", 9)
            assert [ids_of(host)["held_back_by"] for host in cluster.hosts] == [None] * 3
            await trio.sleep(WINDOW)
    said = [(line["event"], line.get("member")) for line in logs if line["event"].startswith("settlement")]
    assert said.count(("settlement held back", cluster[3].address)) == 2
    assert said.count(("settlement held back", cluster[1].address)) == 1
    assert said.count(("settlement goes on", None)) == 3


async def test_a_member_that_is_taken_out_of_the_config_holds_nothing_back(autojump_clock: MockClock) -> None:
    async with counting_with_ids(3) as cluster:
        await raised(cluster[1].node, "x", new_id(), 4)
        await cluster.eventually(lambda: all(live(host) for host in cluster.hosts))
        await cluster[3].kill()
        await trio.sleep(DUE)
        assert live(cluster[1]) == 1
        await configure(cluster[1], cluster[2])
        await cluster.eventually(lambda: all_settled(cluster, cluster[1], cluster[2]), 3 * PAUSE)
        await cluster.converged("x", 4)
        await trio.sleep(PAUSE)
        await configure(*cluster.hosts)
        assert ids_of(cluster[1])["floors"] == {cluster[2].address: floor_of(cluster[2]), cluster[3].address: None}


async def test_detached_ids_of_a_node_that_has_forgotten_them_hold_settlement_back_and_the_node_says_so(
    autojump_clock: MockClock,
) -> None:
    """Nobody can fill the gap before them or close it. What ends it is what /status says: an empty directory."""
    async with counting_with_ids(2) as cluster:
        one, two = cluster.hosts
        for total in (1, 3):
            await add(two.node, "x", total - one.node.value("x"))
            await cluster.converged("x", total)
        await raised(two.node, "x", new_id(), 4)
        await cluster.converged("x", 7)
        lost = two.node.replica.identity.incarnation
        await two.kill()
        two.wipe()
        await repaired(one, counts(lost, "x", 3))
        await one.start()
        await two.start()
        await cluster.eventually(lambda: all(map(cluster.linked, cluster.hosts)))
        assert [*one.node.replica.detached.ids_from] == [lost]
        await raised(two.node, "y", new_id(), 1)
        await trio.sleep(2 * DUE)
        assert [live(host) for host in cluster.hosts] == [1, 1]
        for host, reason in ((one, DETACHED_OF_OTHERS.format(lost.hex())), (two, BEHIND_THERE)):
            found = ids_of(host)
            assert (found["held_back_by"], found["held_back_because"]) == (one.address, reason)
        await one.kill()
        one.wipe()
        await one.start()
        await cluster.eventually(lambda: all_settled(cluster), 3 * PAUSE)
        await cluster.converged("y", 1)


async def test_the_first_member_settles_and_the_others_wait_for_it(autojump_clock: MockClock) -> None:
    async with counting_with_ids(3) as cluster:
        await raised(cluster[1].node, "x", new_id(), 4)
        await cluster.eventually(lambda: all(live(host) for host in cluster.hosts))
        await cluster.eventually(lambda: all(promised_by_all(host) for host in cluster.hosts), DUE)
        await cluster[1].kill()
        await trio.sleep(2 * WINDOW)
        found = ids_of(cluster[2])
        assert (found["live"], found["held_back_by"]) == (1, cluster[1].address)
        assert found["held_back_because"] == "has not settled them yet, as the first member of the config"
        await configure(cluster[2], cluster[3])
        await cluster.eventually(lambda: all_settled(cluster, cluster[2], cluster[3]), 2 * PAUSE)
        await cluster.converged("x", 4)


async def test_what_a_removed_member_brings_later_counts_once(autojump_clock: MockClock) -> None:
    async with counting_with_ids(3) as cluster:
        id_ = new_id()
        cluster.network.isolate(cluster[3].address)
        await raised(cluster[3].node, "x", id_, 4)
        await configure(cluster[1], cluster[2])
        await raised(cluster[1].node, "x", new_id("b"), 10)
        await trio.sleep(DUE)
        assert all_settled(cluster, cluster[1], cluster[2])
        cluster.network.heal()
        await cluster.eventually(lambda: cluster[2].node.value("x") == cluster[1].node.value("x") == 14, 30)
        await cluster.eventually(lambda: all_settled(cluster, cluster[1], cluster[2]), DUE)
        await cluster.eventually(lambda: cluster[2].node.value("x") == cluster[1].node.value("x") == 14)


async def test_a_first_member_that_was_cut_off_and_removed_loses_no_ids(autojump_clock: MockClock) -> None:
    """Cut off, it settles what all had promised before, and goes on taking ids. Later the others settle beyond that."""
    async with counting_with_ids(3) as cluster:
        first, second, third = cluster.hosts
        await raised(first.node, "x", new_id(), 1)
        await cluster.eventually(lambda: all(map(live, cluster.hosts)))
        first.clock_skew = -2 * PAUSE  # its own promise comes later
        await cluster.eventually(lambda: promised_by_all_others(first), DUE)
        cluster.network.isolate(first.address)
        await raised(first.node, "x", new_id(), 10)
        await raised(second.node, "x", new_id("later"), 100)
        await cluster.eventually(lambda: bool(first.node.replica.counters.settlements), 4 * PAUSE)
        assert live(first) == 1
        await trio.sleep(2 * DUE)  # the others have promised also what is later
        await configure(second, third)
        await cluster.eventually(lambda: all_settled(cluster, second, third), DUE)
        assert second.node.value("x") == 101
        cluster.network.heal()
        await cluster.eventually(lambda: second.node.value("x") == third.node.value("x") == 111, 30)


async def test_what_a_member_told_is_good_although_it_is_away_then(autojump_clock: MockClock) -> None:
    """It has promised, and all that it had is here."""
    async with counting_with_ids(3) as cluster:
        await raised(cluster[3].node, "x", new_id(), 4)
        first = cluster[1].node
        wanted = cluster[3].address
        await cluster.eventually(lambda: all(live(host) for host in cluster.hosts))
        cluster[1].clock_skew = -2 * PAUSE  # its own promise comes later
        await cluster.eventually(lambda: bool(first.statistics().serving.ids.floors[wanted]), DUE)  # type: ignore[union-attr]
        assert live(cluster[1]) == 1
        await cluster[3].kill()
        await cluster.eventually(lambda: all_settled(cluster, cluster[1], cluster[2]), 4 * PAUSE)
        assert first.value("x") == 4


async def test_a_member_that_was_taken_out_and_came_back_on_the_same_link_is_heard(autojump_clock: MockClock) -> None:
    async with counting_with_ids(3) as cluster:
        cluster[1].clock_skew = -WINDOW / 2  # its own promise comes later
        await raised(cluster[3].node, "x", new_id(), 4)
        await cluster.eventually(lambda: all(live(host) for host in cluster.hosts))
        await cluster.eventually(lambda: bool(floor_of(cluster[3])), DUE)
        await configure(cluster[1], cluster[2])
        await trio.sleep(2 * PAUSE)  # the first member forgets what the third one told
        await configure(*cluster.hosts)
        await cluster.eventually(lambda: all_settled(cluster), DUE)
        await cluster.converged("x", 4)


async def test_a_member_with_another_retry_window_is_named_once(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with counting_with_ids(3) as cluster:
            await cluster[3].kill()
            cluster[3].retry_window = 2 * WINDOW
            await cluster[3].start()
            await cluster.eventually(lambda: all(map(cluster.linked, cluster.hosts)))
            cluster[1].node.peers.hang_up()
            await trio.sleep(3 * PAUSE)
            hosts = [host.address for host in cluster.hosts]
    said = [(line["member"], line["window"], line["here"]) for line in logs if line["event"] == "retry windows differ"]
    theirs = [(hosts[2], 2 * WINDOW, WINDOW)] * 2
    assert sorted(said) == sorted([*theirs, (hosts[0], WINDOW, 2 * WINDOW), (hosts[1], WINDOW, 2 * WINDOW)])


async def test_a_floor_is_kept_by_a_restart(autojump_clock: MockClock) -> None:
    async with counting_with_ids(3) as cluster:
        id_ = new_id()
        await raised(cluster[2].node, "x", id_, 4)
        await cluster.eventually(lambda: all(live(host) for host in cluster.hosts))
        await cluster[3].kill()
        await cluster.eventually(lambda: bool(cluster[2].node.replica.floor), DUE)
        floor = cluster[2].node.replica.floor
        assert floor is not None
        for number in (1, 2):
            await cluster[number].restart()
        await cluster.eventually(lambda: ids_of(cluster[1])["floors"] != {}, 5)
        assert (ids_of(cluster[2])["floor"], ids_of(cluster[1])["floor"]) == (floor, floor)
        await cluster.eventually(lambda: cluster.linked(cluster[1]) is False)
        await trio.sleep(2 * WINDOW)
        found = ids_of(cluster[1])
        assert found["floors"] == {cluster[2].address: floor, cluster[3].address: None}
        assert found["held_back_by"] == cluster[3].address
        assert found["held_back_because"] == "not heard since this node's start"
        await cluster[3].start()
        await cluster.eventually(lambda: all_settled(cluster), 4 * PAUSE)
        await cluster.converged("x", 4)


async def test_two_members_that_settle_at_once_do_no_harm(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two may that know different configs. What both of them add up counts once."""
    settlers: set[str] = set()
    monkeypatch.setattr(Settling, "_is_first", lambda self: bool(settlers & set(self._members.here)))
    async with counting_with_ids(3) as cluster:
        id_ = new_id()
        for host, total in zip(cluster.hosts, (3, 7, 5), strict=True):
            cluster.nursery.start_soon(raised, host.node, "x", id_, total)
        await cluster.converged("x", 7)
        await cluster.eventually(lambda: all(promised_by_all(host) for host in cluster.hosts), DUE)
        cluster.network.cut(cluster[1].address, cluster[2].address)
        cluster.network.cut(cluster[1].address, cluster[3].address)
        settlers |= {cluster[1].address, cluster[2].address}
        await cluster.eventually(lambda: all_settled(cluster), 2 * PAUSE)
        await raised(cluster[3].node, "x", new_id("b"), 1)
        cluster.network.heal()
        await cluster.converged("x", 8, 10)
        assert [metric(host, "gcount_settlements_total") for host in cluster.hosts] == [1, 1, 0]
        await cluster.eventually(lambda: all_settled(cluster), DUE)
        await cluster.converged("x", 8)
        await cluster.eventually(lambda: alike(cluster))


async def test_what_settled_ids_took_is_freed_step_by_step(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcount.cluster.settling.SWEEP", 3)
    async with counting_with_ids(2) as cluster:
        id_ = new_id()
        for number in range(10):
            await raised(cluster[1].node, f"x{number}", id_, 1)
        await cluster.eventually(lambda: live(cluster[2]) == 10)
        await cluster.eventually(lambda: all_settled(cluster), DUE)
        entries = [host.node.replica.counters.entries for host in cluster.hosts]
        await cluster.eventually(lambda: not any(each.sweep(0) for each in entries), PAUSE + 1)
        assert [host.node.replica.counters.changed("x7") for host in cluster.hosts] == [{}, {}]
