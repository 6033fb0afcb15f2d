"""The faults of operators, by name: directories lost, restored and copied, configs posted."""

from __future__ import annotations

from contextlib import ExitStack

import trio

from tests.fakes.cluster import Host
from tests.fakes.disk import SimDisk
from tests.simulation.campaign.nemesis import Nemesis, Skipped
from tests.simulation.faults.directories import replace
from tests.simulation.faults.machines import SLOWEST, cut_off, heal

MOMENT = 1e-9  # seconds


async def lost_directory(nemesis: Nemesis) -> None:
    with nemesis.host() as host:
        await nemesis.kill(host)
        replace(nemesis, host)
        await nemesis.revive(host, 1.5)


async def lost_directory_under_a_read(nemesis: Nemesis) -> None:
    """A node's last increments reach the others, but their questions do not reach it before its disk is lost."""
    with nemesis.host(core=True) as host:
        others = [other for other in nemesis.cluster.hosts if other is not host]
        nemesis.note(f"nothing moves from the others to {host.address}")
        for other in others:
            nemesis.cluster.network.cut(other.address, host.address, one_way=True)
        await nemesis.clients.write(host)
        _ended_before_now(nemesis, host)
        nemesis.nursery.start_soon(nemesis.clients.read, nemesis.random.choice(others))
        await nemesis.some_time(0.3)
        await nemesis.kill(host)
        replace(nemesis, host)
        heal(nemesis, [(other.address, host.address) for other in others])
        await nemesis.revive(host, 0.2)


def _ended_before_now(nemesis: Nemesis, host: Host) -> None:
    """Note that requests which ended in this instant ended before the ones that begin now.

    The laws compare times, and at equal times they know no order.
    """
    now = trio.current_time()
    for increment in nemesis.history.increments:
        if increment.host == host.address and increment.start < now == increment.end:
            increment.end = now - MOMENT


async def older_copy(nemesis: Nemesis) -> None:
    """An older copy of the directory takes its place, maybe twice."""
    with nemesis.host() as host:
        copy = copy_of(nemesis, host)
        await nemesis.some_time()
        for _ in range(nemesis.random.choice((1, 1, 2))):
            await nemesis.kill(host)
            replace(nemesis, host, copy)
            alone = nemesis.random.random() < 0.4
            if alone:  # the members that know what it has forgotten can't tell it
                cut = cut_off(nemesis, [host.address])
            await nemesis.revive(host)
            await nemesis.some_time(2.5 if alone else 1.2)
            if alone:
                heal(nemesis, cut)


async def older_copy_at_once(nemesis: Nemesis) -> None:
    """The copy starts before the other nodes have stored the original's last pushes, as disks or network are slow."""
    with nemesis.host(core=True) as host, ExitStack() as troubles:
        copy = copy_of(nemesis, host)
        others = [other for other in nemesis.cluster.hosts if other is not host]
        if nemesis.random.random() < 0.5:
            nemesis.note("the network is slow")
            nemesis.cluster.network.delay = (0.1, 0.6)
        else:
            nemesis.note(f"the disks of all but {host.address} are slow")
            for other in others:
                troubles.enter_context(nemesis.trouble(other))
                other.disk.latency = (0.2, 0.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nemesis.clients.write, host)
            await trio.sleep(nemesis.random.uniform(0.02, 0.1))
            await nemesis.kill(host, power=False, lose=False)
            nemesis.cluster.network.delay = nemesis.scenario.delay
            replace(nemesis, host, copy)
            await nemesis.start(host)
            nursery.start_soon(nemesis.clients.write, host)
            await nemesis.some_time()
        for other in others:
            other.disk.latency = nemesis.scenario.latency
        await trio.sleep(SLOWEST)


def copy_of(nemesis: Nemesis, host: Host) -> SimDisk:
    """Make a copy of a directory, if the product promises something about it.

    It does so only for copies that were made after the last change of the config. If no incarnation is left, there are
    no copies either: a node on an older copy would take no increments any more, and its state would stay behind.
    """
    if nemesis.few_lives:
        raise Skipped
    members = [address for host in nemesis.cluster.hosts if host is not nemesis.twin for address in [host.address]]
    if host.node.config()["actors"] != sorted(members):
        raise Skipped
    nemesis.note(f"the directory of {host.address} is copied")
    return host.copy_disk()


async def second_node(nemesis: Nemesis) -> None:
    """A copy of a directory runs on another machine, while the original runs, or is stopped and starts later."""
    _require_no_copy(nemesis)
    with nemesis.host() as host:
        copy, incarnation = copy_of(nemesis, host), host.node.replica.identity.incarnation
        await nemesis.some_time(0.3)
        _require_no_copy(nemesis)  # another fault may have started one meanwhile
        nemesis.history.doubled.add(incarnation)
        stopped = nemesis.random.random() < 0.5
        if stopped:
            await nemesis.kill(host, power=False)
        twin = nemesis.twin = nemesis.cluster.add()
        twin.put_disk(copy)
        twin.max_counters = nemesis.history.limits[twin.address]
        twin.disk.latency = nemesis.scenario.latency
        twin.disk.background = nemesis.scenario.background
        nemesis.history.relayed = True
        nemesis.recorder.set_clock(twin, nemesis.scenario.skews[-1])
        nemesis.recorder.directory(twin)
        nemesis.note(f"{twin.address} runs with a copy of the directory of {host.address}")
        await nemesis.start(twin)
        nemesis.clients.serve(nemesis.nursery, twin)
        if stopped:
            await nemesis.revive(host, 1.5)
        before, until = _node_id(host), trio.current_time() + 0.8
        while before and _node_id(host) == before and trio.current_time() < until:
            await nemesis.clients.write(host, plain=True)  # under the identity that both have
            await nemesis.some_time(0.02)


def _require_no_copy(nemesis: Nemesis) -> None:
    if nemesis.twin is not None or nemesis.moving or nemesis.history.repaired:
        raise Skipped  # what only a node outside the config has of a gap is promised to nobody


def _node_id(host: Host) -> bytes | None:
    return host.node.replica.identity.node if host.running and host.node.recovered else None


async def reshape(nemesis: Nemesis) -> None:
    """Members are added or removed: a list is posted to one node or to all, or different lists to two nodes at once."""
    random, clients = nemesis.random, nemesis.clients
    running = [host for host in nemesis.cluster.hosts if host.running and host.node.recovered]
    if len(running) < 2:
        raise Skipped
    kind = random.choice(("one", "all", "two"))
    if kind == "two":
        await conflict(nemesis)
        return
    members = _members(nemesis)
    async with trio.open_nursery() as nursery:
        for host in running if kind == "all" else [random.choice(running)]:
            nursery.start_soon(clients.post, host, members)


async def conflict(nemesis: Nemesis, *more: str) -> None:
    """Two different lists are posted to two nodes at once.

    Args:
        nemesis: the nemesis.
        more: further addresses for one of the lists, so that neither list is the one in force.
    """
    one, other = nemesis.pair()
    members = _members(nemesis)
    others = [host.address for host in nemesis.cluster.hosts if host.address not in members]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(nemesis.clients.post, one, [*members, *more])
        nursery.start_soon(nemesis.clients.post, other, _core(nemesis) + others + list(more[1:]))


def _members(nemesis: Nemesis) -> list[str]:
    core = _core(nemesis)
    return core + [
        host.address for host in nemesis.cluster.hosts if host.address not in core and nemesis.random.random() < 0.5
    ]


def _core(nemesis: Nemesis) -> list[str]:
    return [nemesis.cluster[number].address for number in nemesis.scenario.core]
