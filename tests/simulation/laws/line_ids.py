"""What the disk of one line has of increments with ids, as a checker knows it: it forgets nothing that is settled."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gcount.core.state.counters import Delta
from gcount.core.state.ids import split, time_of
from gcount.core.state.keyed import Covers, Keyed, Settlement

Parts = dict[tuple[bytes, str], int]
Settled = dict[tuple[bytes, bytes], Settlement]
"""By settler and column."""
NONE = Settlement(-1, 0, {})


@dataclass
class LineIds:
    """The ids of one line.

    Attributes:
        entries: by key and by the incarnation that took it: the total, and the version that last raised it.
        covers: by column, what each settler has settled: up to which time and which version.
        units: by name, all units that are known in any form.
        floor: up to which time the node takes no ids any more; -1 before the first promise.
    """

    entries: defaultdict[str, dict[bytes, tuple[int, int]]] = field(default_factory=lambda: defaultdict(dict))
    covers: Covers = field(default_factory=dict)
    units: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    floor: int = -1
    _settled: Settled = field(default_factory=dict)

    def covers_with(self, settler: bytes, settled: dict[bytes, Settlement]) -> Covers:
        """What is covered together with further settlements of a settler."""
        covers = dict(self.covers)
        for column, one in settled.items():
            mine = _joined(self._settled.get((settler, column), NONE), one)
            covers[column] = (*covers.get(column, ()), (mine.until, mine.version))
        return covers

    def parts(self, settler: bytes = b"", settled: Mapping[bytes, Settlement] = MappingProxyType({})) -> Parts:
        """What was settled, by column and by name, also with further settlements of a settler.

        Of the settlements of a column those count which no other one contains, and of these the greatest part.
        """
        known = dict(self._settled)
        for column, one in settled.items():
            known[settler, column] = _joined(known.get((settler, column), NONE), one)
        of: defaultdict[bytes, list[Settlement]] = defaultdict(list)
        for (_, column), one in known.items():
            of[column].append(one)
        parts: Parts = {}
        for column, ones in of.items():
            for one in ones:
                if not any(_exceeds(other, one) for other in ones):
                    for name, n in one.parts.items():
                        parts[column, name] = max(n, parts.get((column, name), 0))
        return parts

    def may_close(self, settler: bytes, detached: Keyed, closing: Keyed) -> bool:
        """Whether a delta that closes the gaps of an incarnation may have these entries and settlements.

        They are those that are detached. Only the parts may be greater: rot may have taken a settlement, and a later
        one that is left covers the same ids. A part may say what others have settled of the column. It may also have
        the totals of ids that nothing has covered here so far, and that the closing covers. It has nothing else.

        Args:
            settler: the incarnation with the gaps.
            detached: all that is behind the gaps.
            closing: what the delta has.
        """
        if closing == detached:
            return True
        reaches = [
            {column: (one.until, one.version) for column, one in of.settled.items()} for of in (detached, closing)
        ]
        if closing.entries != detached.entries or reaches[0] != reaches[1]:
            return False
        known, most = self.parts(), self._newly_covered(settler, detached)
        has, left = _raised(closing, known), _raised(detached, known)
        fewer = any(
            n > closing.settled[column].parts.get(name, 0)
            for column, one in detached.settled.items()
            for name, n in one.parts.items()
        )
        return not fewer and all(n <= max(left[name], most[name]) for name, n in has.items())

    def _newly_covered(self, settler: bytes, detached: Keyed) -> Counter[str]:
        """By name, what those ids come to that are covered only with the detached settlements of a settler."""
        covers, totals = self.covers_with(settler, detached.settled), dict[str, int]()
        behind = [(key, settler, *entry) for key, entry in detached.entries.items()]
        for key, holder, total, version in (*self.live(), *behind):
            if covered(covers, key, holder, version) and not covered(self.covers, key, holder, version):
                totals[key] = max(total, totals.get(key, 0))
        found = Counter[str]()
        for key, total in totals.items():
            found[split(key)[1]] += total
        return found

    def join(self, delta: Delta) -> None:
        """Take what a delta brings, of which all before is known."""
        if delta.keyed is None:
            return
        for column, one in delta.keyed.settled.items():
            joined = _joined(self._settled.get((delta.incarnation, column), NONE), one)
            self._settled[delta.incarnation, column] = joined
            self.covers[column] = (*self.covers.get(column, ()), (joined.until, joined.version))
            for name, n in one.parts.items():
                self.units[name] |= n
        for key, (total, version) in delta.keyed.entries.items():
            before = self.entries[key].get(delta.incarnation, (0, 0))
            self.entries[key][delta.incarnation] = max(total, before[0]), max(version, before[1])
            self.units[split(key)[1]] |= total

    def live(self) -> Iterator[tuple[str, bytes, int, int]]:
        """The entries that no settlement covers: key, holder, total and version."""
        for key, holders in self.entries.items():
            for holder, (total, version) in holders.items():
                if not covered(self.covers, key, holder, version):
                    yield key, holder, total, version


def _joined(one: Settlement, other: Settlement) -> Settlement:
    parts = {name: max(one.parts.get(name, 0), other.parts.get(name, 0)) for name in {**one.parts, **other.parts}}
    return Settlement(max(one.until, other.until), max(one.version, other.version), parts)


def _exceeds(one: Settlement, other: Settlement) -> bool:
    """Whether one settlement covers all that another one does, and more."""
    first, second = (one.until, one.version), (other.until, other.version)
    return first != second and first[0] >= second[0] and first[1] >= second[1]


def _raised(keyed: Keyed, known: Parts) -> Counter[str]:
    """By name, by how much settlements raise the parts that are known."""
    raised = Counter[str]()
    for column, one in keyed.settled.items():
        for name, n in one.parts.items():
            raised[name] += max(0, n - known.get((column, name), 0))
    return raised


def covered(covers: Covers, key: str, holder: bytes, version: int) -> bool:
    """Whether an entry is settled."""
    time = time_of_key(key)
    return any(time <= until and version <= upto for until, upto in covers.get(holder, ()))


def time_of_key(key: str) -> int:
    """When the id of a key was made, in seconds since 1970."""
    return time_of(split(key)[0]) or 0


def units_of(delta: Delta) -> dict[str, int]:
    """By name, all units in a delta's entries and parts."""
    units: dict[str, int] = {}
    if delta.keyed is not None:
        for key, (total, _) in delta.keyed.entries.items():
            name = split(key)[1]
            units[name] = units.get(name, 0) | total
        for settlement in delta.keyed.settled.values():
            for name, n in settlement.parts.items():
                units[name] = units.get(name, 0) | n
    return units
