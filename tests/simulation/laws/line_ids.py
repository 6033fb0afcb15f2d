"""What the disk of one line has of increments with ids, as a checker knows it: it forgets nothing that is settled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from gcount.core.state.counters import Delta
from gcount.core.state.ids import split, time_of
from gcount.core.state.keyed import Covers, Settlement


@dataclass
class LineIds:
    """The ids of one line.

    Attributes:
        entries: by key and by the incarnation that took it: the total, and the version that last raised it.
        parts: by column and by name, what was settled: the most that any settler says.
        covers: by column, what each settler has settled: up to which time and which version.
        units: by name, all units that are known in any form.
        floor: up to which time the node takes no ids any more; -1 before the first promise.
    """

    entries: defaultdict[str, dict[bytes, tuple[int, int]]] = field(default_factory=lambda: defaultdict(dict))
    parts: dict[tuple[bytes, str], int] = field(default_factory=dict)
    covers: Covers = field(default_factory=dict)
    units: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    floor: int = -1
    _settled: dict[tuple[bytes, bytes], tuple[int, int]] = field(default_factory=dict)  # by settler and column

    def covers_with(self, settler: bytes, settled: dict[bytes, Settlement]) -> Covers:
        """What is covered together with further settlements of a settler."""
        covers = dict(self.covers)
        for column, one in settled.items():
            until, version = self._settled.get((settler, column), (-1, 0))
            covers[column] = (*covers.get(column, ()), (max(one.until, until), max(one.version, version)))
        return covers

    def join(self, delta: Delta) -> None:
        """Take what a delta brings, of which all before is known."""
        if delta.keyed is None:
            return
        for column, settlement in delta.keyed.settled.items():
            mine = self._settled.get((delta.incarnation, column), (-1, 0))
            self._settled[delta.incarnation, column] = joined = (
                max(settlement.until, mine[0]),
                max(settlement.version, mine[1]),
            )
            self.covers[column] = (*self.covers.get(column, ()), joined)
            for name, n in settlement.parts.items():
                self.parts[column, name] = max(n, self.parts.get((column, name), 0))
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
