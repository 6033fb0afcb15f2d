"""Law: an acknowledged increment is counted exactly once for good, a refused one never, any other at most once.

Increments of an incarnation whose disk was made to forget have to survive if any other disk had them. Increments that
are still detached somewhere are neither lost nor counted: law *detached* judges them. Law *once* says more of
increments with ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.simulation.campaign.history import PLAIN, History
from tests.simulation.laws.durable_state import at_the_end
from tests.simulation.laws.settlements import late_units
from tests.simulation.laws.units import units


def violations(history: History) -> Iterator[str]:
    """Each final value out of its bounds."""
    state = at_the_end(history)
    lost, waiting, late = state.lost, state.waiting(), late_units(history)
    acked: Counter[str] = Counter()
    possible: Counter[str] = Counter()
    for increment in (*history.increments, *units(history)):
        if not increment.refused:
            possible[increment.name] += increment.amount
        if increment.acknowledged:
            acked[increment.name] += increment.amount
            if not (increment.name.startswith(PLAIN) or increment.unit or increment.answer & increment.amount):
                yield f"the answer does not contain its own increment: {increment}"
    for final in history.finals:
        values = {name: n & ~late.get(name, 0) for name, n in final.values.items()}
        for name in possible | Counter(values):
            value = values.get(name, 0)
            if name.startswith(PLAIN):
                gone = lost[name] + waiting[name]
                if not acked[name] - gone <= value <= possible[name]:
                    bounds = f"{acked[name]} - {gone} <= {value} <= {possible[name]}"
                    yield f"{name} at {final.host} is out of bounds: {bounds}"
                continue
            if missing := acked[name] & ~lost[name] & ~waiting[name] & ~late.get(name, 0) & ~value:
                yield f"{name} at {final.host} lost acknowledged increments: bits {bits(missing)}"
            if invented := value & ~possible[name]:
                yield f"{name} at {final.host} counts what no client sent, or what was refused: bits {bits(invented)}"


def bits(value: int) -> list[int]:
    """The exponents of the powers of two in a value."""
    return [bit for bit in range(value.bit_length()) if value >> bit & 1]
