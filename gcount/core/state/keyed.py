"""What of a delta concerns increments with ids: entries, and settlements.

An *entry* says that an incarnation has taken an id, with which total. Entries of several incarnations for one id count
once, by the greatest total. A *settlement* ends that: when no member takes an id of a certain time any more, one
incarnation adds these ids up. It says what they came to for each column that held them, as absolute numbers, in one
commit. A node that knows that commit drops the entries that it *covers*.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gcount.core.limits import MAX_CELL
from gcount.core.state.ids import split, time_of, well_formed

Cover = tuple[tuple[int, int], ...]
"""What is covered of one column: by each settler, entries up to a time and a version. The greatest time is first."""
Covers = dict[bytes, Cover]
"""By incarnation, what is covered of its entries."""


def is_covered(cover: Cover, time: int, version: int) -> bool:
    """Whether an entry with this time and this version is covered.

    Args:
        cover: what is covered of its column.
        time: of its id, in seconds since 1970.
        version: of the incarnation that last raised it.
    """
    # Not up to the time of one settler and the version of another: there may be entries of which neither of them knew,
    # and which neither has added up.
    return any(time <= until and version <= upto for until, upto in cover)


def is_entry(id_: str, total: int, version: int, upto: int) -> bool:
    """Whether an incarnation can have an entry with these values, when it is at a version up to `upto`."""
    return well_formed(id_) and time_of(id_) is not None and 0 < total <= MAX_CELL and 0 < version <= upto


class Settlement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a settlement says of one column. It covers the column's entries with a time and a version up to these.

    Args:
        until: the time of the ids, in seconds since 1970.
        version: the version of the column.
        parts: what all ids that were ever settled for this column came to, by the counter's name. Of several
            settlements of one settler, the maximum of each field counts; of several settlers, see settlements.py.
    """

    until: int
    version: int
    parts: dict[str, int]


class Keyed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What changed of an incarnation's entries and settlements.

    Args:
        entries: by key (see ids.py): the total, and the version of the incarnation that last raised it.
        settled: by the incarnation of the column that was settled.
    """

    entries: dict[str, tuple[int, int]] = {}
    settled: dict[bytes, Settlement] = {}

    def __len__(self) -> int:
        """How many entries and parts there are: what a limit of cells counts."""
        return len(self.entries) + sum(1 + len(settlement.parts) for settlement in self.settled.values())

    def merge(self, other: Keyed) -> None:
        """Take what another one says of the same incarnation: the maximum of each number."""
        for key, (total, version) in other.entries.items():
            mine = self.entries.get(key, (0, 0))
            self.entries[key] = max(total, mine[0]), max(version, mine[1])
        for column, theirs in other.settled.items():
            self.settled[column] = _joined(self.settled.get(column), theirs)

    def contains(self, other: Keyed) -> bool:
        """Whether merging another one would change nothing."""
        nothing = (0, 0)
        for key, (total, version) in other.entries.items():
            mine = self.entries.get(key, nothing)
            if total > mine[0] or version > mine[1]:
                return False
        return all(_contained(theirs, self.settled.get(column)) for column, theirs in other.settled.items())

    def names(self) -> set[str]:
        """The names of the counters."""
        parts = (settlement.parts for settlement in self.settled.values())
        return {split(key)[1] for key in self.entries}.union(*parts)

    def copy(self) -> Keyed:
        """A copy that can be merged into."""
        copied = Keyed()
        copied.merge(self)
        return copied


def _contained(theirs: Settlement, mine: Settlement | None) -> bool:
    if mine is None or theirs.until > mine.until or theirs.version > mine.version:
        return False
    return all(n <= mine.parts.get(name, 0) for name, n in theirs.parts.items())


def _joined(mine: Settlement | None, theirs: Settlement) -> Settlement:
    """The maximum of two settlements. The parts of the first are used again."""
    if mine is None:
        return Settlement(theirs.until, theirs.version, dict(theirs.parts))
    for name, n in theirs.parts.items():
        if n > mine.parts.get(name, 0):
            mine.parts[name] = n
    return Settlement(max(mine.until, theirs.until), max(mine.version, theirs.version), mine.parts)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What one incarnation has taken of an id.

    Args:
        holder: the incarnation.
        total: its total.
        version: its version that last raised the total.
        others: the entries of other incarnations for the same id. None of them has a greater total.
    """

    holder: bytes
    total: int
    version: int
    others: tuple[Entry, ...] = ()

    @property
    def all(self) -> tuple[Entry, ...]:
        """This entry and all others."""
        return (self, *self.others)

    def of(self, holder: bytes) -> Entry | None:
        """The entry of an incarnation."""
        if self.holder == holder:
            return self
        return next((other for other in self.others if other.holder == holder), None)

    def raised(self, holder: bytes, total: int, version: int) -> Entry:
        """The entries of the id after one incarnation took a total, at one of its versions."""
        mine = self.of(holder)
        if mine is not None:
            total, version = max(total, mine.total), max(version, mine.version)
        if not self.others and mine is self:
            return Entry(holder, total, version)
        found = ranked([Entry(holder, total, version), *(one for one in self.all if one.holder != holder)])
        assert found is not None, "an entry that was raised is there"
        return found


def ranked(entries: Iterable[Entry]) -> Entry | None:
    """Entries of one id as one, with the greatest first; of equal ones that of the smaller incarnation."""
    order = sorted(entries, key=lambda entry: (-entry.total, entry.holder))
    if not order:
        return None
    first, *rest = order
    others = tuple(Entry(other.holder, other.total, other.version) for other in rest)
    return Entry(first.holder, first.total, first.version, others)
