"""Law: an increment is refused because of a limit if and only if the limit is reached.

The limit of counters: an increment of a new counter is refused if there are as many counters as the limit allows. It is
accepted if an earlier increment of the same counter was accepted and still waits for the disk, because the counter then
has its place already. Increments of known counters are never refused for this.

The limit of incarnations: an increment that needs a new incarnation is refused if only the spare ones are left. Then no
node begins a new incarnation, unless its directory is empty or was repaired.

Ids: one is refused as too old by the node's clock or by its promise, as too far ahead by its clock, or because of the
limit of ids that are not settled. No id is refused once ids are in use, because other members may not understand them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TypeGuard

from gcount.core.state.ids import time_of
from gcount.core.writes.id_rules import MAX_AHEAD
from gcount.errors import CounterLimitReached, IdAhead, IdGone, IdLimitReached, IdsUnavailable
from tests.simulation.campaign.history import Entry, History, Increment, Repaired, Sent, Stored
from tests.simulation.campaign.limits import FEW_LIVES, SPARE_LIVES
from tests.simulation.laws.durable_state import DurableState

REFUSED = CounterLimitReached.__name__
DISK = 0.5  # seconds that a commit takes on a slow disk
LIFELESS = "IncarnationLimitReached"
JUDGED = frozenset({REFUSED, LIFELESS})
GONE, AHEAD, MANY, UNUSED = IdGone.__name__, IdAhead.__name__, IdLimitReached.__name__, IdsUnavailable.__name__
JUDGED_OF_IDS = frozenset({GONE, AHEAD, MANY, UNUSED})


ON_ITS_WAY = 0.5  # seconds that a commit takes at most, unless the disk is slow


def violations(history: History) -> Iterator[str]:
    """Each unexplained refusal, and each new counter that was accepted beyond the limit."""
    yield from _lifeless(history)
    if history.most_lives == FEW_LIVES:
        yield from _begun_beyond(history)
    yield from _ids(history)
    names = {increment.name for increment in history.increments}
    small = {host for host, limit in history.limits.items() if limit < len(names)}
    if not small:
        yield from (f"refused far below the limit: {each}" for each in history.increments if each.refused == REFUSED)
        return
    known, first_here = _known(history)
    placed: defaultdict[tuple[str, str], float] = defaultdict(float)  # until when a counter has its place unseen
    for increment in history.increments:
        was_placed = placed[increment.line, increment.name] >= increment.start
        if increment.refused != REFUSED:
            key = increment.line, increment.name
            placed[key] = max(placed[key], _waits_until(history, increment))
        limit, since = history.limits[increment.host], known[increment.line]
        was_known = since.get(increment.name, increment.start) < increment.start
        others = sum(time < increment.start for time in since.values())
        if increment.refused == REFUSED:
            there = sum(time <= (increment.end or time) for time in since.values())
            if was_known:
                yield f"a known counter was refused: {increment}"
            elif there + len(_pending(history, increment) - since.keys()) + _later(since, increment) < limit:
                yield f"refused below the limit of {limit}, beside {there}: {increment}"
        elif not was_known and not was_placed and others >= limit and _made(increment, first_here):
            yield f"accepted beside {others}, where the limit is {limit}: {increment}"


def _ids(history: History) -> Iterator[str]:
    """Each id that was refused though its node's clock and promises allowed it."""
    for sent in history.sent:
        time, end = time_of(sent.id) or 0, sent.end or sent.start
        if sent.together:
            continue  # another item of its group may have been refused
        clocks = _clocks(history, sent, end)
        if sent.refused == GONE and time > max(clocks) - history.window:
            promised = max((entry.floor or -1 for entry in history.journal if _binds(entry, sent, end)), default=-1)
            if time > promised:
                yield f"refused as too old: {sent}"
        elif sent.refused == AHEAD and time <= min(clocks) + MAX_AHEAD:
            yield f"refused as too far ahead: {sent}"
        elif sent.refused == MANY and history.most_ids >= 1000:
            yield f"refused far below the limit: {sent}"
        elif sent.refused == UNUSED and any(_binds(entry, sent, sent.start - 2 * DISK) for entry in history.journal):
            yield f"refused though ids are in use: {sent}"


def _clocks(history: History, sent: Sent, end: float) -> list[float]:
    """What the node's clock showed at the beginning and at the end, and between them when it was set anew."""
    jumps = (at for at, _ in history.clocks[sent.host] if sent.start < at < end)
    return [sent.clock, *(history.clock(sent.host, time) for time in (*jumps, end))]


def _binds(entry: Entry, sent: Sent, end: float) -> TypeGuard[Stored]:
    bound = isinstance(entry, Stored) and entry.floor is not None
    return bound and entry.line == sent.line and entry.time <= end + DISK


def maybe_refused(history: History) -> Callable[[Increment], bool]:
    """A function that says whether an unanswered increment may have been refused because of the limit of counters."""
    names = {increment.name for increment in history.increments}
    if all(limit >= len(names) for limit in history.limits.values()):
        return lambda increment: False
    known, _ = _known(history)

    def beyond(increment: Increment) -> bool:
        since, limit = known[increment.line], history.limits[increment.host]
        there = {name for name, time in since.items() if time <= increment.start} | _pending(history, increment)
        new = increment.name not in since or since[increment.name] > increment.start
        return increment.end is None and new and len(there) >= limit

    return beyond


def _lifeless(history: History) -> Iterator[str]:
    refused = [increment for increment in history.increments if increment.refused == LIFELESS]
    if not refused:
        return
    known: defaultdict[str, dict[bytes, float]] = defaultdict(dict)
    for entry in history.journal:
        line = entry.new_line if isinstance(entry, Repaired) else entry.line
        for delta in entry.deltas if isinstance(entry, Stored) else ():
            known[line].setdefault(delta.incarnation, entry.time)
        if isinstance(entry, Stored | Repaired) and entry.identity is not None:
            for own in (entry.identity.incarnation, *entry.identity.retired):  # it may have counted nothing under some
                known[line].setdefault(own, entry.time)
        for delta in entry.deltas if isinstance(entry, Repaired) else ():
            known[line].setdefault(delta.incarnation, entry.time)
    for increment in refused:
        on_disk = (increment.end or increment.start) + DISK  # what waited for it then counts
        there = sum(since <= on_disk for since in known[increment.line].values())
        if there < history.most_lives - SPARE_LIVES - 1:  # 1 for its own incarnation, which may have no cells yet
            yield f"refused because of the limit of incarnations, beside {there}: {increment}"


def _waits_until(history: History, increment: Increment) -> float:
    """When an increment was answered, or else when its node's life ended."""
    if increment.end is not None:
        return increment.end
    ends = [life.ended for life in history.lives if life.line == increment.line and life.ended is not None]
    return min((end for end in ends if end >= increment.start), default=float("inf"))


def _begun_beyond(history: History) -> Iterator[str]:
    """Each new incarnation that was begun beyond the limit.

    Incarnations that came from others while the new one was on its way to the disk do not count: the node could not
    know of them. A node that only takes another node id keeps its incarnation.
    """
    since: defaultdict[str, dict[bytes, float]] = defaultdict(dict)
    present: dict[str, bytes] = {}
    for entry in history.journal:
        if not isinstance(entry, Stored):
            continue
        known = sum(time < entry.time - ON_ITS_WAY for time in since[entry.line].values())
        if entry.identity is not None and entry.identity.incarnation != present.get(entry.line):
            present[entry.line] = entry.identity.incarnation
            if known >= history.most_lives - SPARE_LIVES:
                yield f"at {entry.time:.4f} {entry.line} began a new incarnation, beside {known}"
        for delta in entry.deltas:
            since[entry.line].setdefault(delta.incarnation, entry.time)


def _made(increment: Increment, first_here: set[tuple[str, str]]) -> bool:
    return increment.acknowledged and (increment.line, increment.name) in first_here


def _known(history: History) -> tuple[defaultdict[str, dict[str, float]], set[tuple[str, str]]]:
    """The counters on the disk of each line.

    Returns:
        By line and name, since when a counter is there (detached ones do not count). And lines with names of counters
        that the line's own node made, except those that another node told it of in the same instant.
    """
    known: defaultdict[str, dict[str, float]] = defaultdict(dict)
    first_here: set[tuple[str, str]] = set()
    state = DurableState()
    for entry in history.journal:
        state.put(entry)
        if not isinstance(entry, Stored):
            continue
        line, cells = entry.line, state.cells[entry.line]
        new = {name: who for name, who in cells if name not in known[line]} if len(cells) > len(known[line]) else {}
        for name in new:
            known[line][name] = entry.time
            if all(state.owners[who] == line for other, who in cells if other == name):
                first_here.add((line, name))
    return known, first_here


def _later(since: dict[str, float], refused: Increment) -> int:
    """How many counters came to the disk soon after a refusal: they may have waited for the disk at that time."""
    end = refused.end or refused.start
    return sum(end < time <= end + DISK for time in since.values())


def _pending(history: History, refused: Increment) -> set[str]:
    """New counters that other increments were counting on the same node at that time."""
    return {
        other.name
        for other in history.increments
        if other.line == refused.line
        and other.name != refused.name
        and other.start <= (refused.end or other.start)
        and (other.end is None or other.end >= refused.start)
    }
