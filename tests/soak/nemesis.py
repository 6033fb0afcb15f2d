"""Carries out a plan: causes faults, increments a counter meanwhile, ends them, and measures the time to heal."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from tests.harness.namespaces import Network
from tests.soak import plan
from tests.soak.caller import Caller
from tests.soak.counting import Counting
from tests.soak.history import Fault, Healing, History
from tests.soak.judge import HEALED_WITHIN
from tests.soak.machine import Clock, Machine
from tests.soak.plan import FAMILY_OF, Blow, Step

FILLER = "filler-" + "x" * 200  # a long name makes long records


class Nemesis:
    """Causes the faults of the network and the nodes."""

    def __init__(
        self, network: Network, machines: Sequence[Machine], history: History, clock: Clock, counting: Counting
    ) -> None:
        self._network, self._counting = network, counting
        self._machines = {machine.number: machine for machine in machines}
        self._history, self._clock = history, clock
        self._steps = 0

    async def strike(self, step: Step) -> Healing:
        """Carry out one step, from its first fault to its healing, without the rest after it."""
        self._steps += 1
        name = f"mark-{self._steps}"
        began: list[float] = []
        ended: dict[int, float] = {}
        async with trio.open_nursery() as restarts:
            for blow in step.blows:
                began.append(self._clock())
                await self._begin(blow, restarts)
                await trio.sleep(step.gap)
            await trio.sleep(step.hold)
            await self._mark(name)
            for number, blow in enumerate(step.blows):
                if blow.kind != plan.KILL:
                    self._end(blow)
                    ended[number] = self._clock()
        for number, blow in enumerate(step.blows):
            end = ended.get(number, self._clock())
            fault = Fault(self._steps, blow.kind, list(blow.nodes), began[number], end, blow.detail)
            self._history.add(fault)
        healing = await self._heals(name)
        self._history.add(healing)
        return healing

    async def _begin(self, blow: Blow, restarts: trio.Nursery) -> None:
        roads = blow.roads(self._machines)
        for machine in (self._machines[number] for number in blow.nodes):
            if blow.kind == plan.KILL:
                machine.kill()
                restarts.start_soon(self._restart, machine, blow.down)
            elif blow.kind == plan.PAUSE:
                machine.pause()
            elif blow.kind == plan.FULL:
                await machine.fill()
                await self._use_up(machine)
        if FAMILY_OF[blow.kind] == "cut":
            for one, other in roads:
                self._network.cut_one_way(one, other)
        elif FAMILY_OF[blow.kind] == "weather":
            self._network.disturb(roads, blow.weather)

    async def _restart(self, machine: Machine, after: float) -> None:
        await trio.sleep(after)
        machine.node.spawn()
        await machine.wait_ready()

    async def _use_up(self, machine: Machine) -> None:
        """Fill the space that is left inside the files: the last page of the live segment."""
        caller = Caller(machine)
        taken = machine.ready and not machine.paused
        while taken:
            taken = (await self._counting.count(caller, FILLER, 1)).outcome == "ok"
        caller.close()

    def _end(self, blow: Blow) -> None:
        for machine in (self._machines[number] for number in blow.nodes):
            if blow.kind == plan.PAUSE:
                machine.resume()
            elif blow.kind == plan.FULL:
                machine.free()
        if FAMILY_OF[blow.kind] == "cut":
            self._network.heal_all()
        elif FAMILY_OF[blow.kind] == "weather":
            self._network.calm()

    async def _mark(self, name: str) -> None:
        """Increment a counter on every node that takes increments; the others have to learn of it after the healing."""

        async def raise_on(machine: Machine) -> None:
            caller = Caller(machine)
            await self._counting.count(caller, name, machine.number)
            caller.close()

        async with trio.open_nursery() as nursery:
            for machine in self._machines.values():
                if machine.is_up:
                    nursery.start_soon(raise_on, machine)

    async def _heals(self, name: str) -> Healing:
        """Measure how long it takes after the end of all faults until every node knows the counter."""
        healed = self._clock()
        exact: list[float] = []
        equal: list[float] = []

        async def ask(machine: Machine) -> None:
            caller = Caller(machine)
            value = await caller.exact(name)
            exact.append(self._clock() - healed)
            await caller.equal(name, value)
            equal.append(self._clock() - healed)
            caller.close()

        with trio.move_on_after(HEALED_WITHIN):
            async with trio.open_nursery() as nursery:
                for machine in self._machines.values():
                    nursery.start_soon(ask, machine)
        everybody = len(self._machines)
        return Healing(
            self._steps,
            name,
            healed,
            max(exact) if len(exact) == everybody else None,
            max(equal) if len(equal) == everybody else None,
        )
