"""Which ids clients send."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import trio

from gcount.core.writes.increments import Add, Raise
from tests.fakes.cluster import WALL_CLOCK
from tests.simulation.campaign.amounts import Purse
from tests.simulation.campaign.id_scenario import IdScenario

RECENT = 6  # ids of which one is chosen mostly when an id is sent again
AHEAD = 2  # seconds that an id that is taken may be ahead of the clocks that are right


@dataclass
class _Known:
    """An id that was sent."""

    name: str
    id: str
    totals: list[int]
    once: bool


class Ids:
    """Makes ids, and chooses which one is sent.

    Args:
        scenario: how the run uses ids.
        purse: hands out units.
        random: the source of chance.
    """

    def __init__(self, scenario: IdScenario, purse: Purse, random: Random) -> None:
        self.scenario = scenario
        self._purse = purse
        self._random = random
        self._known: list[_Known] = []

    def draw(self) -> Raise | None:
        """What is sent next; None when all units are used up."""
        if not self._known or self._random.random() < self.scenario.new:
            made = self._new()
            if made is not None:
                self._known.append(made)
                return Raise(made.name, made.id, made.totals[0], made.once)
        return self.again()

    def again(self) -> Raise | None:
        """An id that was sent before; None when there is none yet."""
        if not self._known:
            return None
        known = self._random.choice(self._known[-RECENT:] if self._random.random() < 0.85 else self._known)
        if not known.once and len(known.totals) < 4 and self._random.random() < 0.3:
            unit = self._purse.unit(known.name)
            if unit:
                known.totals.append(known.totals[-1] + unit)
        total = known.totals[-1] if self._random.random() < 0.7 else self._random.choice(known.totals)
        return Raise(known.name, known.id, total, known.once)

    def made_at(self, time: int) -> Raise | None:
        """A new id of a time in seconds since 1970; None when all units are used up."""
        made = self._new(time)
        if made is None:
            return None
        self._known.append(made)
        return Raise(made.name, made.id, made.totals[0], made.once)

    def _new(self, time: int | None = None) -> _Known | None:
        random = self._random
        name = self._purse.hot() if random.random() < 0.5 else random.choice(self._purse.names)
        unit = self._purse.unit(name)
        if not unit:
            return None
        now, chance = WALL_CLOCK + trio.current_time(), random.random()
        offset = random.uniform(-0.5, 0.3)
        if chance < 0.03:
            offset = -self.scenario.window - 1.0  # too old
        elif chance < 0.05:
            offset = 1000.0  # too far ahead
        elif chance < 0.15:
            offset = random.uniform(0, AHEAD)
        return _Known(
            name, f"{int(now + offset) if time is None else time}-{len(self._known)}", [unit], random.random() < 0.5
        )

    def request(self, one: Raise, *, powers: bool) -> list[Raise | Add]:
        """A request that sends an id, by itself or among other increments."""
        items: list[Raise | Add] = [one]
        for _ in range(self._random.choice((0, 0, 0, 1, 2))):
            again = self.again() if self._random.random() < 0.3 else None
            items.append(again or Add(*self._purse.some(powers=powers)))
        self._random.shuffle(items)
        return items
