"""Law: every id counts exactly once in every exact value, at its largest total that is known.

- At each instant a node's values are the sum of all cells, and of each unit of all ids, once: of those that its disk
  knows, and of those that were taken in the versions that it claims.
- In the end each id that was acknowledged counts at all nodes, unless all disks that had it were made to forget.
- No read counts an id twice, and none misses an id that a member had acknowledged before.

Let off are ids that were settled without an entry of which nothing is promised (see settlements.py): such an id may
count more than once. It never counts less than once. Nothing is promised of ids that an incarnation with two histories
has taken or settled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gcount.cluster.members import SELF_VALID
from gcount.core.state.counters import Digest
from tests.simulation.campaign.history import PLAIN, History, Query, Sent, Shown
from tests.simulation.laws.durable_state import DurableState, at_the_end
from tests.simulation.laws.settlements import doubtful_units, late_units


def violations(history: History) -> Iterator[str]:
    """Each value that does not count each id once."""
    if not history.window:
        return
    late, state = late_units(history), DurableState(history.members)
    for entry in history.journal:
        if isinstance(entry, Shown):
            yield from _of(state, entry, late)
        state.put(entry)
    gone = _joined(state.lost, state.waiting(), doubtful_units(history))
    for sent in history.sent:
        if sent.acknowledged and (missing := _missing(sent.answer, sent.total)):
            yield f"the answer misses {missing:#x} of its own id: {sent}"
        for final in history.finals:
            units = sent.total & ~gone.get(sent.name, 0)
            if sent.acknowledged and (missing := _missing(final.values.get(sent.name, 0), units)):
                yield f"{final.host} lost {missing:#x} of {sent}"
    known = _units(history)
    for final in history.finals:
        for name, n in final.values.items():
            if twice := _twice(n, known.get(name, 0)) & ~late.get(name, 0):
                yield f"{final.host} counts an id of {name} more than once: {twice:#x}"
    yield from _reads(history, late, known)


def _of(state: DurableState, shown: Shown, late: dict[str, int]) -> Iterator[str]:
    versions = {who: version for who, version in state.versions[shown.line].items() if version}
    if versions != {who: version for who, version in shown.digest.items() if version}:
        return  # a batch is on disk, and not visible yet
    cells: dict[str, int] = {}
    for (name, _), n in state.cells[shown.line].items():
        cells[name] = cells.get(name, 0) + n
    known = _joined(state.ids[shown.line].units, _taken(state, versions))
    for name, n in shown.values.items():
        if not name.startswith(PLAIN):
            wanted, judged = cells.get(name, 0) + known.get(name, 0), ~late.get(name, 0)
            if n & judged != wanted & judged:
                yield f"at {shown.time:.4f} {shown.line} counts {name} as {n:#x}, but knows of {wanted:#x}"


def _taken(state: DurableState, versions: Digest) -> dict[str, int]:
    """All units that nodes had taken by these versions of their incarnations."""
    taken: dict[str, int] = {}
    for who, upto in versions.items():
        if state.judged(who) and who not in state.closed:  # a gap that was closed may have had some
            for version, name, total in state.taken.get(who, ()):
                if version <= upto:
                    taken[name] = taken.get(name, 0) | total
    return taken


def _reads(history: History, late: dict[str, int], units: dict[str, int]) -> Iterator[str]:
    gone = _joined(at_the_end(history).unknown, doubtful_units(history))
    sent_first = sorted((sent for sent in history.sent if sent.acknowledged and sent.member), key=_end)
    for query in history.queries:
        if query.value is None or query.began_alone:
            continue
        if twice := _twice(query.value, units.get(query.name, 0)) & ~late.get(query.name, 0):
            yield f"counts an id more than once, {twice:#x}: {query}"
        if not _excused(history, query):
            for sent in sent_first:
                if _end(sent) >= query.start:
                    break
                if sent.name == query.name and (missing := _missing(query.value, sent.total & ~gone.get(sent.name, 0))):
                    yield f"misses {missing:#x} that was acknowledged before: {query} {sent}"


def _excused(history: History, query: Query) -> bool:
    """Whether the node had not noticed yet that its address is another node's."""
    lost = history.lost_address.get(query.host)
    return lost is not None and 0 <= query.start - lost < SELF_VALID


def _joined(*masks: Mapping[str, int]) -> dict[str, int]:
    joined: dict[str, int] = {}
    for mask in masks:
        for name, units in mask.items():
            joined[name] = joined.get(name, 0) | units
    return joined


def _end(sent: Sent) -> float:
    return sent.end or 0.0


def _units(history: History) -> dict[str, int]:
    units: dict[str, int] = {}
    for sent in history.sent:
        units[sent.name] = units.get(sent.name, 0) | sent.total
    return units


def _missing(value: int, units: int) -> int:
    """The units that a value does not contain at all."""
    return units & ~(value | value >> 1 | value >> 2)


def _twice(value: int, units: int) -> int:
    """The bits of a value that show that units were counted more than once."""
    return value & (units << 1 | units << 2)
