from trio.testing import MockClock

from tests.simulation.cluster import open_cluster


async def wire_of(seed: int) -> list[tuple[str, str, bytes]]:
    messages: list[tuple[str, str, bytes]] = []
    async with open_cluster(3, seed=seed) as cluster:
        cluster.network.tap = lambda *message: messages.append(message)
        for host in cluster.hosts * 3:
            await host.node.increment("x", host.number)
            await host.restart()
        await cluster.converged("x", 18)
    return messages


async def test_the_same_seed_replays_the_same_run(autojump_clock: MockClock) -> None:
    assert await wire_of(1) == await wire_of(1)


async def test_another_seed_is_another_run(autojump_clock: MockClock) -> None:
    assert await wire_of(1) != await wire_of(2)
