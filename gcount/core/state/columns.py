"""A column: all cells of one incarnation, and the version at which each of them changed last.

Cells and stamps are arrays of 64-bit words. In a *dense* column the place of a word is the index of the interned name,
with 0 for names that the incarnation never counted. Nothing is faster, but a single cell of a late name costs as much
memory as all names before it. So the column of an incarnation that counted few of the names is *sparse*: its words
stand in the order in which the cells came, and a dict maps indexes to places. A column changes its form with its
content, so that it never costs more than a fixed number of bytes for each cell.

A column can be frozen. It then goes on changing, and its state at that instant can still be read.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import repeat, zip_longest

from gcount.core.options import DEFAULTS, Options


class Column:
    """The cells of one incarnation at its `version`, never more and never less.

    The column also keeps its newest changes in order, each as an index and a version. An entry is stale when the cell
    has a later stamp by now.

    Args:
        options: how many changes are kept, and when a column is sparse.

    Attributes:
        cells: the words, each at its *place*. In a dense column the place is the index.
        stamps: for each place the version of the cell's last change.
        slots: the places by index; None in a dense column.
        indexes: the indexes by place; empty in a dense column.
        forked: 0, unless a newer version came with a lower cell: then the version that was known before. Cells only
            grow, so the two versions belong to two histories.
    """

    __slots__ = (
        "_changed",
        "_dense_until",
        "_end",
        "_floor",
        "_options",
        "_when",
        "cells",
        "forked",
        "frozen",
        "indexes",
        "slots",
        "stamps",
        "version",
    )

    def __init__(self, options: Options = DEFAULTS) -> None:
        self.version = 0
        self.cells = array("Q")
        self.stamps = array("Q")
        self.slots: dict[int, int] | None = None
        self.indexes = array("Q")
        self.frozen: Frozen | None = None
        self.forked = 0
        self._options = options
        self._dense_until = options.column_small  # up to this length a dense column stays dense without a look at it
        self._end = 0  # the length of a sparse column if it were dense
        self._changed: deque[int] = deque(maxlen=options.column_recent_least)
        self._when: deque[int] = deque(maxlen=options.column_recent_least)
        self._floor = 0  # they hold every change after this version, as long as none was dropped

    def get(self, index: int) -> int:
        """The cell of the name with this index; 0 when there is none."""
        place = index if self.slots is None else self.slots.get(index, len(self.cells))
        return self.cells[place] if place < len(self.cells) else 0

    def held(self) -> Iterable[int]:
        """The indexes of all names that the column has a cell of."""
        if self.slots is not None:
            return self.indexes
        return (index for index, stamp in enumerate(self.stamps) if stamp)

    def join(self, indexes: Collection[int], values: Iterable[int], upto: int, totals: list[int] | None) -> None:
        """Take the maximum of each cell and a given value.

        Args:
            indexes: the indexes of the cells, no two alike.
            values: absolute values, in the same order.
            upto: the version of the column afterwards.
            totals: the totals of all names, which grow with the cells; None to leave them as they are, which takes
                half the time.
        """
        assert upto > self.version, "a version never falls"
        places = self._places(indexes)  # may replace the arrays and end a freeze, so it comes before both are used
        if self.frozen is not None:
            self.frozen.keep(places)  # before the first of these cells changes
        cells, stamps = self.cells, self.stamps
        if totals is None:
            for place, n in zip(places, values, strict=True):
                if n > cells[place]:
                    cells[place] = n
                elif n < cells[place]:
                    self.forked = self.forked or self.version
                # Also where the cell did not grow: a stamp that is too new only makes a peer get the cell once more.
                stamps[place] = upto
        else:
            for index, place, n in zip(indexes, places, values, strict=True):
                grown = n - cells[place]
                if grown > 0:
                    cells[place] = n
                    totals[index] += grown
                elif grown < 0:
                    self.forked = self.forked or self.version
                stamps[place] = upto
        self.version = upto
        self._changed.extend(indexes)
        self._when.extend(repeat(upto, len(indexes)))

    def join_one(self, index: int, n: int, upto: int, totals: list[int] | None) -> None:
        """The same as `join` for one cell, in a fraction of the time."""
        assert upto > self.version, "a version never falls"
        cells, place = self.cells, index
        if self.slots is not None or index >= len(cells):
            (place,) = self._places((index,))
            cells = self.cells
        if self.frozen is not None:
            self.frozen.keep((place,))
        grown = n - cells[place]
        if grown > 0:
            cells[place] = n
            if totals is not None:
                totals[index] += grown
        elif grown < 0:
            self.forked = self.forked or self.version
        self.stamps[place] = self.version = upto
        self._changed.append(index)
        self._when.append(upto)

    def newer(self, version: int) -> tuple[int, Iterator[list[tuple[int, int]]]]:
        """The cells that changed after a version.

        Returns:
            An upper bound of their number; and the cells as they are now, each as index and value, in pieces. Each
            piece is computed when it is asked for and takes a few milliseconds. Later changes of the column do not
            change the pieces.
        """
        kept = self._when
        # The newest changes answer alone if they reach back to that version: then this costs what it returns.
        if version >= (kept[0] if len(kept) == kept.maxlen else self._floor):
            cells, slots = self.cells, self.slots
            if slots is None:
                changed = [(index, cells[index]) for index in self._walk(version)]
            else:
                changed = [(index, cells[slots[index]]) for index in self._walk(version)]
            return len(changed), iter((changed,))
        # Else the whole column has to be searched, on copies: the pieces are read while the column goes on changing.
        indexes = range(len(self.cells)) if self.slots is None else self.indexes[:]
        piece = self._options.column_piece
        return len(self.cells), _newer(indexes, self.cells[:], self.stamps[:], version, piece)

    def freeze(self) -> Frozen:
        """The column as it is now, which can be read until `frozen` is None again."""
        assert self.frozen is None, "one checkpoint at a time reads a column"
        self.frozen = Frozen(self)
        return self.frozen

    def restore(self, version: int, indexes: array[int], cells: array[int], stamps: array[int]) -> None:
        """Append a slice of a column that was frozen. The order of the changes in it is not known any more.

        Raises:
            ValueError: a cell is in the column already, or one slice is dense and another one sparse.
        """
        if indexes and not self.cells:
            self.slots = {}
        if len(cells) > 0 and (self.slots is None) == bool(indexes):
            raise ValueError("an incarnation's cells can't be both dense and sparse")
        self.version = self._floor = version
        self.cells += cells
        self.stamps += stamps
        self._fit_order()
        if self.slots is None:
            self._dense_until += 2 * self._options.column_span * (len(stamps) - stamps.count(0))
            return
        self.slots.update(zip(indexes, range(len(self.indexes), len(self.cells)), strict=True))
        self.indexes += indexes
        self._end = max(self._end, max(indexes, default=-1) + 1)
        if len(self.slots) < len(self.cells):
            raise ValueError("a cell of an incarnation occurs twice")

    def _places(self, indexes: Collection[int]) -> Collection[int]:
        """The places of some cells. Missing cells are added, which may change the form of the column."""
        slots = self.slots
        if slots is None:
            size = max(indexes, default=-1) + 1
            if size <= self._dense_until or self._stays_dense(indexes, size):
                self._grow(size)
                return indexes
            slots = self._make_sparse()
        new = [index for index in indexes if index not in slots]
        if new:
            self._end = max(self._end, max(new) + 1)
            count = len(slots) + len(new)
            if self._end <= max(self._options.column_small, self._options.column_span * count):
                self._make_dense(count)
                return indexes
            slots.update(zip(new, range(len(slots), count), strict=True))
            self.indexes.extend(new)
            self._grow(count)
            assert len(self.indexes) == len(self.cells) == len(slots), "each cell of a sparse column has one place"
        return [*map(slots.__getitem__, indexes)]

    def _stays_dense(self, indexes: Collection[int], size: int) -> bool:
        """Whether a dense column holds enough cells to stay dense at a new size.

        Counting the cells is a pass over the column. Each pass raises `_dense_until` to about twice the allowed size,
        so that passes are rare.
        """
        cells, stamps = len(self.cells), self.stamps
        count = cells - stamps.count(0) + sum(index >= cells or not stamps[index] for index in indexes)
        small, span = self._options.column_small, self._options.column_span
        if size > max(small, span * count):
            return False
        self._dense_until = max(small, 2 * span * count)
        return True

    def _make_sparse(self) -> dict[int, int]:
        # The frozen column keeps the former arrays, here and in _make_dense. They do not change any more, so the
        # frozen column needs no old values from now on.
        self.frozen = None
        self._end = len(self.cells)
        self.indexes = array("Q", [index for index, stamp in enumerate(self.stamps) if stamp])
        self.cells = array("Q", map(self.cells.__getitem__, self.indexes))
        self.stamps = array("Q", map(self.stamps.__getitem__, self.indexes))
        self.slots = dict(zip(self.indexes, range(len(self.indexes)), strict=True))
        return self.slots

    def _make_dense(self, count: int) -> None:
        self.frozen = None
        words = zip(self.indexes, self.cells, self.stamps, strict=True)
        self.slots, self.indexes, self.cells, self.stamps = None, array("Q"), array("Q"), array("Q")
        self._grow(self._end)
        for index, n, stamp in words:
            self.cells[index] = n
            self.stamps[index] = stamp
        self._dense_until = max(self._options.column_small, 2 * self._options.column_span * count)

    def _grow(self, size: int) -> None:
        missing = size - len(self.cells)
        if missing > 0:
            blank = bytes(8 * missing)
            self.cells.frombytes(blank)
            self.stamps.frombytes(blank)
            assert len(self.cells) == len(self.stamps), "each cell has a stamp"
            self._fit_order()

    def _fit_order(self) -> None:
        """Keep about as many changes as the column has words: more would cost more than a pass over the column."""
        kept, words, most = self._when, len(self.cells), self._options.column_recent_most
        if (kept.maxlen or 0) < min(words, most):
            if len(kept) == kept.maxlen:
                self._floor = kept[0]
            recent = min(2 * words, most)
            self._changed, self._when = deque(self._changed, recent), deque(kept, recent)

    def _walk(self, version: int) -> Iterator[int]:
        """The indexes of the cells that changed after a version, the newest change first, each once."""
        stamps, slots = self.stamps, self.slots
        for index, when in zip(reversed(self._changed), reversed(self._when), strict=True):
            if when <= version:
                return
            if stamps[index if slots is None else slots[index]] == when:  # else stale: a later change was yielded
                yield index


def exceeding(one: Column, other: Column) -> Iterator[tuple[int, int]]:
    """The index and the value of each cell of a column that is greater than that of another one."""
    if one.slots is None and other.slots is None:
        pairs = zip_longest(one.cells, other.cells[: len(one.cells)], fillvalue=0)
        return ((index, mine) for index, (mine, theirs) in enumerate(pairs) if mine > theirs)
    return ((index, mine) for index in one.held() if (mine := one.get(index)) > other.get(index))


def _newer(
    indexes: Sequence[int], cells: array[int], stamps: array[int], version: int, piece: int
) -> Iterator[list[tuple[int, int]]]:
    for start in range(0, max(1, len(cells)), piece):
        words = (words[start : start + piece] for words in (indexes, cells, stamps))
        yield [(index, n) for index, n, stamp in zip(*words, strict=True) if stamp > version]


class Frozen:
    """A column as it was at one instant.

    It shares the arrays of the column. When a cell that was not read yet is about to change, its old value is saved
    here. So freezing costs nothing, except for cells that change before they are read.

    Args:
        column: the column, as it is now.
    """

    def __init__(self, column: Column) -> None:
        self.version = column.version
        self.length = len(column.cells)
        self.sparse = column.slots is not None
        self._indexes, self._cells, self._stamps = column.indexes, column.cells, column.stamps
        self._next = 0  # all places before this one were read
        self._before: dict[int, tuple[int, int]] = {}  # old cell and stamp of what has changed since, by place

    def keep(self, places: Iterable[int]) -> None:
        """Save the values at these places, as they are about to change."""
        start, end, before = self._next, self.length, self._before
        cells, stamps = self._cells, self._stamps
        for place in places:
            if start <= place < end and place not in before:
                before[place] = cells[place], stamps[place]

    def read(self, size: int) -> tuple[array[int], array[int], array[int]]:
        """The next cells, at most `size` of them; none when all were read.

        Returns:
            Their indexes, which are empty for a dense column; the cells; their stamps.
        """
        start, end = self._next, min(self._next + size, self.length)
        self._next = end
        cells, stamps = self._cells[start:end], self._stamps[start:end]
        if self._before:
            for place in self._before.keys() & range(start, end):
                cells[place - start], stamps[place - start] = self._before.pop(place)
        assert end < self.length or not self._before, "all that was kept of a frozen column is read"
        return self._indexes[start:end], cells, stamps
