"""The names of the counters, interned: each has an index, in the order in which they became known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import islice
from operator import itemgetter


class Names:
    """All names that a replica knows. No name is ever removed.

    Attributes:
        listed: the names in the order of their indexes.
        indexes: the index of each name. A new name must not be looked up here in brackets.
    """

    def __init__(self) -> None:
        self.listed: list[str] = []
        self.indexes: dict[str, int] = _Indexes()

    def index(self, name: str) -> int:
        """The index of a name, which becomes known with it."""
        index = self.indexes.get(name)
        if index is None:
            index = self.indexes[name] = len(self.listed)
            self.listed.append(name)
        return index

    def indexes_of(self, names: Collection[str]) -> tuple[int, ...]:
        """The indexes of many names, which become known with it."""
        known, before = self.indexes, len(self.listed)
        indexes = _all_of(names, known)
        new = len(known) - before
        if new:  # the look-ups above have given indexes to new names: they are the last keys of the dict
            self.listed += [*islice(reversed(known), new)][::-1]
            assert len(known) == len(self.listed), "each name has one index"
        return indexes

    def restore(self, names: Sequence[str]) -> None:
        """Append names from a checkpoint, in their order.

        Raises:
            ValueError: one of them is known already.
        """
        known = len(self.listed)
        self.indexes.update(zip(names, range(known, known + len(names)), strict=True))
        self.listed += names
        if len(self.indexes) < len(self.listed):
            raise ValueError("a name occurs twice")


class _Indexes(defaultdict[str, int]):
    """Names with their indexes. Looking a new name up in brackets gives it the next index, in one step for both."""

    def __init__(self) -> None:
        super().__init__(self.__len__)

    def __deepcopy__(self, memo: dict[int, object]) -> _Indexes:
        copied = _Indexes()
        copied.update(self)
        return copied


def _all_of(names: Collection[str], known: dict[str, int]) -> tuple[int, ...]:
    if len(names) < 2:
        return tuple(known[name] for name in names)
    found: tuple[int, ...] = itemgetter(*names)(known)  # in half the time of a loop
    return found
