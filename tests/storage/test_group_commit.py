"""Group commit over the log: nothing acknowledged is ever lost, nothing is visible before it is durable."""

import errno
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.counters import Delta
from gcount.core.state.membership import Membership
from gcount.core.writes.increments import Add, Outcome
from gcount.errors import DiskFailed, DiskFull, leaves
from gcount.storage.disk import RealDisk
from gcount.storage.group_commit import PROBE_AFTER
from gcount.storage.live_segment import LiveSegment
from tests.fakes.disk import SimDisk, SimulatedCrash
from tests.fakes.process import run_simulated, until
from tests.storage.commit_store import ME, Ledger, Store, replayed, running, sim_disk

PEER = b"p" * 16


def syncs(disk: SimDisk) -> int:
    return sum(entry.startswith("sync ") for entry in disk.history)


def is_full(store: Store) -> bool:
    return store.committer.full is not None


async def test_concurrent_increments_and_deltas_share_a_sync(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    async with running(disk) as store:
        before = syncs(disk)
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(store.add, f"n{number % 7}")
            nursery.start_soon(store.committer.take([Delta(PEER, 0, 1, {"a": 5})]).wait)
        assert 1 <= syncs(disk) - before <= 2
        assert sum(store.replica.counters.total(f"n{number}") for number in range(7)) == 200
        assert store.replica.counters.total("a") == 5
    assert (await replayed(disk))[0].counters == store.replica.counters


@pytest.mark.parametrize(("urgent", "waits"), [(False, DEFAULTS.piggyback_delay), (True, 0.0)])
async def test_a_delta_waits_a_moment_for_others_unless_a_client_waits_for_it(
    autojump_clock: MockClock, *, urgent: bool, waits: float
) -> None:
    async with running(SimDisk(Random(0), latency=(0.0, 0.0))) as store:
        began = trio.current_time()
        await store.committer.take([Delta(PEER, 0, 1, {"a": 5})], urgent=urgent).wait()
        assert store.replica.counters.total("a") == 5
        assert trio.current_time() - began == pytest.approx(waits, abs=1e-6)


@pytest.mark.parametrize("more", [0, 3])
async def test_later_deltas_do_not_make_a_delta_wait_longer(autojump_clock: MockClock, more: int) -> None:
    async with running(SimDisk(Random(0), latency=(0.0, 0.0))) as store:
        await trio.testing.wait_all_tasks_blocked()  # the committer waits for work already
        began = trio.current_time()
        commit = store.committer.take([Delta(PEER, 0, 1, {"a": 5})])
        for number in range(more):
            await trio.sleep(DEFAULTS.piggyback_delay / (more + 1))
            assert store.committer.take([Delta(PEER, 0, 1, {f"b{number}": 5})]) is commit
        await commit.wait()
        assert trio.current_time() - began == pytest.approx(DEFAULTS.piggyback_delay, abs=1e-6)


async def test_when_all_is_committed_the_committer_sleeps(autojump_clock: MockClock) -> None:
    async with running(sim_disk()) as store:
        await store.committer.take([Delta(PEER, 0, 1, {"a": 5})]).wait()
        await trio.lowlevel.checkpoint()
        for _ in range(30):  # turns, in each of which a task that never sleeps would have its own
            await trio.lowlevel.checkpoint()
            assert trio.lowlevel.current_statistics().tasks_runnable == 0


async def test_a_segment_that_begins_with_a_new_incarnation_names_it(autojump_clock: MockClock) -> None:
    """A repair that can read nothing else of the segment goes by its header."""
    reborn = ME.reborn(b"j" * 16)
    async with running(sim_disk(), Options(segment_bytes=1)) as store:
        await store.add("a")
        await store.committer.mint(reborn).wait()
        assert store.log.live.incarnation == reborn.incarnation
        assert store.log.live.sequence == 3
        await store.add("a")
        assert (store.log.live.incarnation, store.log.live.sequence) == (reborn.incarnation, 4)


async def test_increments_that_come_while_a_batch_is_on_its_way_share_the_next(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    async with running(disk) as store:
        first = store.stage("a", 1)
        await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        second, third = store.stage("a", 2), store.stage("b", 4)
        assert first is not second
        assert second is third
        await first.wait()
        assert (store.replica.counters.total("a"), store.replica.counters.total("b")) == (1, 0)
        await second.wait()
        assert (store.replica.counters.total("a"), store.replica.counters.total("b")) == (3, 4)
        assert len(store.commits) == 2


async def test_nothing_is_visible_before_it_is_durable(autojump_clock: MockClock) -> None:
    latency = 1.0
    disk = SimDisk(Random(0), latency=(latency, latency))
    async with running(disk) as store:
        commit = store.stage("a", 7)
        store.committer.take([Delta(PEER, 0, 1, {"a": 5})])
        store.committer.adopt(Membership(1, ("a:1",)))
        for _ in range(9):
            await trio.sleep(latency / 10)
            assert (store.replica.counters.total("a"), store.replica.counters.digest()) == (0, {})
            assert (store.replica.membership, store.commits) == (Membership(), [])
            assert store.committer.flush() is commit
        await commit.wait()
        assert store.replica.counters.cells("a") == {ME.incarnation: 7, PEER: 5}
        assert store.replica.membership.version == 1
        assert store.committer.flush() is None


async def test_a_waiter_that_is_cancelled_does_not_stop_its_increment(autojump_clock: MockClock) -> None:
    async with running(sim_disk()) as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.add("a", 3)
        assert scope.cancelled_caught
        await store.add("a", 4)
        assert store.replica.counters.total("a") == 7


async def test_on_a_full_disk_all_waiters_are_refused_and_the_rest_goes_on_when_there_is_space(
    autojump_clock: MockClock,
) -> None:
    disk, refused = sim_disk(), []

    async def try_to_add(store: Store, name: str) -> None:
        try:
            await store.add(name)
        except DiskFull:
            refused.append(name)

    with capture_logs() as logged:
        async with running(disk) as store:
            await store.add("a")
            whole = disk.read("00000001.log")
            disk.capacity = len(whole) + 15
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    for number in range(20):
                        nursery.start_soon(try_to_add, store, f"n{number}")
                assert disk.read("00000001.log") == whole
            assert len(refused) == 60
            assert is_full(store)
            assert len(store.replica.counters) == 1
            disk.capacity = 10**6
            await store.add("b")
            with trio.fail_after(1.5 * PROBE_AFTER):
                await until(lambda: not is_full(store))
    assert [entry["event"] for entry in logged] == ["disk full", "disk has space again"]
    disk.crash()
    replica, _ = await replayed(disk)
    assert {name: replica.counters.total(name) for name, _ in replica.counters.items()} == {"a": 1, "b": 1}


async def test_each_that_asked_is_refused_by_an_error_of_its_own(autojump_clock: MockClock) -> None:
    """Each of them may be raised, in a task of its own: one error for all would gather the frames of all."""
    disk, outcomes = sim_disk(), list[Outcome]()
    async with running(disk) as store:
        disk.capacity = store.log.size + 5
        for _ in range(2):
            store.committer.stage([Add("a", 1)], outcomes.append)
        await until(lambda: len(outcomes) == 2)
    [[one], [other]] = [outcome.values for outcome in outcomes]
    assert isinstance(one, DiskFull)
    assert str(one) == str(other)
    assert one is not other


async def test_a_disk_with_space_for_small_batches_only_is_full_until_none_was_refused_for_a_second(
    autojump_clock: MockClock,
) -> None:
    disk = sim_disk()
    with capture_logs() as logged:
        async with running(disk) as store:
            disk.capacity = store.log.size + 5000
            for _ in range(20):
                with pytest.raises(DiskFull):
                    await store.add("large" * 2000)
                await store.add("small")
                assert is_full(store)
                await trio.sleep(0.1 * PROBE_AFTER)  # no second without a refusal
            assert [entry["event"] for entry in logged] == ["disk full"]
            for _ in range(15):
                await store.add("small")
                await trio.sleep(0.1 * PROBE_AFTER)  # a second and a half without any
            assert not is_full(store)
    assert [entry["event"] for entry in logged] == ["disk full", "disk has space again"]


async def test_a_full_disk_is_tried_again_without_any_request(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    async with running(disk) as store:
        disk.capacity = store.log.size + 5
        with pytest.raises(DiskFull):
            await store.add("a")
        await trio.sleep(5 * PROBE_AFTER)  # tries in vain change nothing
        assert is_full(store)
        disk.capacity = 10**6
        with trio.fail_after(1.5 * PROBE_AFTER):
            await until(lambda: not is_full(store))
        tries = disk.operations
        await trio.sleep(10 * PROBE_AFTER)  # a disk with room is not probed
        assert disk.operations == tries
    assert (await replayed(disk))[0].counters.total("a") == 0


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
async def test_a_failed_sync_ends_the_committer_and_acknowledges_nothing(autojump_clock: MockClock, error: int) -> None:
    disk, ledger = sim_disk(), Ledger()
    lives: list[Store] = []

    async def fail() -> None:
        async with running(disk) as store:
            lives.append(store)
            await ledger.add(store, "a", 1)
            disk.fail_sync(error=error)
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(ledger.add, store, "a", 10)

    with pytest.raises(BaseExceptionGroup) as caught:
        await fail()
    assert [type(error) for error in leaves(caught.value)] == [DiskFailed]
    assert (ledger.acknowledged["a"], lives[0].replica.counters.total("a")) == (1, 1)
    disk.crash()
    ledger.check((await replayed(disk))[0])


async def test_on_a_real_disk_what_was_acknowledged_is_replayed(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path / "data")
    for life in range(1, 4):
        async with running(disk) as store:
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(store.add, f"n{number % 5}", 2**number)
            assert len(store.commits) <= 3
            assert sum(store.replica.counters.total(f"n{n}") for n in range(5)) == life * (2**50 - 1)
    disk.close()


async def client(store: Store, ledger: Ledger, random: Random, adds: int) -> None:
    for _ in range(adds):
        try:
            await ledger.add(store, random.choice("abc"), random.randint(1, 2**20))
        except DiskFull:
            await trio.sleep(0.2 * PROBE_AFTER)  # a client that tries again


async def live(
    disk: SimDisk, ledger: Ledger, random: Random, options: Options, adds: int = 4, seconds: float = 60.0
) -> None:
    """One life under a few clients."""
    async with running(disk, options) as store:
        ledger.check(store.replica)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(client, store, ledger, Random(random.random()), adds)


async def live_until_crash(
    disk: SimDisk, ledger: Ledger, random: Random, options: Options, adds: int = 4, seconds: float = 60.0
) -> bool:
    """Returns whether the life ended by a crash or a failure of the disk."""
    try:
        await live(disk, ledger, random, options, adds, seconds)
    except (BaseExceptionGroup, SimulatedCrash, DiskFailed, DiskFull) as error:
        causes = leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
        if not all(isinstance(cause, SimulatedCrash | DiskFailed | DiskFull) for cause in causes):
            raise
        return True
    return False


async def crash_everywhere(first: int, options: Options = DEFAULTS) -> int:
    """Crash before each operation of a workload, then once more during the recovery, then live on."""
    random = Random(first)
    for at in range(1000):
        disk, ledger = SimDisk(Random(f"{first} {at}")), Ledger()
        disk.crash_after(at)
        crashed = await live_until_crash(disk, ledger, random, options)
        disk.crash()
        disk.crash_after(random.randrange(12))
        await live_until_crash(disk, ledger, random, options, adds=1)
        disk.crash()
        await live(disk, ledger, random, options, adds=1)
        disk.restart()
        ledger.check((await replayed(disk))[0])
        if not crashed:
            return at
    raise AssertionError("the workload has no end")


@pytest.mark.parametrize("segment_bytes", [100, DEFAULTS.segment_bytes])
@pytest.mark.parametrize("seed", range(4))
def test_a_crash_before_any_operation_loses_nothing_acknowledged_and_never_stops_a_start(
    segment_bytes: int, seed: int
) -> None:
    assert run_simulated(partial(crash_everywhere, seed, Options(segment_bytes=segment_bytes))) > 8


async def troubled_lives(seed: int) -> int:
    """Many lives of one disk, each with a trouble of its own; returns how many did not end by themselves."""
    random, disk, ledger, troubles = Random(seed), SimDisk(Random(seed)), Ledger(), 0
    for _ in range(12):
        trouble = random.choice(("none", "crash", "sync", "truncate", "full", "full"))
        if trouble == "crash":
            disk.crash_after(random.randrange(60))
        elif trouble in ("sync", "truncate"):
            disk.fail(trouble, after=random.randrange(4), error=random.choice((errno.EIO, errno.ENOSPC)))
        if trouble in ("truncate", "full"):
            used = 10**12 - disk.capacity + sum(len(disk.read(name)) for name in disk.names())
            disk.capacity = used + random.randrange(900)
        troubles += await live_until_crash(
            disk, ledger, random, Options(segment_bytes=400), seconds=random.uniform(0.01, 3.0)
        )
        if random.random() < 0.5:
            disk.crash()
        else:
            disk.restart()
        disk.capacity = 10**12
    ledger.check((await replayed(disk))[0])
    return troubles


def test_many_crashes_and_errors_of_a_disk_lose_nothing_acknowledged() -> None:
    assert sum(run_simulated(partial(troubled_lives, seed)) for seed in range(60)) > 60


def test_the_crash_test_shows_a_log_that_does_not_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    def append_without_sync(self: LiveSegment, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self.size += len(data)

    monkeypatch.setattr(LiveSegment, "append", append_without_sync)
    with pytest.raises((AssertionError, ExceptionGroup)) as caught:
        run_simulated(partial(crash_everywhere, 0))
    errors = leaves(caught.value) if isinstance(caught.value, ExceptionGroup) else [caught.value]
    assert [type(error) for error in errors] == [AssertionError]


async def test_a_commit_calls_back_in_the_order_of_requests_and_is_settled_once(
    autojump_clock: MockClock,
) -> None:
    async with running(sim_disk()) as store:
        told: list[tuple[str, dict[bytes, int]]] = []
        commit = store.stage("a", 3)
        for name in "xyz":
            commit.add_done_callback(lambda done, name=name: told.append((name, done.position)))  # type: ignore[misc]
        await commit.wait()
        assert told == [(name, {ME.incarnation: 1}) for name in "xyz"]
        assert (commit.failed, commit.before["a"], commit.before["b"]) == (False, 0, 0)
        with pytest.raises(AssertionError, match="settled once"):
            commit.settle(None, commit.before, {})


async def test_a_second_committer_is_stopped(autojump_clock: MockClock) -> None:
    async def work() -> None:
        async with running(SimDisk(Random(0), latency=(1.0, 1.0))) as store:
            store.stage("a", 1)
            await trio.sleep(0.5)
            store.stage("a", 1)
            await store.committer._commit_all(lambda batch: None)

    with pytest.raises(BaseExceptionGroup) as caught:
        await work()
    assert [str(error).splitlines()[0] for error in leaves(caught.value)] == ["one batch in flight"]
