"""Rot that is repaired: of one node or of two, while others are cut off or not."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random

from gcount.storage.repair import repair
from gcount.storage.verify import Survey, survey
from tests.simulation.cluster import Host
from tests.simulation.disk import SimulatedCrash
from tests.simulation.faults import cut_off, heal
from tests.simulation.nemesis import Nemesis, Skipped
from tests.simulation.rot import left_of, rotten, some_hits

TRIES = 20  # to find bytes that may rot


async def repaired_rot(nemesis: Nemesis) -> None:
    """Some bytes rot; the node refuses to start, is repaired, and goes on under a new incarnation."""
    with nemesis.host() as host:
        await _rot(nemesis, [host])


async def repaired_rot_of_two(nemesis: Nemesis) -> None:
    """The same at two nodes at once."""
    with ExitStack() as chosen:
        await _rot(nemesis, [chosen.enter_context(nemesis.host()) for _ in range(2)])


async def _rot(nemesis: Nemesis, hosts: list[Host]) -> None:
    if nemesis.lives_run_out:
        raise Skipped
    if nemesis.twin is not None:
        raise Skipped  # what only a node outside the config has of a gap is promised to nobody
    random = nemesis.random
    nemesis.history.repaired = True
    for _ in range(random.choice((1, 1, 2))):  # the second time with what is aside since the first
        cut: list[tuple[str, str]] = []
        if random.random() < 0.5:  # what they count now reaches nobody
            cut = cut_off(nemesis, [host.address for host in hosts])
            for _ in range(random.randint(0, 6)):
                await nemesis.clients.write(random.choice(hosts))
            await nemesis.some_time()
        if random.random() < 0.4:
            heal(nemesis, cut)
            cut = []
        for host in hosts:
            await nemesis.kill(host)
            host.disk.synced()  # what was not synced, and survived by chance
        if random.random() < 0.5:
            heal(nemesis, cut)
            cut = []
        for host in hosts:
            await _repair_and_start(nemesis, host)
        await nemesis.some_time(4.5 if cut and random.random() < 0.5 else 2.5)  # in two seconds a gap might be closed
        heal(nemesis, cut)


async def _repair_and_start(nemesis: Nemesis, host: Host) -> None:
    files = host.disk.durable()
    for _ in range(TRIES):
        hits = some_hits(files, nemesis.random)
        left = left_of(files, hits)
        if hits and not left.torn:
            break  # what looks torn would be forgotten without anybody's noticing, see `older_copy`
    else:
        await nemesis.start(host)
        return
    for name, offsets in hits.items():
        shown = f"{min(offsets)} to {max(offsets)} of {len(files[name])}"
        nemesis.note(f"{name} of {host.address} rots at {shown}")
        host.disk.poke(name, rotten(files[name], offsets, nemesis.random))
    if await nemesis.start(host, "rot" if left.damaged else ""):
        return
    await nemesis.kill(host)
    found = _repair(nemesis, host)
    nemesis.note(f"{host.address} was repaired{', without a loss' if found.lossless else ''}")
    identity = survey(host.disk).replica.identity
    nemesis.recorder.repaired(host, left.deltas, left.lives, identity, lossless=found.lossless)
    await nemesis.revive(host)


def _repair(nemesis: Nemesis, host: Host) -> Survey:
    """As an operator does; maybe interrupted, then begun again. Returns what was found at first."""
    disk, ids = host.disk, Random(nemesis.random.random())
    disk.synced = lambda: None  # nobody reads what is half repaired
    found = again = survey(disk)
    interruptions = nemesis.random.choice((0, 0, 1, 2))
    while again.flaws:
        if interruptions:
            interruptions -= 1
            disk.crash_after(nemesis.random.randint(0, 15))
        try:
            repair(disk, again, lambda: ids.randbytes(16))
        except SimulatedCrash:
            nemesis.note(f"the repair of {host.address} is interrupted")
        disk.crash()
        again = survey(disk)
    return found
