"""What increments are answered: the values in the order in which they were staged, whatever shares their commit."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from gcount.core.state.counters import Delta
from gcount.errors import DiskFull, PartLimitReached, Refusal
from tests.fakes.disk import SimDisk
from tests.fakes.process import run_simulated
from tests.storage.commit_store import Store, replayed, running, sim_disk

BIG = 2**64 - 1


async def counted(store: Store, answers: list[int], name: str, amount: int) -> None:
    [value] = await store.committer.increment_many([(name, amount)])
    assert isinstance(value, int)
    answers.append(value)


def test_increments_that_share_a_commit_are_answered_with_the_values_in_their_order() -> None:
    async def scenario() -> None:
        answers: list[int] = []
        async with running(sim_disk()) as store:
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    for _ in range(10):
                        nursery.start_soon(counted, store, answers, "x", 2)
        assert sorted(answers) == list(range(2, 61, 2))

    run_simulated(scenario)


def test_what_peers_added_in_the_same_batch_counts_as_before() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            store.committer.take([Delta(b"p" * 16, 0, 1, {"x": 100})])
            assert await store.committer.increment_many([("x", 1), ("y", 5), ("x", 2), ("x", 0)]) == [101, 5, 103, 103]
            assert len(store.commits) == 1

    run_simulated(scenario)


def test_many_are_staged_in_order_and_what_is_refused_changes_nothing() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            amounts = [("x", BIG - 1), ("x", 0), ("x", 2), ("y", 0), ("x", 1)]
            answers: list[int | Refusal] = await store.committer.increment_many(amounts)
            assert isinstance(answers[2], PartLimitReached)
            assert [*answers[:2], *answers[3:]] == [BIG - 1, BIG - 1, 0, BIG]
            assert await store.committer.increment_many([("x", 0), ("y", 0)]) == [BIG, 0]
            assert len(store.commits) == 1

    run_simulated(scenario)


def test_a_read_does_not_see_what_is_staged_behind_it() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            answers: list[int] = []
            found: list[int | Refusal] = []

            async def read() -> None:
                found.extend(await store.committer.increment_many([("y", 1), ("x", 0)]))

            async with trio.open_nursery() as nursery:
                await store.add("x", 7)
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(counted, store, answers, "x", 1)
            assert found == [1, 7]
            assert answers == [8]

    run_simulated(scenario)


def test_a_full_disk_drops_them_all() -> None:
    async def scenario() -> None:
        disk = sim_disk()
        async with running(disk) as store:
            disk.fail("write", 0, errno.ENOSPC)
            with pytest.raises(DiskFull):
                await store.committer.increment_many([("x", 1), ("y", 1)])
            assert await store.committer.increment_many([("x", 1), ("y", 1)]) == [1, 1]

    run_simulated(scenario)


# Many at once, without waiting

Told = list[Sequence[int] | DiskFull]


def test_each_of_many_is_answered_with_the_value_after_it() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            told: Told = []
            await store.add("x", 10)
            store.committer.take([Delta(b"p" * 16, 0, 1, {"x": 100, "z": 1000})])
            assert store.committer.increment_each(["x", "y", "x"], 1, told.append)
            assert store.committer.increment_each(["x", "x"], 5, told.append)
            assert store.committer.increment_each(["z"], 7, told.append)
            assert told == []
            assert await store.committer.increment_many([("x", 2), ("y", 0)]) == [124, 1]
            assert told == [[111, 1, 112], range(117, 123, 5), range(1007, 1008, 7)]
            assert len(store.commits) == 2

    run_simulated(scenario)


def test_many_callers_of_many_share_one_order() -> None:
    async def scenario() -> None:
        disk, told = sim_disk(), list[int]()

        def tell(values: Sequence[int] | DiskFull) -> None:
            assert not isinstance(values, DiskFull)
            told.extend(values)

        async with running(disk) as store:
            for number in range(60):
                assert store.committer.increment_each(["x"] * (number % 3 + 1), 1, tell)
                await trio.sleep(disk.latency[1] / 20)  # a few of them share each batch
            await store.add("other")
            assert told == list(range(1, 121))
            assert 2 < len(store.commits) < 60

    run_simulated(scenario)


class EachTurn(trio.abc.Instrument):
    """Looks at a store between any two turns of its tasks."""

    def __init__(self, store: Store, told: list[SimDisk]) -> None:
        self.seen: set[tuple[int, int]] = set()
        self._store, self._told = store, told

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.seen.add((self._store.replica.counters.total("x"), len(self._told)))


def test_they_are_told_in_the_instant_in_which_it_is_visible_and_it_is_durable_then() -> None:
    async def scenario() -> None:
        disk, told = sim_disk(), list[SimDisk]()
        async with running(disk) as store:
            turns = EachTurn(store, told)
            trio.lowlevel.add_instrument(turns)
            assert store.committer.increment_each(["x", "x"], 1, lambda _: told.append(disk.copy()))
            await store.committer.hurry().wait()  # type: ignore[union-attr]
            trio.lowlevel.remove_instrument(turns)
            assert turns.seen == {(0, 0), (2, 1)}
        replica, log = await replayed(told[0])
        assert replica.counters.total("x") == 2
        log.close()

    run_simulated(scenario)


def test_a_full_disk_is_told_to_each_caller_and_nothing_is_counted() -> None:
    async def scenario() -> None:
        disk, told = sim_disk(), Told()
        async with running(disk) as store:
            disk.fail("write", 0, errno.ENOSPC)
            for names in (["x", "y"], ["x", "x"]):
                assert store.committer.increment_each(names, 1, told.append)
            with pytest.raises(DiskFull):
                await store.committer.increment_many([("x", 1)])
            assert [type(each) for each in told] == [DiskFull, DiskFull]
            assert store.committer.increment_each(["x", "y"], 1, told.append)
            await store.committer.increment_many([("x", 0)])
            assert told[2:] == [[1, 1]]

    run_simulated(scenario)


def test_near_a_limit_nobody_is_told_and_nothing_is_changed() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            told: Told = []
            await store.add("x", BIG - 1)
            assert not store.committer.increment_each(["y", "x", "x"], 1, told.append)
            assert not store.replica.anything_staged
            last: list[int | Refusal] = await store.committer.increment_many([("y", 1), ("x", 1), ("x", 1)])
            assert last[:2] == [1, BIG]
            assert isinstance(last[2], PartLimitReached)
            assert told == []

    run_simulated(scenario)


def test_each_acknowledged_increment_is_counted_once_and_neither_reads_nor_what_was_refused_are() -> None:
    async def scenario() -> None:
        disk = sim_disk()
        async with running(disk) as store:
            assert b"\ngcount_increments_total 0.0\n" in store.metrics.text()
            assert store.committer.increment_each(["x", "y", "x"], 1, lambda _: None)
            await store.committer.increment_many([("x", 2), ("y", 0), ("x", BIG), ("z", 1)])
            assert b"\ngcount_increments_total 5.0\n" in store.metrics.text()
            disk.fail("write", 0, errno.ENOSPC)
            store.committer.increment_each(["x", "y"], 1, lambda _: None)
            with pytest.raises(DiskFull):
                await store.committer.increment_many([("x", 1)])
            assert b"\ngcount_increments_total 5.0\n" in store.metrics.text()

    run_simulated(scenario)


def test_places_that_belong_together_are_taken_all_or_not_at_all() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            amounts = [("x", 1), ("y", 1), ("x", BIG), ("y", 0), ("x", 2), ("y", 3), ("x", BIG), ("z", 4), ("y", 0)]
            together = [range(1, 4), range(4, 6), range(7, 9)]
            answers: list[int | Refusal] = await store.committer.increment_many(amounts, together)
            assert all(isinstance(answer, PartLimitReached) for answer in [*answers[1:4], answers[6]])
            assert [answers[place] for place in (0, 4, 5, 7, 8)] == [1, 3, 3, 4, 3]
            assert len(store.commits) == 1
            assert store.metrics.text().count(b"gcount_increments_total 4.0") == 1

    run_simulated(scenario)
