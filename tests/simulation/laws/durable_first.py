"""Law: nothing that depends on an increment leaves a process before it is on its disk.

A node says what it has in a hello, a push, an acknowledgement, a heartbeat's answer, a cells reply or a value. If the
power failed at that very instant, all of it would be on its disk. So an acknowledgement means "on my disk".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from gcount.core.state.counters import Delta
from tests.simulation.campaign.history import Claimed, History
from tests.simulation.laws.durable_state import DurableState
from tests.simulation.laws.line_ids import units_of


def violations(history: History) -> Iterator[str]:
    """Each claim of something that was not on the claimant's disk yet."""
    state = DurableState()
    for entry in history.journal:
        if not isinstance(entry, Claimed):
            state.put(entry)
            continue
        versions, cells = state.versions[entry.line], state.cells[entry.line]
        counted = partial(state.counted, entry.line)
        where = f"at {entry.time:.4f} {entry.line} said in a {entry.what}"
        for who, n in entry.digest.items():
            on_disk = counted(entry.name, who) if entry.name else versions.get(who, 0)
            if n > on_disk:
                yield f"{where} that it has {entry.name or 'v'} {n} of {who.hex()[:6]}, but its disk has {on_disk}"
        if entry.floor > max(0, state.ids[entry.line].floor):
            yield f"{where} that it takes no id up to {entry.floor}, but its disk has {state.ids[entry.line].floor}"
        for delta in entry.deltas:
            who = delta.incarnation
            if delta.after > versions.get(who, 0) and _is_detached(state, entry.line, delta):
                continue  # it is given back to its owner, where it is detached too
            if delta.upto > versions.get(who, 0):
                yield f"{where} version {delta.upto} of {who.hex()[:6]}, but its disk has {versions.get(who, 0)}"
            for name, n in delta.cells.items():
                if n > cells.get((name, who), 0):
                    yield f"{where} {name} = {n} of {who.hex()[:6]}, but its disk has {cells.get((name, who), 0)}"
            for name, n in units_of(delta).items():
                if n & ~state.ids[entry.line].units[name]:
                    yield f"{where} ids {n:#x} of {name}, but its disk has {state.ids[entry.line].units[name]:#x}"


def _is_detached(state: DurableState, line: str, delta: Delta) -> bool:
    """Whether a directory has a delta, or a part of it, behind a gap."""
    runs = [run for run in state.detached[line].get(delta.incarnation, ()) if run.upto <= delta.upto]
    held = {name: max(run.cells.get(name, 0) for run in runs) for name in delta.cells} if runs else {}
    return all(n <= held.get(name, 0) for name, n in delta.cells.items())
