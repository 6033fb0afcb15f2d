"""Guards the private parts of trio on which the replay of a seed rests."""

import trio
from trio.testing import MockClock

from tests.simulation.cluster import open_cluster


async def run(seed: int) -> list[tuple[str, str, bytes]]:
    messages: list[tuple[str, str, bytes]] = []
    async with open_cluster(3, seed=seed) as cluster:
        cluster.network.tap = lambda *message: messages.append(message)
        for host in cluster.hosts * 3:
            await host.node.increment("x", host.number)
            await host.restart()
        await cluster.converged("x", 18)
    return messages


def wire_of(seed: int) -> list[tuple[str, str, bytes]]:
    return trio.run(run, seed, clock=MockClock(autojump_threshold=0))


def test_the_same_seed_replays_the_same_run() -> None:
    assert wire_of(1) == wire_of(1)


def test_another_seed_is_another_run() -> None:
    assert wire_of(1) != wire_of(2)
