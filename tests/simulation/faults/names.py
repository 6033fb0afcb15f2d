"""Addresses and names that lead elsewhere for a while, also to a program that is no node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from gcount.cluster.links.transport import Link
from gcount.errors import LinkError
from tests.fakes.cluster import Host, address_of
from tests.simulation.campaign.nemesis import Nemesis, Skipped

ECHO = address_of(99)
SETTLES = 1.2  # seconds between two changes of an entry's machine; see "What is assumed" in docs/guarantees.md


async def address_moves(nemesis: Nemesis) -> None:
    """A member is down, and another machine has its address for a while; then the node starts at its address."""
    with nemesis.host() as host, moving(nemesis):
        taker = _other(nemesis, host)
        await nemesis.kill(host)
        _lead(nemesis, host, taker.address)
        await nemesis.clients.write(taker)
        await nemesis.some_time()
        await trio.sleep(SETTLES)
        _mend(nemesis, host)
        await nemesis.revive(host, 1.5)
        await trio.sleep(SETTLES)


async def stale_name(nemesis: Nemesis) -> None:
    """On one machine, the name of a member leads to another member, or to that machine itself, for a while."""
    with nemesis.host() as host, moving(nemesis):
        observer, taker = _other(nemesis, host), _other(nemesis, host)
        network = nemesis.cluster.network
        nemesis.note(f"at {observer.address} the name {host.address} leads to {taker.address}")
        network.names.lead(host.address, taker.address, observer.address)
        if nemesis.random.random() < 0.7:
            network.drop(observer.address, host.address)  # otherwise the old link stays
        await nemesis.clients.write(host)
        await nemesis.some_time()
        await trio.sleep(SETTLES)
        nemesis.note(f"the name {host.address} is mended")
        network.names.mend(host.address)
        await trio.sleep(SETTLES)


async def echo(nemesis: Nemesis) -> None:
    """At the address of a member that is down, a program sends back everything that it receives, for a moment."""
    with nemesis.host() as host, moving(nemesis):
        await nemesis.kill(host)
        nemesis.cluster.network.listen(ECHO, _Echo(), nemesis.nursery)
        _lead(nemesis, host, ECHO)
        await nemesis.some_time()
        _mend(nemesis, host)
        nemesis.cluster.network.close(ECHO)
        await nemesis.revive(host, 1.5)
        await trio.sleep(SETTLES)


class _Echo:
    """A program that sends back everything that it receives."""

    recovered = True

    async def accept(self, link: Link, caller: str, promote: Callable[[], bool]) -> None:
        try:
            while True:
                data = await link.receive()
                if isinstance(data, bytes):
                    link.post(data)
                    await link.flush()
        except LinkError:
            pass


@contextmanager
def moving(nemesis: Nemesis) -> Iterator[None]:
    """Lead an entry elsewhere while the context lasts: one entry at a time, and with no node outside the config."""
    if nemesis.moving or nemesis.twin is not None:
        raise Skipped
    nemesis.moving = nemesis.history.relayed = True
    try:
        yield
    finally:
        nemesis.moving = False


def _other(nemesis: Nemesis, host: Host) -> Host:
    return nemesis.random.choice([other for other in nemesis.cluster.hosts if other is not host])


def _lead(nemesis: Nemesis, host: Host, to: str) -> None:
    nemesis.note(f"the address {host.address} leads to {to}")
    nemesis.cluster.network.names.lead(host.address, to, breaks=True)


def _mend(nemesis: Nemesis, host: Host) -> None:
    nemesis.note(f"the address {host.address} leads to its own machine again")
    nemesis.cluster.network.names.mend(host.address, breaks=True)
