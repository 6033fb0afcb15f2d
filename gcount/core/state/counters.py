"""The counters: a join semilattice of cells, and deltas between digests.

A *cell* is what one incarnation has added to one counter; it only grows. A counter's *total* is the sum of its cells,
and of what increments with ids came to: those that are settled, and those that are not (see keyed.py).
An incarnation's *version* counts its commits. Every cell is stamped with the version of its last change, so that
finding all that is newer than a digest costs time in proportion to what is found (Scuttlebutt reconciliation: van
Renesse, Dumitriu, Gough, Thomas, 2008; state as a G-Counter: Shapiro, Preguica, Baquero, Zawirski, 2011; delta-state:
Almeida, Shoker, Baquero, 2018).

Invariants:
- A column holds exactly its incarnation's state at `version`, never more and never less.
- `totals[i]` is the sum of all cells of name i, of its settled parts, and of the greatest total of each of its ids,
  except between `put_off_totals` and `sum_up`.

Names are interned once. Cells and stamps are columns of 64-bit words, which take about a quarter of the memory of dicts
of dicts.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from operator import add

import msgspec

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.columns import Column, Frozen
from gcount.core.state.entries import Entries
from gcount.core.state.keyed import Keyed
from gcount.core.state.names import Names
from gcount.core.state.settlements import Settlements, state_of

Digest = dict[bytes, int]
"""What a replica knows: the version of each incarnation."""


class Delta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All cells of one incarnation that changed after one of its versions, with their values at a later one.

    Args:
        incarnation: the incarnation.
        after: the version that the receiver has to know already.
        upto: the version that the receiver knows afterwards.
        cells: the new absolute values, by name.
        keyed: what changed of its entries and settlements; None when nothing did.
    """

    incarnation: bytes
    after: int
    upto: int
    cells: dict[str, int]
    keyed: Keyed | None = None

    @property
    def size(self) -> int:
        """How many cells, entries and parts there are: what limits count."""
        return len(self.cells) + (0 if self.keyed is None else len(self.keyed))

    def copy(self) -> Delta:
        """A copy of which the cells can be changed."""
        keyed = None if self.keyed is None else self.keyed.copy()
        return Delta(self.incarnation, self.after, self.upto, dict(self.cells), keyed)


class Gap(ValueError):
    """A delta begins after the version that is known. Joining it would claim versions that were never received."""


class Counters:
    """All cells that a replica holds, their totals, and the version of each incarnation.

    Args:
        options: sizes of columns, and of steps.

    Attributes:
        options: the same.
        entries: the increments with ids that are not settled.
        settlements: those that are.
        forks: the incarnations of which two histories were seen, each with the version that was known then.
    """

    def __init__(self, options: Options = DEFAULTS) -> None:
        self.options = options
        self._interned = Names()
        self._indexes, self._names = self._interned.indexes, self._interned.listed
        self._totals: list[int] = []
        self._summed = True
        self._columns: dict[bytes, Column] = {}
        self.entries = Entries(self._interned.index, options)
        self.settlements = Settlements(self._interned, options)
        self.forks: Digest = {}

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._indexes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counters):
            return NotImplemented
        return self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]  # mutable

    def items(self) -> Iterator[tuple[str, dict[bytes, int]]]:
        """Every name with its cells. This is for tests and tools, as it walks over the whole state."""
        return ((name, self.cells(name)) for name in self._names)

    def names(self, start: int, end: int) -> list[str]:
        """Some of the counters' names, in the order in which they became known. No name is ever removed."""
        return self._names[start:end]

    def total(self, name: str) -> int:
        """The value of a counter; 0 for a name that was never incremented."""
        index = self._indexes.get(name)
        return 0 if index is None else self._totals[index]

    def cell(self, name: str, incarnation: bytes) -> int:
        """What one incarnation has added to a counter."""
        index = self._indexes.get(name)
        column = self._columns.get(incarnation)
        return 0 if index is None or column is None else column.get(index)

    def totals_of(self, names: Collection[str]) -> list[int]:
        """The totals of many counters."""
        index_of, totals, size = self._indexes.get, self._totals, len(self._totals)
        return [totals[index] if (index := index_of(name, size)) < size else 0 for name in names]

    def cells_of(self, names: Collection[str], incarnation: bytes) -> list[int]:
        """What one incarnation has added to many counters."""
        column = self._columns.get(incarnation) or Column(self.options)
        cells, index_of = column.cells, self._indexes.get
        size = len(cells)
        if column.slots is not None:
            place_of = column.slots.get
            return [cells[at] if (at := place_of(index_of(name, -1), size)) < size else 0 for name in names]
        return [cells[index] if (index := index_of(name, size)) < size else 0 for name in names]

    def greatest_cell(self, incarnation: bytes) -> int:
        """The most that one incarnation has added to any counter."""
        column = self._columns.get(incarnation)
        return max(column.cells, default=0) if column else 0

    def cells(self, name: str) -> dict[bytes, int]:
        """A counter's cells that are above 0, by incarnation."""
        index = self._indexes.get(name)
        if index is None:
            return {}
        return {incarnation: n for incarnation, column in self._columns.items() if (n := column.get(index))}

    def keyed(self, name: str) -> int:
        """What a counter's increments with ids come to: its total without its cells."""
        return self.total(name) - sum(self.cells(name).values())

    def parts(self, name: str) -> dict[bytes, int]:
        """By column, what the settled ids of a counter came to."""
        index = self._indexes.get(name)
        return {} if index is None else self.settlements.parts(index)

    def changed(self, name: str) -> Digest:
        """By incarnation, at least the newest version in which an entry of a counter changed that is not settled."""
        index = self._indexes.get(name)
        return {} if index is None else self.entries.newest(index)

    def version(self, incarnation: bytes) -> int:
        """The version of an incarnation; 0 when nothing is known of it."""
        column = self._columns.get(incarnation)
        return 0 if column is None else column.version

    def digest(self) -> Digest:
        """The version of every incarnation known."""
        return {incarnation: column.version for incarnation, column in self._columns.items()}

    @property
    def incarnations(self) -> int:
        """The number of incarnations known."""
        return len(self._columns)

    def fits(self, delta: Delta) -> bool:
        """Whether a delta can be joined: all versions before it are known."""
        return delta.after <= self.version(delta.incarnation)

    def join(self, delta: Delta) -> bool:
        """Take the pointwise maximum with a whole delta. Except for a restore, state changes in no other way.

        Returns:
            Whether the delta brought anything new. One that is known already changes nothing.

        Raises:
            Gap: the delta begins after the version that is known, so that joining it would hide a gap.
        """
        column = self._columns.get(delta.incarnation)
        known = column.version if column else 0
        # A column is exact at its version. Joined behind a gap, the delta would claim cells that were never received,
        # and no peer would ever send them, as it would take them for known.
        if delta.after > known:
            raise Gap(f"delta starts at version {delta.after}, but only {known} is known")
        upto, new = delta.upto, delta.cells
        if upto <= known:
            return False
        if column is None:
            column = self._columns[delta.incarnation] = Column(self.options)
        totals = self._totals if self._summed else None
        if len(new) == 1:  # an increment of one counter, which is the most frequent delta by far
            for name, n in new.items():
                index = self._indexes.get(name)
                if index is None:
                    index = self._interned.index(name)
                    self._totals.append(0)
                column.join_one(index, n, upto, totals)
        else:
            indexes = self._interned.indexes_of(new)
            self._total_new()
            column.join(indexes, new.values(), upto, totals)
        if delta.keyed is not None:
            self._join_keyed(delta, known, delta.keyed)
        assert column.version == upto, "a join brings a column to exactly the delta's version"
        if column.forked:
            self.forks[delta.incarnation] = column.forked
        return True

    def newer(self, incarnation: bytes, after: int) -> tuple[int, Iterator[Delta]]:
        """All of one incarnation that changed after a version, as pieces of one delta (see chunks.py).

        Returns:
            An upper bound for the number of cells; and the pieces. They hold the present state, but each is made when
            it is asked for, so that other tasks can run in between.
        """
        column = self._columns.get(incarnation)
        if column is None or column.version <= after:
            return 0, iter(())
        names, upto = self._names, column.version
        most, pieces = column.newer(after)
        cells = (Delta(incarnation, after, upto, {names[index]: n for index, n in piece}) for piece in pieces)
        entries, found = self.entries.newer(incarnation, after)
        parts, settled = self.settlements.newer(incarnation, after)
        if not entries and not parts:
            return most, cells
        keyed = chain((Keyed(entries=piece) for piece in found), (Keyed(settled=piece) for piece in settled))
        return most + entries + parts, chain(cells, (Delta(incarnation, after, upto, {}, piece) for piece in keyed))

    def freeze(self) -> dict[bytes, Frozen]:
        """All columns as they are now, by incarnation. They can be read until `thaw`, while cells go on changing."""
        return {incarnation: column.freeze() for incarnation, column in self._columns.items()}

    def lengths(self) -> list[tuple[bytes, int, int]]:
        """For each incarnation its id, its version, and the number of words in its column."""
        return [(incarnation, column.version, len(column.cells)) for incarnation, column in self._columns.items()]

    def thaw(self) -> None:
        """Release what `freeze` returned."""
        for column in self._columns.values():
            column.frozen = None

    def restore_names(self, names: Sequence[str]) -> None:
        """Append names from a checkpoint, in their order.

        Raises:
            ValueError: one of them is known already.
        """
        self._interned.restore(names)
        self._total_new()

    def restore_cells(
        self, incarnation: bytes, version: int, first: int, indexes: array[int], cells: array[int], stamps: array[int]
    ) -> None:
        """Append a slice from a checkpoint to an incarnation's column.

        Raises:
            ValueError: the slice does not follow what was restored before, or there are no such names.
        """
        end = first + len(cells)
        column = self._columns.setdefault(incarnation, Column(self.options))
        if first != len(column.cells) or column.version not in (0, version):
            raise ValueError(f"cells {first} to {end} of an incarnation are out of place")
        if max(end, max(indexes, default=-1) + 1) > len(self._names):
            raise ValueError(f"cells {first} to {end} of an incarnation belong to names that do not exist")
        column.restore(version, indexes, cells, stamps)

    def restore_entries(self, incarnation: bytes, entries: Iterable[tuple[str, int, int]]) -> None:
        """Take keys, totals and versions of an incarnation from a checkpoint. Its column and all names come before.

        Raises:
            ValueError: they don't belong to that column, or there are no such names.
        """
        self.entries.restore(incarnation, self.version(incarnation), entries)
        if len(self._names) > len(self._totals):
            raise ValueError("entries of an incarnation belong to names that do not exist")

    def put_off_totals(self) -> None:
        """Keep no totals until `sum_up`. A start needs none before its end, and keeping them doubles its work."""
        self._summed = False

    def sum_up(self) -> Iterator[None]:
        """Compute all totals, a slice of them in each step of the iterator. Nothing may change meanwhile."""
        dense = [column for column in self._columns.values() if column.slots is None]
        sparse = [column for column in self._columns.values() if column.slots is not None]
        size = self.options.sum_slice
        for start in range(0, len(self._names), size):
            end = min(start + size, len(self._names))
            totals = [0] * (end - start)
            for column in dense:
                cells = column.cells[start:end]
                totals[: len(cells)] = map(add, totals, cells)
            self._totals[start:end] = totals
            yield
        for column in sparse:
            for index, n in zip(column.indexes, column.cells, strict=True):
                self._totals[index] += n
            yield
        for found in chain(self.settlements.sum_up(), self.entries.sum_up()):
            self._grow(found)
            yield
        self._summed = True

    def _join_keyed(self, delta: Delta, known: int, keyed: Keyed) -> None:
        """Take a delta's settlements and entries, when its cells are joined and `known` was known before."""
        changes: dict[int, int] = {}
        covers = self.settlements.covers
        if keyed.settled:
            self.settlements.join(delta.incarnation, delta.upto, keyed.settled, changes)
            self.entries.drop_covered(covers, changes)
        self.entries.join(delta.incarnation, known, keyed.entries, covers, changes)
        self._total_new()
        if self._summed:
            self._grow(changes)

    def _state(self) -> tuple[object, ...]:
        return self.digest(), dict(self.items()), dict(self.entries.items()), state_of(self.settlements)

    def _total_new(self) -> None:
        """Give totals to names that became known."""
        self._totals += [0] * (len(self._names) - len(self._totals))

    def _grow(self, changes: dict[int, int]) -> None:
        for index, n in changes.items():
            self._totals[index] += n


def highest(deltas: Iterable[Delta], incarnations: Collection[bytes]) -> Digest:
    """For some incarnations, the highest version in some deltas; without those of which there is no delta."""
    found: Digest = {}
    for delta in deltas:
        if delta.incarnation in incarnations:
            found[delta.incarnation] = max(delta.upto, found.get(delta.incarnation, 0))
    return found
