"""Law: nothing that is settled is counted beside its part, and a settlement adds up all that it covers, once.

- A settlement covers no version that its settler does not have.
- What it adds to the parts is what the ids that it covers come to, each at its largest total.
- All members of the settler's config have promised to take no more ids of that time, and it misses nothing that one of
  them had then. What it may miss is in settlements.py.
- A node holds no entry that a settlement covers which it knows.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.campaign.history import History, Shown
from tests.simulation.laws.line_ids import covered
from tests.simulation.laws.settlements import Settlements


def violations(history: History) -> Iterator[str]:
    """Each settlement that is wrong, and each entry that should be gone."""
    if not history.window:
        return
    settlements = Settlements(history)
    for entry in history.journal:
        for violation in settlements.put(entry):
            yield f"at {entry.time:.4f} {entry.line} {violation}"
        if isinstance(entry, Shown):
            for key, holders in entry.entries.items():
                for holder, (_, version) in holders.items():
                    if covered(entry.covers, key, holder, version):
                        yield f"at {entry.time:.4f} {entry.line} still holds {key}, which is settled"
