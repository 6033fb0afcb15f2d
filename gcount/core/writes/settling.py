"""Adds up the increments with ids whose time is over, as one settlement."""

from collections import Counter
from collections.abc import Collection, Iterable
from math import inf

from gcount.core.limits import MAX_CELL
from gcount.core.state.columns import exceeding
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.ids import split, time_of
from gcount.core.state.keyed import Keyed, Settlement, is_covered
from gcount.core.state.settlements import Settlements, changes_by, covers_with, joined, settled_until, would_count


def settlement(counters: Counters, settler: bytes, until: int) -> dict[bytes, Settlement]:
    """The settlement of all ids up to a time.

    What the ids of a counter come to is added to the part of the incarnation that holds the greatest total. All
    incarnations that hold any of the ids are covered, up to the newest version of these entries. The settlement
    contains all that are known of these incarnations (see settlements.py), with all their parts.

    Args:
        counters: the durable state.
        settler: the incarnation that settles.
        until: the end of a span of ids, in seconds since 1970. No id up to there is taken any more.

    Returns:
        By incarnation. While there are very many parts of others to take over, it is some of them, and covers nothing.
        It is empty in four cases: there is nothing to settle; former settlements and this one together cover more than
        was added up, as one of the former went further in time (see `Buckets.settled_until`); a former one covers
        versions of an incarnation that are not known here yet; a part would pass 2^64-1, which only an incarnation
        brings about that breaks the limits of its own node.
    """
    settlements, entries = counters.settlements, counters.entries
    reaches, sums = entries.sums(until)
    for holder in reaches:
        for one in settlements.counting(holder):
            reaches[holder] = joined(reaches[holder], one.reach)
    if any(version > counters.version(holder) for holder, (_, version) in reaches.items()):
        return {}
    if _added_up(sums) != _added_up(entries.would_drop(covers_with(settlements, settler, reaches))):
        return {}
    # What `_copy_of` makes covers ids of the time 0. Only a node that breaks the rules can have brought some.
    most = counters.options.sum_slice if entries.oldest else inf
    copied = {holder: _parts_of_others(settlements, settler, holder, most) for holder in sorted(reaches)}
    for holder, missing in copied.items():
        if len(missing) == most:
            return {holder: _copy_of(counters, settler, holder, missing)}
    found = {}
    for holder, (time, version) in sorted(reaches.items()):  # the same in each process
        parts, own = copied[holder], settlements.by(settler, holder).parts
        for index, total in sums.get(holder, {}).items():
            parts[index] = max(own.get(index), settlements.part(holder, index)) + total
        found[holder] = Settlement(time, version, _named(counters, parts))
    return {} if any(n > MAX_CELL for one in found.values() for n in one.parts.values()) else found


def _parts_of_others(settlements: Settlements, settler: bytes, column: bytes, most: float = inf) -> dict[int, int]:
    """By index, the parts of a column that are greater than those that a settler has written of it, at most so many.

    After its next settlement its own parts are those that count. So it writes these, too.
    """
    own, found = settlements.by(settler, column), dict[int, int]()
    for other in settlements.counting(column):
        for index, n in exceeding(other.parts, own.parts) if other is not own else ():
            if len(found) >= most:
                break
            found[index] = max(n, found.get(index, 0))
    return found


def _copy_of(counters: Counters, settler: bytes, column: bytes, parts: dict[int, int]) -> Settlement:
    """Parts of others as a settlement that covers nothing new. So a settler can take over many in several batches."""
    time, version = counters.settlements.by(settler, column).reach
    return Settlement(max(time, 0), max(version, 1), _named(counters, parts))  # links refuse version 0


def _named(counters: Counters, parts: dict[int, int]) -> dict[str, int]:
    return {counters.names(index, index + 1)[0]: n for index, n in parts.items()}


def _added_up(sums: dict[bytes, dict[int, int]]) -> dict[int, int]:
    """By the index of the counter, what all holders together have."""
    found: dict[int, int] = {}
    for of in sums.values():
        for index, total in of.items():
            found[index] = found.get(index, 0) + total
    return {index: total for index, total in found.items() if total}


def settles(delta: Delta) -> bool:
    """Whether a delta brings settlements."""
    return delta.keyed is not None and bool(delta.keyed.settled)


def keeps_values(counters: Counters, settler: bytes, settled: dict[bytes, Settlement], own: Collection[bytes]) -> bool:
    """Whether settlements can be taken from a node that is not a member, as no value falls by them.

    They must not go beyond the ids that members have settled: those can be sent again, and then have to be known. A
    settlement of a former member does not go further for long, as all members had promised it, and had ids up to there.

    Args:
        counters: the durable state.
        settler: the incarnation that has settled.
        settled: the settlements, by the incarnation that was settled. This node has to have all that they cover, or it
            would leave out later what they do not count. Only versions of the sender itself need no proof.
        own: the incarnations of the sender.
    """
    settlements = counters.settlements
    latest = settled_until(settlements)
    for column, one in settled.items():
        if one.until > latest or (one.version > counters.version(column) and column not in own):
            return False
    covers = covers_with(settlements, settler, {column: (one.until, one.version) for column, one in settled.items()})
    lost = counters.entries.would_drop(covers)
    # For each column by itself. If a settlement moved ids from one column to another, then a member's next one, made
    # without knowing it, could contain the one half of it and not the other.
    for column, one in settled.items():
        of = lost.pop(column, {})
        for index, n in changes_by(settlements, settler, column, one):
            if n < of.pop(index, 0):
                return False
        if any(of.values()):
            return False
    return not _added_up(lost)


def parts_fit(counters: Counters, brought: Iterable[Keyed]) -> bool:
    """Whether each part can hold the ids of a node that is not a member when they are settled. No node checked them.

    Args:
        counters: the durable state.
        brought: all entries and parts of the node that are not durable.
    """
    more = Counter[str]()
    for keyed in brought:
        for key, (total, _) in keyed.entries.items():
            more[split(key)[1]] += total
        for one in keyed.settled.values():
            more.update(one.parts)
    return all(counters.total(name) + n <= MAX_CELL or counters.keyed(name) + n <= MAX_CELL for name, n in more.items())


def keeping_values(counters: Counters, closing: Delta) -> Delta:
    """The delta that closes a gap, with parts by which no value falls.

    The gap may have held a settlement. A later one, behind the gap, covers its ids as well, but says only those parts
    that it changed itself. So it gets the parts of other settlements that it contains. The ids that nothing else counts
    are added up anew. The rot may have taken what says which ids a part behind the gap has counted. Then the part is
    taken for those that are known: none of them counts twice.

    Args:
        counters: the durable state.
        closing: the delta of all that is detached. Its parts are changed.
    """
    settled = {} if closing.keyed is None else closing.keyed.settled
    for column, one in settled.items():
        others = _parts_of_others(counters.settlements, closing.incarnation, column)
        for name, n in _named(counters, others).items():
            one.parts[name] = max(n, one.parts.get(name, 0))
    counting = {
        column: one
        for column, one in settled.items()
        if would_count(counters.settlements, closing.incarnation, column, (one.until, one.version))
    }
    for name, lost in _lost_by(counters, closing).items() if settled else ():
        known = counters.parts(name)
        raised = sum(max(0, one.parts.get(name, 0) - known.get(column, 0)) for column, one in counting.items())
        missing = sum(lost.values()) - raised
        untouched = [column for column in sorted(lost) if name not in settled[column].parts]
        for column in untouched + sorted(lost.keys() - set(untouched)):
            more = min(missing, lost[column])
            if more > 0:
                part = max(settled[column].parts.get(name, 0), known.get(column, 0))
                settled[column].parts[name] = min(part + more, MAX_CELL)
                missing -= more
    return closing


def _lost_by(counters: Counters, closing: Delta) -> dict[str, dict[bytes, int]]:
    """By name and by the holder of the greatest entries, what the ids come to that a closing covers."""
    assert closing.keyed is not None, "it covers something"
    who, entries, settlements = closing.incarnation, counters.entries, counters.settlements
    more = {column: (one.until, one.version) for column, one in closing.keyed.settled.items()}
    covers = covers_with(settlements, who, more)
    lost: dict[str, dict[bytes, int]] = {}
    for holder, of in entries.would_drop(covers).items():
        for index, total in of.items():
            if total:
                lost.setdefault(counters.names(index, index + 1)[0], {})[holder] = total
    before, after = settlements.covers.get(who, ()), covers.get(who, ())
    for key, (total, version) in closing.keyed.entries.items():  # they are left out, as they are covered
        id_, name = split(key)
        time, best = time_of(id_), entries.get(key)
        assert time is not None, "each id that is kept says its time"
        gain = total - (best.total if best is not None else 0)
        if gain > 0 and is_covered(after, time, version) and not is_covered(before, time, version):
            held = lost.setdefault(name, {})
            held[who] = held.get(who, 0) + gain
    return lost


def covers_some(counters: Counters, closing: Delta, other: Delta) -> bool:
    """Whether a closing has settlements that may cover what another delta of the same batch brings or settles."""
    if closing.keyed is None or not closing.keyed.settled:
        return False
    one = closing.keyed.settled.get(other.incarnation)
    return settles(other) or (one is not None and counters.version(other.incarnation) < one.version)
