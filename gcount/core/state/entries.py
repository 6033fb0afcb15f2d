"""The entries of all columns: increments with ids that no settlement covers yet.

Each id counts once, by its greatest total. Ids are kept in *buckets* by their time, and a bucket knows what its ids
come to. So a settlement, which covers all ids up to a time, costs time in proportion to the counters in the buckets
that it ends, and not to the ids. What it leaves behind is freed in slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.buckets import Bucket, Entry, Recent, Shared, ranked
from gcount.core.state.ids import split, time_of

Covers = dict[bytes, tuple[int, int]]
"""By incarnation, up to which time and which version its entries are covered."""


class _Live:
    """What is known of one counter that has ids.

    Attributes:
        buckets: how many buckets have some, with those that are settled and not freed yet.
        newest: by holder, at least the newest version of its entries of this counter.
    """

    __slots__ = ("buckets", "newest")

    def __init__(self) -> None:
        self.buckets = 0
        self.newest: dict[bytes, int] = {}


class Entries:
    """All entries that a replica holds.

    Args:
        index_of: returns the index of a counter's name, which it interns.
        options: the span of a bucket, and sizes.

    Attributes:
        live: the number of ids.
        dropped: the number of ids that were dropped, as they are settled.
    """

    def __init__(self, index_of: Callable[[str], int], options: Options = DEFAULTS) -> None:
        self.live = 0
        self.dropped = 0
        self._index_of = index_of
        self._options = options
        self._span = options.id_span
        self._buckets: dict[int, Bucket] = {}
        self._of: dict[int, _Live] = {}  # by the index of the counter
        self._recent: dict[bytes, Recent] = {}  # by holder; of each that has entries here
        self._garbage: list[Bucket] = []  # settled, to be freed
        self._stale: list[bytes] = []  # holders of which changes were dropped, to be freed

    # What is known of an id and of a counter

    def get(self, key: str) -> Entry | None:
        """An id's entry with the greatest total, which holds the others; None when no entry is known."""
        bucket = self._buckets.get(_time(key) // self._span)
        return None if bucket is None else bucket.ids.get(key)

    def newest(self, index: int) -> dict[bytes, int]:
        """By holder, at least the newest version of its entries of a counter."""
        live = self._of.get(index)
        return {} if live is None else dict(live.newest)

    def held(self, name: str, holder: bytes) -> int:
        """What all ids of a counter come to that an incarnation has taken. This walks over all ids."""
        return sum(
            entry.total
            for key, best in self.items()
            if (entry := best.of(holder)) is not None and split(key)[1] == name
        )

    @property
    def oldest(self) -> int | None:
        """The beginning of the time of the oldest ids, in seconds since 1970; None when there are none."""
        return min(self._buckets) * self._span if self._buckets else None

    def newest_end(self, before: int) -> int:
        """The end of the newest bucket that ends before a time, in seconds since 1970; 0 when there is none."""
        ends = (self._end(number) for number in self._buckets)
        return max((end for end in ends if end < before), default=0)

    @property
    def holders(self) -> list[bytes]:
        """The incarnations of which there are entries; a settlement may just have dropped the last ones of some."""
        return [*self._recent]

    def items(self) -> Iterator[tuple[str, Entry]]:
        """Every key with its entry. This is for tests and tools, as it walks over all of them."""
        for bucket in self._buckets.values():
            yield from bucket.ids.items()

    # Changes. Each adds to `changes` by how much counters grow, by index.

    def join(
        self, holder: bytes, known: int, entries: dict[str, tuple[int, int]], covers: Covers, changes: dict[int, int]
    ) -> None:
        """Take entries of a holder: the maximum of each total.

        Those that are covered are left out, and those up to the holder's version that is `known`: they are here, or
        were covered.
        """
        until, upto = covers.get(holder, (-1, -1))
        recent = self._recent.get(holder)
        newest = 0
        for key, (total, version) in sorted(entries.items(), key=_by_version) if len(entries) > 1 else entries.items():
            time = _time(key)
            if version <= known or (time <= until and version <= upto):
                continue
            if recent is None:
                recent = self._begin(holder, 0)
            if version == newest:
                version = newest  # one object for all entries of one commit
            newest = version
            index, grown = self._take(key, time, recent.holder, total, version)
            if grown:
                changes[index] = changes.get(index, 0) + grown
            recent.add(key, version)

    def restore(self, holder: bytes, version: int, entries: Iterable[tuple[str, int, int]]) -> None:
        """Take entries of a holder from a checkpoint that holds no more of it than a version.

        Raises:
            ValueError: one of them can't be one of this holder, or is known already.
        """
        recent = self._recent.get(holder) or self._begin(holder, version)  # in an order that is not known any more
        for key, total, changed in entries:
            time = time_of(split(key)[0])
            if time is None or total < 1 or not 0 < changed <= version:
                raise ValueError(f"an entry of an incarnation at version {version} can't be {key}: {total}, {changed}")
            bucket = self._buckets.get(time // self._span)
            old = None if bucket is None else bucket.ids.get(key)
            if old is not None and old.of(holder) is not None:
                raise ValueError(f"the entry {key} of an incarnation occurs twice")
            self._take(key, time, recent.holder, total, changed)

    def drop_covered(self, covers: Covers, changes: dict[int, int]) -> None:
        """Drop all entries that are covered. What they took is freed by `sweep`."""
        before = self.live
        for number, bucket in [*self._buckets.items()]:
            if self._is_covered(number, bucket, covers):
                del self._buckets[number]
                self.live -= len(bucket.ids)
                for sums in bucket.sums.values():
                    for index, total in sums.items():
                        changes[index] = changes.get(index, 0) - total
                self._garbage.append(bucket)
            else:
                self._drop_some(number, bucket, covers, changes)
        self.dropped += before - self.live
        if self.live < before:
            self._stale = [*self._recent]

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
        """Free up to about so many ids that were dropped.

        Returns:
            Whether more can be freed at once. What a checkpoint or a link still reads can be freed later.
        """
        for bucket in [one for one in self._garbage if not one.is_read]:
            most = bucket.free(most, self._forget)
            if not most:
                return True
            self._garbage.remove(bucket)
        while self._stale:
            recent = self._recent[self._stale[-1]]
            most = recent.trim(most, partial(self._has, recent.holder))
            if not most:
                return True
            self._stale.pop()
            if not recent and (recent.floor == 0 or not self._buckets):
                del self._recent[recent.holder]  # it has no entries, so that there is nothing that peers may lack
        return False

    # Settling

    def settled_until(self, floor: int) -> int:
        """The time up to which whole buckets can be settled at once, if no id up to `floor` is taken any more.

        So many buckets are settled at once that a settlement does not hold up other tasks for long, and at least one.
        """
        most, until = self._options.sum_slice, -1
        for number in sorted(self._buckets):
            most -= self._buckets[number].size
            if self._end(number) > floor or (most < 0 and until >= 0):
                break
            until = self._end(number)
        return until

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
        if after >= recent.floor:
            found = dict(self._walk(recent, after))
            return len(found), iter((found,)) if found else iter(())
        buckets = (bucket for bucket in self._buckets.values() if bucket.newest.get(holder, 0) > after)
        shared = Shared([bucket.snapshot() for bucket in buckets])
        return len(shared), shared.newer(holder, after, self._options.column_piece)

    def share(self) -> Shared:
        """All entries as they are now. Later changes do not change them."""
        return Shared([bucket.snapshot() for bucket in self._buckets.values()])

    def _begin(self, holder: bytes, floor: int) -> Recent:
        recent = self._recent[holder] = Recent(holder, floor, self._options.column_recent_most)
        return recent

    def _walk(self, recent: Recent, after: int) -> Iterator[tuple[str, tuple[int, int]]]:
        for key, version in recent.newest():
            if version <= after:
                return
            best = self.get(key)
            entry = None if best is None else best.of(recent.holder)
            if entry is not None and entry.version == version:  # else it is covered, or a later change was yielded
                yield key, (entry.total, version)

    def _take(self, key: str, time: int, holder: bytes, total: int, version: int) -> tuple[int, int]:
        """Join one entry; returns the index of its counter, and by how much that grows."""
        bucket = self._buckets.get(time // self._span)
        if bucket is None:
            bucket = self._buckets[time // self._span] = Bucket()
        index = self._index_of(split(key)[1])
        live = self._of.get(index)
        if live is None:
            live = self._of[index] = _Live()
        old = bucket.ids.get(key)
        if old is None:
            self.live += 1
            live.buckets += index not in bucket
            new = Entry(holder, total, version)
        else:
            new = old.raised(holder, total, version)
        grown = bucket.put(key, index, old, new)
        bucket.newest[holder] = max(version, bucket.newest.get(holder, 0))
        live.newest[holder] = max(version, live.newest.get(holder, 0))
        return index, grown

    def _has(self, holder: bytes, key: str, version: int) -> bool:
        """Whether a holder's entry is here, with that version."""
        best = self.get(key)
        entry = None if best is None else best.of(holder)
        return entry is not None and entry.version == version

    def _end(self, number: int) -> int:
        return (number + 1) * self._span - 1

    def _is_covered(self, number: int, bucket: Bucket, covers: Covers) -> bool:
        end = self._end(number)
        for holder, version in bucket.newest.items():
            until, upto = covers.get(holder, (-1, -1))
            if end > until or version > upto:
                return False
        return True

    def _partly_covered(self, number: int, bucket: Bucket, covers: Covers) -> Iterator[tuple[str, Entry, Entry | None]]:
        """Each key of a bucket of which some entry is covered, with its entries before and after."""
        start = number * self._span
        ends = {holder: covers[holder] for holder in bucket.newest if start <= covers.get(holder, (-1, -1))[0]}
        if not ends:
            return
        for key, old in [*bucket.ids.items()]:
            time = _time(key)
            rest = [one for one in old.all if not _covered(ends, one.holder, time, one.version)]
            if len(rest) < 1 + len(old.others):
                yield key, old, ranked(rest)

    def _drop_some(self, number: int, bucket: Bucket, covers: Covers, changes: dict[int, int]) -> None:
        for key, old, new in self._partly_covered(number, bucket, covers):
            index = self._index_of(split(key)[1])
            grown = bucket.put(key, index, old, new)
            changes[index] = changes.get(index, 0) + grown
            if new is None:
                self.live -= 1
                if index not in bucket:
                    self._forget(index)
        if not bucket.ids:
            del self._buckets[number]

    def _forget(self, index: int) -> None:
        """Note that one bucket less has ids of a counter."""
        live = self._of[index]
        live.buckets -= 1
        assert live.buckets >= 0, "a bucket is forgotten once"
        if not live.buckets:
            del self._of[index]


def _covered(covers: Covers, holder: bytes, time: int, version: int) -> bool:
    until, upto = covers.get(holder, (-1, -1))
    return time <= until and version <= upto


def _by_version(item: tuple[str, tuple[int, int]]) -> int:
    return item[1][1]


def _time(key: str) -> int:
    """When the id of a key was made."""
    time = time_of(split(key)[0])
    assert time is not None, "each id that is kept says its time"
    return time
