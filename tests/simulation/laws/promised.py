"""Law: a node keeps its promises, and promises no more than its clock allows.

- It takes no id with a time up to a promise that is durable, and none that is older than the window by its clock.
- It promises only what is older by its clock than the window and the grace.

That it tells only promises that are durable is law *durable first*.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.simulation.campaign.history import History, Sent, Stored
from tests.simulation.laws.durable_state import DurableState, host_of
from tests.simulation.laws.line_ids import time_of_key

GRACE = 1.25  # of the window
EXACT = 1e-3  # seconds
SLOWEST = 4.0  # seconds that a commit takes at most


def violations(history: History) -> Iterator[str]:
    """Each id that was taken too late, and each promise that was made too early."""
    if not history.window:
        return
    sent: defaultdict[tuple[str, str], list[Sent]] = defaultdict(list)
    for one in history.sent:
        sent[one.line, one.key].append(one)
    state = DurableState(history.members)
    for entry in history.journal:
        if isinstance(entry, Stored) and entry.own is not None:
            floor = state.ids[entry.line].floor
            for key, total in _taken(entry):
                for violation in _too_late(history, entry, key, floor, _askers(sent[entry.line, key], total, entry)):
                    yield f"at {entry.time:.4f} {entry.line} took {key}, {violation}"
            yield from _too_early(history, entry)
        state.put(entry)


def _taken(entry: Stored) -> Iterator[tuple[str, int]]:
    """The ids that a node took in a batch, with their totals."""
    for delta in entry.deltas:
        if delta.incarnation == entry.own and delta.keyed is not None:
            for key, (total, version) in delta.keyed.entries.items():
                if version == delta.upto:
                    yield key, total


def _askers(sent: list[Sent], total: int, entry: Stored) -> list[Sent]:
    return [one for one in sent if one.total >= total and one.start <= entry.time]


def _too_late(history: History, entry: Stored, key: str, floor: int, askers: list[Sent]) -> Iterator[str]:
    time = time_of_key(key)
    if time <= floor:
        yield f"though it had promised to take none up to {floor}"
    if not askers:
        yield "which nobody had sent"
        return
    clock = min(one.clock for one in askers)
    if time <= clock - history.window - EXACT and not _jumped(history, entry.line, entry.time):
        yield f"though its clock showed {clock:.3f}"


def _too_early(history: History, entry: Stored) -> Iterator[str]:
    if entry.floor and not _jumped(history, entry.line, entry.time):
        clock = history.clock(host_of(entry.line), entry.time)
        if entry.floor > clock - history.window * GRACE:
            yield f"at {entry.time:.4f} {entry.line} promised {entry.floor} when its clock showed {clock:.3f}"


def _jumped(history: History, line: str, time: float) -> bool:
    """Whether the clock of a line's machine was changed shortly before."""
    return any(time - SLOWEST <= at <= time for at, _ in history.clocks[host_of(line)][1:])
