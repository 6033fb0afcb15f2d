"""A bucket: the ids of one span of time, with what they come to. See entries.py."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec


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

    def raised(self, holder: bytes, total: int, version: int) -> Entry:
        """The entries of the id after one incarnation took a total, at one of its versions."""
        mine = self.of(holder)
        if mine is not None:
            total, version = max(total, mine.total), max(version, mine.version)
        if not self.others and mine is self:
            return Entry(holder, total, version)
        found = ranked([Entry(holder, total, version), *(one for one in self.all if one.holder != holder)])
        assert found is not None, "an entry that was raised is there"
        return found


def ranked(entries: Iterable[Entry]) -> Entry | None:
    """Entries of one id as one, with the greatest first; of equal ones that of the smaller incarnation."""
    order = sorted(entries, key=lambda entry: (-entry.total, entry.holder))
    if not order:
        return None
    first, *rest = order
    others = tuple(Entry(other.holder, other.total, other.version) for other in rest)
    return Entry(first.holder, first.total, first.version, others)


class Bucket:
    """The ids of one span of time.

    Attributes:
        ids: the entries by key.
        sums: by the holder of the greatest entry and by the index of the counter, what the ids come to.
        newest: by holder, at least the newest version of its entries here.
    """

    __slots__ = ("_snapshot", "ids", "newest", "sums")

    def __init__(self) -> None:
        self.ids: dict[str, Entry] = {}
        self.sums: dict[bytes, dict[int, int]] = {}
        self.newest: dict[bytes, int] = {}
        self._snapshot: weakref.ref[Snapshot] | None = None

    def __contains__(self, index: int) -> bool:
        """Whether there are ids of the counter with this index."""
        return any(index in sums for sums in self.sums.values())

    @property
    def size(self) -> int:
        """How many sums there are. What a settlement costs is in proportion to it."""
        return sum(map(len, self.sums.values()))

    def put(self, key: str, index: int, old: Entry | None, new: Entry | None) -> int:
        """Replace an id's entry, which was `old`; returns by how much its counter grows."""
        if self._snapshot is not None:
            if self._snapshot() is not None:
                self.ids = dict(self.ids)
            self._snapshot = None
        if old is not None:
            sums = self.sums[old.holder]
            sums[index] -= old.total
            if not sums[index]:
                del sums[index]
        if new is None:
            del self.ids[key]
            return -old.total if old is not None else 0
        assert new.total > 0, "an entry counts something"
        sums = self.sums.setdefault(new.holder, {})
        sums[index] = sums.get(index, 0) + new.total
        self.ids[key] = new
        return new.total - (old.total if old is not None else 0)

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


class Recent:
    """The newest changes of one holder's entries, in the order of their versions.

    Args:
        holder: the incarnation.
        floor: all changes after this version are kept here.
        most: how many changes are kept.

    Attributes:
        holder: the incarnation; all its entries share this object.
        floor: see above. It grows as changes are dropped.
    """

    __slots__ = ("_keys", "_most", "_versions", "floor", "holder")

    def __init__(self, holder: bytes, floor: int, most: int) -> None:
        self.holder = holder
        self.floor = floor
        self._most = most
        self._keys: deque[str] = deque()
        self._versions: deque[int] = deque()

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, key: str, version: int) -> None:
        """Add a change. It is not older than those that are here."""
        assert not self._versions or version >= self._versions[-1], "changes come in the order of versions"
        if len(self._keys) >= self._most:
            self._keys.popleft()
            self.floor = self._versions.popleft()
        self._keys.append(key)
        self._versions.append(version)

    def newest(self) -> Iterator[tuple[str, int]]:
        """The changes, the newest first."""
        return zip(reversed(self._keys), reversed(self._versions), strict=True)

    def trim(self, most: int, in_force: Callable[[str, int], bool]) -> int:
        """Drop the oldest changes that are not in force any more.

        Args:
            most: how many to look at.
            in_force: whether a key still has that version.

        Returns:
            How many more could have been looked at; more than 0 when the oldest change is in force, or none is left.
        """
        while self._keys and most > 0:
            if in_force(self._keys[0], self._versions[0]):
                break
            self._keys.popleft()
            self._versions.popleft()
            most -= 1
        return most
