"""Law: two histories under one incarnation are said, by a node that can see both, and nobody says it without reason.

A node sees a fork when a peer tells it of another cell, or of more, at a version that it has itself. For now nodes say
nothing: `Final.forks` is None, and only that nobody does so without reason is judged once they do.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.history import History
from tests.simulation.laws.shelves import Shelves, at_the_end

SAID = False
"""Whether a fork that could be seen has to be said; to be True as soon as nodes say it."""


def violations(history: History) -> Iterator[str]:
    """Each fork that nobody said, and each that was none."""
    shelves = at_the_end(history)
    said = {who for final in history.finals for who in final.forks or {}}
    for who in said:
        if shelves.judged(who):
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
