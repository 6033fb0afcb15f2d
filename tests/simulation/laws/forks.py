"""Law: a node reports two histories of an incarnation (a fork) only if two processes ran under it.

A node sees a fork in three ways: a peer tells it of a lower cell at a later version; a peer tells it of more of the
node's own incarnation than it has itself; or it meets two processes that run under one incarnation. Not every fork can
be seen, and what a process has seen is forgotten when it ends. So the report of a certain fork has tests of its own
(tests/cluster/test_duplicates.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.campaign.history import History
from tests.simulation.laws.durable_state import DurableState, at_the_end

SAID = False
"""Whether a fork that could be seen has to be reported; to be True as soon as nodes report each of them."""


def violations(history: History) -> Iterator[str]:
    """Each fork that was not reported, and each report of a fork that was none."""
    state = at_the_end(history)
    said = {who for final in history.finals for who in final.forks or {}}
    for who in said:
        if state.judged(who) and who not in history.doubled:
            yield f"{who.hex()[:6]} was reported to have two histories, and has one"
    for who in state.forked if SAID else ():
        if who not in said and _seen(state, who):
            yield f"no node reported that {who.hex()[:6]} has two histories"


def _seen(state: DurableState, who: bytes) -> bool:
    """Whether the two writers made different versions of one number, so that each of them learns of it in the end."""
    lines = set(state.forked[who])
    return any(
        len({tuple(sorted(cells.items())) for line, cells in step.items() if line in lines}) > 1
        for (incarnation, _), step in state.steps.items()
        if incarnation == who
    )
