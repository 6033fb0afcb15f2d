"""Law: nothing that depends on an increment leaves a process before it is on its disk.

What a node says it has, in a hello, a push, an acknowledgement, a heartbeat's answer, a collect answer or a value, a
loss of power at that very instant would leave on its disk. So an acknowledgement means "on my disk", too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from gcount.core.state.counters import Delta
from tests.simulation.campaign.history import Claimed, History
from tests.simulation.laws.durable_state import Shelves


def violations(history: History) -> Iterator[str]:
    """Each claim that ran ahead of the claimant's disk."""
    shelves = Shelves()
    for entry in history.journal:
        if not isinstance(entry, Claimed):
            shelves.put(entry)
            continue
        versions, cells = shelves.versions[entry.line], shelves.cells[entry.line]
        counted = partial(shelves.counted, entry.line)
        where = f"at {entry.time:.4f} {entry.line} said in a {entry.what}"
        for who, n in entry.digest.items():
            on_disk = counted(entry.name, who) if entry.name else versions.get(who, 0)
            if n > on_disk:
                yield f"{where} that it has {entry.name or 'v'} {n} of {who.hex()[:6]}, but its disk has {on_disk}"
        for delta in entry.deltas:
            who = delta.incarnation
            if delta.after > versions.get(who, 0) and _is_detached(shelves, entry.line, delta):
                continue  # it is given back to its owner, which keeps it detached, too
            if delta.upto > versions.get(who, 0):
                yield f"{where} version {delta.upto} of {who.hex()[:6]}, but its disk has {versions.get(who, 0)}"
            for name, n in delta.cells.items():
                if n > cells.get((name, who), 0):
                    yield f"{where} {name} = {n} of {who.hex()[:6]}, but its disk has {cells.get((name, who), 0)}"


def _is_detached(shelves: Shelves, line: str, delta: Delta) -> bool:
    """Whether a directory holds a delta behind a gap, or a piece of it."""
    runs = [run for run in shelves.detached[line].get(delta.incarnation, ()) if run.upto <= delta.upto]
    held = {name: max(run.cells.get(name, 0) for run in runs) for name in delta.cells} if runs else {}
    return all(n <= held.get(name, 0) for name, n in delta.cells.items())
