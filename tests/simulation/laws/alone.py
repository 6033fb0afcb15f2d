"""Law: a node that knows of no config works alone: its consistent reads are exact for the increments of its directory.

No other node can have told it anything, because every node that knows of a config sends that config too. A repaired
directory begins with what the repair has left of its former line, no more and no less. From the instant at which a
config is on its disk, the node is no longer alone. A read during which that happened may have been answered just before
it, or have asked all members. It contains at least what this node had acknowledged, and nothing that no client sent.
Left out are ids that may count more than once (see settlements.py), as when several nodes have settled them alone,
before the config.

For a while after its start the node answers no consistent read. Its directory may have been lost, and members that know
it have to be able to reach it first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import inf

from gcount.node.reads import EMPTY_WAIT
from tests.harness import linearizable
from tests.harness.linearizable import Read, Write
from tests.simulation.campaign.history import PLAIN, History, Increment, Query, Repaired
from tests.simulation.laws.durable_state import DurableState
from tests.simulation.laws.settlements import late_units
from tests.simulation.laws.units import units_of_lines

EXACT = 1e-6  # seconds


def violations(history: History) -> Iterator[str]:
    """Each read that a node answered alone, and that was wrong or should have asked the members."""
    asked: defaultdict[str, list[Increment]] = defaultdict(list)
    late = late_units(history)
    for increment in (*history.increments, *units_of_lines(history)):
        if not increment.refused and not increment.name.startswith(PLAIN):
            asked[increment.name].append(increment)
    exact: defaultdict[tuple[str, str], list[Query]] = defaultdict(list)
    for query in history.queries:
        if query.value is None or not query.began_alone or query.name.startswith(PLAIN):
            continue
        if query.start > history.configured.get(query.line, inf):
            yield f"a node that knew of a config answered alone: {query}"
        if query.alone and query.end < _ready(history, query) + EMPTY_WAIT - EXACT:
            yield f"a node did not wait for members that may know it: {query}"
        if query.alone:
            exact[query.line, query.name].append(query)
        else:
            yield from _in_between(query, asked[query.name], late.get(query.name, 0))
    left = _left_by_repairs(history)
    for (line, name), queries in exact.items():
        there = {write.amount for write in left[line, name]}
        own = [one for one in asked[name] if one.line == line and one.amount not in there]
        writes = [Write(one.amount, one.start, one.end) for one in own]
        reads = [Read(query.value or 0, query.start, query.end, query.host) for query in queries]
        for violation in linearizable.violations(left[line, name] + writes, reads):
            yield f"{name} at {line}, which knew of no config: {violation}"


def _left_by_repairs(history: History) -> defaultdict[tuple[str, str], list[Write]]:
    """By line and name, what counted in a directory right after its repair, as writes of that instant."""
    left: defaultdict[tuple[str, str], list[Write]] = defaultdict(list)
    state = DurableState()
    for entry in history.journal:
        state.put(entry)
        if not isinstance(entry, Repaired) or entry.lossless:
            continue
        line, time = entry.new_line, entry.time
        for name, who in {(name, delta.incarnation) for delta in entry.deltas for name in delta.cells}:
            n = 0 if name.startswith(PLAIN) else state.counted(line, name, who)
            bits = (1 << bit for bit in range(n.bit_length()) if n >> bit & 1)
            left[line, name] += (Write(bit, time, time) for bit in bits)
        for name, n in state.ids[line].units.items():
            bits = (1 << bit for bit in range(n.bit_length()) if n >> bit & 1)
            left[line, name] += (Write(bit, time, time) for bit in bits)
    return left


def _ready(history: History, query: Query) -> float:
    """When the node that answered had finished its start."""
    lives = (life.ready for life in history.lives if life.host == query.host and life.began <= query.start)
    return max((ready for ready in lives if ready is not None), default=0.0)


def _in_between(query: Query, asked: list[Increment], late: int) -> Iterator[str]:
    value = query.value or 0
    for increment in asked:
        if increment.amount & late:
            continue
        acknowledged = increment.end is not None and increment.end < query.start
        if increment.line == query.line and acknowledged and not value & increment.amount:
            yield f"misses what its own node had acknowledged: {query} {increment}"
    sent = 0
    for increment in asked:
        sent |= increment.amount if increment.start <= query.end else 0
    if value & ~(sent | late):
        yield f"contains what no client had sent: {query}"
