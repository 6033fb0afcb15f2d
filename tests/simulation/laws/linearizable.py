"""Law: consistent reads are linearizable (see tests/harness/linearizable.py), on all nodes together.

Left out are:

- increments that are on no member's disk any more, because a directory was made to forget
- increments with ids that were sent to a node outside the config, or of which no more is promised (see settlements.py);
  law *once* judges these
- reads that began before a config had named the members to their node (see alone.py)
- reads on a node that has not noticed yet that its address is another node's (see "What is assumed" in
  docs/guarantees.md)
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from gcount.cluster.members import SELF_VALID
from tests.harness import linearizable
from tests.harness.linearizable import Read, Write
from tests.simulation.campaign.history import PLAIN, History
from tests.simulation.laws.durable_state import at_the_end
from tests.simulation.laws.settlements import late_units
from tests.simulation.laws.units import sent_outside, units


def violations(history: History) -> Iterator[str]:
    """Each contradiction, counter by counter."""
    lost, late, outside = at_the_end(history).unknown, late_units(history), sent_outside(history)
    increments = [*history.increments, *units(history)]
    for name in sorted({increment.name for increment in increments}):
        if name.startswith(PLAIN):
            continue
        kept = ~(lost[name] | late.get(name, 0) | outside.get(name, 0))
        writes = [
            Write(increment.amount, increment.start, increment.end)
            for increment in increments
            if increment.name == name and increment.amount & kept and not increment.refused
        ]
        reads = [
            Read(query.value & kept, query.start, query.end, query.host)
            for query in history.queries
            if query.name == name and query.value is not None and not query.began_alone
            if not 0 <= query.start - history.lost_address.get(query.host, inf) < SELF_VALID
        ]
        for violation in linearizable.violations(writes, reads):
            yield f"{name}: {violation}"
