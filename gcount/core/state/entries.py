"""The entries of all columns: increments with ids that no settlement covers yet.

Each id counts once, by its greatest total. Ids are kept in *buckets* by their time, and a bucket knows what its ids
come to. So a settlement, which covers all ids up to a time, costs time in proportion to the counters in the buckets
that it ends, and not to the ids. What it leaves behind is freed in slices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.buckets import Bucket, Buckets, Shared, reached
from gcount.core.state.ids import split, time_of
from gcount.core.state.keyed import Covers, Entry, is_covered


class Recent:
    """The newest changes of one holder's entries, in the order of their versions.

    Args:
        holder: the incarnation.
        floor: all changes after this version are kept here.
        most: how many changes are kept.

    Attributes:
        holder: the incarnation; all its entries share this object.
        floor: see above. It grows as changes are dropped.
        held: how many entries the holder has that are not settled.
    """

    __slots__ = ("_buckets", "_keys", "_most", "_versions", "floor", "held", "holder")

    def __init__(self, holder: bytes, floor: int, most: int) -> None:
        self.holder = holder
        self.floor = floor
        self.held = 0
        self._most = most
        self._keys: deque[str] = deque()
        self._versions: deque[int] = deque()
        self._buckets: deque[Bucket] = deque()

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, key: str, version: int, bucket: Bucket) -> None:
        """Add a change. It is not older than those that are here."""
        assert not self._versions or version >= self._versions[-1], "changes come in the order of versions"
        if len(self._keys) >= self._most:
            self.floor = self._versions[0]
            self._drop()
        self._keys.append(key)
        self._versions.append(version)
        self._buckets.append(bucket)

    def newer(self, after: int) -> dict[str, tuple[int, int]]:
        """The entries that changed after a version, as they are now."""
        return {key: (entry.total, entry.version) for key, entry in self.changes(after) if entry is not None}

    def changes(self, after: int) -> Iterator[tuple[str, Entry | None]]:
        """The changes after a version, the newest first: each key with the entry of that version.

        It is None when the entry is settled, or has changed again later.
        """
        for key, version, bucket in zip(
            reversed(self._keys), reversed(self._versions), reversed(self._buckets), strict=True
        ):
            if version <= after:
                break
            entry = bucket.entry(key, self.holder)
            yield key, entry if entry is not None and entry.version == version else None

    def trim(self, most: int) -> int:
        """Drop the oldest changes, as long as their entries are settled.

        Args:
            most: how many to drop.

        Returns:
            How many more could have been dropped; more than 0 when the oldest entry is not settled, or none is left.
        """
        while self._keys and most > 0:
            if self._buckets[0].entry(self._keys[0], self.holder) is not None:
                break
            self._drop()
            most -= 1
        return most

    def _drop(self) -> None:
        self._keys.popleft()
        self._versions.popleft()
        self._buckets.popleft()


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


class Entries(Buckets):
    """All entries that a replica holds.

    Args:
        index_of: returns the index of a counter's name, which it interns.
        options: the span of a bucket, and sizes.

    Attributes:
        live: the number of ids.
        dropped: how many ids were dropped since this replica was made, as they were settled.
    """

    def __init__(self, index_of: Callable[[str], int], options: Options = DEFAULTS) -> None:
        super().__init__(index_of, options)
        self.live = 0
        self.dropped = 0
        self._of: dict[int, _Live] = {}  # by the index of the counter
        self._recent: dict[bytes, Recent] = {}  # by holder; of each that has entries here
        self._garbage: list[Bucket] = []  # settled, to be freed
        self._stale: list[bytes] = []  # holders of which changes were dropped, to be freed

    @property
    def holders(self) -> list[bytes]:
        """The incarnations of which there are entries. Of some, a settlement may just have dropped the last ones."""
        return [*self._recent]

    def count(self, holders: Iterable[bytes]) -> int:
        """How many entries these incarnations have, whichever of an id's entries is the greatest."""
        return sum(recent.held for holder in holders if (recent := self._recent.get(holder)) is not None)

    def newest(self, index: int) -> dict[bytes, int]:
        """By holder, at least the newest version of its entries of a counter."""
        live = self._of.get(index)
        return {} if live is None else dict(live.newest)

    # Changes. Each adds to `changes` by how much counters grow, by index.

    def join(
        self, holder: bytes, known: int, entries: dict[str, tuple[int, int]], covers: Covers, changes: dict[int, int]
    ) -> None:
        """Take entries of a holder: the maximum of each total.

        Those that are covered are left out, and those up to the holder's version that is `known`: they are here, or
        were covered.
        """
        cover = covers.get(holder, ())
        last = cover[0][0] if cover else -1
        recent = self._recent.get(holder)
        newest = 0
        for key, (total, version) in _in_order(entries):
            if version <= known:
                continue
            id_, _, name = key.partition(" ")
            time = time_of(id_)
            assert time is not None, "each id that is kept says its time"
            if time <= last and is_covered(cover, time, version):
                continue
            if recent is None:
                recent = self._begin(holder, 0)
            if version != newest:
                newest = version  # one object for all entries of one commit
            index = self._index_of(name)
            bucket = self._buckets.get(time // self._span)
            if bucket is None:
                bucket = self._buckets[time // self._span] = Bucket()
            grown = self._take(bucket, key, index, recent, total, newest)
            if grown:
                changes[index] = changes.get(index, 0) + grown
            recent.add(key, newest, bucket)

    def restore(self, holder: bytes, version: int, entries: Iterable[tuple[str, int, int]]) -> None:
        """Take entries of a holder from a checkpoint that holds no more of it than a version.

        Raises:
            ValueError: one of them can't be one of this holder, or is known already.
        """
        recent = self._recent.get(holder)
        if recent is None:
            recent = self._begin(holder, version)  # in an order that is not known any more
        last = 0
        for key, total, changed in entries:
            id_, name = split(key)
            time = time_of(id_)
            if time is None or total < 1 or not 0 < changed <= version:
                raise ValueError(f"an entry of an incarnation at version {version} can't be {key}: {total}, {changed}")
            bucket = self._buckets.setdefault(time // self._span, Bucket())
            if bucket.entry(key, holder) is not None:
                raise ValueError(f"the entry {key} of an incarnation occurs twice")
            if changed != last:
                last = changed  # one object for entries of one commit that follow each other
            self._take(bucket, key, self._index_of(name), recent, total, last)

    def drop_covered(self, covers: Covers, changes: dict[int, int]) -> None:
        """Drop all entries that are covered. What they took is freed by `sweep`."""
        before = self.live
        for number, bucket in reached(self._buckets, self._span, covers):
            if self._is_covered(number, bucket, covers):
                del self._buckets[number]
                bucket.settled = True
                self.live -= len(bucket.ids)
                for holder, held in bucket.held.items():
                    self._recent[holder].held -= held
                for sums in bucket.sums.values():
                    for index, total in sums.items():
                        changes[index] = changes.get(index, 0) - total
                self._garbage.append(bucket)
            else:
                self._drop_some(number, bucket, covers, changes)
        self.dropped += before - self.live
        if self.live < before:
            self._stale = [*self._recent]

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
            most = recent.trim(most)
            if not most:
                return True
            self._stale.pop()
            if not recent.held:
                assert not recent, "all changes of a holder without entries are settled"
                del self._recent[recent.holder]  # there is nothing that peers may lack
        return False

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
            found = recent.newer(after)
            return len(found), iter((found,)) if found else iter(())
        buckets = (bucket for bucket in self._buckets.values() if bucket.newest.get(holder, 0) > after)
        shared = Shared([bucket.snapshot() for bucket in buckets])
        return len(shared), shared.newer(holder, after, self._options.column_piece)

    def changes(self, holder: bytes, after: int) -> Iterator[tuple[str, Entry | None]] | None:
        """A holder's changes after a version (see `Recent.changes`); None when it takes a search to find them."""
        recent = self._recent.get(holder)
        if recent is None:
            return iter(())
        return recent.changes(after) if after >= recent.floor else None

    def _begin(self, holder: bytes, floor: int) -> Recent:
        # More of them would take longer in one step than a search through the buckets takes in each of its steps.
        most = min(self._options.column_recent_most, 2 * self._options.column_piece)
        recent = self._recent[holder] = Recent(holder, floor, most)
        return recent

    def _take(self, bucket: Bucket, key: str, index: int, recent: Recent, total: int, version: int) -> int:
        """Join one entry; returns by how much its counter grows."""
        holder = recent.holder
        live = self._of.get(index)
        if live is None:
            live = self._of[index] = _Live()
        old = bucket.ids.get(key)
        if old is None:
            self.live += 1
            live.buckets += index not in bucket.sums.get(holder, ()) and index not in bucket
            new = Entry(holder, total, version)
        else:
            new = old.raised(holder, total, version)
        if old is None or old.of(holder) is None:
            recent.held += 1
            bucket.held[holder] = bucket.held.get(holder, 0) + 1
        if version > bucket.newest.get(holder, 0):
            bucket.newest[holder] = version
        if version > live.newest.get(holder, 0):
            live.newest[holder] = version
        return bucket.put(key, index, old, new)

    def _drop_some(self, number: int, bucket: Bucket, covers: Covers, changes: dict[int, int]) -> None:
        for key, old, new in self._partly_covered(number, bucket, covers):
            index = self._index_of(split(key)[1])
            grown = bucket.put(key, index, old, new)
            changes[index] = changes.get(index, 0) + grown
            for one in old.all:
                if new is None or new.of(one.holder) is None:
                    self._recent[one.holder].held -= 1
                    bucket.lose(one.holder)
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


def _in_order(entries: dict[str, tuple[int, int]]) -> Iterable[tuple[str, tuple[int, int]]]:
    """Entries in the order of their versions. Those of a commit of this node have one version, as they come."""
    if len({version for _, version in entries.values()}) < 2:
        return entries.items()
    return sorted(entries.items(), key=lambda item: item[1][1])
