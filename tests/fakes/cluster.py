"""Whole nodes in memory: the real `open_node` over simulated disks and a simulated network.

What it promises:
- Each machine runs the product's own code, from `open_node` down. Only disk, network, clock and chance are simulated.
- A node that is killed changes nothing more: none of its `finally` blocks reaches the disk or the network.
- The same seed and the same calls give the same run.
- When the context of `open_cluster` ends, no node runs any more.

Every test of whole nodes in memory opens them here: `open_cluster` for nodes with links to each other, `open_alone` for
a single one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random

import trio

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.identity import Identity
from gcount.core.state.replica import Replica
from gcount.errors import Fatal, leaves
from gcount.node.node import Node, open_node
from gcount.observe.metrics import Metrics
from gcount.settings import DEFAULT_MAX_IDS, DEFAULT_RETRY_WINDOW, Settings
from gcount.storage.checkpoints import Checkpoints
from gcount.storage.disk import Disk
from gcount.storage.log import Log
from gcount.storage.recovery import recover
from tests.fakes.disk import SimDisk, SimulatedCrash
from tests.fakes.network import SimNetwork
from tests.fakes.process import PROCESS, Processes, seed_scheduler

WALL_CLOCK = 1_700_000_000.0  # when simulations begin
PORT = 7777


def address_of(number: int) -> str:
    """The address of the node with that number, from 1."""
    return f"10.0.0.{number}:{PORT}"


class Host:
    """A machine with a disk, on which a node may run.

    Args:
        cluster: the cluster to which the machine belongs.
        number: its number, from 1.
        address: the address on which its node listens.
        disk: its data directory.
    """

    def __init__(self, cluster: SimCluster, number: int, address: str, disk: SimDisk) -> None:
        self.cluster = cluster
        self.number = number
        self.address = address
        self.disk = disk
        self.name = ""  # the node's --cluster
        self.timeout = 5.0
        self.max_counters = 1000
        self.retry_window = cluster.retry_window
        self.max_ids = cluster.max_ids
        self.knows_itself = True
        self.clock_skew = 0.0
        self.failure: BaseException | None = None  # why the node ended by itself
        self._node: Node | None = None
        self._life: trio.CancelScope | None = None
        self.ended = trio.Event()  # set when the newest node here has ended
        self.lives = 0  # how many nodes were started here
        self._killed = False

    @property
    def node(self) -> Node:
        """The node that runs here."""
        assert self._node is not None, f"no node runs at {self.address}"
        return self._node

    @property
    def running(self) -> bool:
        """Whether a node runs here."""
        return self._node is not None

    async def start(self) -> Node:
        """Start a node; returns when it has recovered."""
        node = await self.begin()
        await node.wait_ready()
        return node

    async def begin(self) -> Node:
        """Start a node; returns while it recovers."""
        assert self._node is None
        self.ended = trio.Event()
        self.failure = None
        self._killed = False
        self.lives += 1
        await self.cluster.nursery.start(self._live)
        return self.node

    async def stop(self) -> None:
        """End the node as a signal does."""
        assert self._life is not None
        self._life.cancel()
        await self.ended.wait()

    async def kill(self, *, power: bool = True, lose: bool | None = None) -> None:
        """End the node as kill -9 does, or as a loss of power does.

        Args:
            power: whether the power fails, so that the disk may lose what was not synced.
            lose: whether messages of the node that are on their way are lost; by default chance decides.
        """
        if self._life is not None and self.running:
            self._killed = True
            self.disk.cut()
            self.cluster.network.close(self.address, lose=self.cluster.random.random() < 0.5 if lose is None else lose)
            self._life.cancel()
            self.cluster.processes.spare(self.address)
            self.cluster.processes.resume(self.address)
            self.cluster.network.resume(self.address)
        await self.ended.wait()
        if power:
            self.disk.crash()
        else:
            self.disk.restart()

    def pause(self) -> None:
        """Stop the process as SIGSTOP does."""
        self.cluster.processes.stop(self.address)
        self.cluster.network.pause(self.address)

    def resume(self) -> None:
        """Let the process go on, as SIGCONT does."""
        self.cluster.network.resume(self.address)
        self.cluster.processes.resume(self.address)

    async def restart(self) -> Node:
        """Kill the node if it runs, and start it again."""
        if self.running:
            await self.kill()
        return await self.start()

    def wipe(self) -> None:
        """Replace the disk by an empty one."""
        self.disk = self.cluster.new_disk()

    def copy_disk(self) -> SimDisk:
        """A copy of the data directory as it is now."""
        return self.disk.copy()

    def put_disk(self, disk: SimDisk) -> None:
        """Replace the data directory by a copy of another one."""
        self.disk = disk.copy()

    @property
    def clock(self) -> float:
        """The wall clock, in seconds since 1970."""
        return WALL_CLOCK + trio.current_time() + self.clock_skew

    def settings(self) -> Settings:
        """The settings of this machine's operator."""
        host, _, port = self.address.rpartition(":")
        return Settings(
            self.number,
            host,
            int(port),
            Path("/data"),
            self.timeout,
            self.name,
            self.max_counters,
            "text",
            retry_window=self.retry_window,
            max_ids=self.max_ids,
        )

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        PROCESS.set(self.address)
        network, random = self.cluster.network, self.cluster.random
        transport = network.transport(self.address, knows_itself=self.knows_itself)
        try:
            with trio.CancelScope() as self._life:
                async with (
                    open_node(
                        self.settings(),
                        self.disk,
                        transport,
                        random=Random(random.random()),
                        wall_clock=lambda: self.clock,
                        options=self.cluster.options,
                    ) as self._node,
                    trio.open_nursery() as nursery,
                ):
                    network.listen(self.address, self._node, nursery)
                    task_status.started()
                    try:
                        await trio.sleep_forever()
                    finally:
                        network.close(self.address)
        except* (Fatal, SimulatedCrash) as group:
            self.failure = None if self._killed else leaves(group)[0]
        finally:
            self._node = None
            self.ended.set()


class SimCluster:
    """Machines, and the network between them.

    Args:
        nursery: the nursery in which the nodes run.
        random: the source of all chance.
        delay: the least and the most seconds that a message travels.
        options: the options of all nodes. A node takes the value of its start.
    """

    def __init__(
        self, nursery: trio.Nursery, random: Random, delay: tuple[float, float], options: Options = DEFAULTS
    ) -> None:
        self.nursery = nursery
        self.options = options
        self.random = random
        self.network = SimNetwork(Random(random.random()), delay)
        self.processes = Processes()
        self.hosts: list[Host] = []
        self.at_once = 0.0  # for all new disks
        self.retry_window: float = DEFAULT_RETRY_WINDOW  # for all new machines
        self.max_ids = DEFAULT_MAX_IDS  # for all new machines

    def __getitem__(self, number: int) -> Host:
        """The machine with that number, from 1."""
        return self.hosts[number - 1]

    @property
    def addresses(self) -> list[str]:
        """The addresses of all machines."""
        return [host.address for host in self.hosts]

    def new_disk(self) -> SimDisk:
        """An empty disk."""
        disk = SimDisk(Random(self.random.random()))
        disk.at_once = self.at_once
        return disk

    def add(self) -> Host:
        """Add a machine, on which no node runs yet."""
        number = len(self.hosts) + 1
        self.hosts.append(Host(self, number, address_of(number), self.new_disk()))
        return self.hosts[-1]

    async def configure(self, *hosts: Host) -> None:
        """Post a config of those machines, or of all, to the first of them, and wait until all of them have it."""
        members = hosts or tuple(self.hosts)
        await members[0].node.configure({"actors": [host.address for host in members]})
        wanted = sorted(host.address for host in members)
        await self.eventually(
            lambda: all(host.node.config()["actors"] == wanted and self.linked(host) for host in members)
        )

    def linked(self, host: Host) -> bool:
        """Whether a node has links to all other members."""
        return all(peer.sender is not None for peer in host.node.peers if peer.address != host.address)

    async def uptime(self, host: Host) -> None:
        """Wait until a node runs on a machine and has recovered."""
        await self.eventually(lambda: host.running and host.node.recovered, 60)

    async def eventually(self, condition: Callable[[], bool | Awaitable[bool]], within: float = 2.0) -> float:
        """Wait until a condition is true; returns how many seconds that took.

        Args:
            condition: called again and again.
            within: how many seconds it may take.

        Raises:
            AssertionError: the condition was not true in time.
        """
        started = trio.current_time()
        while True:
            holds = condition()
            if isinstance(holds, Awaitable):
                holds = await holds
            if holds:
                return trio.current_time() - started
            assert trio.current_time() < started + within, "the condition was not true in time"
            await trio.sleep(0.005)

    async def converged(self, name: str, value: int, within: float = 2.0) -> None:
        """Wait until all running nodes have a value of a counter, and answer consistent reads with it."""
        running = [host for host in self.hosts if host.running]
        await self.eventually(lambda: all(host.node.value(name) == value for host in running), within)
        for host in running:
            assert await host.node.consistent_value(name) == value


@asynccontextmanager
async def open_cluster(
    size: int = 3,
    *,
    seed: int = 0,
    delay: tuple[float, float] = (0.001, 0.01),
    configured: bool = True,
    options: Options = DEFAULTS,
) -> AsyncIterator[SimCluster]:
    """A cluster of running nodes, for as long as the context lasts.

    Args:
        size: the number of nodes.
        seed: the seed of all chance.
        delay: the least and the most seconds that a message travels.
        configured: whether a config with all nodes is in force already.
        options: the nodes' options.
    """
    seed_scheduler(seed)
    async with trio.open_nursery() as nursery:
        cluster = SimCluster(nursery, Random(seed), delay, options)
        with cluster.processes.watching():
            for _ in range(size):
                await cluster.add().start()
            if configured:
                await cluster.configure()
            yield cluster
        nursery.cancel_scope.cancel()


def open_alone(
    disk: Disk,
    *,
    address: str = f"127.0.0.1:{PORT}",
    timeout: float = 5.0,
    max_counters: int = 1000,
    seed: int = 1,
    options: Options = DEFAULTS,
) -> AbstractAsyncContextManager[Node]:
    """A node that no other node can reach, on any disk, for tests of a single node.

    Args:
        disk: its data directory.
        address: the address on which it listens, as other nodes would dial it.
        timeout: the setting of that name, in seconds.
        max_counters: the setting of that name.
        seed: the seed of all its chance.
        options: its options.
    """
    host, _, port = address.rpartition(":")
    settings = Settings(1, host, int(port), Path("/data"), timeout, "", max_counters, "text")
    random = Random(seed)
    transport = SimNetwork(random, (0.0, 0.0)).transport(address)
    return open_node(settings, disk, transport, random=random, wall_clock=lambda: WALL_CLOCK, options=options)


async def replayed(disk: SimDisk, options: Options = DEFAULTS) -> Replica:
    """The replica that a start would make of the content of a disk."""
    blank = Identity(bytes(16), bytes(16))
    replica = Replica(blank, 1000, options)
    copy = disk.copy()
    log = Log(copy, options)
    header = await recover(replica, log, Checkpoints(copy, log, Metrics(), options))
    log.close()
    if header is not None and replica.identity == blank:
        replica.identity = Identity(header.node, header.incarnation)
    return replica
