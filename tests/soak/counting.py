"""Increments that count once: each has an id, and after an error it is sent again, to another node."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from itertools import cycle

import trio

from tests.harness.made_ids import made_id
from tests.soak.caller import Caller
from tests.soak.history import Increment
from tests.soak.machine import Machine

AT_ONCE = 0.15  # the share of increments that are sent to two nodes at the same time
AGAIN = 0.15  # the share of increments that are sent again to any node although they were acknowledged
PAUSE = 0.1  # seconds between two attempts
LATE = 0.5  # no attempt begins later than this part of the retry window, so that none is refused for its age


class Counting:
    """Sends increments. What is still needed after the first attempt is done by tasks of its own.

    Args:
        machines: all nodes.
        window: the nodes' retry window, in seconds.
        seed: for the choices.
        repeats: the tasks; the nursery ends once all increments are acknowledged.
    """

    def __init__(self, machines: Sequence[Machine], window: float, seed: int, repeats: trio.Nursery) -> None:
        self._machines, self._window, self._repeats = machines, window, repeats
        self._rng = random.Random(f"{seed} ids")
        self._hurry = trio.Event()

    def hurry(self) -> None:
        """Do now what was to be done later."""
        self._hurry.set()

    async def count(self, caller: Caller, name: str, amount: int) -> Increment:
        """Increment once; returns the first attempt, which may have failed."""
        rng, began = self._rng, time.time()
        id_ = made_id(rng, began)
        others = [machine for machine in rng.sample(self._machines, len(self._machines)) if machine != caller.machine]
        chance = rng.random()
        if chance < AT_ONCE:
            self._repeats.start_soon(self._send, others, name, amount, id_, began)
        record = await caller.increment(name, amount, id_)
        if record.outcome != "ok":
            self._repeats.start_soon(self._send, [*others, caller.machine], name, amount, id_, began)
        elif chance > 1 - AGAIN:
            machines = rng.sample(self._machines, len(self._machines))
            self._repeats.start_soon(self._send_later, machines, name, amount, id_, began)
        return record

    async def _send_later(self, machines: Sequence[Machine], name: str, amount: int, id_: str, began: float) -> None:
        age = self._rng.uniform(0, LATE * self._window / 2)
        with trio.move_on_after(max(0.0, began + age - time.time())):
            await self._hurry.wait()
        await self._send(machines, name, amount, id_, began)

    async def _send(self, machines: Iterable[Machine], name: str, amount: int, id_: str, began: float) -> None:
        """Send to one node after another, until one acknowledges it."""
        for machine in cycle(machines):
            if time.time() > began + LATE * self._window:
                return  # the judge finds it if it was never acknowledged
            caller = Caller(machine)
            try:
                if (await caller.increment(name, amount, id_)).outcome == "ok":
                    return
            finally:
                caller.close()
            await trio.sleep(PAUSE)
