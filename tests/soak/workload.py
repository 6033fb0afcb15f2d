"""The clients: increments and both kinds of reads on every node, at a steady pace, also while nodes are down."""

from __future__ import annotations

import random
from typing import Protocol

import trio

from tests.soak.caller import Caller
from tests.soak.counting import Counting
from tests.soak.history import POWERS
from tests.soak.machine import Machine

PLAIN = ("plain-a", "plain-b", "plain-c")
WEIGHTS = (1, 4, 8, 8)  # of the counters of powers in use at a time: one of them lasts long, so that it spans faults
BITS = 64  # an increment is below 2^64


class Operation(Protocol):
    """An operation that a client repeats."""

    __name__: str

    async def __call__(self, caller: Caller, rng: random.Random, /) -> None: ...


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
    """All clients.

    Args:
        machines: all nodes.
        seed: for the clients' choices.
        pace: the number of increments a second that each node is sent.
        window: the nodes' retry window, in seconds.

    Attributes:
        counting: how increments are sent, while `run` runs.
        counted: set after `stop` when all increments were answered.
    """

    WRITERS, READERS = 2, 2

    def __init__(self, machines: list[Machine], seed: int, pace: float, window: float) -> None:
        self.counters = Counters()
        self.counting: Counting | None = None
        self.counted = trio.Event()
        self._machines, self._seed, self._pace, self._window = machines, seed, pace, window
        self._stop, self._end = trio.Event(), trio.Event()

    def stop(self) -> None:
        """Begin no new increment; those under way are still answered, and what is read goes on being read."""
        self._stop.set()
        assert self.counting is not None, "it was run"
        self.counting.hurry()

    def end(self) -> None:
        """Stop the reads, too."""
        self._end.set()

    async def run(self, task_status: trio.TaskStatus[Counting]) -> None:
        """Run all clients until `stop` and `end`."""
        async with trio.open_nursery() as readers:
            for machine in self._machines:
                for number in range(self.READERS):
                    readers.start_soon(self._client, machine, number, self._read, self._pace / 4, self._end)
                readers.start_soon(self._client, machine, 0, self._watch, self._pace / 2, self._end)
                readers.start_soon(self._client, machine, 0, self._ask, 1.0, self._end)
            async with trio.open_nursery() as repeats:
                self.counting = Counting(self._machines, self._window, self._seed, repeats)
                async with trio.open_nursery() as writers:
                    for machine in self._machines:
                        for number in range(self.WRITERS):
                            pace = self._pace / self.WRITERS
                            writers.start_soon(self._client, machine, number, self._write, pace, self._stop)
                    task_status.started(self.counting)
            self.counted.set()

    async def _client(
        self, machine: Machine, number: int, operation: Operation, pace: float, until: trio.Event
    ) -> None:
        rng = random.Random(f"{self._seed} {machine.number} {operation.__name__} {number}")
        caller = Caller(machine)
        try:
            while not until.is_set():
                await operation(caller, rng)
                with trio.move_on_after(rng.uniform(0.2, 1.8) / pace):
                    await until.wait()
        finally:
            caller.close()

    async def _write(self, caller: Caller, rng: random.Random) -> None:
        assert self.counting is not None, "writers run after it was made"
        if caller.machine.node.runs():  # otherwise powers would be used up without a node
            await self.counting.count(caller, *self.counters.take(rng))

    async def _read(self, caller: Caller, rng: random.Random) -> None:
        await caller.consistent(self.counters.look(rng), rng.choice((None, None, 0.5)))

    async def _watch(self, caller: Caller, rng: random.Random) -> None:
        await caller.value(self.counters.look(rng))

    async def _ask(self, caller: Caller, rng: random.Random) -> None:
        await caller.ids()
