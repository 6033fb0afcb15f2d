"""The settlements that a replica knows. Each incarnation that settles writes its own; they join by maximum."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.columns import Column, Frozen
from gcount.core.state.keyed import Cover, Covers, Settlement
from gcount.core.state.names import Names


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
        covers: which entries are covered.
    """

    def __init__(self, names: Names, options: Options = DEFAULTS) -> None:
        self.covers: Covers = {}
        self._names = names
        self._options = options
        self._by: dict[bytes, dict[bytes, Settled]] = {}  # by settler, then by the column that was settled
        self._of: dict[bytes, list[Settled]] = {}  # the same by the column that was settled

    def __bool__(self) -> bool:
        return bool(self._by)

    def items(self) -> Iterator[tuple[bytes, bytes, Settled]]:
        """Each settler, each column that it settled, and what it settled of it."""
        return ((settler, column, one) for settler, of in self._by.items() for column, one in of.items())

    def state(self) -> dict[tuple[bytes, bytes], tuple[int, int, dict[str, int]]]:
        """By settler and column: the time, the version and the parts. This is for tests and tools, as `items` is."""
        names = self._names.listed
        return {
            (settler, column): (
                one.until,
                one.version,
                {names[index]: one.parts.get(index) for index in one.parts.held()},
            )
            for settler, column, one in self.items()
        }

    def needs(self) -> dict[bytes, int]:
        """By settler, its version with its newest settlement."""
        return {settler: max(one.parts.version for one in of.values()) for settler, of in self._by.items()}

    def part(self, column: bytes, index: int) -> int:
        """What the settled ids of a column came to for one counter: the most that any settler says."""
        return max((one.parts.get(index) for one in self._of.get(column, ())), default=0)

    def parts(self, index: int) -> dict[bytes, int]:
        """By column, what its settled ids came to for one counter; without those that came to nothing."""
        return {column: n for column in self._of if (n := self.part(column, index))}

    def raises(self, settled: dict[bytes, Settlement]) -> dict[int, int]:
        """By index, by how much the counters that are known would grow by further settlements."""
        grown: dict[int, int] = {}
        for column, settlement in settled.items():
            for name, n in settlement.parts.items():
                index = self._names.indexes.get(name)
                if index is not None and (more := n - self.part(column, index)) > 0:
                    grown[index] = grown.get(index, 0) + more
        return grown

    def join(self, settler: bytes, upto: int, settled: dict[bytes, Settlement], changes: dict[int, int]) -> None:
        """Take settlements of a settler.

        Args:
            settler: the incarnation that settled.
            upto: its version afterwards.
            settled: the settlements by the column that was settled.
            changes: by how much counters grow, by index. What the parts bring is added.
        """
        for column, settlement in settled.items():
            indexes = self._names.indexes_of(settlement.parts)
            for index, n in zip(indexes, settlement.parts.values(), strict=True):
                more = n - self.part(column, index)
                if more > 0:
                    changes[index] = changes.get(index, 0) + more
            one = self._cover(settler, column, settlement.until, settlement.version)
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
        return sum(1 + most for _, _, _, most, _ in found), _pieces(found, self._names.listed)

    def sum_up(self) -> Iterator[dict[int, int]]:
        """All parts by index, in slices: what the settled ids of all columns came to."""
        for column, ones in self._of.items():
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
        parts = self._cover(settler, column, until, covered).parts
        if first != len(parts.cells) or parts.version not in (0, version):
            raise ValueError(f"parts from {first} on of a settlement are out of place")
        if max(first + len(cells), max(indexes, default=-1) + 1) > len(self._names.listed):
            raise ValueError(f"parts from {first} on of a settlement belong to names that do not exist")
        parts.restore(version, indexes, cells, stamps)

    def _cover(self, settler: bytes, column: bytes, until: int, version: int) -> Settled:
        one = self._by.setdefault(settler, {}).get(column)
        if one is None:
            one = self._by[settler][column] = Settled(self._options)
            self._of.setdefault(column, []).append(one)
        one.until, one.version = max(until, one.until), max(version, one.version)
        self.covers[column] = _maximal((each.until, each.version) for each in self._of[column])
        return one


def _pieces(
    found: list[tuple[bytes, int, int, int, Iterator[list[tuple[int, int]]]]], names: list[str]
) -> Iterator[dict[bytes, Settlement]]:
    for column, until, version, _, pieces in found:
        for piece in pieces:
            yield {column: Settlement(until, version, {names[index]: n for index, n in piece})}


def until_of(settlements: Settlements, settler: bytes) -> int:
    """Up to which time an incarnation has settled ids of some column, in seconds since 1970; -1 if of none."""
    return max((one.until for who, _, one in settlements.items() if who == settler), default=-1)


def covers_with(settlements: Settlements, settler: bytes, more: dict[bytes, tuple[int, int]]) -> Covers:
    """What would be covered after a further settlement.

    Args:
        settlements: those that are known.
        settler: the incarnation that would settle.
        more: for each column, up to which time and which version.
    """
    covers = dict(settlements.covers)
    known = {column: (one.until, one.version) for who, column, one in settlements.items() if who == settler}
    for column, (until, version) in more.items():
        before = known.get(column, (-1, 0))
        joined = max(until, before[0]), max(version, before[1])
        covers[column] = _maximal((*covers.get(column, ()), joined))
    return covers


def _maximal(pairs: Iterable[tuple[int, int]]) -> Cover:
    """The pairs without those that lie within another one."""
    found: list[tuple[int, int]] = []
    for until, version in sorted(pairs, reverse=True):
        if not found or version > found[-1][1]:
            found.append((until, version))
    return tuple(found)


def _all_held(ones: list[Settled]) -> set[int]:
    return {index for one in ones for index in one.parts.held()}
