"""The faults of disks that lack something or are very slow, and of clocks that jump, by name."""

from __future__ import annotations

import errno

import trio

from gcount.storage.log import SUFFIX
from tests.fakes.cluster import Host
from tests.simulation.campaign.nemesis import Nemesis
from tests.simulation.faults.machines import PLENTY

SLOW = (1.0, 3.0)  # seconds
LINKED_WITHIN = 2 * SLOW[1] + 1.0  # seconds: a hello waits for the present batch and the next one, and nothing else
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


async def no_space_for_a_name(nemesis: Nemesis) -> None:
    """A file system finds no space to rename or to remove a file: the node goes on."""
    with nemesis.host() as host, nemesis.trouble(host):
        for _ in range(nemesis.random.randint(1, 3)):
            operation = nemesis.random.choice(("create", "rename", "remove"))
            nemesis.note(f"there will be no space at {host.address} for a {operation}")
            host.disk.fail(operation, nemesis.random.randint(0, 1), nemesis.random.choice(NO_SPACE))
        await nemesis.some_time()
        if nemesis.random.random() < 0.5:
            await nemesis.kill(host, power=nemesis.random.random() < 0.5)
            host.disk.fail(nemesis.random.choice(("create", "rename", "remove")), 0, nemesis.random.choice(NO_SPACE))
            await nemesis.start(host)
        host.disk.spare()
        await trio.sleep(0.1)


async def no_space_at_a_sync(nemesis: Nemesis) -> None:
    """A sync fails for lack of space, or so does the removal of a partial write: the node ends."""
    with nemesis.host() as host, nemesis.trouble(host):
        operation = nemesis.random.choice(("sync", "sync_names", "truncate"))
        nemesis.note(f"there will be no space at {host.address} for the next {operation}")
        life = nemesis.life(host)
        life.expected = "sync"
        host.disk.fail(operation, 0, nemesis.random.choice(NO_SPACE))
        if operation == "truncate":
            host.disk.capacity = PLENTY - host.disk.free_bytes() + nemesis.random.choice((10, 40))
        with trio.move_on_after(1):
            await host.ended.wait()
        life.must_end = not host.disk.due(operation)
        host.disk.capacity = PLENTY
        host.disk.spare()
        if not host.running:
            await nemesis.kill(host, power=nemesis.random.random() < 0.5)
            await nemesis.revive(host, 0.2)


async def no_descriptor(nemesis: Nemesis) -> None:
    """The process can open no more files for a moment. It may end or go on, but loses nothing."""
    with nemesis.host() as host, nemesis.trouble(host):
        operation = nemesis.random.choice(("create", "append", "read", "sync_names"))
        nemesis.note(f"there will be no descriptor at {host.address} for a {operation}")
        nemesis.life(host).expected = "sync"
        host.disk.fail(operation, nemesis.random.randint(0, 1), nemesis.random.choice((errno.EMFILE, errno.ENFILE)))
        await nemesis.some_time()
        host.disk.spare()
        if not host.running:
            await nemesis.kill(host, power=nemesis.random.random() < 0.3)
            await nemesis.revive(host, 0.2)


async def crash_in_a_batch(nemesis: Nemesis) -> None:
    """The power fails when many increments, perhaps in several frames, were written and not synced."""
    with nemesis.host(core=True) as host:
        nemesis.note(f"{host.address} will lose power before it syncs its next batch")
        nemesis.life(host).expected = "power"
        host.disk.crash_from(SUFFIX, 1)
        nemesis.nursery.start_soon(nemesis.clients.write_many, host)
        with trio.move_on_after(1):
            await host.ended.wait()
        if host.running:
            host.disk.spare()
            return
        await nemesis.kill(host)
        await nemesis.revive(host, 0.2)


async def very_slow_disk(nemesis: Nemesis) -> None:
    """Each sync takes seconds. The node's links break, and have to come up again nevertheless."""
    with nemesis.everybody() as hosts:
        host = nemesis.random.choice([host for host in hosts if host is not nemesis.twin])
        with nemesis.trouble(host):
            nemesis.note(f"the disk of {host.address} is very slow")
            host.disk.latency = SLOW
            await nemesis.some_time()
            nemesis.note(f"all connections of {host.address} break")
            for other in hosts:
                nemesis.cluster.network.drop(host.address, other.address)
            await _wait_linked(nemesis, host)
            host.disk.latency = nemesis.scenario.latency
            await trio.sleep(SLOW[1] + 0.1)


async def _wait_linked(nemesis: Nemesis, host: Host) -> None:
    """Return when the node has links to all members, and they to it.

    Links that do not come up in time are noted, unless the network explains it, or a new incarnation, with which the
    node hangs up. (A node outside the config with a copy of a member's directory may be refused.)
    """
    network, calm, breaks, life = nemesis.cluster.network, 0.0, 0, b""
    while calm < LINKED_WITHIN:
        await trio.sleep(0.1)
        missing = list(_unlinked(nemesis, host))
        if not missing:
            return
        cut = network.cuts or network.shut or network.delay != nemesis.scenario.delay or network.breaks != breaks
        usual = not cut and host.node.replica.identity.incarnation == life
        calm, breaks, life = calm + 0.1 if usual else 0.0, network.breaks, host.node.replica.identity.incarnation
    nemesis.history.unlinked.append(
        f"at {trio.current_time():.4f} these links had not come up in {LINKED_WITHIN:g} s: {', '.join(missing)}"
    )


def _unlinked(nemesis: Nemesis, host: Host) -> list[str]:
    hosts = [other for other in nemesis.cluster.hosts if other is not nemesis.twin]
    running = [other for other in hosts if other.running and other.node.recovered]
    ends = [(one, other) for one in running for other in running if one is not other and host in (one, other)]
    found = []
    for one, other in ends:
        peer = one.node.peers.get(other.address)
        if peer is not None and peer.sender is None:
            found.append(f"{one.address} to {other.address} ({peer.reason})")
    return found


async def clock_jump(nemesis: Nemesis) -> None:
    """The wall clock is changed while the node runs."""
    host = nemesis.random.choice(nemesis.cluster.hosts)
    ids = nemesis.scenario.ids
    jumps = ids.jumps if ids is not None else (-86400.0, -3600.0, -0.05, 0.0, 0.05, 3600.0, 86400.0)
    nemesis.recorder.set_clock(host, nemesis.random.choice(jumps))
    nemesis.note(f"the clock of {host.address} is off by {host.clock_skew:g} s")
