"""The counters: a join semilattice of cells, and deltas between digests.

A *cell* is what one incarnation has added to one counter; it only grows. A counter's *total* is the sum of its cells.
An incarnation's *version* counts its commits, and every cell is stamped with the version of its last change, so that
all that is newer than a digest costs what it returns (Scuttlebutt reconciliation: van Renesse, Dumitriu, Gough, Thomas,
2008; state as a G-Counter: Shapiro, Preguica, Baquero, Zawirski, 2011; delta-state: Almeida, Shoker, Baquero, 2018).

Invariants:
- A column holds exactly its incarnation's state at `version`, never more and never less.
- `totals[i]` is the sum of all cells of name i.
- `recent` orders the names whose stamp is above `floor`, the oldest change first.

Names are interned once; cells and stamps are columns of 64-bit words, about a quarter of the memory of dicts of dicts.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator

import msgspec

Digest = dict[bytes, int]
"""What a replica knows: the version of each incarnation."""

MAX_RECENT = 65_536  # older askers cost one pass over the column


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """All cells of one incarnation that changed after one of its versions, as they stood at another.

    Args:
        incarnation: whose cells.
        after: the version that the receiver has to know already.
        upto: the version that the receiver knows afterwards.
        cells: the new absolute values.
    """

    incarnation: bytes
    after: int
    upto: int
    cells: dict[str, int]


class _Column:
    """The cells of one incarnation, indexed by interned name; 0 where it never counted."""

    __slots__ = ("cells", "floor", "recent", "stamps", "version")

    def __init__(self) -> None:
        self.version = 0
        self.cells = array("Q")
        self.stamps = array("Q")
        self.recent: OrderedDict[int, None] = OrderedDict()
        self.floor = 0

    def get(self, index: int) -> int:
        return self.cells[index] if index < len(self.cells) else 0

    def grow(self, size: int) -> None:
        missing = size - len(self.cells)
        if missing > 0:
            blank = bytes(8 * missing)
            self.cells.frombytes(blank)
            self.stamps.frombytes(blank)

    def changed_after(self, version: int) -> Iterable[int]:
        if version >= self.floor:
            return self._walk(version)
        return [index for index, stamp in enumerate(self.stamps) if stamp > version]

    def _walk(self, version: int) -> Iterator[int]:
        stamps = self.stamps
        for index in reversed(self.recent):
            if stamps[index] <= version:
                return
            yield index

    def trim(self) -> None:
        while len(self.recent) > MAX_RECENT:
            index, _ = self.recent.popitem(last=False)
            self.floor = self.stamps[index]


class Counters:
    """All cells that a replica holds, their totals, and what it knows of each incarnation."""

    def __init__(self) -> None:
        self._indexes: dict[str, int] = {}
        self._names: list[str] = []
        self._totals: list[int] = []
        self._columns: dict[bytes, _Column] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._indexes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counters):
            return NotImplemented
        return self.digest() == other.digest() and dict(self.items()) == dict(other.items())

    __hash__ = None  # type: ignore[assignment]  # mutable

    def items(self) -> Iterator[tuple[str, dict[bytes, int]]]:
        """Every name with its cells; for tests and tools, as it costs the whole state."""
        return ((name, self.cells(name)) for name in self._names)

    def names(self, start: int, end: int) -> list[str]:
        """Some of the counters' names, in the order in which they became known; none ever goes."""
        return self._names[start:end]

    def total(self, name: str) -> int:
        """The sum of a counter's cells; 0 for a name never incremented."""
        index = self._indexes.get(name)
        return 0 if index is None else self._totals[index]

    def cell(self, name: str, incarnation: bytes) -> int:
        """What one incarnation has added to a counter."""
        index = self._indexes.get(name)
        column = self._columns.get(incarnation)
        return 0 if index is None or column is None else column.get(index)

    def cells(self, name: str) -> dict[bytes, int]:
        """A counter's cells that are above 0, by incarnation."""
        index = self._indexes.get(name)
        if index is None:
            return {}
        return {incarnation: n for incarnation, column in self._columns.items() if (n := column.get(index))}

    def version(self, incarnation: bytes) -> int:
        """How much is known of an incarnation; 0 when nothing is."""
        column = self._columns.get(incarnation)
        return 0 if column is None else column.version

    def digest(self) -> Digest:
        """The version of every incarnation known."""
        return {incarnation: column.version for incarnation, column in self._columns.items()}

    @property
    def incarnations(self) -> int:
        """How many are known."""
        return len(self._columns)

    def fits(self, delta: Delta) -> bool:
        """Whether `join` would lose nothing: all before the delta is known."""
        return delta.after <= self.version(delta.incarnation)

    def join(self, delta: Delta) -> bool:
        """Take the pointwise maximum with a whole delta: the only way in which state ever changes.

        Returns:
            Whether the delta brought anything new. One that is known already changes nothing.

        Raises:
            ValueError: the delta starts after what is known, so joining it would hide a gap.
        """
        known = self.version(delta.incarnation)
        if delta.after > known:
            raise ValueError(f"delta starts at version {delta.after}, but only {known} is known")
        if delta.upto <= known:
            return False
        column = self._columns.setdefault(delta.incarnation, _Column())
        indexes = [self._intern(name) for name in delta.cells]
        column.grow(max(indexes, default=-1) + 1)
        cells, stamps, recent, totals, upto = column.cells, column.stamps, column.recent, self._totals, delta.upto
        for index, n in zip(indexes, delta.cells.values(), strict=True):
            grown = n - cells[index]
            if grown > 0:
                cells[index] = n
                totals[index] += grown
            stamps[index] = upto
            recent[index] = None
            recent.move_to_end(index)
        column.version = upto
        column.trim()
        return True

    def newer(self, incarnation: bytes, after: int) -> Delta | None:
        """All of one incarnation that changed after a version, or None when nothing did."""
        column = self._columns.get(incarnation)
        if column is None or column.version <= after:
            return None
        names, cells = self._names, column.cells
        changed = {names[index]: cells[index] for index in column.changed_after(after)}
        return Delta(incarnation, after, column.version, changed)

    def newer_than(self, digest: Digest) -> list[Delta]:
        """All that somebody with that digest lacks."""
        deltas = (self.newer(incarnation, digest.get(incarnation, 0)) for incarnation in self._columns)
        return [delta for delta in deltas if delta is not None]

    def _intern(self, name: str) -> int:
        index = self._indexes.get(name)
        if index is None:
            index = self._indexes[name] = len(self._names)
            self._names.append(name)
            self._totals.append(0)
        return index
