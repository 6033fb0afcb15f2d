"""The settlements that a replica knows. Each incarnation that settles writes its own.

Of several settlements of one column, one *contains* another one if it goes as far in time and in versions of the
column. Then it has added up all that the other one has, and what the other one says does not count any more: the two
may have added a common id to parts of different columns, as one of them knew more of the other holders. If neither
contains the other, each has added up some ids that the other one has not. Then the greatest part counts. The next
settlement of the column contains them both.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import msgspec

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.columns import Column, Frozen, exceeding
from gcount.core.state.keyed import Cover, Covers, Settlement
from gcount.core.state.names import Names

Reach = tuple[int, int]
"""Up to which time of ids, in seconds since 1970, and up to which version of the column entries are covered."""


class Settled:
    """What one incarnation has settled of the column of another one.

    Args:
        options: sizes of columns.

    Attributes:
        until: up to which time of ids.
        version: up to which version of the column.
        parts: what its settled ids came to, as a column. Its version is that of the settler's last change.
    """

    __slots__ = ("parts", "until", "version")

    def __init__(self, options: Options = DEFAULTS) -> None:
        self.until = -1
        self.version = 0
        self.parts = Column(options)

    @property
    def reach(self) -> Reach:
        """Up to which time and version it covers entries."""
        return self.until, self.version


class FrozenParts(msgspec.Struct, frozen=True):
    """What one incarnation had settled of the column of another one, at one instant (see `Settled`)."""

    settler: bytes
    column: bytes
    until: int
    version: int
    parts: Frozen


class Settlements:
    """All settlements that a replica knows.

    Args:
        names: the names of the counters. New ones become known with the settlements that have them.
        options: sizes of columns.

    Attributes:
        names: the same.
        covers: which entries are covered.
    """

    def __init__(self, names: Names, options: Options = DEFAULTS) -> None:
        self.covers: Covers = {}
        self.names = names
        self._options = options
        self._by: dict[bytes, dict[bytes, Settled]] = {}  # by settler, then by the column that was settled
        self._of: dict[bytes, list[Settled]] = {}  # the same by the column that was settled
        self._counting: dict[bytes, list[Settled]] = {}  # those of them that no other one contains

    def __bool__(self) -> bool:
        return bool(self._by)

    def items(self) -> Iterator[tuple[bytes, bytes, Settled]]:
        """Each settler, each column that it settled, and what it settled of it."""
        return ((settler, column, one) for settler, of in self._by.items() for column, one in of.items())

    def needs(self) -> dict[bytes, int]:
        """By settler, its version with its newest settlement."""
        return {settler: max(one.parts.version for one in of.values()) for settler, of in self._by.items()}

    def part(self, column: bytes, index: int) -> int:
        """What the settled ids of a column came to for one counter."""
        return max((one.parts.get(index) for one in self._counting.get(column, ())), default=0)

    def parts(self, index: int) -> dict[bytes, int]:
        """By column, what its settled ids came to for one counter; without those that came to nothing."""
        return {column: n for column in self._counting if (n := self.part(column, index))}

    def by(self, settler: bytes, column: bytes) -> Settled:
        """What one incarnation has settled of the column of another one; with no reach if it has settled nothing."""
        return self._by.get(settler, {}).get(column) or Settled(self._options)

    def counting(self, column: bytes) -> Sequence[Settled]:
        """The settlements of a column that no other one contains. Of their parts the greatest count."""
        return self._counting.get(column, ())

    def join(self, settler: bytes, upto: int, settled: dict[bytes, Settlement], changes: dict[int, int]) -> None:
        """Take settlements of a settler.

        Args:
            settler: the incarnation that settled.
            upto: its version afterwards.
            settled: the settlements by the column that was settled.
            changes: by how much counters change, by index. What the parts bring is added.
        """
        for column, settlement in settled.items():
            indexes = self.names.indexes_of(settlement.parts)
            parts = dict(zip(indexes, settlement.parts.values(), strict=True))
            reach = settlement.until, settlement.version
            for index, n in _changes(self, (settler, column), reach, parts):
                changes[index] = changes.get(index, 0) + n
            one = self._reached(settler, column, reach)
            one.parts.join(indexes, settlement.parts.values(), upto, None)

    def newer(self, settler: bytes, after: int) -> tuple[int, Iterator[dict[bytes, Settlement]]]:
        """The settlements of a settler that changed after one of its versions.

        Returns:
            An upper bound of the number of parts; and the settlements as they are now, in pieces. Later changes do not
            change the pieces.
        """
        found = [
            (column, one.until, one.version, *one.parts.newer(after))
            for column, one in self._by.get(settler, {}).items()
            if one.parts.version > after
        ]
        return sum(1 + most for _, _, _, most, _ in found), _pieces(found, self.names.listed)

    def sum_up(self) -> Iterator[dict[int, int]]:
        """All parts by index, in slices: what the settled ids of all columns came to."""
        for column, ones in self._counting.items():
            held: Iterable[int] = ones[0].parts.held() if len(ones) == 1 else _all_held(ones)
            indexes = iter(held)
            while part := {index: self.part(column, index) for index in islice(indexes, self._options.sum_slice)}:
                yield part

    # Checkpoints

    def freeze(self) -> list[FrozenParts]:
        """All settlements as they are now. They can be read until `thaw`, while others are joined."""
        return [
            FrozenParts(settler, column, one.until, one.version, one.parts.freeze())
            for settler, column, one in self.items()
        ]

    def thaw(self) -> None:
        """Release what `freeze` returned."""
        for _, _, one in self.items():
            one.parts.frozen = None

    def restore(
        self,
        head: tuple[bytes, bytes, int, int],
        version: int,
        first: int,
        words: tuple[array[int], array[int], array[int]],
    ) -> None:
        """Append a slice of parts from a checkpoint.

        Args:
            head: the settler, the column, up to which time and which version of it it is settled.
            version: of the settler, when these parts changed last.
            first: the place of the first part.
            words: the next indexes (none for a dense column), parts and stamps.

        Raises:
            ValueError: the slice does not follow what was restored before, or there are no such names.
        """
        settler, column, until, covered = head
        indexes, cells, stamps = words
        parts = self._reached(settler, column, (until, covered)).parts
        if first != len(parts.cells) or parts.version not in (0, version):
            raise ValueError(f"parts from {first} on of a settlement are out of place")
        if max(first + len(cells), max(indexes, default=-1) + 1) > len(self.names.listed):
            raise ValueError(f"parts from {first} on of a settlement belong to names that do not exist")
        parts.restore(version, indexes, cells, stamps)

    def _reached(self, settler: bytes, column: bytes, reach: Reach) -> Settled:
        one = self._by.setdefault(settler, {}).get(column)
        if one is None:
            one = self._by[settler][column] = Settled(self._options)
            self._of.setdefault(column, []).append(one)
        one.until, one.version = joined(reach, one.reach)
        ones = self._of[column]
        self.covers[column] = _maximal(each.reach for each in ones)
        counting = set(self.covers[column])
        self._counting[column] = [each for each in ones if each.reach in counting]
        return one


def _pieces(
    found: list[tuple[bytes, int, int, int, Iterator[list[tuple[int, int]]]]], names: list[str]
) -> Iterator[dict[bytes, Settlement]]:
    for column, until, version, _, pieces in found:
        for piece in pieces:
            yield {column: Settlement(until, version, {names[index]: n for index, n in piece})}


def would_count(settlements: Settlements, settler: bytes, column: bytes, reach: Reach) -> bool:
    """Whether no other settlement would contain that of a settler for a column, if it went on to there."""
    reach = joined(reach, settlements.by(settler, column).reach)
    return reach in _maximal((reach, *(one.reach for one in settlements.counting(column))))


def changes_by(
    settlements: Settlements, settler: bytes, column: bytes, settled: Settlement
) -> Iterator[tuple[int, int]]:
    """By how much counters that are known would change by a further settlement of a column, each with its index.

    Some do not change. If one falls, it is found after about as many steps as the settler itself has sent parts.
    """
    known = ((settlements.names.indexes.get(name), n) for name, n in settled.parts.items())
    parts = {index: n for index, n in known if index is not None}
    return _changes(settlements, (settler, column), (settled.until, settled.version), parts)


def _changes(
    settlements: Settlements, of: tuple[bytes, bytes], reach: Reach, parts: dict[int, int]
) -> Iterator[tuple[int, int]]:
    """By how much counters would change, each with its index, if a settler settled a column up to there.

    Args:
        settlements: those that are known.
        of: the settler, and the column.
        reach: up to which time and version.
        parts: by index.
    """
    settler, column = of
    before, mine = settlements.counting(column), settlements.by(settler, column)
    reach = joined(reach, mine.reach)
    counting = set(_maximal((reach, *(one.reach for one in before))))
    if reach not in counting:
        return
    contained = [one for one in before if one is not mine and one.reach not in counting]
    others = [one for one in before if one is not mine and one.reach in counting]
    # Elsewhere the greatest part stays as it is. So a small settlement of a column with many parts costs little.
    more = [exceeding(one.parts, mine.parts) for one in contained]
    if mine not in before:
        more.append(exceeding(mine.parts, before[0].parts if before else Column()))
    for index in _once(parts, more) if more else parts:
        after = max(mine.parts.get(index), parts.get(index, 0), *(one.parts.get(index) for one in others))
        yield index, after - settlements.part(column, index)


def _once(parts: dict[int, int], more: Iterable[Iterator[tuple[int, int]]]) -> Iterator[int]:
    """Each index once."""
    yield from parts
    done = set(parts)
    for index, _ in chain.from_iterable(more):
        if index not in done:
            done.add(index)
            yield index


def state_of(settlements: Settlements) -> dict[tuple[bytes, bytes], tuple[int, int, dict[str, int]]]:
    """By settler and column: the time, the version and the parts. This is for tests and tools, as `items` is."""
    names = settlements.names.listed
    return {
        (settler, column): (*one.reach, {names[index]: one.parts.get(index) for index in one.parts.held()})
        for settler, column, one in settlements.items()
    }


def settled_until(settlements: Settlements) -> int:
    """Up to which time ids of some column are settled, in seconds since 1970; -1 if none are."""
    return max((until for cover in settlements.covers.values() for until, _ in cover), default=-1)


def covers_with(settlements: Settlements, settler: bytes, more: dict[bytes, Reach]) -> Covers:
    """What would be covered after a further settlement.

    Args:
        settlements: those that are known.
        settler: the incarnation that would settle.
        more: for each column, up to which time and which version.
    """
    covers = dict(settlements.covers)
    for column, reach in more.items():
        covers[column] = _maximal((*covers.get(column, ()), joined(reach, settlements.by(settler, column).reach)))
    return covers


def joined(one: Reach, other: Reach) -> Reach:
    """The maximum of each number."""
    return max(one[0], other[0]), max(one[1], other[1])


def _maximal(pairs: Iterable[Reach]) -> Cover:
    """The pairs without those that lie within another one."""
    found: list[Reach] = []
    for until, version in sorted(pairs, reverse=True):
        if not found or version > found[-1][1]:
            found.append((until, version))
    return tuple(found)


def _all_held(ones: list[Settled]) -> set[int]:
    return {index for one in ones for index in one.parts.held()}
