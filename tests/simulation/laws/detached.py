"""Law: nothing that is whole on some disk is missing from the values for ever, and nothing claims what it lacks.

- A repair keeps all that the rot has left, and every mention of the node's former lives.
- What a node claims of a version is all that the owner had at it, and exactly that. Only the one delta that closes a
  gap makes a later version of what is left (see gcount/cluster/gap_closer.py); from then on that is what the owner had.
- What is detached counts once the gap before it is filled or closed, and a checkpoint holds all that was detached when
  it began.
- When all is well again nothing is detached, except what docs/architecture.md leaves to wait ("Closing a gap"): runs of
  other nodes' incarnations, and of own ones whose every mention as one was lost. They wait for a node that has what is
  before them.
"""

from __future__ import annotations

from collections.abc import Iterator

from gcount.core.state.counters import Delta
from tests.simulation.campaign.history import Claimed, Entry, Final, History, Repaired, Stored
from tests.simulation.laws.durable_state import Shelves


def violations(history: History) -> Iterator[str]:
    """Each thing that was dropped, claimed without being there, or left detached."""
    shelves = Shelves(history.members)
    for entry in history.journal:
        if isinstance(entry, Repaired):
            for violation in _not_kept(shelves, entry):
                yield f"at {entry.time:.4f} a repair of {entry.line} {violation}"
        shelves.put(entry)
        for violation in _of(shelves, entry):
            yield f"at {entry.time:.4f} {entry.line} {violation}"
    for final in history.finals:
        yield from _at_the_end(shelves, final, healed=history.healed_after is not None)


def _not_kept(shelves: Shelves, entry: Repaired) -> Iterator[str]:
    """What was whole, by each record, and is not there any more."""
    for who in entry.lives - {entry.identity.incarnation, *entry.identity.retired}:
        yield f"forgot that its node ran under {_shown(who)}"
    before, after = Shelves(), Shelves()
    before.put(Stored(entry.time, "", entry.whole))
    after.put(Stored(entry.time, "", entry.kept))
    claims, line = (shelves, entry.line) if entry.lossless else (before, "")
    for who, version in claims.versions[line].items():
        if version > after.versions[""].get(who, 0):
            yield f"has version {after.versions[''].get(who, 0)} of {_shown(who)}; {version} was left"
    for name, who in [*claims.cells[line], *_cells_of(claims, line)]:
        had, has = claims.held(line, name, who), after.held("", name, who)
        if had > has:
            yield f"has {name} = {has} of {_shown(who)}; {had} was left"


def _of(shelves: Shelves, entry: Entry) -> Iterator[str]:
    match entry:
        case Stored():
            for who in {delta.incarnation for delta in entry.deltas}:
                yield from _inexact(shelves, entry.line, who)
        case Claimed(detached=tuple(detached), line=line, next_batch=batch):
            for name, who in _cells_of(shelves, line):
                kept = max((run.cells.get(name, 0) for run in detached if run.incarnation == who), default=0)
                due = shelves.detached_before(line, name, who, batch)
                if kept < due and not shelves.cells[line].get((name, who), 0):
                    yield f"made a checkpoint without what is detached of {name} of {_shown(who)}"
    line = entry.new_line if isinstance(entry, Repaired) else entry.line
    for run in shelves.dropped:
        for name, n in run.cells.items():
            if n > shelves.cells[line].get((name, run.incarnation), 0):
                yield f"dropped {name} = {n} of {_shown(run.incarnation)}, which was detached: {_run(run)}"


def _inexact(shelves: Shelves, line: str, who: bytes) -> Iterator[str]:
    """Cells that are not what the owner had at the version that is claimed."""
    version = shelves.versions[line].get(who, 0)
    if not version or not shelves.judged(who) or (who in shelves.closed and version > shelves.newest(who)):
        return  # the latter: somebody had more detached than the owner when it closed the gap (see `shelves.UNTOLD`)
    for name in shelves.names[who]:
        has, had = shelves.cells[line].get((name, who), 0), shelves.owner_had(name, who, version)
        if has != had:
            yield f"claims version {version} of {_shown(who)} with {name} = {has}, when its owner had {had}"


def _at_the_end(shelves: Shelves, final: Final, *, healed: bool) -> Iterator[str]:
    line = final.line
    kept = {(name, run.incarnation) for run in final.detached for name in run.cells}
    for name, who in kept | _cells_of(shelves, line):
        has = max((run.cells.get(name, 0) for run in final.detached if run.incarnation == who), default=0)
        due = max((run.cells.get(name, 0) for run in shelves.detached[line].get(who, ())), default=0)
        if has != due:
            yield f"{line} keeps {name} = {has} of {_shown(who)} detached; {due} is due"
    for who, runs in shelves.detached[line].items() if healed else ():
        for run in runs:
            if who in shelves.lives[line]:
                yield f"{line} never closed the gap before {_run(run)} of its own former life {_shown(who)}"
            for other, versions in shelves.versions.items():
                if versions.get(who, 0) >= run.after:
                    yield f"{line} keeps {_run(run)} of {_shown(who)} detached, though {other} has what is before it"


def _cells_of(shelves: Shelves, line: str) -> set[tuple[str, bytes]]:
    """Which cells are detached there."""
    return {(name, who) for who, runs in shelves.detached[line].items() for run in runs for name in run.cells}


def _run(run: Delta) -> str:
    return f"versions {run.after} to {run.upto}"


def _shown(who: bytes) -> str:
    return who.hex()[:6]
