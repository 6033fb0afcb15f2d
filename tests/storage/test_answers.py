"""What increments are answered: the values in the order in which they were staged, whatever shares their commit."""

from __future__ import annotations

import errno

import pytest
import trio
import trio.testing

from gcount.core.counters import Delta
from gcount.errors import DiskFull, PartLimitReached, Refusal
from tests.storage.stores import Store, run_simulated, running, sim_disk

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
