"""The clients: increments and both kinds of reads on every node, at a steady pace, also while nodes are down."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Protocol

import trio

from tests.harness.client import NoAnswer, NotSent, Response
from tests.soak.history import POWERS, Increment, Look, Outcome, Query
from tests.soak.machine import Machine

PLAIN = ("plain-a", "plain-b", "plain-c")
WEIGHTS = (1, 4, 8, 8)  # of the counters of powers in use at a time: one of them lasts long, so that it spans faults
BITS = 64  # an increment is below 2^64
AGAIN = 0.02  # seconds between two checks of a condition
GIVE_UP = 10.0  # seconds that a client waits for an answer


class Operation(Protocol):
    """An operation that a client repeats."""

    __name__: str

    async def __call__(self, caller: Caller, rng: random.Random, /) -> None: ...


class Caller:
    """One client's connection to one node. Its operations are in the history, also if they are cancelled."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._client = machine.node.client()
        self._start_of_node = machine.node.starts

    async def _request(self, method: str, target: str, body: bytes | None = None) -> Response:
        if self._start_of_node != self.machine.node.starts:  # the connection was to a process that has ended
            self._client.drop()
            self._start_of_node = self.machine.node.starts
        return await self._client.request(method, target, body, timeout=GIVE_UP)

    def close(self) -> None:
        self._client.drop()

    async def increment(self, name: str, amount: int) -> Increment:
        """Try to increment once."""
        machine, start = self.machine, self.machine.clock()
        fate = _Fate()
        try:
            fate.read(await self._request("POST", f"/counter/{name}", b"%d" % amount))
        except (NotSent, NoAnswer) as error:
            fate.lost(error)
        finally:
            record = Increment(machine.number, name, amount, start, machine.clock(), *fate.known)
            machine.history.add(record)
        return record

    async def consistent(self, name: str, timeout: float | None = None) -> Query:
        """Read consistently once; `timeout` is in seconds, by default the node's."""
        machine, start = self.machine, self.machine.clock()
        query = "" if timeout is None else f"?timeout={timeout}"
        fate = _Fate()
        try:
            fate.read(await self._request("GET", f"/counter/{name}/consistent_value{query}"))
        except (NotSent, NoAnswer) as error:
            fate.lost(error)
        finally:
            record = Query(machine.number, name, start, machine.clock(), *fate.known)
            machine.history.add(record)
        return record

    async def value(self, name: str) -> int | None:
        """Read /value once; None if it was not answered."""
        machine, start = self.machine, self.machine.clock()
        try:
            answer = await self._request("GET", f"/counter/{name}/value")
        except (NotSent, NoAnswer):
            return None
        if answer.status != 200:
            return None
        machine.history.add(Look(machine.number, name, start, machine.clock(), answer.number()))
        return answer.number()

    async def exact(self, name: str) -> int:
        """Read consistently until there is an answer."""
        while True:
            query = await self.consistent(name)
            if query.outcome == "ok":
                return query.value
            await trio.sleep(AGAIN)

    async def equal(self, name: str, value: int) -> int:
        """Read /value until it is `value`; returns it."""
        while True:
            if await self.value(name) == value:
                return value
            await trio.sleep(AGAIN)


@dataclass
class _Fate:
    outcome: Outcome = "unknown"
    status: int = 0
    value: int = 0
    reason: str = ""

    @property
    def known(self) -> tuple[Outcome, int, int, str]:
        return self.outcome, self.status, self.value, self.reason

    def read(self, answer: Response) -> None:
        self.status = answer.status
        if answer.status == 200:
            self.outcome, self.value = "ok", answer.number()
            return
        promised = answer.status == 503 or 400 <= answer.status < 500  # that nothing was changed
        self.outcome = "refused" if promised else "unknown"
        try:
            self.reason = str(json.loads(answer.body)["detail"])
        except (ValueError, KeyError, TypeError):
            self.reason = f"not a problem document: {answer.body[:200]!r}"

    def lost(self, error: NotSent | NoAnswer) -> None:
        self.outcome = "unsent" if isinstance(error, NotSent) else "unknown"
        self.reason = str(error)


class Counters:
    """The next increments: some counters get powers of two, each until it is used up, and some get any amounts."""

    def __init__(self) -> None:
        self._made = len(WEIGHTS)
        self._slots = [[number, 0] for number in range(self._made)]  # the number of the counter, and the bits used

    def take(self, rng: random.Random) -> tuple[str, int]:
        """A name and an amount; no power of a counter is handed out twice."""
        if rng.random() < 0.35:
            return rng.choice(PLAIN), rng.choice((1, 7, rng.randrange(1, 2**32)))
        [slot] = rng.choices(self._slots, WEIGHTS)
        name, amount = f"{POWERS}-{slot[0]}", 1 << slot[1]
        slot[1] += 1
        if slot[1] == BITS:
            slot[:] = [self._made, 0]
            self._made += 1
        return name, amount

    def look(self, rng: random.Random) -> str:
        """A name to read: mostly one that is in use."""
        if rng.random() < 0.2:
            return rng.choice(PLAIN)
        if rng.random() < 0.1:
            return f"{POWERS}-{rng.randrange(self._made)}"
        [slot] = rng.choices(self._slots, WEIGHTS)
        return f"{POWERS}-{slot[0]}"


class Load:
    """All clients; `pace` is the number of increments a second that each node is sent."""

    WRITERS, READERS = 2, 2

    def __init__(self, machines: list[Machine], seed: int, pace: float) -> None:
        self.counters = Counters()
        self._machines, self._seed, self._pace = machines, seed, pace
        self._stop = trio.Event()

    def stop(self) -> None:
        """Stop; operations under way are still answered."""
        self._stop.set()

    async def run(self) -> None:
        """Run all clients until `stop`."""
        async with trio.open_nursery() as nursery:
            for machine in self._machines:
                for number in range(self.WRITERS):
                    nursery.start_soon(self._client, machine, number, self._write, self._pace / self.WRITERS)
                for number in range(self.READERS):
                    nursery.start_soon(self._client, machine, number, self._read, self._pace / 4)
                nursery.start_soon(self._client, machine, 0, self._watch, self._pace / 2)

    async def _client(self, machine: Machine, number: int, operation: Operation, pace: float) -> None:
        rng = random.Random(f"{self._seed} {machine.number} {operation.__name__} {number}")
        caller = Caller(machine)
        try:
            while not self._stop.is_set():
                await operation(caller, rng)
                with trio.move_on_after(rng.uniform(0.2, 1.8) / pace):
                    await self._stop.wait()
        finally:
            caller.close()

    async def _write(self, caller: Caller, rng: random.Random) -> None:
        if caller.machine.node.runs():  # otherwise powers would be used up without a node
            await caller.increment(*self.counters.take(rng))

    async def _read(self, caller: Caller, rng: random.Random) -> None:
        await caller.consistent(self.counters.look(rng), rng.choice((None, None, 0.5)))

    async def _watch(self, caller: Caller, rng: random.Random) -> None:
        await caller.value(self.counters.look(rng))
