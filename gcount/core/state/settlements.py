"""The settlements that a replica knows. Each incarnation that settles writes its own; they join by maximum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.columns import Column
from gcount.core.state.entries import Covers
from gcount.core.state.keyed import Settlement


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


class Settlements:
    """All settlements that a replica knows.

    Args:
        index_of: returns the index of a counter's name, which it interns.
        name_of: returns the name of an index.
        options: sizes of columns.

    Attributes:
        covers: which entries are covered.
    """

    def __init__(
        self, index_of: Callable[[str], int], name_of: Callable[[int], str], options: Options = DEFAULTS
    ) -> None:
        self.covers: Covers = {}
        self._index_of = index_of
        self._name_of = name_of
        self._options = options
        self._by: dict[bytes, dict[bytes, Settled]] = {}  # by settler, then by the column that was settled

    def __bool__(self) -> bool:
        return bool(self._by)

    def items(self) -> Iterator[tuple[bytes, bytes, Settled]]:
        """Each settler, each column that it settled, and what it settled of it."""
        return ((settler, column, one) for settler, of in self._by.items() for column, one in of.items())

    def needs(self) -> dict[bytes, int]:
        """By settler, its version with its newest settlement."""
        return {settler: max(one.parts.version for one in of.values()) for settler, of in self._by.items()}

    def part(self, column: bytes, index: int) -> int:
        """What the settled ids of a column came to for one counter: the most that any settler says."""
        return max((of[column].parts.get(index) for of in self._by.values() if column in of), default=0)

    def parts(self, index: int) -> dict[bytes, int]:
        """By column, what its settled ids came to for one counter; without those that came to nothing."""
        return {column: n for column in self.covers if (n := self.part(column, index))}

    def raises(self, settled: dict[bytes, Settlement]) -> dict[int, int]:
        """By index, by how much counters would grow by the parts of further settlements."""
        grown: dict[int, int] = {}
        for column, settlement in settled.items():
            for name, n in settlement.parts.items():
                index = self._index_of(name)
                more = n - self.part(column, index)
                if more > 0:
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
        for index, more in self.raises(settled).items():
            changes[index] = changes.get(index, 0) + more
        of = self._by.setdefault(settler, {})
        for column, settlement in settled.items():
            one = of.get(column)
            if one is None:
                one = of[column] = Settled(self._options)
            one.parts.join([*map(self._index_of, settlement.parts)], settlement.parts.values(), upto, None)
            self._cover(column, one, settlement.until, settlement.version)

    def restore(self, settler: bytes, column: bytes, until: int, version: int) -> Column:
        """Take a settlement from a checkpoint, and return the column of its parts, to be restored, too."""
        of = self._by.setdefault(settler, {})
        one = of.get(column)
        if one is None:
            one = of[column] = Settled(self._options)
        self._cover(column, one, until, version)
        return one.parts

    def newer(self, settler: bytes, after: int) -> tuple[int, Iterator[dict[bytes, Settlement]]]:
        """The settlements of a settler that changed after one of its versions.

        Returns:
            An upper bound of the number of parts; and the settlements as they are now, in pieces. Later changes do not
            change the pieces.
        """
        found = [
            (column, one, *one.parts.newer(after))
            for column, one in self._by.get(settler, {}).items()
            if one.parts.version > after
        ]
        most = sum(1 + number for _, _, number, _ in found)
        return most, self._pieces([(column, one.until, one.version, pieces) for column, one, _, pieces in found])

    def sum_up(self) -> Iterator[dict[int, int]]:
        """All parts by index, in slices: what the settled ids of all columns came to."""
        for column in self.covers:
            settlers = [of[column].parts for of in self._by.values() if column in of]
            indexes: Iterable[int] = {index for parts in settlers for index in parts.held()}
            yield {index: max(parts.get(index) for parts in settlers) for index in indexes}

    def _cover(self, column: bytes, one: Settled, until: int, version: int) -> None:
        one.until, one.version = max(until, one.until), max(version, one.version)
        known = self.covers.get(column, (-1, 0))
        self.covers[column] = max(one.until, known[0]), max(one.version, known[1])

    def _pieces(
        self, found: list[tuple[bytes, int, int, Iterator[list[tuple[int, int]]]]]
    ) -> Iterator[dict[bytes, Settlement]]:
        for column, until, version, pieces in found:
            for piece in pieces:
                yield {column: Settlement(until, version, {self._name_of(index): n for index, n in piece})}
