"""What a node keeps of an address goes when it is dialled no more, however many addresses there ever were."""

from __future__ import annotations

import gc
import os
from collections import Counter

import trio
from trio.testing import MockClock

from gcount.cluster.settling import MOST_PAUSE
from gcount.core.limits import ID_BYTES
from tests.cluster.impostor import Impostor, linked
from tests.fakes.caller import hello
from tests.fakes.cluster import Host, SimCluster, open_cluster

FEW = 10  # what local variables refer to until the next one comes
LINGER = 5.0  # seconds: the simulated nodes' timeout
MARK = "10.9."
"""Begins the addresses of these tests, and nothing else in this process."""


def addresses(first: int, count: int) -> list[str]:
    return [f"{MARK}{number // 100}.{number % 100}:7777" for number in range(first, first + count)]


def remembered() -> set[str]:
    """The marked addresses that any object in this process refers to."""
    gc.collect()
    found: set[str] = set()
    for container in gc.get_objects():
        found.update(each for each in gc.get_referents(container) if type(each) is str and each.startswith(MARK))
    return found


def objects() -> Counter[str]:
    """How many objects of gcount's own types there are, by type."""
    gc.collect()
    return Counter(type(each).__qualname__ for each in gc.get_objects() if type(each).__module__.startswith("gcount."))


def stranger() -> Impostor:
    """Whoever answers there, another one at each address."""
    made = Impostor()
    made.hello = hello(node=os.urandom(ID_BYTES), start_id=os.urandom(ID_BYTES), incarnation=os.urandom(ID_BYTES))
    return made


async def alone_again(cluster: SimCluster, host: Host) -> None:
    await host.node.configure({"actors": [host.address]})
    await cluster.eventually(lambda: len(list(host.node.peers)) == 1, 2 * LINGER)


def links(host: Host) -> list[str]:
    """The lines of /metrics that name a marked address."""
    return [line for line in host.node.metrics.text().decode().splitlines() if MARK in line]


async def dial(cluster: SimCluster, host: Host, first: int, count: int) -> None:
    await host.node.configure({"actors": [host.address, *addresses(first, count)]})
    await cluster.eventually(lambda: all(linked(host, address) for address in addresses(first, count)))


async def test_nothing_is_kept_of_removed_members(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        host = cluster[1]
        await alone_again(cluster, host)
        before = objects()
        for first in range(0, 400, 100):
            for address in addresses(first, 100):
                cluster.network.listen(address, stranger(), cluster.nursery)
            await dial(cluster, host, first, 100)
        assert len(links(host)) >= 200
        await alone_again(cluster, host)
        assert links(host) == []
        assert not host.node.parts.members.hellos
        for address in addresses(0, 400):
            cluster.network.close(address)
        await trio.sleep(1 + MOST_PAUSE)  # for the impostor's ends of the links, and what members promised of ids
        del address
        assert len(remembered()) <= FEW
        assert sum((objects() - before).values()) <= FEW


async def test_nothing_is_kept_of_removed_entries_that_were_the_node_itself(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        host = cluster[1]
        for address in addresses(0, 50):
            cluster.network.listen(address, host.node, cluster.nursery)
        await host.node.configure({"actors": [host.address, *addresses(0, 50)]})
        await cluster.eventually(lambda: len(host.node.parts.members.here) == 51)
        await alone_again(cluster, host)
        assert host.node.parts.members.here == [host.address]
        assert links(host) == []
