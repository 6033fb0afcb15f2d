"""What increments with ids are answered: by the commit that makes them durable, the first time and again."""

from __future__ import annotations

import errno

import trio.testing

from gcount.core.state.counters import Delta
from gcount.core.state.keyed import Keyed
from gcount.core.writes.increments import Add, Outcome, Peek, Raise, Together
from gcount.errors import DiskFull
from tests.core.ids import NOW, entry, raised, sent
from tests.fakes.process import run_simulated
from tests.storage.commit_store import ME, Store, replayed, running, sim_disk

P = b"p" * 16


def own(version: int) -> dict[bytes, int]:
    return {ME.incarnation: version}


def told(store: Store, *asked: Add | Raise | Peek | Together) -> list[Outcome]:
    """What a request is told, once it is."""
    found: list[Outcome] = []
    store.committer.stage(asked, found.append)
    return found


def test_a_retry_waits_for_the_commit_of_the_first_and_is_replayed() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            first, same_batch = told(store, sent(5)), told(store, sent(5))
            await trio.testing.wait_all_tasks_blocked()
            assert store.writer.pending.batch is not None
            in_flight = told(store, sent(5))
            assert first == same_batch == in_flight == []
            last = await store.run([sent(5)])
            assert first == [Outcome([5], own(1))]
            assert same_batch == in_flight == [last] == [Outcome([5], own(1), replayed=True)]
            assert len(store.commits) == 1

    run_simulated(scenario)


def test_what_only_an_other_batch_lost_to_a_full_disk_is_written_for_the_one_that_came_meanwhile() -> None:
    async def scenario() -> None:
        disk = sim_disk()
        async with running(disk) as store:
            await store.add("a", 1)
            disk.fail("write", 0, errno.ENOSPC)
            first = told(store, sent(5), Peek("a"))
            await trio.testing.wait_all_tasks_blocked()
            second = await store.run([sent(5)])
            [lost] = first
            assert isinstance(lost.values[0], DiskFull)
            assert (lost.values[1], lost.position, lost.replayed) == (1, {}, False)
            assert second == Outcome([6], own(2))
            assert (await store.run([sent(5)])).replayed
            assert store.replica.counters.total("a") == 6

    run_simulated(scenario)


def test_a_retry_of_what_a_peer_has_rests_on_the_peers_version() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            await store.committer.take([Delta(P, 0, 9, {}, Keyed(entry(5, 7)))]).wait()
            assert await store.run([sent(5)]) == Outcome([5], own(0) | {P: 7}, replayed=True)
            assert await store.run([sent(5), Add("a", 1)]) == Outcome([5, 6], own(1) | {P: 7}, replayed=True)
            assert await store.run([sent(5), sent(1, "y")]) == Outcome([6, 7], own(2) | {P: 7})
            assert await store.run([Add("a", 1), Peek("a")]) == Outcome([8, 8], own(3))

    run_simulated(scenario)


def test_the_same_id_of_a_peer_in_the_same_batch_is_counted_once_and_nothing_is_answered_beyond_it() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            store.committer.take([Delta(P, 0, 1, {"a": 100}, Keyed(entry(8)))])
            outcome = await store.run([Add("a", 1), raised(5), Add("a", 1), raised(9)])
            assert outcome.values == [109, 111, 111, 111]
            assert store.replica.counters.total("a") == 111
            assert len(store.commits) == 1

    run_simulated(scenario)


def test_plain_increments_beside_ids_are_answered_in_their_order() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            outcome = await store.run(
                [Add("a", 1), sent(10), Add("a", 1), Peek("a"), Together([sent(100, "y"), Add("a", 1)])]
            )
            assert outcome == Outcome([1, 11, 12, 12, 112, 113], own(1))

    run_simulated(scenario)


def test_after_a_restart_an_id_is_known_and_ids_are_in_use() -> None:
    async def scenario() -> None:
        disk = sim_disk()
        async with running(disk) as store:
            await store.run([sent(5), raised(7, "s")])
            commit = store.committer.promise(NOW - 50)
            assert commit is not None
            await commit.wait()
            assert store.committer.promise(NOW - 50) is None
        replica, log = await replayed(disk)
        log.close()
        assert (replica.counters.total("a"), replica.floor) == (12, NOW - 50)
        assert {key: found.total for key, found in replica.counters.entries.items()} == {
            f"{NOW}-x a": 5,
            f"{NOW}-s a": 7,
        }

    run_simulated(scenario)


def test_a_settlement_is_asked_for_and_where_there_is_none_nothing_is_written() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            await store.run([sent(5, time=NOW - 90)])
            promise = store.committer.promise(NOW - 31)
            assert promise is not None
            await promise.wait()
            await store.committer.settle_ids(lambda: None).wait()
            assert len(store.commits) == 2
            await store.committer.settle_ids(lambda: NOW - 31).wait()
            assert len(store.commits) == 3
            assert store.replica.counters.entries.live == 0
            assert store.replica.counters.parts("a") == {ME.incarnation: 5}
            assert (await store.run([Peek("a")])).values == [5]

    run_simulated(scenario)
