"""Writers that never stop, and readers that ask several nodes at once. What they see goes into the history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random

import trio

from gcount.core.state.counters import Digest
from gcount.core.writes.increments import Add, Outcome, Peek, Repeat
from gcount.errors import ReadUnavailable, Refusal
from gcount.node.node import Node
from tests.fakes.cluster import Host, SimCluster
from tests.fakes.process import until, within
from tests.simulation.campaign.amounts import Amounts, Purse
from tests.simulation.campaign.history import PLAIN, Glance, History, Increment, Look, Query, Waited
from tests.simulation.campaign.id_clients import IdClients
from tests.simulation.campaign.recorder import Recorder
from tests.simulation.campaign.scenario import INCREMENTS, READS, Scenario
from tests.simulation.laws.survival import bits

WRITERS = 2  # for each node
READERS = 2
REQUESTS = {"one": 70, "many": 12, "each": 10, "burst": 8}  # how often of each kind
PER_REQUEST = 1.4  # increments in a request, on average
GIVEN_UP_AFTER = 4.0  # seconds in which every request should be answered


class Clients:
    """All clients of a run.

    Args:
        scenario: decides how busy they are.
        cluster: the nodes to which they send requests.
        recorder: writes down what they see.
    """

    def __init__(self, scenario: Scenario, cluster: SimCluster, recorder: Recorder) -> None:
        self._scenario = scenario
        self._cluster = cluster
        self._recorder = recorder
        self._history: History = recorder.history
        self._film = recorder.film
        self._random = Random(f"clients {scenario.seed}")
        pace = scenario.nodes * scenario.seconds / scenario.hurry
        self._write_every = PER_REQUEST * WRITERS * pace / INCREMENTS / 0.65
        self._read_every = READERS * pace / READS / 1.2
        self._purse = Purse(self._random)
        self._ids = IdClients(scenario.ids, cluster, recorder, self, self._purse) if scenario.ids else None
        self._batches = 0
        self._requests: dict[str, dict[trio.CancelScope, None]] = {}
        self.acknowledged = 0
        self.answered = 0
        self.swapped: frozenset[str] = frozenset()  # a former member, and the node at its address now
        self.stopped = False
        self._busy = 0

    @property
    def enough(self) -> bool:
        """Whether the run has as many operations as it needs."""
        return self.acknowledged >= INCREMENTS and self.answered >= READS

    @property
    def names(self) -> list[str]:
        """The counters of powers of two."""
        return self._purse.names

    async def quiet(self) -> None:
        """Stop, and return when the last request was answered or given up."""
        self.stopped = True
        with trio.move_on_after(GIVEN_UP_AFTER):
            await until(lambda: not self._busy)
        for address in list(self._requests):
            self.cut_off(address)

    def cut_off(self, address: str) -> None:
        """Give up the requests to a node that has died."""
        for scope in self._requests.pop(address, {}):
            scope.cancel()

    async def run(self) -> None:
        """Write to and read from all machines, until stopped."""
        async with trio.open_nursery() as nursery:
            for host in self._cluster.hosts:
                self.serve(nursery, host)

    def serve(self, nursery: trio.Nursery, host: Host) -> None:
        """Begin to write to and read from a machine."""
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
            if self._ids is not None and random.random() < self._ids.share:
                await self._ids.ask(host)
                continue
            kind = random.choices(list(REQUESTS), list(REQUESTS.values()))[0]
            await self._ask(host, kind, powers=self.is_member(host))

    def is_member(self, host: Host) -> bool:
        """Whether reads have to contain the increments of a node; not if it is outside the config."""
        return (host.number in self._scenario.core) != (host.address in self.swapped)

    async def _ask(self, host: Host, kind: str, *, powers: bool) -> None:
        """Send one request with one increment or with many, or several requests at once."""
        random, purse = self._random, self._purse
        if kind == "many":
            await self.count(host, purse.many(powers=powers), "many")
        elif kind == "each":
            await self.count(host, purse.alike(powers=powers), "each")
        elif kind == "one":
            wait = random.choice((0.05, 0.3, 0.6)) if random.random() < 0.1 else 0.0
            await self.count(host, [purse.some(powers=powers)], random.choice(("one", "each")), wait)
        else:
            async with trio.open_nursery() as nursery:
                for _ in range(random.randint(2, 4)):
                    door = random.choice(("one", "each"))
                    nursery.start_soon(self.count, host, [purse.some(powers=powers)], door)

    async def _reader(self, host: Host) -> None:
        random = self._random
        while not self.stopped:
            await trio.sleep(random.uniform(0, 2 * self._read_every))
            if host.running and host.node.recovered and not self.stopped:
                name = self._purse.hot() if random.random() < 0.8 else random.choice(self.names)
                await self.query(host, name, random.choice((0.2, 0.5, 1.0, 2.0)))

    async def count(self, host: Host, amounts: Amounts, door: str, wait: float = 0.0) -> None:
        """Send one request with increments, and write down its outcome.

        Args:
            host: the machine.
            amounts: names with amounts; an amount of 0 reads the value at its place.
            door: the kind of request: "one", "many", or "each" if all amounts are the same.
            wait: how many seconds to wait afterwards until other members have the increments too.
        """
        if not host.running:
            return  # the node has ended since it was chosen
        now, line = trio.current_time(), self._recorder.line(host.address)
        self._batches += 1
        batch = self._batches if len(amounts) > 1 else 0
        records = [Increment(name, amount, host.address, line, now, batch=batch) for name, amount in amounts]
        self._history.increments += [record for record in records if record.amount]
        shown = ", ".join(_shown(name, amount) for name, amount in amounts)
        self._film.add("client", f"asks {host.address}: {shown}")
        with self.request(host) as life:
            node = host.node
            outcome = await through(door, node, amounts)
            if life == host.lives and host.running:
                self._answered(host, records, outcome.values, shown)
                if wait and not outcome.refused:
                    await self._wait_held(host, outcome.position, wait)

    def _answered(self, host: Host, records: list[Increment], answers: Sequence[int | Refusal], shown: str) -> None:
        refused = {str(answer) for answer in answers if isinstance(answer, Refusal)}
        self._film.add(host.address, f"refused {shown}: {', '.join(refused)}" if refused else f"ACKNOWLEDGED {shown}")
        for record, answer in zip(records, answers, strict=True):
            record.end = trio.current_time()
            if isinstance(answer, Refusal):
                record.refused = type(answer).__name__
                continue
            record.answer = answer
            self.acknowledged += record.amount > 0
            self._history.looks.append(Look(record.start, record.end, record.line, record.name, answer))
        self._recorder.sample(host)

    async def _wait_held(self, host: Host, position: Digest, timeout: float) -> None:
        """Wait for other members, as the command WAIT does."""
        peers, members = host.node.peers, self._random.randint(1, self._scenario.nodes)
        life = host.lives
        with trio.move_on_after(timeout):
            await peers.wait_held(position, members)
        if life == host.lives and host.running:
            line = self._recorder.line(host.address)
            self._history.journal.append(Waited(trio.current_time(), line, position, peers.holders(position)))

    async def send_id(self, *hosts: Host) -> None:
        """Send one id to several nodes, one after another."""
        if self._ids is not None:
            await self._ids.retry(hosts)

    async def send_old_id(self, host: Host, time: int) -> None:
        """Send a new id that was made at a time, in seconds since 1970."""
        if self._ids is not None:
            await self._ids.send_old(host, time)

    async def write(self, host: Host, *, plain: bool = False) -> None:
        """Send one increment now.

        Args:
            host: the machine.
            plain: whether to avoid powers of two, because the node's incarnation has two histories.
        """
        if host.running and host.node.recovered:
            powers = self.is_member(host) and not plain
            await self.count(host, [self._purse.power() if powers else self._purse.plain()], "each")

    async def write_many(self, host: Host) -> None:
        """Send one request with many increments."""
        if host.running and host.node.recovered:
            await self.count(host, self._purse.many(powers=self.is_member(host)), "many")

    async def read(self, host: Host) -> None:
        """Read the hottest counter consistently, with a long timeout."""
        if host.running and host.node.recovered:
            await self.query(host, self._purse.hot(), 3.0)

    async def post(self, host: Host, addresses: list[str]) -> None:
        """Post a config; it may fail."""
        self._film.add("client", f"posts to {host.address} the config {', '.join(addresses)}")
        if host.running and host.node.recovered:
            with self.request(host), suppress(Refusal):
                await host.node.configure({"actors": addresses})

    async def query(self, host: Host, name: str, timeout: float) -> None:
        """Read consistently, and locally afterwards."""
        record = Query(name, host.address, self._recorder.line(host.address), trio.current_time())
        self._film.add("client", f"asks {host.address}: consistent value of {name}")
        with self.request(host) as life:
            node = host.node
            record.began_alone = not node.config()["actors"]
            try:
                value = await node.consistent_value(name, timeout)
            except (ReadUnavailable, Refusal) as refusal:
                self._film.add(host.address, f"503 for {name}: {refusal}")
            else:
                if life == host.lives and host.running:
                    record.end, record.value = trio.current_time(), value
                    record.alone = not node.config()["actors"]
                    self.answered += not record.began_alone
                    self._film.add(host.address, f"ANSWERED {name} = {bits(value)}{' alone' if record.alone else ''}")
            if life == host.lives and host.running:
                line = self._recorder.line(host.address)
                now = trio.current_time()
                glance = {one: node.value(one) for one in self.names}
                self._history.glances.append(Glance(now, line, glance))
                self._history.looks.append(Look(now, now, line, name, glance[name]))
        self._history.queries.append(record)

    @contextmanager
    def request(self, host: Host) -> Iterator[int]:
        """While the context lasts, a request to a node is under way; yields the number of the node's life."""
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


async def through(door: str, node: Node, amounts: Amounts) -> Outcome:
    """Send increments to a node in one of the ways that increments have.

    Args:
        door: the kind of request, see `Clients.count`.
        node: the node.
        amounts: names with amounts.
    """
    told: list[Outcome] = []
    done = trio.Event()

    def tell(outcome: Outcome) -> None:
        told.append(outcome)
        done.set()

    if door != "each":
        return await node.count([Add(name, amount) if amount else Peek(name) for name, amount in amounts])
    asked = Repeat([name for name, _ in amounts], amounts[0][1])
    if not node.submit(asked, tell):
        return await node.count(asked)
    await done.wait()
    return told[0]


def _shown(name: str, amount: int) -> str:
    return f"{name} += {amount if name.startswith(PLAIN) or not amount else f'2^{bits(amount)[0]}'}"
