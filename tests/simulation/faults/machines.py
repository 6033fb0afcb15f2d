"""The faults of a process, a disk or the network, by name."""

from __future__ import annotations

import errno

import trio

from gcount.core.protocol.messages import Push, decode
from gcount.storage import checkpoints
from gcount.storage.log import SUFFIX
from tests.fakes.cluster import Host
from tests.simulation.campaign.nemesis import Nemesis, Skipped
from tests.simulation.campaign.recorder import read_by_a_start
from tests.simulation.faults.directories import replace

PLENTY = 10**12
PUSH = b"\x03"  # the second byte of a push
SLOWEST = 1.1  # seconds in which a slow disk finishes its last operation


async def power_loss(nemesis: Nemesis) -> None:
    with nemesis.host() as host:
        await nemesis.kill(host)
        await nemesis.revive(host)


async def kill_9(nemesis: Nemesis) -> None:
    with nemesis.host() as host:
        await nemesis.kill(host, power=False)
        await nemesis.revive(host, 0.2)


async def stop(nemesis: Nemesis) -> None:
    """A node is stopped, as by SIGTERM."""
    with nemesis.host() as host:
        nemesis.note(f"stop {host.address}")
        await host.stop()
        await nemesis.kill(host, power=False)
        await nemesis.revive(host)


async def crash_at_any_await(nemesis: Nemesis) -> None:
    with nemesis.host() as host:
        steps = nemesis.random.randint(1, 200)
        nemesis.note(f"{host.address} will crash after {steps} more steps")
        crashed = trio.Event()
        nemesis.cluster.processes.stop_after(host.address, steps, crashed.set)
        with trio.move_on_after(2):
            await crashed.wait()
        await nemesis.kill(host, power=nemesis.random.random() < 0.7)
        await nemesis.revive(host, 0.3)


async def crash_at_a_disk_operation(nemesis: Nemesis) -> None:
    """A crash before some disk operation, also in a start, maybe again and again."""
    with nemesis.host() as host:
        for _ in range(nemesis.random.randint(1, 3)):
            operations = nemesis.random.randint(0, 8)
            nemesis.note(f"{host.address} will lose power after {operations} more disk operations")
            nemesis.life(host).expected = "power"
            host.disk.crash_after(operations)
            with trio.move_on_after(1):
                await host.ended.wait()
            await nemesis.kill(host)
            await nemesis.some_time(0.2)
            if nemesis.random.random() < 0.3:
                host.disk.crash_after(nemesis.random.randint(0, 6))
                await nemesis.start(host, "power")
            else:
                await nemesis.start(host)
        if not (host.running and host.node.recovered):
            await nemesis.kill(host)
            await nemesis.start(host)
        host.disk.spare()


async def crash_in_a_checkpoint(nemesis: Nemesis) -> None:
    """A crash after a checkpoint was renamed, with or without a loss of power; maybe again in a later start."""
    with nemesis.host() as host:
        for _ in range(nemesis.random.randint(1, 3)):
            operations = nemesis.random.choice((0, 1, 1, 1, 1, 2, 2, 3, 4, 6))
            nemesis.note(f"{host.address} will crash {operations} disk operations after it renames a checkpoint")
            nemesis.life(host).expected = "power"
            host.disk.crash_from(checkpoints.SUFFIX, operations)
            with trio.move_on_after(2.5):
                await host.ended.wait()
            if host.running:
                host.disk.spare()
                return
            await nemesis.kill(host, power=nemesis.random.random() < (0.6 if operations > 1 else 0.2))
            if nemesis.random.random() < 0.8:
                host.disk.crash_from(SUFFIX, nemesis.random.randint(0, 8))
                await nemesis.start(host, "power")
                await nemesis.some_time(0.1)
                await nemesis.kill(host)
            if not await nemesis.start(host):
                return


async def pause(nemesis: Nemesis) -> None:
    with nemesis.host() as host, nemesis.trouble(host):
        nemesis.note(f"SIGSTOP at {host.address}")
        host.pause()
        await nemesis.some_time(2.2)
        if nemesis.random.random() < 0.3:
            await nemesis.kill(host, power=False)
            await nemesis.revive(host, 0.2)
        else:
            nemesis.note(f"SIGCONT at {host.address}")
            host.resume()
            await trio.sleep(0.3)  # the node works through what has piled up


async def everybody_down(nemesis: Nemesis) -> None:
    with nemesis.everybody() as hosts:
        for host in hosts:
            await nemesis.kill(host, power=nemesis.random.random() < 0.7)
        async with trio.open_nursery() as nursery:
            for host in hosts:
                nursery.start_soon(nemesis.revive, host)


async def disk_operation_fails(nemesis: Nemesis) -> None:
    """A disk operation fails, so the process has to end. It restarts on pages that look written; the power fails."""
    with nemesis.host() as host, nemesis.trouble(host):
        operation = nemesis.random.choice(("sync", "sync", "sync", "write", "rename", "sync_names", "remove"))
        nemesis.note(f"the next {operation} at {host.address} will fail")
        nemesis.life(host).expected = "sync"
        host.disk.fail(operation, nemesis.random.randint(0, 2), nemesis.random.choice((errno.EIO, errno.EROFS)))
        with trio.move_on_after(1):
            await host.ended.wait()
        if host.running:
            host.disk.spare()
            return
        await nemesis.kill(host, power=nemesis.random.random() < 0.2)
        await nemesis.revive(host, 0.1)
        await nemesis.some_time(0.3)
        if nemesis.random.random() < 0.7:
            await nemesis.kill(host)
            await nemesis.revive(host)


async def disk_full(nemesis: Nemesis) -> None:
    with nemesis.host() as host, nemesis.trouble(host):
        host.disk.capacity = PLENTY - host.disk.free_bytes() + nemesis.random.choice((0, 40, 100, 400))
        nemesis.note(f"the disk of {host.address} is full")
        await nemesis.some_time()
        if nemesis.random.random() < 0.4:
            await nemesis.kill(host)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(nemesis.start, host)
                await nemesis.some_time(0.5)
                _free_space(nemesis, host)
        _free_space(nemesis, host)
        await trio.sleep(0.1)


def _free_space(nemesis: Nemesis, host: Host) -> None:
    nemesis.note(f"the disk of {host.address} has space")
    host.disk.capacity = PLENTY


async def slow_disk(nemesis: Nemesis) -> None:
    with nemesis.host() as host, nemesis.trouble(host):
        nemesis.note(f"the disk of {host.address} is slow")
        host.disk.latency = (0.05, 0.4)
        await nemesis.some_time()
        host.disk.latency = nemesis.scenario.latency
        await trio.sleep(SLOWEST)


async def rot(nemesis: Nemesis) -> None:
    """A byte of an old file changes. The node refuses to start, and the operator gives it an empty directory."""
    with nemesis.host() as host:
        if len(read_by_a_start(host.disk.durable())) < 2:
            raise Skipped
        await nemesis.kill(host)
        files = host.disk.durable()
        name = nemesis.random.choice(read_by_a_start(files)[:-1])
        intact = files[name]
        data = bytearray(intact)
        data[nemesis.random.randrange(len(data))] ^= 1 << nemesis.random.randrange(8)
        host.disk.poke(name, bytes(data))
        nemesis.note(f"{name} of {host.address} rots")
        if not await nemesis.start(host, "rot"):
            await nemesis.kill(host)
            if not replace(nemesis, host):
                host.disk.poke(name, intact)
            await nemesis.revive(host)


async def slow_network(nemesis: Nemesis) -> None:
    network = nemesis.cluster.network
    nemesis.note("the network is slow")
    network.delay = nemesis.random.choice(((0.01, 0.1), (0.05, 0.2), (0.001, 0.4)))
    await nemesis.some_time()
    network.delay = nemesis.scenario.delay


async def lost_connections(nemesis: Nemesis) -> None:
    """Connections break, and lose all messages on their way, or only answers: then the same pushes are sent again."""
    for _ in range(nemesis.random.randint(1, 5)):
        one, other = nemesis.pair()
        lost = nemesis.random.choice(((True, True), (False, True), (True, False), (False, False)))
        if nemesis.random.random() < 0.5:
            await _in_a_transfer(nemesis, one, other)
        nemesis.note(f"connections between {one.address} and {other.address} break, losing there, back: {lost}")
        nemesis.cluster.network.drop(one.address, other.address, lost)
        await nemesis.some_time(0.2)


async def _in_a_transfer(nemesis: Nemesis, sender: Host, receiver: Host) -> None:
    """Return when one of several chunks is sent, or soon. A pause in which nothing moves makes much to push."""
    network, seen = nemesis.cluster.network, trio.Event()
    network.cut(sender.address, receiver.address)
    often = nemesis.random.randint(4, 12) if sender.number in nemesis.scenario.core else 0
    for _ in range(often):  # not beyond the limit of counters of the others
        await nemesis.clients.write(sender, plain=True)
    network.heal(sender.address, receiver.address)
    tap, chunks = network.tap, nemesis.random.choice((1, 2, 2, 3))

    def watch(one: str, other: str, data: bytes) -> None:
        nonlocal chunks
        tap(one, other, data)
        if (one, other) == (sender.address, receiver.address) and data[1:2] == PUSH:
            message = decode(data)
            if isinstance(message, Push) and not message.last:
                chunks -= 1
                if chunks == 0:
                    seen.set()

    network.tap = watch
    try:
        with trio.move_on_after(1.0):
            await seen.wait()
    finally:
        if network.tap is watch:  # otherwise another fault has chained its tap to this one, or has removed it
            network.tap = tap


async def one_way_cut(nemesis: Nemesis) -> None:
    one, other = nemesis.pair()
    nemesis.note(f"nothing moves from {one.address} to {other.address}")
    nemesis.cluster.network.cut(one.address, other.address, one_way=True)
    await nemesis.some_time(2.5)
    heal(nemesis, [(one.address, other.address)])


async def pair_cut(nemesis: Nemesis) -> None:
    one, other = nemesis.pair()
    nemesis.note(f"nothing moves between {one.address} and {other.address}")
    nemesis.cluster.network.cut(one.address, other.address)
    await nemesis.some_time(2.5)
    heal(nemesis, [(one.address, other.address)])


async def halves(nemesis: Nemesis) -> None:
    """The network is divided in two halves, or one node is cut off alone."""
    cut = cut_off_some(nemesis)
    await nemesis.some_time(2.5)
    heal(nemesis, cut)


def cut_off_some(nemesis: Nemesis) -> list[tuple[str, str]]:
    """Divide the network; returns what is cut."""
    addresses = [host.address for host in nemesis.cluster.hosts]
    return cut_off(nemesis, nemesis.random.sample(addresses, nemesis.random.randint(1, len(addresses) // 2)))


def cut_off(nemesis: Nemesis, some: list[str]) -> list[tuple[str, str]]:
    """Cut the network between some addresses and all others; returns what is cut."""
    nemesis.note(f"{', '.join(some)} cut off from the others")
    others = [host.address for host in nemesis.cluster.hosts if host.address not in some]
    cut = [(one, other) for one in some for other in others]
    for one, other in cut:
        nemesis.cluster.network.cut(one, other)
    return cut


def heal(nemesis: Nemesis, cut: list[tuple[str, str]]) -> None:
    """End these cuts."""
    for one, other in cut:
        nemesis.note(f"all moves between {one} and {other}")
        nemesis.cluster.network.heal(one, other)
