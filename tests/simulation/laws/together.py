"""Law: the increments of one request count together: never are only some of them on a disk, or visible in a node.

All increments of a request are staged without an await in between, so they are in one batch. A batch is on a disk as a
whole or not at all, and a node tells others of whole versions only. These cases are left out:

- Incarnations of a directory that rotted, or of which a copy ran. Of a request behind a gap, one half may be in a later
  value and the other half may be lost.
- Detached deltas, and directories that were repaired.
- What an incarnation counted after the version before a gap that was closed. Its owner's directory may be an older
  copy, and the rot may have hit the only other copy.
- Of a request that was not answered, each increment that may have been refused, because it is of a new counter beyond
  the limit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from gcount.core.state.counters import Digest
from tests.simulation.campaign.history import PLAIN, Forked, History, Repaired, Stored
from tests.simulation.laws.durable_state import Cells, DurableState
from tests.simulation.laws.refusals import maybe_refused

Batch = dict[str, int]  # the amounts, by name: powers of two, or several of them added up


def violations(history: History) -> Iterator[str]:
    """Each case in which only a part of a request counted."""
    batches: defaultdict[int, Batch] = defaultdict(dict)
    beyond = maybe_refused(history)
    for increment in history.increments:
        if increment.batch and not increment.refused and not increment.name.startswith(PLAIN):
            if beyond(increment):
                continue
            batch = batches[increment.batch]
            batch[increment.name] = batch.get(increment.name, 0) | increment.amount
    spoiled = _spoiled(history)
    torn = [
        batch
        for batch in batches.values()
        if sum(amount.bit_count() for amount in batch.values()) > 1
        and not any(amount & spoiled[name] for name, amount in batch.items())
    ]
    told = set[str]()
    for glance in history.glances:
        for part in _parts(torn, glance.values):
            if part not in told:
                told.add(part)
                yield f"at {glance.time:.4f} {glance.line} knew only {part}"
    for final in history.finals:
        values = dict(final.values)
        yield from (f"{final.host} has in the end only {part}" for part in _parts(torn, values))
    yield from _on_disk(history, torn)


def _spoiled(history: History) -> defaultdict[str, int]:
    """By name, what was counted under incarnations with two histories or gaps, or behind a closed gap."""
    before = _before_gaps(history)
    for entry in history.journal:
        if isinstance(entry, Repaired) and not entry.lossless:
            before |= {who: {} for who in (*entry.lives, entry.identity.incarnation, *entry.identity.retired)}
        elif isinstance(entry, Forked):
            before[entry.incarnation] = {}
    spoiled: defaultdict[str, int] = defaultdict(int)
    for entry in history.journal:
        for delta in entry.deltas if isinstance(entry, Stored) else ():
            if delta.incarnation in before:
                for name, n in delta.cells.items():
                    spoiled[name] |= n & ~before[delta.incarnation].get(name, 0)
    return spoiled


def _before_gaps(history: History) -> dict[bytes, Batch]:
    """For each incarnation of which a gap was closed, the cells that the owner had then: up to there all is whole."""
    state, before = DurableState(history.members), dict[bytes, Batch]()
    for entry in history.journal:
        for delta in entry.deltas if isinstance(entry, Stored) else ():
            who = delta.incarnation
            if state.closes(entry.line, delta):
                cells = {name: n for (name, of), n in state.cells[entry.line].items() if of == who}
                known = before.get(who, cells)
                before[who] = {name: n & known.get(name, 0) for name, n in cells.items()}
        state.put(entry)
    return before


def _parts(batches: list[Batch], values: dict[str, int]) -> Iterator[str]:
    for batch in batches:
        held = {name: values.get(name, 0) & amount for name, amount in batch.items()}
        if any(held.values()) and held != batch:
            yield f"{held} of {batch}"


def _on_disk(history: History, batches: list[Batch]) -> Iterator[str]:
    """Each durable batch that adds only a part of a request to a directory."""
    of: dict[tuple[str, int], Batch] = {}  # by name and bit
    for batch in batches:
        for name, amount in batch.items():
            of.update(((name, bit), batch) for bit in range(amount.bit_length()) if amount >> bit & 1)
    known: defaultdict[str, Cells] = defaultdict(dict)
    versions: defaultdict[str, Digest] = defaultdict(dict)
    repaired = {entry.new_line for entry in history.journal if isinstance(entry, Repaired)}
    for entry in history.journal:
        if not isinstance(entry, Stored) or entry.line in repaired:
            continue
        cells, touched = known[entry.line], dict[int, Batch]()
        for delta in entry.deltas:
            version = versions[entry.line].get(delta.incarnation, 0)
            if delta.after > version:
                continue
            versions[entry.line][delta.incarnation] = max(version, delta.upto)
            for name, n in delta.cells.items():
                before = cells.get((name, delta.incarnation), 0)
                cells[name, delta.incarnation] = max(n, before)
                new = 0 if name.startswith(PLAIN) else n & ~before
                found = (of.get((name, bit)) for bit in range(new.bit_length()) if new >> bit & 1)
                touched.update((id(batch), batch) for batch in found if batch is not None)
        if touched:
            values: dict[str, int] = defaultdict(int)
            for (name, _), n in cells.items():
                values[name] |= n
            for part in _parts(list(touched.values()), values):
                yield f"at {entry.time:.4f} the disk of {entry.line} held only {part}"
