"""Law: a cell is only ever raised by the one process that owns its incarnation.

So no directory holds more of an incarnation than its owner's directory does, and what it holds is exactly what the
owner had at that version: cells never run ahead of the digest, nor behind it. And no version of an incarnation is ever
made twice, unless its first making is on no disk any more.
"""

from __future__ import annotations

from collections.abc import Iterator

from gcount.core.state.counters import Delta
from tests.simulation.campaign.history import History, Stored
from tests.simulation.laws.durable_state import Shelves


def violations(history: History) -> Iterator[str]:
    """Each batch on a disk that holds what the owner of its incarnation had not, or had otherwise."""
    shelves = Shelves()
    for entry in history.journal:
        shelves.put(entry)
        if isinstance(entry, Stored):
            for delta in entry.deltas:
                for violation in (*_foreign(shelves, entry.line, delta), *_made_twice(shelves, entry.line, delta)):
                    yield f"at {entry.time:.4f} {entry.line} stored of {delta.incarnation.hex()[:6]} {violation}"


def _foreign(shelves: Shelves, line: str, delta: Delta) -> Iterator[str]:
    who, owner = delta.incarnation, shelves.owners.get(delta.incarnation)
    if owner is None or owner == line or not shelves.judged(who) or who in shelves.closed:
        return  # of what was closed older records may tell, which law "detached" judges
    has = shelves.newest(who)
    if delta.upto > has:
        yield f"version {delta.upto}, but its owner {owner} has {has}"
    for name, n in delta.cells.items():
        had = shelves.owner_had(name, who, delta.upto)
        if n != had:
            yield f"{name} = {n} as version {delta.upto}, when its owner had {had}"


def _made_twice(shelves: Shelves, line: str, delta: Delta) -> Iterator[str]:
    step = shelves.steps.get((delta.incarnation, delta.upto), {})
    if line in step and delta.upto == delta.after + 1 and delta.incarnation not in shelves.forked:
        for other, cells in step.items():
            # A relay that learned several versions at once passes on more than the last one changed, never less.
            if not (cells.items() <= step[line].items() or step[line].items() <= cells.items()):
                yield f"version {delta.upto} as {step[line]}, which {other} has as {cells}"
