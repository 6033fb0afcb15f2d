"""Law: the increments of one request count together: on no disk, and at no instant in any node, are only some of them.

All of them are staged without an await in between, so they are in one batch; a batch is whole on a disk or not at all,
and what a node tells of it to others are whole versions. What was counted under incarnations of a directory that
rotted, or of which a copy ran, is left out: of a request behind a gap half may be in a later value, the rest is lost.
So is what a disk holds behind a gap, and a directory that was repaired; and what any incarnation counted after the
version before a gap that was closed: its owner's directory may have gone back, and the rot have hit the one other copy.
And of a request that was not answered, each increment that may have been refused, as it is of a new counter beyond the
limit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from gcount.core.state.counters import Digest
from tests.simulation.campaign.history import PLAIN, Forked, History, Repaired, Stored
from tests.simulation.laws.durable_state import Cells, Shelves
from tests.simulation.laws.refusals import maybe_refused

Batch = dict[str, int]  # the amounts, by name: powers of two, or several of them added up


def violations(history: History) -> Iterator[str]:
    """Each time that only a part of a request counted."""
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
        values = {name: sum(cells.values()) for name, cells in final.cells.items()}
        yield from (f"{final.host} has in the end only {part}" for part in _parts(torn, values))
    yield from _on_disk(history, torn)


def _spoiled(history: History) -> defaultdict[str, int]:
    """What was counted, by name, under incarnations with two histories or gaps, or behind a closed gap."""
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
    """What was known of each incarnation whose gaps were closed, at that node and instant: up to there all is whole."""
    shelves, before = Shelves(history.members), dict[bytes, Batch]()
    for entry in history.journal:
        for delta in entry.deltas if isinstance(entry, Stored) else ():
            who = delta.incarnation
            if delta == shelves.closing(entry.line, who):
                cells = {name: n for (name, of), n in shelves.cells[entry.line].items() if of == who}
                known = before.get(who, cells)
                before[who] = {name: n & known.get(name, 0) for name, n in cells.items()}
        shelves.put(entry)
    return before


def _parts(batches: list[Batch], values: dict[str, int]) -> Iterator[str]:
    for batch in batches:
        held = {name: values.get(name, 0) & amount for name, amount in batch.items()}
        if any(held.values()) and held != batch:
            yield f"{held} of {batch}"


def _on_disk(history: History, batches: list[Batch]) -> Iterator[str]:
    """Whatever one durable batch of a log adds to a directory, it adds whole requests."""
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
