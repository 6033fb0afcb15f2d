"""Copies of a directory: one at the original's own address while the original goes on, one with a config of its own."""

from __future__ import annotations

import trio

from tests.fakes.cluster import Host
from tests.fakes.process import until
from tests.simulation.campaign.history import Forked
from tests.simulation.campaign.nemesis import Nemesis, Skipped
from tests.simulation.faults.machines import cut_off
from tests.simulation.faults.names import moving

COUNTS = 4  # increments on each of the two, at most, under their common incarnation


async def copy_at_its_address(nemesis: Nemesis) -> None:
    """A node is cut off and goes on; a copy of its directory starts in its place. The node returns at another address.

    The members know of nothing that the copy lacks, so they confirm it: one incarnation has two histories. Nothing is
    promised of the increments that both count from there on. The laws hold for all others.
    """
    if nemesis.history.repaired or nemesis.few_lives:
        raise Skipped
    with moving(nemesis), nemesis.host(core=True) as host:
        if host.node.config()["actors"] != sorted(nemesis.cluster.addresses):
            raise Skipped
        cut = cut_off(nemesis, [host.address])
        await nemesis.some_time()
        copy = _put_copy(nemesis, host)
        cut.append((host.address, copy.address))
        nemesis.cluster.network.cut(host.address, copy.address)
        await nemesis.start(copy)
        nemesis.clients.serve(nemesis.nursery, copy)
        for _ in range(nemesis.random.randint(0, COUNTS)):
            for one in (host, copy):
                await nemesis.clients.write(one, plain=True)
            await nemesis.some_time(0.4)
        await nemesis.some_time()
        if nemesis.random.random() < 0.3:
            await nemesis.kill(host)
        for ends in cut:
            nemesis.cluster.network.heal(*ends)
        nemesis.note(f"{host.address} is back, at another address")
        await nemesis.some_time(2.0)
        if not host.running:
            await nemesis.start(host)


def _put_copy(nemesis: Nemesis, host: Host) -> Host:
    """Make the copy, and lead the address to it, in the same instant: from now on there are two processes."""
    now, recorder = trio.current_time(), nemesis.recorder
    copy = nemesis.cluster.add()
    copy.put_disk(host.copy_disk())
    copy.disk.latency, copy.disk.background = nemesis.scenario.latency, nemesis.scenario.background
    copy.max_counters = nemesis.history.limits[copy.address]
    recorder.set_clock(copy, nemesis.scenario.skews[-1])
    recorder.directory(copy)
    incarnation = host.node.replica.identity.incarnation
    nemesis.history.journal.append(Forked(now, recorder.line(host.address), recorder.line(copy.address), incarnation))
    nemesis.note(f"{copy.address} has a copy of the directory of {host.address}, whose address leads to it now")
    nemesis.history.lost_address[host.address] = now
    nemesis.cluster.network.names.lead(host.address, copy.address, breaks=True)
    with nemesis.trouble(host):
        nemesis.clients.cut_off(host.address)  # their increments would be counted outside the config
    nemesis.cluster.network.names.lead(copy.address, host.address)  # the other address, if any node ever dials it
    nemesis.twin = host  # it is the original that is no member now
    nemesis.clients.swapped = frozenset({host.address, copy.address})
    nemesis.history.relayed = True
    return copy


async def copy_stands_alone(nemesis: Nemesis) -> None:
    """After all faults, a copy outside the config gets a config of its own. No member must follow it."""
    copy, cluster = nemesis.twin, nemesis.cluster
    if copy is None or nemesis.clients.swapped:
        return
    members = [host for host in cluster.hosts if host is not copy]
    before = sorted(host.address for host in members)

    def whole() -> bool:
        return all(
            host.running
            and host.node.recovered
            and host.node.config()["actors"] == before
            and len(host.node.peers.nodes()) == len(members)
            for host in members
        )

    with trio.move_on_after(10):
        await until(whole)
    alike = [host for host in members if host.running and not _lives(host).isdisjoint(_lives(copy))]
    if not whole() or not alike:
        return
    nemesis.note(f"{copy.address} is told to stand alone")
    await nemesis.clients.post(copy, [copy.address])
    await trio.sleep(2.0)
    nemesis.history.taken_over = [host.address for host in members if host.node.config()["actors"] != before]


def _lives(host: Host) -> set[bytes]:
    identity = host.node.replica.identity
    return {identity.incarnation, *identity.retired}
