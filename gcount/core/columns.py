"""What one incarnation has counted: a column of cells, and when each of them changed last.

Cells and stamps are 64-bit words, indexed by interned name, 0 where the incarnation never counted. A column can be
frozen: it then goes on changing, and can still be read as it was.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import repeat

MAX_RECENT = 65_536  # changes; older askers cost one pass over the column


class Column:
    """The cells of one incarnation at its `version`, never more and never less.

    The newest changes are kept in their order, each as index and version; one that has a later stamp by now is stale.
    """

    __slots__ = ("_changed", "_floor", "_when", "cells", "frozen", "stamps", "version")

    def __init__(self) -> None:
        self.version = 0
        self.cells = array("Q")
        self.stamps = array("Q")
        self.frozen: Frozen | None = None
        self._changed: deque[int] = deque(maxlen=MAX_RECENT)
        self._when: deque[int] = deque(maxlen=MAX_RECENT)
        self._floor = 0  # how far back they reach, unless some were dropped

    def get(self, index: int) -> int:
        """A cell."""
        return self.cells[index] if index < len(self.cells) else 0

    def join(self, indexes: Collection[int], values: Iterable[int], upto: int, totals: list[int] | None) -> None:
        """Take the maximum with some cells.

        Args:
            indexes: whose, no two alike.
            values: the absolute values, in the same order.
            upto: the version that they bring the column to.
            totals: what grows with each cell, if that is wanted: it costs as much as all the rest.
        """
        if self.frozen is not None:
            self.frozen.keep(indexes)
        self._grow(max(indexes, default=-1) + 1)
        cells, stamps = self.cells, self.stamps
        if totals is None:
            for index, n in zip(indexes, values, strict=True):
                if n > cells[index]:
                    cells[index] = n
                stamps[index] = upto
        else:
            for index, n in zip(indexes, values, strict=True):
                grown = n - cells[index]
                if grown > 0:
                    cells[index] = n
                    totals[index] += grown
                stamps[index] = upto
        self.version = upto
        self._changed.extend(indexes)
        self._when.extend(repeat(upto, len(indexes)))

    def join_one(self, index: int, n: int, upto: int, totals: list[int] | None) -> None:
        """The same for one cell, in a fraction of the time."""
        cells = self.cells
        if self.frozen is not None:
            self.frozen.keep((index,))
        if index >= len(cells):
            self._grow(index + 1)
        grown = n - cells[index]
        if grown > 0:
            cells[index] = n
            if totals is not None:
                totals[index] += grown
        self.stamps[index] = self.version = upto
        self._changed.append(index)
        self._when.append(upto)

    def changed_after(self, version: int) -> Iterable[int]:
        """The indexes that changed after a version; what that costs is bounded where the order reaches back so far."""
        kept = self._when
        if version >= (kept[0] if len(kept) == kept.maxlen else self._floor):
            return self._walk(version)
        return [index for index, stamp in enumerate(self.stamps) if stamp > version]

    def freeze(self) -> Frozen:
        """Keep the column readable as it is now, until `frozen` is None again."""
        self.frozen = Frozen(self)
        return self.frozen

    def restore(self, version: int, cells: array[int], stamps: array[int]) -> None:
        """Append a slice of a column that was frozen; of older changes the order is not known."""
        self.version = self._floor = version
        self.cells += cells
        self.stamps += stamps

    def _grow(self, size: int) -> None:
        missing = size - len(self.cells)
        if missing > 0:
            blank = bytes(8 * missing)
            self.cells.frombytes(blank)
            self.stamps.frombytes(blank)

    def _walk(self, version: int) -> Iterator[int]:
        stamps = self.stamps
        for index, when in zip(reversed(self._changed), reversed(self._when), strict=True):
            if when <= version:
                return
            if stamps[index] == when:
                yield index


class Frozen:
    """A column as it was at one instant.

    What changes before it was read is set aside, so it costs nothing but for cells that do change meanwhile.

    Args:
        column: now.
    """

    def __init__(self, column: Column) -> None:
        self.version = column.version
        self.length = len(column.cells)
        self._column = column
        self._next = 0  # all before it was read
        self._before: dict[int, tuple[int, int]] = {}  # cell and stamp of what has changed since, by index

    def keep(self, indexes: Iterable[int]) -> None:
        """These cells are about to change."""
        start, end, before = self._next, self.length, self._before
        cells, stamps = self._column.cells, self._column.stamps
        for index in indexes:
            if start <= index < end and index not in before:
                before[index] = cells[index], stamps[index]

    def read(self, size: int) -> tuple[array[int], array[int]]:
        """The next cells and their stamps, `size` of each at most; none when all were read."""
        start, end = self._next, min(self._next + size, self.length)
        self._next = end
        cells, stamps = self._column.cells[start:end], self._column.stamps[start:end]
        if self._before:
            for index in self._before.keys() & range(start, end):
                cells[index - start], stamps[index - start] = self._before.pop(index)
        return cells, stamps
