"""Causes the faults of a run, and ends them all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random

import trio

from tests.fakes.cluster import Host, SimCluster
from tests.fakes.process import until
from tests.simulation.campaign.clients import Clients
from tests.simulation.campaign.history import Life, Trouble
from tests.simulation.campaign.limits import FEW_LIVES
from tests.simulation.campaign.recorder import Recorder
from tests.simulation.campaign.scenario import Scenario

Fault = Callable[["Nemesis"], Awaitable[None]]


MOST_AT_ONCE = 3  # faults at one time


class Skipped(Exception):
    """The fault can't happen now."""


class Nemesis:
    """Causes all faults of a run.

    Args:
        scenario: which faults may happen.
        cluster: the cluster that suffers them.
        clients: have to know when a node dies.
        recorder: writes down what happens.
        nursery: for tasks in the background.
    """

    def __init__(
        self, scenario: Scenario, cluster: SimCluster, clients: Clients, recorder: Recorder, nursery: trio.Nursery
    ) -> None:
        self.scenario = scenario
        self.cluster = cluster
        self.clients = clients
        self.recorder = recorder
        self.history = recorder.history
        self.nursery = nursery
        self.random = Random(f"nemesis {scenario.seed}")
        self.twin: Host | None = None
        self.moving = False  # whether an entry leads to another machine now
        self._busy: set[str] = set()

    @property
    def few_lives(self) -> bool:
        """Whether the cluster's incarnations have to run out."""
        return self.history.most_lives == FEW_LIVES

    @property
    def lives_run_out(self) -> bool:
        """Whether so few incarnations are left that each node may only begin a last one.

        (Nodes that are cut off do not know of each other's incarnations.) Empty and repaired directories begin one in
        any case, so they must not happen any more.
        """
        if not self.few_lives:
            return False
        return len(self.history.begun()) + len(self.cluster.hosts) >= FEW_LIVES

    async def run(self, catalog: dict[str, Fault]) -> None:
        """Cause as many faults as the scenario has; returns when the last one is over."""
        random = self.random
        under_way: list[str] = []

        def idle() -> bool:
            return not under_way

        async def happen(kind: str) -> None:
            try:
                await catalog[kind](self)
            except Skipped:
                self.history.faults[kind] -= 1
            under_way.remove(kind)

        async with trio.open_nursery() as nursery:
            while self.history.faults.total() < self.scenario.faults:
                await trio.sleep(random.uniform(0.02, self.scenario.gap))
                if len(under_way) < MOST_AT_ONCE:
                    kind = random.choice(self.scenario.kinds)
                    self.history.faults[kind] += 1
                    under_way.append(kind)
                    nursery.start_soon(happen, kind)
                if self.history.faults.total() >= self.scenario.faults:
                    await until(idle)  # some may turn out to be impossible

    def note(self, text: str) -> None:
        """Add a line to the film."""
        self.recorder.film.add("NEMESIS", text)

    @contextmanager
    def host(self, *, core: bool = False) -> Iterator[Host]:
        """A machine with a working node, which no other fault has chosen."""
        free = [
            host
            for host in self.cluster.hosts
            if host.address not in self._busy and host.running and host.node.recovered
            if not core or host.number in self.scenario.core
        ]
        if not free:
            raise Skipped
        host = self.random.choice(free)
        self._busy.add(host.address)
        try:
            yield host
        finally:
            self._busy.discard(host.address)

    @contextmanager
    def everybody(self) -> Iterator[list[Host]]:
        """All machines."""
        if self._busy or not all(host.running and host.node.recovered for host in self.cluster.hosts):
            raise Skipped
        self._busy |= {host.address for host in self.cluster.hosts}
        try:
            yield list(self.cluster.hosts)
        finally:
            self._busy.clear()

    def pair(self) -> tuple[Host, Host]:
        """Two machines, in either order."""
        one, other = self.random.sample(self.cluster.hosts, 2)
        return one, other

    async def some_time(self, most: float = 1.2) -> None:
        """Wait a random time of `most` seconds at most."""
        await trio.sleep(self.random.uniform(0.01, most))

    @contextmanager
    def trouble(self, host: Host) -> Iterator[None]:
        """Note that a node is stopped, or its disk does not work, while the context lasts."""
        trouble = Trouble(host.address, trio.current_time())
        self.history.troubles.append(trouble)
        try:
            yield
        finally:
            trouble.end = trio.current_time()

    async def start(self, host: Host, expected: str = "") -> bool:
        """Start a node; returns True when it serves, False if it refused to start."""
        life = Life(host.address, self.recorder.line(host.address), trio.current_time(), expected=expected)
        self.history.lives.append(life)
        self.note(f"start {host.address}")
        node = await host.begin()
        async with trio.open_nursery() as nursery:

            async def ended() -> None:
                await host.ended.wait()
                nursery.cancel_scope.cancel()

            self.nursery.start_soon(self._watch, host, life)
            nursery.start_soon(ended)
            await node.wait_ready()
            life.ready = trio.current_time()
            nursery.cancel_scope.cancel()
        return life.ready is not None

    async def kill(self, host: Host, *, power: bool = True, lose: bool | None = None) -> None:
        """End a node by kill -9 or a loss of power. It may have ended already.

        Args:
            host: its machine.
            power: whether the power fails, so that the disk may lose what was not synced.
            lose: whether messages of the node that are on their way are lost; by default chance decides.
        """
        self.note(f"{'power loss' if power else 'kill -9'} at {host.address}")
        await host.kill(power=power, lose=lose)

    async def revive(self, host: Host, most: float = 0.6) -> None:
        """Start a node that is down, after a random time of `most` seconds at most."""
        await self.some_time(most)
        await self.start(host)

    def life(self, host: Host) -> Life:
        """The newest life of a node."""
        return next(life for life in reversed(self.history.lives) if life.host == host.address)

    async def _watch(self, host: Host, life: Life) -> None:
        await host.ended.wait()
        life.ended, life.failure = trio.current_time(), host.failure
        self.clients.cut_off(host.address)
        self.note(f"{host.address} has ended{f': {host.failure}' if host.failure else ''}")

    async def heal(self) -> None:
        """End all faults of the network, and start all nodes that are down."""
        network = self.cluster.network
        network.delay = self.scenario.delay
        network.heal()
        for host in self.cluster.hosts:
            if not host.running:
                await self.start(host)
