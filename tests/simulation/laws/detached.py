"""Law: nothing that is whole on some disk stays out of the values for ever, and no node claims a version that it lacks.

- A repair keeps all batches that the rot has left whole, and every record that names a former incarnation of the node.
- A node that claims a version has exactly the cells that the owner had at that version. There is one exception: the
  delta that closes a gap makes a later version of what is left (see gcount/cluster/gap_closer.py). From then on the
  owner's cells are those.
- Detached deltas count once the gap before them is filled or closed. A checkpoint has those that were there when it
  began.
- When all faults are over, nothing is detached, except what docs/architecture.md leaves to wait ("Closing a gap"):
  deltas of other nodes' incarnations, and of own incarnations that no record names as own any more. They wait for a
  node that has the versions before them.
"""

from __future__ import annotations

from collections.abc import Iterator

from gcount.core.state.counters import Delta
from tests.simulation.campaign.history import Claimed, Entry, Final, History, Repaired, Stored
from tests.simulation.laws.durable_state import DurableState


def violations(history: History) -> Iterator[str]:
    """Each delta that was dropped or left detached, and each version that was claimed and is not there."""
    state = DurableState(history.members)
    for entry in history.journal:
        if isinstance(entry, Repaired):
            for violation in _not_kept(state, entry):
                yield f"at {entry.time:.4f} a repair of {entry.line} {violation}"
        state.put(entry)
        for violation in _of(state, entry):
            yield f"at {entry.time:.4f} {entry.line} {violation}"
    for final in history.finals:
        yield from _at_the_end(state, final, healed=history.healed_after is not None)


def _not_kept(state: DurableState, entry: Repaired) -> Iterator[str]:
    """What was whole in some record before a repair, and is missing after it."""
    for who in entry.lives - {entry.identity.incarnation, *entry.identity.retired}:
        yield f"forgot that its node ran under {_shown(who)}"
    before, after = DurableState(), DurableState()
    for there, batches in (before, entry.whole), (after, entry.kept):
        for batch in batches:
            there.put(Stored(entry.time, "", tuple(batch.deltas), needs=batch.needs))
    claims, line = (state, entry.line) if entry.lossless else (before, "")
    for who, version in claims.versions[line].items():
        if version > after.versions[""].get(who, 0):
            yield f"has version {after.versions[''].get(who, 0)} of {_shown(who)}; {version} was left"
    for name, who in [*claims.cells[line], *_cells_of(claims, line)]:
        had, has = claims.held(line, name, who), after.held("", name, who)
        if had > has:
            yield f"has {name} = {has} of {_shown(who)}; {had} was left"
    for name in {*claims.ids[line].units, *after.ids[""].units}:
        had, has = claims.units(line, name), after.units("", name)
        if had & ~has:
            yield f"has {has:#x} of the ids of {name}; {had:#x} was left"


def _of(state: DurableState, entry: Entry) -> Iterator[str]:
    match entry:
        case Stored():
            for who in {delta.incarnation for delta in entry.deltas}:
                yield from _inexact(state, entry.line, who)
        case Claimed(detached=tuple(detached), line=line, next_batch=batch):
            for name, who in _cells_of(state, line):
                kept = max((run.cells.get(name, 0) for run in detached if run.incarnation == who), default=0)
                due = state.detached_before(line, name, who, batch)
                if kept < due and not state.cells[line].get((name, who), 0):
                    yield f"made a checkpoint without the detached {name} of {_shown(who)}"
    line = entry.new_line if isinstance(entry, Repaired) else entry.line
    for run in state.dropped:
        for name, n in run.cells.items():
            if n > state.cells[line].get((name, run.incarnation), 0):
                yield f"dropped {name} = {n} of {_shown(run.incarnation)}, which was detached: {_run(run)}"


def _inexact(state: DurableState, line: str, who: bytes) -> Iterator[str]:
    """Cells that differ from those of the owner at the version that is claimed."""
    version = state.versions[line].get(who, 0)
    if not version or not state.judged(who) or (who in state.closed and version > state.newest(who)):
        # In the last case another node had more detached than the owner when it closed the gap, see `UNTOLD`.
        return
    for name in state.names[who]:
        has, had = state.cells[line].get((name, who), 0), state.owner_had(name, who, version)
        if has != had:
            yield f"claims version {version} of {_shown(who)} with {name} = {has}, when its owner had {had}"


def _at_the_end(state: DurableState, final: Final, *, healed: bool) -> Iterator[str]:
    line = final.line
    kept = {(name, run.incarnation) for run in final.detached for name in run.cells}
    for name, who in kept | _cells_of(state, line):
        has = max((run.cells.get(name, 0) for run in final.detached if run.incarnation == who), default=0)
        due = max((run.cells.get(name, 0) for run in state.detached[line].get(who, ())), default=0)
        if has != due:
            yield f"{line} keeps {name} = {has} of {_shown(who)} detached; {due} is due"
    for who, runs in state.detached[line].items() if healed else ():
        for run in runs:
            if who in state.lives[line]:
                yield f"{line} never closed the gap before {_run(run)} of its own former life {_shown(who)}"
            for other, versions in state.versions.items():
                if versions.get(who, 0) >= run.after:
                    yield f"{line} keeps {_run(run)} of {_shown(who)} detached, though {other} has what is before it"


def _cells_of(state: DurableState, line: str) -> set[tuple[str, bytes]]:
    """The cells that are detached in a directory."""
    return {(name, who) for who, runs in state.detached[line].items() for run in runs for name in run.cells}


def _run(run: Delta) -> str:
    return f"versions {run.after} to {run.upto}"


def _shown(who: bytes) -> str:
    return who.hex()[:6]
