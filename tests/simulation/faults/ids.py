"""The faults of increments with ids: clocks that step back under a promise, and ids that come too late."""

from __future__ import annotations

import trio

from tests.fakes.cluster import Host
from tests.fakes.process import until
from tests.simulation.campaign.nemesis import Nemesis, Skipped

WATCHED = 2.5  # seconds in which a node makes a promise, if it has old ids


async def clock_steps_back(nemesis: Nemesis) -> None:
    """A clock steps back while a promise waits for the disk, or when it is durable. Then an old id is sent there."""
    if nemesis.scenario.ids is None:
        raise Skipped
    with nemesis.host() as host, nemesis.trouble(host):
        right, life = host.clock_skew, host.lives
        waits = nemesis.random.random() < 0.7
        if waits:
            host.disk.latency = (0.05, 0.1)
        with trio.move_on_after(WATCHED):
            await until(lambda: life != host.lives or not host.running or _promises(host) is not None, 0.005)
            if not waits:
                await nemesis.some_time(0.3)
        if host.running and life == host.lives:
            floor = _promises(host) or host.node.replica.floor or 0
            nemesis.recorder.set_clock(host, right - 2 * nemesis.scenario.ids.window)
            nemesis.note(f"the clock of {host.address} steps back")
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(nemesis.clients.send_old_id, host, floor)
        await nemesis.some_time()
        host.disk.latency = nemesis.scenario.latency
        nemesis.recorder.set_clock(host, right)


async def reached_by_nobody(nemesis: Nemesis) -> None:
    """A member is not reached, though it reaches the others: it hears what they promise, and gets no increments.

    The same ids are sent there and to another node, until they could be settled.
    """
    scenario, random, network = nemesis.scenario.ids, nemesis.random, nemesis.cluster.network
    if scenario is None:
        raise Skipped
    with nemesis.host(core=True) as host:
        first = nemesis.cluster[min(nemesis.scenario.core)]
        if first.running and random.random() < 0.5:
            host = first  # it is the one that settles
        nemesis.note(f"nothing moves on connections to {host.address}")
        network.shut_off(host.address)
        others = [other for other in nemesis.cluster.hosts if other is not host]
        until_then = trio.current_time() + scenario.window * random.choice((0.3, 1.5, 2.0))
        while trio.current_time() < until_then:
            pair = [host, random.choice(others)]
            random.shuffle(pair)
            await nemesis.clients.send_id(*pair)
            await nemesis.some_time(0.5)
        nemesis.note(f"connections to {host.address} work again")
        network.heal(host.address)
        if host.running:
            await nemesis.clients.read(host)
        await nemesis.some_time(0.3)


def _promises(host: Host) -> int | None:
    """The promise that waits for the disk of a node."""
    pending = host.node.parts.context.pending
    return pending.staging.ids.floor if pending.staging.ids.floor is not None else pending.sealed.ids.floor
