"""Law: two histories under one incarnation are said only where two processes ran under it.

A node sees a fork when a peer tells it of a lower cell at a later version, or of more of the node's own incarnation
than it has itself, or when it meets two that are alive under one. Not each fork can be seen, and what was seen is
forgotten with the process; so that a certain one is said has tests of its own (tests/cluster/test_copies.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.campaign.history import History
from tests.simulation.laws.durable_state import Shelves, at_the_end

SAID = False
"""Whether a fork that could be seen has to be said; to be True as soon as nodes say it."""


def violations(history: History) -> Iterator[str]:
    """Each fork that nobody said, and each that was none."""
    shelves = at_the_end(history)
    said = {who for final in history.finals for who in final.forks or {}}
    for who in said:
        if shelves.judged(who) and who not in history.doubled:
            yield f"{who.hex()[:6]} is said to have two histories, and has one"
    for who in shelves.forked if SAID else ():
        if who not in said and _seen(shelves, who):
            yield f"nobody said that {who.hex()[:6]} has two histories"


def _seen(shelves: Shelves, who: bytes) -> bool:
    """Whether the two writers made one version differently, and each of them is told of it in the end."""
    lines = set(shelves.forked[who])
    return any(
        len({tuple(sorted(cells.items())) for line, cells in step.items() if line in lines}) > 1
        for (incarnation, _), step in shelves.steps.items()
        if incarnation == who
    )
