"""The faults of two machines at once, by name: what one directory has forgotten, another one forgets too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import trio

from tests.fakes.cluster import Host
from tests.simulation.campaign.nemesis import Nemesis, Skipped
from tests.simulation.faults.directories import replace
from tests.simulation.faults.forgetting import copy_of
from tests.simulation.faults.machines import PUSH, heal

RELAYED_WITHIN = 3.0  # seconds


async def two_directories(nemesis: Nemesis) -> None:
    """Two machines lose their directories, or get older copies of them, while both are down."""
    random = nemesis.random
    with ExitStack() as stack:
        hosts = [stack.enter_context(nemesis.host()) for _ in range(2)]
        copies = [copy_of(nemesis, host) if random.random() < 0.6 else None for host in hosts]
        await nemesis.some_time()
        for host in hosts:
            await nemesis.clients.write(host, plain=host is nemesis.twin)
        for host in hosts:
            await nemesis.kill(host, lose=True)
        for host, copy in zip(hosts, copies, strict=True):
            replace(nemesis, host, copy)
        async with trio.open_nursery() as nursery:
            for host in hosts:
                nursery.start_soon(nemesis.revive, host)
        for host in hosts:
            await nemesis.clients.write(host, plain=host is nemesis.twin)
        await nemesis.some_time()


async def relay_held_up(nemesis: Nemesis) -> None:
    """Increments of one node are on their way from a second node to a third, as the first restarts on an older copy."""
    await _relay(nemesis, forgets=False)


async def relay_outlives_its_sender(nemesis: Nemesis) -> None:
    """The same, and the second node has lost its directory meanwhile."""
    await _relay(nemesis, forgets=True)


async def _relay(nemesis: Nemesis, *, forgets: bool) -> None:
    network = nemesis.cluster.network
    with ExitStack() as stack:
        owner, relay = (stack.enter_context(nemesis.host(core=True)) for _ in range(2))
        thirds = [host for host in nemesis.cluster.hosts if host not in (owner, relay, nemesis.twin) and host.running]
        if not thirds:
            raise Skipped
        third = nemesis.random.choice(thirds)
        copy = copy_of(nemesis, owner)
        nemesis.note(f"nothing moves between {owner.address} and {third.address}")
        network.cut(owner.address, third.address)
        with _held_up(nemesis, owner, relay, third) as held:
            for _ in range(3):
                await nemesis.clients.write(owner)
            with trio.move_on_after(RELAYED_WITHIN):
                await held.wait()
        await nemesis.kill(owner, lose=True)
        if forgets:
            await nemesis.kill(relay, lose=False)
            replace(nemesis, relay)
            await nemesis.start(relay)
        replace(nemesis, owner, copy)
        heal(nemesis, [(owner.address, third.address)])
        await nemesis.start(owner)
        await nemesis.clients.write(owner)
        await nemesis.some_time(0.3)
        heal(nemesis, [(relay.address, third.address)])
        await nemesis.clients.write(owner)
        await nemesis.some_time()


@contextmanager
def _held_up(nemesis: Nemesis, owner: Host, relay: Host, third: Host) -> Iterator[trio.Event]:
    """Hold up the first push to the third node with increments of the owner's present incarnation."""
    network, held = nemesis.cluster.network, trio.Event()
    life, tap = owner.node.replica.identity.incarnation, nemesis.cluster.network.tap

    def watch(sender: str, receiver: str, data: bytes) -> None:
        tap(sender, receiver, data)
        relayed = (sender, receiver) == (relay.address, third.address) and data[1:2] == PUSH and life in data
        if relayed and not held.is_set():
            nemesis.note(f"what {sender} tells {receiver} of {owner.address} is held up")
            network.cut(sender, receiver, one_way=True)
            held.set()

    network.tap = watch
    try:
        yield held
    finally:
        held.set()  # another fault may have chained its tap to this one for longer: nothing is held up any more
        if network.tap is watch:
            network.tap = tap
