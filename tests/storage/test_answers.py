"""What increments are answered: the values in the order in which they were staged, whatever shares their commit."""

from __future__ import annotations

import errno

import trio
import trio.testing

from gcount.core.state.counters import Delta
from gcount.core.writes.increments import Add, Asked, Outcome, Peek, Repeat, Together
from gcount.errors import DiskFull, PartLimitReached, Refusal
from tests.fakes.counting import accepted
from tests.fakes.disk import SimDisk
from tests.fakes.process import run_simulated
from tests.storage.commit_store import ME, Store, replayed, running, sim_disk

BIG = 2**64 - 1


async def counted(store: Store, answers: list[int], name: str, amount: int) -> None:
    answers += map(accepted, (await store.run([Add(name, amount)])).values)


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
            outcome = await store.run([Add("x", 1), Add("y", 5), Add("x", 2), Peek("x"), Peek("z")])
            assert outcome == Outcome([101, 5, 103, 103, 0], {ME.incarnation: 1})
            assert len(store.commits) == 1

    run_simulated(scenario)


def test_many_are_staged_in_order_and_what_is_refused_changes_nothing() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            outcome = await store.run([Add("x", BIG - 1), Peek("x"), Add("x", 2), Peek("y"), Add("x", 0), Add("x", 1)])
            assert isinstance(outcome.values[2], PartLimitReached)
            assert [*outcome.values[:2], *outcome.values[3:]] == [BIG - 1, BIG - 1, 0, BIG - 1, BIG]
            assert outcome.refused
            assert (await store.run([Peek("x"), Add("y", 0)])).values == [BIG, 0]
            assert len(store.commits) == 1

    run_simulated(scenario)


def test_a_read_does_not_see_what_is_staged_behind_it() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            answers: list[int] = []
            found: list[int | Refusal] = []

            async def read() -> None:
                found.extend((await store.run([Add("y", 1), Peek("x")])).values)

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
            await store.add("y", 7)
            disk.fail("write", 0, errno.ENOSPC)
            asked: Asked = [
                Add("x", 1),
                Peek("y"),
                Add("y", 1),
                Add("y", 0),
                Together([Add("x", 1), Peek("y")]),
                Peek("x"),
            ]
            refused = await store.run(asked)
            full = [isinstance(value, DiskFull) or value for value in refused.values]
            assert full == [True, 7, True, 7, True, True, 0]
            assert (refused.position, refused.refused, refused.numbers) == ({}, True, None)
            assert (await store.run([Add("x", 1), Add("y", 1)])).values == [1, 8]

    run_simulated(scenario)


# Many at once, without waiting

Told = list[Outcome]


def test_each_of_many_is_answered_with_the_value_after_it() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            told: Told = []
            await store.add("x", 10)
            store.committer.take([Delta(b"p" * 16, 0, 1, {"x": 100, "z": 1000})])
            store.committer.stage(Repeat(["x", "y", "x"], 1), told.append)
            store.committer.stage(Repeat(["x", "x"], 5), told.append)
            store.committer.stage(Repeat(["z"], 7), told.append)
            assert told == []
            assert (await store.run([Add("x", 2), Peek("y")])).values == [124, 1]
            assert [outcome.numbers for outcome in told] == [[111, 1, 112], range(117, 123, 5), range(1007, 1008, 7)]
            assert [outcome.position for outcome in told] == [{ME.incarnation: 2}] * 3
            assert len(store.commits) == 2

    run_simulated(scenario)


def test_many_callers_of_many_share_one_order() -> None:
    async def scenario() -> None:
        disk, told = sim_disk(), list[int]()

        def tell(outcome: Outcome) -> None:
            assert outcome.numbers is not None
            told.extend(outcome.numbers)

        async with running(disk) as store:
            for number in range(60):
                store.committer.stage(Repeat(["x"] * (number % 3 + 1), 1), tell)
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


def test_answers_are_given_in_the_instant_in_which_the_increment_is_visible_and_durable() -> None:
    async def scenario() -> None:
        disk, told = sim_disk(), list[SimDisk]()
        async with running(disk) as store:
            turns = EachTurn(store, told)
            trio.lowlevel.add_instrument(turns)
            store.committer.stage(Repeat(["x", "x"], 1), lambda _: told.append(disk.copy()))
            await store.committer.flush().wait()  # type: ignore[union-attr]
            trio.lowlevel.remove_instrument(turns)
            assert turns.seen == {(0, 0), (2, 1)}
        replica, log = await replayed(told[0])
        assert replica.counters.total("x") == 2
        log.close()

    run_simulated(scenario)


def test_a_full_disk_refuses_each_caller_and_nothing_is_counted() -> None:
    async def scenario() -> None:
        disk, told = sim_disk(), Told()
        async with running(disk) as store:
            disk.fail("write", 0, errno.ENOSPC)
            for names in (["x", "y"], ["x", "x"]):
                store.committer.stage(Repeat(names, 1), told.append)
            assert (await store.run([Add("x", 1)])).refused
            assert [[type(value) for value in outcome.values] for outcome in told] == [[DiskFull] * 2] * 2
            store.committer.stage(Repeat(["x", "y"], 1), told.append)
            await store.run([Peek("x")])
            assert told[2:] == [Outcome([1, 1], {ME.incarnation: 1})]

    run_simulated(scenario)


def test_near_a_limit_each_of_many_is_taken_or_refused_as_if_it_came_alone() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            told: Told = []
            await store.add("x", BIG - 1)
            store.committer.stage(Repeat(["y", "x", "x", "y"], 1), told.append)
            await store.run([Peek("x")])
            [outcome] = told
            assert isinstance(outcome.values[2], PartLimitReached)
            assert [*outcome.values[:2], outcome.values[3]] == [1, BIG, 2]
            assert outcome.refused

    run_simulated(scenario)


def test_each_acknowledged_increment_is_counted_once_and_neither_reads_nor_what_was_refused_are() -> None:
    async def scenario() -> None:
        disk = sim_disk()
        async with running(disk) as store:
            assert b"\ngcount_increments_total 0.0\n" in store.metrics.text()
            store.committer.stage(Repeat(["x", "y", "x"], 1), lambda _: None)
            await store.run([Add("x", 2), Peek("y"), Add("y", 0), Add("x", BIG), Add("z", 1)])
            assert b"\ngcount_increments_total 5.0\n" in store.metrics.text()
            disk.fail("write", 0, errno.ENOSPC)
            store.committer.stage(Repeat(["x", "y"], 1), lambda _: None)
            assert (await store.run([Add("x", 1)])).refused
            assert b"\ngcount_increments_total 5.0\n" in store.metrics.text()

    run_simulated(scenario)


def test_places_that_belong_together_are_taken_all_or_not_at_all() -> None:
    async def scenario() -> None:
        async with running(sim_disk()) as store:
            asked: Asked = [
                Add("x", 1),
                Together([Add("y", 1), Add("x", BIG), Peek("y")]),
                Together([Add("x", 2), Add("y", 3)]),
                Add("x", BIG),
                Together([Add("z", 4), Peek("y")]),
            ]
            outcome = await store.run(asked)
            refused, values = outcome.part(1, 3), outcome.values
            assert isinstance(refused, PartLimitReached)
            assert [*values[1:4]] == [refused] * 3
            assert isinstance(values[6], PartLimitReached)
            assert [values[place] for place in (0, 4, 5, 7, 8)] == [1, 3, 3, 4, 3]
            assert (outcome.part(4, 2), outcome.part(7, 2)) == ([3, 3], [4, 3])
            assert len(store.commits) == 1
            assert store.metrics.text().count(b"gcount_increments_total 4.0") == 1

    run_simulated(scenario)
