"""Rot that is repaired: on one node or on two, while others may be cut off."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random

import trio

from gcount.core.state.batch import Batch
from gcount.storage.inspect.contents import Contents
from gcount.storage.inspect.repair import repair
from gcount.storage.inspect.survey import survey
from gcount.storage.log import SUFFIX
from tests.fakes.cluster import Host
from tests.fakes.disk import SimulatedCrash
from tests.fakes.process import until
from tests.simulation.campaign.history import PLAIN
from tests.simulation.campaign.nemesis import Nemesis, Skipped
from tests.simulation.campaign.recorder import read_by_a_start
from tests.simulation.faults.machines import cut_off, heal
from tests.simulation.faults.rot import Hits, batches_in, left_of, rotten, some_hits

PUSH_BYTES = 500  # the largest chunk, so that the detached deltas take many of them
CHUNKS = 10
SOME = 20  # cells that are detached on both nodes
CELL_BYTES = 20  # about the size of a cell with its name
SLOW = (0.2, 0.25)  # seconds that a message travels: the giving back takes longer than it takes to close a gap
NO_CHECKPOINTS = (0.4, 0.8)  # seconds for an operation: no checkpoint is finished, so the bytes to rot stay in the log
SLOW_CHECKPOINTS = (0.05, 0.3)  # seconds for an operation: a checkpoint is under way when the deltas come back
GIVEN_BACK = 8.0  # seconds in which all is given back
CUT_OFF = 0.3  # seconds after which no message is on its way any more
TRIES = 20  # to find bytes that may rot


async def repaired_rot(nemesis: Nemesis) -> None:
    """Some bytes rot. The node refuses to start, is repaired, and goes on under a new incarnation."""
    with nemesis.host() as host:
        await _rot(nemesis, [host])


async def repaired_rot_of_two(nemesis: Nemesis) -> None:
    """The same on two nodes at once. One of them may have many detached deltas of the other one."""
    with ExitStack() as chosen:
        hosts = [chosen.enter_context(nemesis.host()) for _ in range(2)]
        if nemesis.random.random() < 0.5 and nemesis.scenario.options.push_bytes <= PUSH_BYTES:
            await _slow_give_back(nemesis, *hosts)
        else:
            await _rot(nemesis, hosts)


def _skip_unless_judged(nemesis: Nemesis) -> None:
    if nemesis.lives_run_out:
        raise Skipped
    if nemesis.twin is not None:
        raise Skipped  # what only a node outside the config has of a gap is promised to nobody
    nemesis.history.repaired = True


async def _rot(nemesis: Nemesis, hosts: list[Host]) -> None:
    _skip_unless_judged(nemesis)
    random = nemesis.random
    for _ in range(random.choice((1, 1, 2))):  # the second time, deltas are detached since the first
        cut: list[tuple[str, str]] = []
        if random.random() < 0.5:  # their increments now reach no other node
            cut = cut_off(nemesis, [host.address for host in hosts])
            for _ in range(random.randint(0, 6)):
                await nemesis.clients.write(random.choice(hosts))
            await nemesis.some_time()
        if random.random() < 0.4:
            heal(nemesis, cut)
            cut = []
        for host in hosts:
            await nemesis.kill(host)
            host.disk.synced()  # bytes that were not synced, and survived by chance
        if random.random() < 0.5:
            heal(nemesis, cut)
            cut = []
        for host in hosts:
            await _repair_and_start(nemesis, host)
        await nemesis.some_time(4.5 if cut and random.random() < 0.5 else 2.5)  # in two seconds a gap might be closed
        heal(nemesis, cut)


async def _slow_give_back(nemesis: Nemesis, owner: Host, giver: Host) -> None:
    """Two nodes lose increments of one of them that no other node has. The other has many more behind that gap.

    The network between them is slow.
    """
    _skip_unless_judged(nemesis)
    network, clients, random = nemesis.cluster.network, nemesis.clients, nemesis.random
    replica, first = owner.node.replica, random.randrange(10**6)
    life, many = replica.identity.incarnation, CHUNKS * nemesis.scenario.options.push_bytes // CELL_BYTES
    with nemesis.trouble(owner), nemesis.trouble(giver):  # their disks are slow
        owner.disk.background = giver.disk.background = NO_CHECKPOINTS
        cut = cut_off(nemesis, [owner.address, giver.address])
        await trio.sleep(CUT_OFF)
        before = replica.counters.version(life)
        await clients.write(owner)
        await _told(giver, life, replica.counters.version(life))
        versions = [before, replica.counters.version(life)]
        for names in (SOME, many):
            await clients.count(owner, [(f"{PLAIN}{first + number}", 1) for number in range(names)], "many")
            await _told(giver, life, replica.counters.version(life))
            versions.append(replica.counters.version(life))
        before, lost, left, kept = versions
        cut += [(owner.address, giver.address)]
        network.cut(owner.address, giver.address)
        await trio.sleep(CUT_OFF)
        await clients.write(owner)
        for host in (owner, giver):
            await nemesis.kill(host)
            host.disk.synced()
    network.delay, owner.disk.background, giver.disk.background = SLOW, SLOW_CHECKPOINTS, nemesis.scenario.background
    heal(nemesis, cut)
    await _repair_and_start(nemesis, giver, _hits(giver, life, (before, lost)))
    await _repair_and_start(nemesis, owner, _hits(owner, life, (before, lost), (left, kept)))
    await trio.sleep(GIVEN_BACK)
    network.delay, owner.disk.background = nemesis.scenario.delay, nemesis.scenario.background


def _hits(host: Host, life: bytes, *spans: tuple[int, int]) -> Hits:
    """One byte of each batch with some versions of an incarnation; none if a checkpoint has them by now."""
    files = host.disk.durable()
    return {
        name: {(start + end) // 2 for start, end, batch in batches_in(files[name]) if _tells(batch, life, spans)}
        for name in read_by_a_start(files)
        if name.endswith(SUFFIX)
    }


def _tells(batch: Batch, life: bytes, spans: tuple[tuple[int, int], ...]) -> bool:
    deltas = [delta for delta in batch.deltas if delta.incarnation == life]
    return any(delta.after < upto and delta.upto > after for delta in deltas for after, upto in spans)


async def _told(host: Host, life: bytes, version: int) -> None:
    """Return when a node has heard of a version, or if something prevents that."""
    with trio.move_on_after(2):
        await until(lambda: not host.running or host.node.replica.counters.version(life) >= version)


async def _repair_and_start(nemesis: Nemesis, host: Host, chosen: Hits | None = None) -> None:
    files = host.disk.durable()
    for _ in range(TRIES):
        hits = some_hits(files, nemesis.random) if chosen is None else chosen
        left = left_of(files, hits)
        if any(hits.values()) and not left.torn:
            break  # a torn tail would be cut off without a notice, see `older_copy`
    else:
        await nemesis.start(host)
        return
    for name, offsets in hits.items():
        if not offsets:
            continue
        shown = f"{min(offsets)} to {max(offsets)} of {len(files[name])}"
        nemesis.note(f"{name} of {host.address} rots at {shown}")
        host.disk.poke(name, rotten(files[name], offsets, nemesis.random))
    if await nemesis.start(host, "rot" if left.damaged else ""):
        return
    await nemesis.kill(host)
    found = _repair(nemesis, host)
    nemesis.note(f"{host.address} was repaired{', without a loss' if found.lossless else ''}")
    identity = survey(host.disk).replica.identity
    nemesis.recorder.repaired(host, left.batches, left.lives, identity, lossless=found.lossless)
    await nemesis.revive(host)


def _repair(nemesis: Nemesis, host: Host) -> Contents:
    """Repair a directory as an operator does, maybe interrupted and begun again; returns the first survey."""
    disk, ids = host.disk, Random(nemesis.random.random())
    disk.synced = lambda: None  # a half repaired directory is not read
    found = again = survey(disk)
    interruptions = nemesis.random.choice((0, 0, 1, 2))
    while again.corruptions:
        if interruptions:
            interruptions -= 1
            disk.crash_after(nemesis.random.randint(0, 15))
        try:
            repair(disk, again, lambda: ids.randbytes(16), nemesis.scenario.options)
        except SimulatedCrash:
            nemesis.note(f"the repair of {host.address} is interrupted")
        disk.crash()
        again = survey(disk)
    return found
