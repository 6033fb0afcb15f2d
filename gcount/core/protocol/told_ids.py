"""Ids that the answers of a consistent read bring along, so that the reader need not wait until they are pushed to it.

A push waits until the one before it is acknowledged, and then for the reader's disk. On slow links that takes longer
than members hold their increments, so that each round would meet further ids that the reader does not know.

What is told joins like everything else: it is what a column holds of one counter between two versions. An entry that
the sender does not tell is covered by a settlement that the sender knows. So the reader takes what is told only if it
knows all settlements that the sender knew. Then it knows the counter's entries up to each version that was named.
"""

from collections.abc import Iterable, Mapping

from gcount.core.protocol.counter_views import Found, Own, Told, covers, join_cells
from gcount.core.state.counters import Counters, Digest
from gcount.core.state.ids import split, time_of
from gcount.core.state.keyed import is_covered

MOST_TOLD = 2048  # entries in an answer; with ids of 64 bytes these are 180 KB
MOST_SEARCHED = 8192  # changes of all counters that are looked at for an answer
MOST_NUMBERS = 1024  # cells, parts, versions of an answer that tells entries, so that it fits into a message; columns
MOST_LEARNED = 8_192  # entries of a counter that the reader keeps until they are pushed to it: 20 ms to add up


def tell(counters: Counters, name: str, known: Mapping[bytes, int], found: Found) -> Found:
    """Add to an answer the entries of a counter that the reader lacks.

    Args:
        counters: what this node has on disk.
        name: the counter.
        known: by incarnation, the version up to which the reader knows the counter's entries.
        found: what this node has on disk of the counter.

    Returns:
        The answer with the entries. It is the same as before when the reader lacks none, or when they are too many.
    """
    newer = [(holder, after) for holder, n in found.changed.items() if n > (after := known.get(holder, 0))]
    needs = counters.settlements.needs() if newer else {}
    if not newer or sum(map(len, (found.cells, found.parts, found.changed, needs))) > MOST_NUMBERS:
        return found
    entries = _newer(counters, name, newer)
    return found if entries is None else found._replace(told=Told(entries, needs))


def _newer(
    counters: Counters, name: str, newer: Iterable[tuple[bytes, int]]
) -> dict[bytes, dict[str, tuple[int, int]]] | None:
    """The entries of a counter after some versions; None when they are too many, or take a search to be found."""
    entries: dict[bytes, dict[str, tuple[int, int]]] = {}
    searched = told = 0
    for holder, after in newer:
        changes = counters.entries.changes(holder, after)
        if changes is None:
            return None
        of_holder = entries[holder] = {}
        for key, entry in changes:
            searched += 1
            id_, of = split(key)
            if of == name and entry is not None:
                of_holder[id_] = entry.total, entry.version
                told += 1
            if searched > MOST_SEARCHED or told > MOST_TOLD:
                return None
    return entries


class Learned:
    """What answers told a reader of the ids of one counter, beyond what it has on disk."""

    def __init__(self) -> None:
        self._columns: dict[bytes, None] = {}  # in which any answer had ids that are not settled
        self._reach: Digest = {}
        self._entries: dict[tuple[str, bytes], tuple[int, int]] = {}  # by id and holder: the total, and the version

    def __bool__(self) -> bool:
        """Whether answers told of any ids."""
        return bool(self._columns)

    def take(self, found: Found, digest: Digest) -> None:
        """Take what an answer tells.

        Args:
            found: the answer.
            digest: what the reader had on disk at some time before.
        """
        told, columns = found.told, self._columns | dict.fromkeys(found.changed)
        if len(columns) > MOST_NUMBERS:
            return  # a question has to name them all
        self._columns = columns
        # Without the settlements, entries that they cover would be missing, though a version beyond them is known.
        if told is None or not covers(digest, told.needs):
            return
        if len(self._entries) + sum(map(len, told.entries.values())) > MOST_LEARNED:
            return
        for holder, entries in told.entries.items():
            for id_, (total, version) in entries.items():
                before = self._entries.get((id_, holder), (0, 0))
                self._entries[id_, holder] = max(total, before[0]), max(version, before[1])
        self._reach = join_cells(self._reach, found.changed)

    def added_to(self, own: Own, name: str, counters: Counters) -> Own:
        """What the reader has on disk, together with what it was told.

        Args:
            own: what it has on disk of the counter now.
            name: the counter.
            counters: all that it has on disk now.
        """
        self._entries = {
            (id_, holder): (total, version)
            for (id_, holder), (total, version) in self._entries.items()
            if version > own.digest.get(holder, 0)  # else it has been pushed meanwhile
        }
        greatest: dict[str, int] = {}
        for (id_, holder), (total, version) in self._entries.items():
            if not is_covered(counters.settlements.covers.get(holder, ()), time_of(id_) or 0, version):
                greatest[id_] = max(total, greatest.get(id_, 0))
        keyed = own.keyed
        for id_, total in greatest.items():
            here = counters.entries.get(f"{id_} {name}")
            keyed += max(0, total - (0 if here is None else here.total))
        return own._replace(keyed=keyed, told=dict(self._reach))

    def known(self, own: Own) -> Digest | None:
        """Up to which versions the reader knows the counter's entries: what a question says.

        Args:
            own: what it has on disk, together with what it was told.

        Returns:
            By incarnation, the version. None when the reader has heard of no ids of the counter.
        """
        columns = [*own.found.changed, *self._columns]  # not a set: a run's messages do not depend on hashes
        if not columns:
            return None
        return {column: version for column in columns if (version := own.reach(column))}
