"""Writers that never stop and readers that ask several nodes at once; what they see goes into the history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random

import trio

from gcount.errors import DiskFull, ReadUnavailable, Refusal
from gcount.node import Node
from tests.simulation.cluster import Host, SimCluster
from tests.simulation.history import PLAIN, History, Increment, Look, Query
from tests.simulation.laws.survival import bits
from tests.simulation.process import until, within
from tests.simulation.recorder import Recorder
from tests.simulation.scenario import COUNTERS, INCREMENTS, READS, Scenario

BITS = 64  # of each counter
WRITERS = 2  # at each node
READERS = 2
GIVEN_UP_AFTER = 4.0  # seconds in which every request should be over


class Clients:
    """All clients of a run.

    Args:
        scenario: how busy they are.
        cluster: whom they ask.
        recorder: where it is written down.
    """

    def __init__(self, scenario: Scenario, cluster: SimCluster, recorder: Recorder) -> None:
        self._scenario = scenario
        self._cluster = cluster
        self._recorder = recorder
        self._history: History = recorder.history
        self._film = recorder.film
        self._random = Random(f"clients {scenario.seed}")
        pace = scenario.nodes * scenario.seconds / scenario.hurry
        self._write_every = WRITERS * pace / INCREMENTS / 0.65
        self._read_every = READERS * pace / READS / 1.2
        self._bits = {f"x{number}": 0 for number in range(COUNTERS)}
        self._requests: dict[str, dict[trio.CancelScope, None]] = {}
        self.acknowledged = 0
        self.answered = 0
        self.swapped: frozenset[str] = frozenset()  # a member that is none any more, and the one in its place
        self.reading = False
        self.stopped = False
        self._busy = 0

    @property
    def enough(self) -> bool:
        """Whether the run has as many operations as it needs."""
        return self.acknowledged >= INCREMENTS and self.answered >= READS

    @property
    def names(self) -> list[str]:
        """The counters of powers of two."""
        return list(self._bits)

    async def quiet(self) -> None:
        """Stop, and return when the last request is over, or given up."""
        self.stopped = True
        with trio.move_on_after(GIVEN_UP_AFTER):
            await until(lambda: not self._busy)
        for address in list(self._requests):
            self.cut_off(address)

    def cut_off(self, address: str) -> None:
        """The node at an address has died: its requests are never answered."""
        for scope in self._requests.pop(address, {}):
            scope.cancel()

    async def run(self) -> None:
        """Write and read at all machines until stopped."""
        async with trio.open_nursery() as nursery:
            for host in self._cluster.hosts:
                self.serve(nursery, host)

    def serve(self, nursery: trio.Nursery, host: Host) -> None:
        """Begin to write and read at a machine."""
        for _ in range(WRITERS):
            nursery.start_soon(self._writer, host)
        for _ in range(READERS):
            nursery.start_soon(self._reader, host)

    async def _writer(self, host: Host) -> None:
        random = self._random
        while True:
            await trio.sleep(random.uniform(0, 2 * self._write_every) * (random.random() < 0.7))
            if self.stopped:
                return
            if not (host.running and host.node.recovered):
                await trio.sleep(0.05)
                continue
            member = (host.number in self._scenario.core) != (host.address in self.swapped)
            name, amount = self._next() if member and random.random() < 0.95 else self._plain()
            await self.increment(host, name, amount)

    async def _reader(self, host: Host) -> None:
        random = self._random
        while not self.stopped:
            await trio.sleep(random.uniform(0, 2 * self._read_every))
            if self.reading and host.running and host.node.recovered and not self.stopped:
                name = self._hot() if random.random() < 0.8 else random.choice(list(self._bits))
                await self.query(host, name, random.choice((0.2, 0.5, 1.0, 2.0)))

    def _hot(self) -> str:
        """The counter that most requests are about at the moment."""
        return f"x{int(trio.current_time() / 0.7) % COUNTERS}"

    def _next(self) -> tuple[str, int]:
        """A counter and a power of two that was not added to it yet."""
        name = self._hot() if self._random.random() < 0.8 else self._random.choice(list(self._bits))
        if self._bits[name] >= BITS:
            name = min(self._bits, key=lambda other: self._bits[other])
        if self._bits[name] >= BITS:
            return self._plain()
        self._bits[name] += 1
        return name, 1 << (self._bits[name] - 1)

    def _plain(self) -> tuple[str, int]:
        return f"{PLAIN}{self._random.randrange(3)}", self._random.randint(1, 10**9)

    async def increment(self, host: Host, name: str, amount: int) -> None:
        """Count, and write down what became of it."""
        now, line = trio.current_time(), self._recorder.line(host.address)
        record = Increment(name, amount, host.address, line, now)
        self._history.increments.append(record)
        shown = f"{name} += {amount if name.startswith(PLAIN) else f'2^{bits(amount)[0]}'}"
        self._film.add("client", f"asks {host.address}: {shown}")
        with self._request(host) as life:
            try:
                answer = await self._count(host.node, name, amount)
            except Refusal as refusal:
                record.refused = type(refusal).__name__
                record.end = trio.current_time()
                self._film.add(host.address, f"refused {shown}: {refusal}")
            else:
                if life == host.lives and host.running:
                    record.end, record.answer = trio.current_time(), answer
                    self.acknowledged += 1
                    self._history.looks.append(Look(record.start, record.end, line, name, answer))
                    self._recorder.sample(host)
                    self._film.add(host.address, f"ACKNOWLEDGED {shown}")

    async def _count(self, node: Node, name: str, amount: int) -> int:
        """By either of the two doors that increments have."""
        told: list[Sequence[int] | DiskFull] = []
        done = trio.Event()

        def tell(values: Sequence[int] | DiskFull) -> None:
            told.append(values)
            done.set()

        if self._random.random() < 0.5 or not node.increment_each([name], amount, tell):
            return await node.increment(name, amount)
        await done.wait()
        if isinstance(told[0], DiskFull):
            raise told[0]
        return told[0][0]

    async def write(self, host: Host, *, plain: bool = False) -> None:
        """Count something there now."""
        if host.running and host.node.recovered:
            await self.increment(host, *(self._plain() if plain else self._next()))

    async def read(self, host: Host) -> None:
        """Read there what is counted most at the moment, with much patience."""
        if self.reading and host.running and host.node.recovered:
            await self.query(host, self._hot(), 3.0)

    async def post(self, host: Host, addresses: list[str]) -> None:
        """Post a config, whatever comes of it."""
        self._film.add("client", f"posts to {host.address} the config {', '.join(addresses)}")
        if host.running and host.node.recovered:
            with self._request(host), suppress(Refusal):
                await host.node.configure({"actors": addresses})

    async def query(self, host: Host, name: str, timeout: float) -> None:
        """Read consistently, and locally afterwards."""
        record = Query(name, host.address, trio.current_time())
        self._film.add("client", f"asks {host.address}: consistent value of {name}")
        with self._request(host) as life:
            node = host.node
            record.alone = not node.config()["actors"]
            try:
                value = await node.consistent_value(name, timeout)
            except (ReadUnavailable, Refusal) as refusal:
                self._film.add(host.address, f"503 for {name}: {refusal}")
            else:
                if life == host.lives and host.running:
                    record.end, record.value = trio.current_time(), value
                    record.alone = record.alone or not node.config()["actors"]
                    self.answered += not record.alone
                    self._film.add(host.address, f"ANSWERED {name} = {bits(value)}{' alone' if record.alone else ''}")
            if life == host.lives and host.running:
                line = self._recorder.line(host.address)
                now = trio.current_time()
                self._history.looks.append(Look(now, now, line, name, node.value(name)))
        self._history.queries.append(record)

    @contextmanager
    def _request(self, host: Host) -> Iterator[int]:
        scopes = self._requests.setdefault(host.address, {})
        self._busy += 1
        try:
            with trio.CancelScope() as scope, within(host.address):
                scopes[scope] = None
                try:
                    yield host.lives
                finally:
                    scopes.pop(scope, None)
        finally:
            self._busy -= 1
