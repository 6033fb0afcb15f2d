"""Ids in buckets by their time. A bucket knows what its ids come to. See entries.py, which changes them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Set
from math import inf

from gcount.core.options import Options
from gcount.core.state.ids import split, time_of
from gcount.core.state.keyed import Covers, Entry, is_covered, ranked


class Bucket:
    """The ids of one span of time.

    Attributes:
        ids: the entries by key.
        sums: by the holder of the greatest entry and by the index of the counter, what the ids come to.
        held: by holder, how many entries there are.
        newest: by holder, at least the newest version of its entries here.
        settled: whether all ids are settled, so that only their memory is still in use.
    """

    __slots__ = ("_snapshot", "held", "ids", "newest", "settled", "sums")

    def __init__(self) -> None:
        self.ids: dict[str, Entry] = {}
        self.sums: dict[bytes, dict[int, int]] = {}
        self.held: dict[bytes, int] = {}
        self.newest: dict[bytes, int] = {}
        self.settled = False
        self._snapshot: weakref.ref[Snapshot] | None = None

    def __contains__(self, index: int) -> bool:
        """Whether there are ids of the counter with this index."""
        return any(index in sums for sums in self.sums.values())

    @property
    def size(self) -> int:
        """How many sums there are. What a settlement costs is in proportion to it."""
        return sum(map(len, self.sums.values()))

    def entry(self, key: str, holder: bytes) -> Entry | None:
        """A holder's entry of an id; None when there is none, or it is settled."""
        best = None if self.settled else self.ids.get(key)
        return None if best is None else best.of(holder)

    def put(self, key: str, index: int, old: Entry | None, new: Entry | None) -> int:
        """Replace an id's entry, which was `old`; returns by how much its counter grows."""
        if self._snapshot is not None:
            if self._snapshot() is not None:
                self.ids = dict(self.ids)
            self._snapshot = None
        grown = 0
        if old is not None:
            grown = -old.total
            sums = self.sums[old.holder]
            sums[index] -= old.total
            if not sums[index]:
                del sums[index]
        if new is None:
            del self.ids[key]
            return grown
        assert new.total > 0, "an entry counts something"
        found = self.sums.get(new.holder)
        if found is None:
            found = self.sums[new.holder] = {}
        found[index] = found.get(index, 0) + new.total
        self.ids[key] = new
        return grown + new.total

    def lose(self, holder: bytes) -> None:
        """Note that there is one entry less of a holder."""
        self.held[holder] -= 1
        if not self.held[holder]:
            del self.held[holder]

    def snapshot(self) -> Snapshot:
        """The ids as they are now. Later changes do not change it."""
        found = None if self._snapshot is None else self._snapshot()
        if found is None:
            found = Snapshot(self.ids)
            self._snapshot = weakref.ref(found)
        return found

    def free(self, most: int, forget: Callable[[int], None]) -> int:
        """Free some memory of a bucket that is in use no more.

        Args:
            most: how many ids and sums to free.
            forget: is called with the index of each counter that has no more sums here.

        Returns:
            How many more could have been freed; more than 0 when nothing is left.
        """
        ids, sums = self.ids, self.sums
        while ids and most > 0:
            ids.popitem()
            most -= 1
        while sums and most > 0:
            holder, last = sums.popitem()
            while last and most > 0:
                index, _ = last.popitem()
                most -= 1
                if index not in self:
                    forget(index)
            if last:
                sums[holder] = last
        return most

    @property
    def is_read(self) -> bool:
        """Whether a snapshot of the ids is in use."""
        return self._snapshot is not None and self._snapshot() is not None


class Snapshot:
    """The ids of a bucket at one instant. They are copied when the bucket changes while this object exists."""

    __slots__ = ("__weakref__", "ids")

    def __init__(self, ids: dict[str, Entry]) -> None:
        self.ids = ids


class Shared:
    """Entries of all incarnations at one instant, while they go on changing. They can be read once.

    Args:
        snapshots: of the buckets.
    """

    def __init__(self, snapshots: list[Snapshot]) -> None:
        self._snapshots = snapshots

    def __len__(self) -> int:
        """How many ids are left to be read."""
        return sum(len(snapshot.ids) for snapshot in self._snapshots)

    def slices(self, size: int) -> Iterator[list[tuple[str, Entry]]]:
        """The keys with their entries, so many at a time. A bucket that is read is not kept from changing any more."""
        found: list[tuple[str, Entry]] = []
        while self._snapshots:
            snapshot = self._snapshots.pop()
            for item in snapshot.ids.items():
                found.append(item)
                if len(found) == size:
                    yield found
                    found = []
        if found:
            yield found

    def columns(self, size: int) -> Iterator[tuple[bytes, list[tuple[str, int, int]]]]:
        """The same by incarnation, in no order: at most `size` keys at a time, each with its total and its version."""
        found: dict[bytes, list[tuple[str, int, int]]] = {}
        for part in self.slices(size):
            for key, best in part:
                for entry in best.all:
                    held = found.setdefault(entry.holder, [])
                    held.append((key, entry.total, entry.version))
                    if len(held) == size:
                        yield entry.holder, found.pop(entry.holder)
        yield from found.items()

    def newer(self, holder: bytes, after: int, size: int) -> Iterator[dict[str, tuple[int, int]]]:
        """The entries of one incarnation that are newer than a version: what of each `size` keys is one."""
        for part in self.slices(size):
            found = ((key, best.of(holder)) for key, best in part)
            yield {
                key: (entry.total, entry.version) for key, entry in found if entry is not None and entry.version > after
            }


class Buckets:
    """All ids, in buckets by their time.

    Args:
        index_of: returns the index of a counter's name, which it interns.
        options: the span of a bucket, and sizes.
    """

    def __init__(self, index_of: Callable[[str], int], options: Options) -> None:
        self._index_of = index_of
        self._options = options
        self._span = options.id_span
        self._buckets: dict[int, Bucket] = {}

    def get(self, key: str) -> Entry | None:
        """An id's entry with the greatest total, which holds the others; None when no entry is known."""
        return self.find(key, time_of_key(key))

    def find(self, key: str, time: int) -> Entry | None:
        """The same as `get`, where the time of the id is known: in seconds since 1970."""
        bucket = self._buckets.get(time // self._span)
        return None if bucket is None else bucket.ids.get(key)

    @property
    def oldest(self) -> int | None:
        """The beginning of the time of the oldest ids, in seconds since 1970; None when there are none."""
        return min(self._buckets) * self._span if self._buckets else None

    @property
    def spans(self) -> Set[int]:
        """The spans of time that have ids, by their numbers from 1970 on. A settlement walks over all of them."""
        return self._buckets.keys()

    def newest_end(self, before: int) -> int:
        """The end of the newest bucket that ends before a time, in seconds since 1970; 0 when there is none."""
        ends = (self._end(number) for number in self._buckets)
        return max((end for end in ends if end < before), default=0)

    def items(self) -> Iterator[tuple[str, Entry]]:
        """Every key with its entry: a walk over all of them, which takes long."""
        for bucket in self._buckets.values():
            yield from bucket.ids.items()

    def settled_until(
        self, floor: int, before: int = -1, late: float = inf, is_late: Callable[[Collection[bytes]], bool] = bool
    ) -> int:
        """The time up to which whole buckets can be settled at once, if no id up to `floor` is taken any more.

        So many buckets are settled at once that a settlement does not hold up other tasks for long, and at least one.
        Ids up to the time `before`, which come late, are settled all together: the settlement contains former ones that
        go up to there, so with a greater version it covers them all.

        Args:
            floor: in seconds since 1970.
            before: up to which time ids have been settled.
            late: the same as `floor` for some buckets.
            is_late: decides which, by the incarnations that hold ids in a bucket.
        """
        most, until = self._options.sum_slice, -1
        for number in sorted(self._buckets):
            end, bucket = self._end(number), self._buckets[number]
            most -= bucket.size
            if end > floor or (most < 0 and until >= 0 and end > before):
                break
            if end > late and is_late(bucket.held):
                break
            until = end
        return until

    def sums(self, until: int) -> tuple[dict[bytes, tuple[int, int]], dict[bytes, dict[int, int]]]:
        """What the ids up to a time come to.

        Args:
            until: the end of a bucket, in seconds since 1970.

        Returns:
            By each holder of their entries, up to which time in seconds since 1970 and up to which version it has some;
            and for each holder of a greatest entry and for each counter, by its index, the sum of these entries.
        """
        reaches, sums = dict[bytes, tuple[int, int]](), dict[bytes, dict[int, int]]()
        for number, bucket in self._buckets.items():
            end = self._end(number)
            if end <= until:
                for holder, version in bucket.newest.items():
                    former = reaches.get(holder, (0, 0))
                    reaches[holder] = max(end, former[0]), max(version, former[1])
                for holder, found in bucket.sums.items():
                    of = sums.setdefault(holder, {})
                    for index, total in found.items():
                        of[index] = of.get(index, 0) + total
        return reaches, sums

    def sum_up(self) -> Iterator[dict[int, int]]:
        """What the ids of each bucket come to, by the index of the counter."""
        for bucket in self._buckets.values():
            yield from bucket.sums.values()

    def share(self) -> Shared:
        """All entries as they are now. Later changes do not change them."""
        return Shared([bucket.snapshot() for bucket in self._buckets.values()])

    def would_drop(self, covers: Covers) -> dict[bytes, dict[int, int]]:
        """By how much counters would shrink if the covered entries were dropped.

        Returns:
            By the holder of the greatest entry of each id, and by the index of the counter.
        """
        lost: dict[bytes, dict[int, int]] = {}
        for number, bucket in reached(self._buckets, self._span, covers):
            if self._is_covered(number, bucket, covers):
                found = [(holder, index, total) for holder, of in bucket.sums.items() for index, total in of.items()]
            else:
                found = [
                    (old.holder, self._index_of(split(key)[1]), old.total - (new.total if new else 0))
                    for key, old, new in self._partly_covered(number, bucket, covers)
                ]
            for holder, index, total in found:
                of = lost.setdefault(holder, {})
                of[index] = of.get(index, 0) + total
        return lost

    def _end(self, number: int) -> int:
        return (number + 1) * self._span - 1

    def _is_covered(self, number: int, bucket: Bucket, covers: Covers) -> bool:
        end = self._end(number)
        return all(is_covered(covers.get(holder, ()), end, version) for holder, version in bucket.newest.items())

    def _partly_covered(self, number: int, bucket: Bucket, covers: Covers) -> Iterator[tuple[str, Entry, Entry | None]]:
        """Each key of a bucket of which some entry is covered, with its entries before and after."""
        start = number * self._span
        known = ((holder, covers.get(holder, ())) for holder in bucket.newest)
        ends = {holder: cover for holder, cover in known if is_covered(cover, start, 0)}
        if not ends:
            return
        for key, old in [*bucket.ids.items()]:
            time = time_of_key(key)
            rest = [one for one in old.all if not is_covered(ends.get(one.holder, ()), time, one.version)]
            if len(rest) < 1 + len(old.others):
                yield key, old, ranked(rest)


def reached(buckets: dict[int, Bucket], span: int, covers: Covers) -> list[tuple[int, Bucket]]:
    """The buckets of which some entries may be covered, found without a look at their holders."""
    latest = max((cover[0][0] for cover in covers.values() if cover), default=-1)
    return [(number, bucket) for number, bucket in buckets.items() if number * span <= latest]


def time_of_key(key: str) -> int:
    """When the id of a key was made."""
    time = time_of(split(key)[0])
    assert time is not None, "each id that is kept says its time"
    return time
