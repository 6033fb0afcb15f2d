"""Law: only the one process that owns an incarnation raises its cells.

So no directory has more of an incarnation than its owner's directory has. What it has is exactly what the owner had at
that version: cells are never ahead of the digest, nor behind it. And no version of an incarnation is made twice, unless
the first one is on no disk any more.
"""

from __future__ import annotations

from collections.abc import Iterator

from gcount.core.state.counters import Delta
from tests.simulation.campaign.history import History, Stored
from tests.simulation.laws.durable_state import DurableState


def violations(history: History) -> Iterator[str]:
    """Each batch on a disk with cells that the owner of their incarnation did not have, or had with other values."""
    state = DurableState()
    for entry in history.journal:
        state.put(entry)
        if isinstance(entry, Stored):
            for delta in entry.deltas:
                for violation in (*_foreign(state, entry.line, delta), *_made_twice(state, entry.line, delta)):
                    yield f"at {entry.time:.4f} {entry.line} stored of {delta.incarnation.hex()[:6]} {violation}"


def _foreign(state: DurableState, line: str, delta: Delta) -> Iterator[str]:
    who, owner = delta.incarnation, state.owners.get(delta.incarnation)
    if owner is None or owner == line or not state.judged(who) or who in state.closed:
        return  # older records may have versions of a gap that was closed; law "detached" judges them
    has = state.newest(who)
    if delta.upto > has:
        yield f"version {delta.upto}, but its owner {owner} has {has}"
    for name, n in delta.cells.items():
        had = state.owner_had(name, who, delta.upto)
        if n != had:
            yield f"{name} = {n} as version {delta.upto}, when its owner had {had}"


def _made_twice(state: DurableState, line: str, delta: Delta) -> Iterator[str]:
    step = state.steps.get((delta.incarnation, delta.upto), {})
    if line in step and delta.upto == delta.after + 1 and delta.incarnation not in state.forked:
        for other, cells in step.items():
            # A relay that learned several versions at once passes on more cells than the last one changed, never fewer.
            if not (cells.items() <= step[line].items() or step[line].items() <= cells.items()):
                yield f"version {delta.upto} as {step[line]}, which {other} has as {cells}"
