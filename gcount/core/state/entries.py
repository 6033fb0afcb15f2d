"""The entries of all columns: increments with ids that no settlement covers yet.

Each id counts once, by its greatest total. Ids are kept in *buckets* by their time, and a bucket knows what its ids
come to. So a settlement, which covers all ids up to a time, costs time in proportion to the counters in the buckets
that it ends, and not to the ids. What it leaves behind is freed in slices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.ids import split, time_of

Covers = dict[bytes, tuple[int, int]]
"""By incarnation, up to which time and which version its entries are covered."""


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


def _ranked(entries: Iterable[Entry]) -> Entry | None:
    """Entries of one id as one, with the greatest first; of equal ones that of the smaller incarnation."""
    order = sorted(entries, key=lambda entry: (-entry.total, entry.holder))
    if not order:
        return None
    first, *rest = order
    others = tuple(Entry(other.holder, other.total, other.version) for other in rest)
    return Entry(first.holder, first.total, first.version, others)


class _Bucket:
    """The ids of one span of time.

    Attributes:
        ids: the entries by key.
        sums: by the holder of the greatest entry and by the index of the counter, what the ids come to.
        newest: by holder, at least the newest version of its entries here.
        shared: whether `ids` is being read elsewhere, so that it must not change any more.
    """

    __slots__ = ("ids", "newest", "shared", "sums")

    def __init__(self) -> None:
        self.ids: dict[str, Entry] = {}
        self.sums: dict[bytes, dict[int, int]] = {}
        self.newest: dict[bytes, int] = {}
        self.shared = False

    def put(self, key: str, index: int, old: Entry | None, new: Entry | None) -> int:
        """Replace an id's entry; returns by how much its counter grows."""
        if self.shared:
            self.ids, self.shared = dict(self.ids), False
        if old is not None:
            sums = self.sums[old.holder]
            sums[index] -= old.total
            if not sums[index]:
                del sums[index]
        if new is None:
            del self.ids[key]
            return -old.total if old is not None else 0
        sums = self.sums.setdefault(new.holder, {})
        sums[index] = sums.get(index, 0) + new.total
        self.ids[key] = new
        return new.total - (old.total if old is not None else 0)


class _Live:
    """What is known of one counter's ids.

    Attributes:
        count: how many there are.
        newest: by holder, at least the newest version of its entries of this counter.
    """

    __slots__ = ("count", "newest")

    def __init__(self) -> None:
        self.count = 0
        self.newest: dict[bytes, int] = {}


class _Recent:
    """The newest changes of one holder's entries, in order. They are all changes after `floor`, or fill `keys`."""

    __slots__ = ("floor", "keys", "versions")

    def __init__(self, most: int, floor: int) -> None:
        self.keys: deque[str] = deque(maxlen=most)
        self.versions: deque[int] = deque(maxlen=most)
        self.floor = floor

    def reaches(self, after: int) -> bool:
        """Whether all changes after a version are here."""
        return after >= (self.versions[0] if len(self.versions) == self.versions.maxlen else self.floor)


class Entries:
    """All entries that a replica holds.

    Args:
        index_of: returns the index of a counter's name, which it interns.
        options: the span of a bucket, and sizes.

    Attributes:
        live: the number of ids.
        dropped: how many ids were dropped since this replica was made, as they were settled.
    """

    def __init__(self, index_of: Callable[[str], int], options: Options = DEFAULTS) -> None:
        self.live = 0
        self.dropped = 0
        self._index_of = index_of
        self._options = options
        self._span = options.id_span
        self._buckets: dict[int, _Bucket] = {}
        self._of: dict[int, _Live] = {}  # by the index of the counter
        self._recent: dict[bytes, _Recent] = {}  # by holder
        self._garbage: list[_Bucket] = []  # settled, to be freed

    # What is known of an id and of a counter

    def get(self, key: str) -> Entry | None:
        """An id's entry with the greatest total, which holds the others; None when no entry is known."""
        bucket = self._buckets.get(_time(key) // self._span)
        return None if bucket is None else bucket.ids.get(key)

    def count(self, index: int) -> int:
        """How many ids a counter has; some of them may be settled already."""
        live = self._of.get(index)
        return 0 if live is None else live.count

    def newest(self, index: int) -> dict[bytes, int]:
        """By holder, at least the newest version of its entries of a counter."""
        live = self._of.get(index)
        return {} if live is None else dict(live.newest)

    def held(self, index: int, holder: bytes) -> int:
        """What all ids of a counter come to that an incarnation has taken. This walks over all ids."""
        return sum(
            entry.total
            for bucket in self._buckets.values()
            for key, best in bucket.ids.items()
            if (entry := best.of(holder)) is not None and self._index_of(split(key)[1]) == index
        )

    @property
    def oldest(self) -> int | None:
        """The beginning of the time of the oldest ids, in seconds since 1970; None when there are none."""
        return min(self._buckets) * self._span if self._buckets else None

    def newest_end(self, before: int) -> int:
        """The end of the newest bucket that ends before a time, in seconds since 1970; 0 when there is none."""
        ends = (self._end(number) for number in self._buckets)
        return max((end for end in ends if end < before), default=0)

    def items(self) -> Iterator[tuple[str, Entry]]:
        """Every key with its entry. This is for tests and tools, as it walks over all of them."""
        for bucket in self._buckets.values():
            yield from bucket.ids.items()

    # Changes. Each adds to `changes` by how much counters grow, by index.

    def join(
        self,
        holder: bytes,
        known: int,
        entries: dict[str, tuple[int, int]],
        covers: Covers,
        changes: dict[int, int],
    ) -> None:
        """Take entries of a holder: the maximum of each total.

        Those that are covered are left out, and those up to the holder's version that is `known`: they are here, or
        were covered.
        """
        until, upto = covers.get(holder, (-1, -1))
        recent = self._recent.get(holder) or self._begin(holder, 0)
        for key, (total, version) in sorted(entries.items(), key=_by_version):
            time = _time(key)
            if version <= known or (time <= until and version <= upto):
                continue
            bucket = self._buckets.get(time // self._span)
            if bucket is None:
                bucket = self._buckets[time // self._span] = _Bucket()
            index = self._index_of(split(key)[1])
            live = self._of.get(index)
            if live is None:
                live = self._of[index] = _Live()
            old = bucket.ids.get(key)
            if old is None:
                new: Entry | None = Entry(holder, total, version)
                self.live += 1
                live.count += 1
            else:
                new = _raised(old, holder, total, version)
            grown = bucket.put(key, index, old, new)
            if grown:
                changes[index] = changes.get(index, 0) + grown
            bucket.newest[holder] = max(version, bucket.newest.get(holder, 0))
            live.newest[holder] = max(version, live.newest.get(holder, 0))
            recent.keys.append(key)
            recent.versions.append(version)

    def drop_covered(self, covers: Covers, changes: dict[int, int]) -> None:
        """Drop all entries that are covered."""
        for number, bucket in [*self._buckets.items()]:
            if self._is_covered(number, bucket, covers):
                del self._buckets[number]
                self.live -= len(bucket.ids)
                self.dropped += len(bucket.ids)
                for sums in bucket.sums.values():
                    for index, total in sums.items():
                        changes[index] = changes.get(index, 0) - total
                self._garbage.append(bucket)
            else:
                self._drop_some(number, bucket, covers, changes)

    def would_drop(self, covers: Covers) -> dict[int, int]:
        """By index, by how much counters would shrink if the covered entries were dropped."""
        lost: dict[int, int] = {}
        for number, bucket in self._buckets.items():
            if self._is_covered(number, bucket, covers):
                found = [(index, total) for sums in bucket.sums.values() for index, total in sums.items()]
            else:
                found = [
                    (self._index_of(split(key)[1]), old.total - (new.total if new else 0))
                    for key, old, new in self._partly_covered(number, bucket, covers)
                ]
            for index, total in found:
                lost[index] = lost.get(index, 0) + total
        return lost

    def sweep(self, most: int) -> bool:
        """Free up to so many ids of settled buckets; returns whether any are left."""
        while self._garbage and most > 0:
            bucket = self._garbage[-1]
            if bucket.shared:  # whoever reads it frees it
                bucket.ids, bucket.shared = dict(bucket.ids), False
            while bucket.ids and most > 0:
                key, _ = bucket.ids.popitem()
                self._forget(self._index_of(split(key)[1]))
                most -= 1
            if not bucket.ids:
                self._garbage.pop()
        return bool(self._garbage)

    # Settling

    def settled_until(self, floor: int) -> int:
        """The time up to which whole buckets can be settled, if no id up to `floor` is taken any more."""
        return (floor + 1) // self._span * self._span - 1

    def sums(self, until: int) -> tuple[set[bytes], dict[bytes, dict[int, int]]]:
        """What the ids up to a time come to.

        Args:
            until: the end of a bucket, in seconds since 1970.

        Returns:
            The holders of their entries; and for each holder of a greatest entry and for each counter, by its index,
            the sum of these entries.
        """
        holders, sums = set[bytes](), dict[bytes, dict[int, int]]()
        for number, bucket in self._buckets.items():
            if self._end(number) <= until:
                holders.update(bucket.newest)
                for holder, found in bucket.sums.items():
                    of = sums.setdefault(holder, {})
                    for index, total in found.items():
                        of[index] = of.get(index, 0) + total
        return holders, sums

    # Reading

    def sum_up(self) -> Iterator[dict[int, int]]:
        """What the ids of each bucket come to, by the index of the counter."""
        for bucket in self._buckets.values():
            yield from bucket.sums.values()

    def newer(self, holder: bytes, after: int) -> tuple[int, Iterator[dict[str, tuple[int, int]]]]:
        """A holder's entries that changed after a version.

        Returns:
            An upper bound of their number; and the entries as they are now, in pieces. Later changes do not change
            the pieces.
        """
        recent = self._recent.get(holder)
        if recent is None:
            return 0, iter(())
        if recent.reaches(after):
            found = dict(self._walk(recent, holder, after))
            return len(found), iter((found,)) if found else iter(())
        shared = self.share()
        return sum(map(len, shared)), _pieces(shared, holder, after, self._options.column_piece)

    def share(self) -> list[dict[str, Entry]]:
        """All entries as they are now, by key. Later changes do not change them."""
        for bucket in self._buckets.values():
            bucket.shared = True
        return [bucket.ids for bucket in self._buckets.values()]

    def restored(self, holder: bytes, version: int) -> None:
        """Note that the entries of a holder were restored, so that the order of their changes is not known."""
        self._begin(holder, version)

    def _begin(self, holder: bytes, floor: int) -> _Recent:
        recent = self._recent[holder] = _Recent(self._options.column_recent_most, floor)
        return recent

    def _walk(self, recent: _Recent, holder: bytes, after: int) -> Iterator[tuple[str, tuple[int, int]]]:
        for key, version in zip(reversed(recent.keys), reversed(recent.versions), strict=True):
            if version <= after:
                return
            best = self.get(key)
            entry = None if best is None else best.of(holder)
            if entry is not None and entry.version == version:
                yield key, (entry.total, version)

    def _end(self, number: int) -> int:
        return (number + 1) * self._span - 1

    def _is_covered(self, number: int, bucket: _Bucket, covers: Covers) -> bool:
        end = self._end(number)
        for holder, version in bucket.newest.items():
            until, upto = covers.get(holder, (-1, -1))
            if end > until or version > upto:
                return False
        return True

    def _partly_covered(
        self, number: int, bucket: _Bucket, covers: Covers
    ) -> Iterator[tuple[str, Entry, Entry | None]]:
        """Each key of a bucket of which some entry is covered, with its entries before and after."""
        start = number * self._span
        ends = {holder: covers[holder] for holder in bucket.newest if start <= covers.get(holder, (-1, -1))[0]}
        if not ends:
            return
        for key, old in [*bucket.ids.items()]:
            time = _time(key)
            rest = [one for one in old.all if not _covered(ends, one.holder, time, one.version)]
            if len(rest) < 1 + len(old.others):
                yield key, old, _ranked(rest)

    def _drop_some(self, number: int, bucket: _Bucket, covers: Covers, changes: dict[int, int]) -> None:
        for key, old, new in self._partly_covered(number, bucket, covers):
            index = self._index_of(split(key)[1])
            grown = bucket.put(key, index, old, new)
            changes[index] = changes.get(index, 0) + grown
            if new is None:
                self.live -= 1
                self.dropped += 1
                self._forget(index)
        if not bucket.ids:
            del self._buckets[number]

    def _forget(self, index: int) -> None:
        """Note that a counter has one id less."""
        live = self._of[index]
        live.count -= 1
        assert live.count >= 0, "an id is forgotten once"
        if not live.count:
            del self._of[index]


def _raised(old: Entry, holder: bytes, total: int, version: int) -> Entry:
    """An id's entries after one of them was raised."""
    mine = old.of(holder)
    if mine is not None:
        total, version = max(total, mine.total), max(version, mine.version)
    if not old.others and mine is old:
        return Entry(holder, total, version)
    found = _ranked([Entry(holder, total, version), *(one for one in old.all if one.holder != holder)])
    assert found is not None, "an entry that was raised is there"
    return found


def _covered(covers: Covers, holder: bytes, time: int, version: int) -> bool:
    until, upto = covers.get(holder, (-1, -1))
    return time <= until and version <= upto


def _pieces(
    shared: list[dict[str, Entry]], holder: bytes, after: int, size: int
) -> Iterator[dict[str, tuple[int, int]]]:
    piece: dict[str, tuple[int, int]] = {}
    looked = 0
    for ids in shared:
        for key, best in ids.items():
            entry = best.of(holder)
            if entry is not None and entry.version > after:
                piece[key] = entry.total, entry.version
            looked += 1
            if looked >= size:
                yield piece
                piece, looked = {}, 0
    yield piece


def _by_version(item: tuple[str, tuple[int, int]]) -> int:
    return item[1][1]


def _time(key: str) -> int:
    """When the id of a key was made."""
    time = time_of(split(key)[0])
    assert time is not None, "each id that is kept says its time"
    return time
