"""Law: an increment is refused for a limit only where that is reached.

For want of counters, where there are as many as the limit, and it is no known one; and where the limit was reached
before a client came with a new counter, it is refused, unless another increment of it was let in before and waits for
the disk still: then the counter has its place. For want of an incarnation, where so many are known that only the spare
ones are left; and there no node begins one, unless its directory is empty or was repaired.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from gcount.errors import CounterLimitReached
from tests.simulation.campaign.history import History, Increment, Repaired, Stored
from tests.simulation.campaign.limits import FEW_LIVES, SPARE_LIVES
from tests.simulation.laws.durable_state import Shelves

REFUSED = CounterLimitReached.__name__
DISK = 0.5  # seconds of a slow one
LIFELESS = "IncarnationLimitReached"
JUDGED = frozenset({REFUSED, LIFELESS})


ON_ITS_WAY = 0.5  # seconds that a commit takes at most, unless the disk is slow


def violations(history: History) -> Iterator[str]:
    """Each refusal that nothing explains, and each new counter that was let in beyond the limit."""
    yield from _lifeless(history)
    if history.most_lives == FEW_LIVES:
        yield from _begun_beyond(history)
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
            yield f"let in beside {others}, where the limit is {limit}: {increment}"


def maybe_refused(history: History) -> Callable[[Increment], bool]:
    """Tells whether an unanswered increment may be one for which there was no counter left, while others counted."""
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
        for delta in entry.kept if isinstance(entry, Repaired) else ():
            known[line].setdefault(delta.incarnation, entry.time)
    for increment in refused:
        on_disk = (increment.end or increment.start) + DISK  # what waited for it then counts
        there = sum(since <= on_disk for since in known[increment.line].values())
        if there < history.most_lives - SPARE_LIVES - 1:  # its own, which may have counted nothing yet
            yield f"refused for want of an incarnation, beside {there}: {increment}"


def _waits_until(history: History, increment: Increment) -> float:
    """When it was answered, or else its node's life ended."""
    if increment.end is not None:
        return increment.end
    ends = [life.ended for life in history.lives if life.line == increment.line and life.ended is not None]
    return min((end for end in ends if end >= increment.start), default=float("inf"))


def _begun_beyond(history: History) -> Iterator[str]:
    """What others brought while a new incarnation was on its way to the disk the node could not count.

    A node that only takes another id goes on under the incarnation that it has.
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
    """By line, the counters that are on its disk, not just detached, and since when; and which its own node made there.

    Those that somebody told it of in the same instant are not among the latter.
    """
    known: defaultdict[str, dict[str, float]] = defaultdict(dict)
    first_here: set[tuple[str, str]] = set()
    shelves = Shelves()
    for entry in history.journal:
        shelves.put(entry)
        if not isinstance(entry, Stored):
            continue
        line, cells = entry.line, shelves.cells[entry.line]
        new = {name: who for name, who in cells if name not in known[line]} if len(cells) > len(known[line]) else {}
        for name in new:
            known[line][name] = entry.time
            if all(shelves.owners[who] == line for other, who in cells if other == name):
                first_here.add((line, name))
    return known, first_here


def _later(since: dict[str, float], refused: Increment) -> int:
    """How many counters came to the disk soon after: they may have waited for it then."""
    end = refused.end or refused.start
    return sum(end < time <= end + DISK for time in since.values())


def _pending(history: History, refused: Increment) -> set[str]:
    """New counters that others were counting there at that time."""
    return {
        other.name
        for other in history.increments
        if other.line == refused.line
        and other.name != refused.name
        and other.start <= (refused.end or other.start)
        and (other.end is None or other.end >= refused.start)
    }
