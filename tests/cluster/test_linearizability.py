"""Consistent reads of random runs are linearizable, and the check catches every way of reading that is not."""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from tests.cluster.books import History
from tests.fakes.cluster import Host, SimCluster, open_cluster
from tests.simulation.mutants import planted


async def run(seed: int) -> History:
    """Writers and readers on all nodes, under random delays."""
    async with open_cluster(3, seed=seed, delay=(0.001, 0.03)) as cluster:
        history = History()

        async def work(host: Host, act: Callable[[Host], Awaitable[None]], times: int, longest_pause: float) -> None:
            for _ in range(times):
                await trio.sleep(cluster.random.uniform(0, longest_pause))  # a client's own pace
                await act(host)

        async with trio.open_nursery() as nursery:
            for host in cluster.hosts:
                nursery.start_soon(work, host, history.write, 15, 0.15)
                nursery.start_soon(work, host, history.read, 8, 0.1)
                nursery.start_soon(work, host, history.read, 8, 0.1)
        return history


@pytest.mark.parametrize("seed", range(30))
async def test_reads_are_linearizable(autojump_clock: MockClock, seed: int) -> None:
    history = await run(seed)
    assert history.violations() == []
    assert len(history.reads) == 48
    assert len({read.value for read in history.reads}) > 5


async def crash(cluster: SimCluster, history: History) -> None:
    """Lose the power of a node in the moment in which its increment waits for the disk."""
    latency = 0.05
    for host in cluster.hosts * 3:
        host.disk.latency = (latency, latency)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(history.write, host)
            await trio.sleep(0.4 * latency)  # the disk has begun
            nursery.start_soon(history.read, cluster[host.number % 3 + 1], 0.02)
            await trio.sleep(0.5 * latency)  # the read would be answered by now, and the disk has not finished
            await host.kill()
            nursery.cancel_scope.cancel()
        host.disk.latency = (0.001, 0.002)
        await host.start()
        await cluster.eventually(lambda: cluster.linked(host))  # noqa: B023
        await history.read(host)


@pytest.mark.parametrize("seed", range(5))
async def test_reads_are_linearizable_though_nodes_crash(autojump_clock: MockClock, seed: int) -> None:
    async with open_cluster(3, seed=seed, delay=(0.001, 0.003)) as cluster:
        history = History()
        await crash(cluster, history)
        assert history.violations() == []
        assert len(history.reads) >= 9


async def caught(seeds: Iterable[int]) -> bool:
    """Whether a read is wrong in some run, or an assertion stops the node that is about to answer it."""
    for seed in seeds:
        if await stopped_or_wrong(partial(run, seed)):
            return True
    return False


async def stopped_or_wrong(happens: Callable[[], Awaitable[History]]) -> bool:
    """Whether a read of a history is wrong, or an assertion stops a node in it."""
    try:
        return bool((await happens()).violations())
    except BaseExceptionGroup as group:
        if group.subgroup(AssertionError) is None:
            raise
        return True


@pytest.mark.parametrize("bug", ["view-taken-after-the-gather", "round-under-way-joined", "own-cells-not-read-again"])
async def test_each_wrong_way_to_read_is_caught(autojump_clock: MockClock, bug: str) -> None:
    with planted(bug):
        assert await caught(range(100))


async def test_what_is_visible_before_it_is_durable_is_caught(autojump_clock: MockClock) -> None:
    async def crashes() -> History:
        async with open_cluster(3, delay=(0.001, 0.003)) as cluster:
            history = History()
            await crash(cluster, history)
        return history

    with planted("visible-before-durable"):
        assert await stopped_or_wrong(crashes)
