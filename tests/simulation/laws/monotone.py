"""Law: what a node answers locally never goes down, also across its restarts, until its disk is made to forget.

An increment's answer is the value at its place among all increments of its node. So it may be lower than a value that
was read while the increment waited, but not lower than a value that was known before it was sent. No two increments
have the same answer, unless an id was sent meanwhile that another node had taken, too: then a raise adds less than was
planned, and what is staged after it is answered with the value after the batch.

Ids that may count more than once for a while are left out (see settlements.py).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from math import inf

from tests.simulation.campaign.history import History, Increment, Sent
from tests.simulation.laws.settlements import late_units


def violations(history: History) -> Iterator[str]:
    """Each value that is lower than an earlier one, and each answer that was given twice."""
    late = late_units(history)
    seen: dict[tuple[str, str], tuple[list[float], list[int]]] = {}
    for look in history.looks:
        times, highest = seen.setdefault((look.line, look.name), ([], [0]))
        before = highest[bisect_left(times, look.since)]
        value = look.value & ~late.get(look.name, 0)
        if value < before:
            yield f"at {look.time:.4f} {look.name} at {look.line} went down from {before} to {value}"
        times.append(look.time)
        highest.append(max(highest[-1], value))
    answered: set[tuple[str, str, int]] = set()
    ids: dict[tuple[str, str], list[Sent]] = {}
    for one in history.sent:
        ids.setdefault((one.line, one.name), []).append(one)
    for increment in history.increments:
        answer = (increment.line, increment.name, increment.answer)
        beside = ids.get((increment.line, increment.name), ())
        if increment.acknowledged and answer in answered and not any(_at_once(increment, one) for one in beside):
            yield f"an answer was given before: {increment}"
        answered.add(answer)


def _at_once(increment: Increment, sent: Sent) -> bool:
    """Whether an increment and an id can have been in one batch."""
    return sent.start <= (increment.end or inf) and increment.start <= (sent.end or inf)
