"""What clients count: counters of powers of two, of which each power is used once, and counters of any amounts."""

from __future__ import annotations

from random import Random

import trio

from tests.simulation.campaign.history import PLAIN
from tests.simulation.campaign.scenario import COUNTERS

BITS = 64  # powers of two for each counter
PLAINS = 12  # counters of any amounts
UNIT_BITS = 3  # a unit of an id, and bits that show how often it was counted
UNIT = (1 << UNIT_BITS) - 1
LEAST_UNIT = 30  # the bits below are left for increments without an id
MOST_AT_ONCE = 6  # increments in one request

Amounts = list[tuple[str, int]]


class Purse:
    """Hands out names and amounts.

    Args:
        random: the source of chance.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._used = {f"x{number}": 0 for number in range(COUNTERS)}
        self._units: dict[str, int] = {}  # the bit of the next unit

    @property
    def names(self) -> list[str]:
        """The counters of powers of two."""
        return list(self._used)

    def hot(self) -> str:
        """The counter of most requests at the moment."""
        return f"x{int(trio.current_time() / 0.7) % COUNTERS}"

    def power(self) -> tuple[str, int]:
        """A counter, and a power of two that was not added to it yet."""
        name = self.hot() if self._random.random() < 0.8 else self._random.choice(self.names)
        for one in (name, min(self._used, key=lambda other: self._used[other])):
            if amount := self._unused([one]):
                return one, amount
        return self.plain()

    def plain(self) -> tuple[str, int]:
        """A counter of any amounts, and an amount."""
        return f"{PLAIN}{self._random.randrange(self._random.choice((3, PLAINS)))}", self._random.randint(1, 10**9)

    def some(self, *, powers: bool) -> tuple[str, int]:
        """One of both kinds, if powers of two may be handed out, else of any amounts."""
        return self.power() if powers and self._random.random() < 0.95 else self.plain()

    def many(self, *, powers: bool) -> Amounts:
        """Increments for one request. An amount of 0 reads the value at its place among them."""
        amounts = [self.some(powers=powers) for _ in range(self._random.randint(2, MOST_AT_ONCE))]
        if self._random.random() < 0.3:
            amounts.append((self._random.choice(amounts)[0], 0))
        return amounts

    def alike(self, *, powers: bool) -> Amounts:
        """Increments for one request, all of one amount. Counters of any amounts may occur several times."""
        random = self._random
        names = random.sample(self.names, random.randint(2, COUNTERS))
        amount = self._unused(names) if powers and random.random() < 0.7 else 0
        if amount:
            return [(name, amount) for name in names]
        name, amount = self.plain()
        alone = random.random() < 0.3
        return [(name if alone else self.plain()[0], amount) for _ in range(random.randint(2, MOST_AT_ONCE))]

    def unit(self, name: str) -> int:
        """A power of two for an id, with two unused bits above it; 0 if there is none left."""
        unit = 1 << self._units.get(name, BITS - UNIT_BITS)
        mask = unit * UNIT
        if unit >> LEAST_UNIT == 0 or self._used[name] & mask:
            return 0
        self._used[name] |= mask
        self._units[name] = unit.bit_length() - 1 - UNIT_BITS
        return unit

    def _unused(self, names: list[str]) -> int:
        """A power of two that was added to none of these counters, and counts as used for all; 0 if there is none."""
        taken = 0
        for name in names:
            taken |= self._used[name]
        amount = ~taken & (taken + 1)
        if amount >> BITS:
            return 0
        for name in names:
            self._used[name] |= amount
        return amount
