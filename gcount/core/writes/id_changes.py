"""All that waits for one batch and concerns ids: increments with ids, a promise, a settlement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final

import msgspec

from gcount.core.state.counters import Counters, Delta, Digest
from gcount.core.state.ids import time_of


class Raised(msgspec.Struct, frozen=True, gc=False):
    """What has to be restored to take one raise back. IdChanges are taken back in the opposite order.

    Args:
        key: the key of the id (see ids.py).
        name: the name of the counter.
        total: the total that was staged for the key before; None when there was none.
        planned: what was planned for the counter before; None when nothing was.
        sum: the sum of the totals before.
        new: the number of new ids before.
        oldest: the time of the oldest one before.
        part: what was added to the own part of the counter, if that is known.
        grew: whether the total is greater than the one that was known, so that it counts as an increment.
    """

    key: str
    name: str
    total: int | None
    planned: int | None
    sum: int
    new: int
    oldest: float
    part: int
    grew: bool


class IdChanges:
    """All that waits for one batch and concerns ids.

    Attributes:
        floor: the new promise, if this node makes one; see `Batch`.
        settle: returns at the seal up to which time ids are to be settled, in seconds since 1970, or None; None when
            nobody asks for that.
        totals: the greatest total that was asked for, by key.
        planned: by how much they will raise each counter if nothing else of their ids becomes known before the seal.
        sum: at least what they add to this node's own entries.
        new: how many of the ids were not known at all.
        oldest: the time of the oldest id of which anything was new, in seconds since 1970.
        written: set by the seal: the totals that go into the batch, by key.
        known: set by the seal: for each other key the incarnation and the version that hold as much already.
        gains: set by the seal: by how much the written totals raise each counter.
    """

    __slots__ = (
        "floor",
        "gains",
        "known",
        "new",
        "oldest",
        "planned",
        "settle",
        "sum",
        "totals",
        "written",
    )

    def __init__(self) -> None:
        self.floor: int | None = None
        self.settle: Callable[[], int | None] | None = None
        self.totals: dict[str, int] = {}
        self.planned: dict[str, int] = {}
        self.sum = 0
        self.new = 0
        self.oldest = inf
        self.written: dict[str, int] = {}
        self.known: dict[str, tuple[bytes, int]] = {}
        self.gains: dict[str, int] = {}

    def __bool__(self) -> bool:
        """Whether there is something to seal, besides deltas."""
        return bool(self.totals) or self.floor is not None or self.settle is not None

    def saved(self, key: str, name: str, part: int, *, grew: bool) -> Raised:
        """What has to be restored to take back a `put` that follows."""
        before, planned = self.totals.get(key), self.planned.get(name)
        return Raised(key, name, before, planned, self.sum, self.new, self.oldest, part, grew)

    def put(self, key: str, name: str, total: int, known: int, time: int) -> int:
        """Stage a total, greater than the one that is staged for the same key.

        Args:
            key: the key of the id and the counter.
            name: the name of the counter.
            total: at least 1.
            known: the total that is durable or in the batch in flight, or staged; 0 when the id is new.
            time: the time of the id, in seconds since 1970.

        Returns:
            What is planned for the counter afterwards.
        """
        assert self is not NO_CHANGES, "what stands for no changes stays empty"
        assert total > self.totals.get(key, 0), "a total only grows"
        planned = self.planned.get(name, 0)
        self.totals[key] = total
        self.sum += total
        if not known:
            self.new += 1
        if total > known:
            planned += total - known
            if time < self.oldest:
                self.oldest = time
        self.planned[name] = planned
        return planned

    def take_back(self, was: Raised) -> None:
        """Undo the last `put` that was not taken back yet, with what was saved before it."""
        _restore(self.totals, was.key, was.total)
        _restore(self.planned, was.name, was.planned)
        self.sum, self.new, self.oldest = was.sum, was.new, was.oldest

    def seal(self, counters: Counters, others: Sequence[Delta]) -> dict[str, int]:
        """Decide what goes into the batch: the totals that are greater than all that is durable now.

        Args:
            counters: the durable state.
            others: the other deltas of the batch.

        Returns:
            The totals by key.
        """
        arriving, written, gains, find = self._arriving(others), self.written, self.gains, counters.entries.find
        for key, total in self.totals.items():
            id_, _, name = key.partition(" ")
            time, known = time_of(id_), 0
            assert time is not None, "an id that is staged says its time"
            entry = find(key, time)
            if entry is not None:
                known = entry.total
                if known >= total:
                    self.known[key] = entry.holder, entry.version
                    continue
            written[key] = total
            if arriving:
                known = min(total, max(known, arriving.get(key, 0)))
            gains[name] = gains.get(name, 0) + total - known
        return written

    def _arriving(self, others: Sequence[Delta]) -> dict[str, int]:
        """The greatest total of each key here that the other deltas bring."""
        found: dict[str, int] = {}
        for delta in others:
            if delta.keyed is not None:
                for key in self.totals.keys() & delta.keyed.entries.keys():
                    found[key] = max(delta.keyed.entries[key][0], found.get(key, 0))
        return found


NO_CHANGES: Final = IdChanges()
"""What a batch has until anything that concerns ids is staged for it: so all others pay one look for ids."""


class RequestIds:
    """The ids of one request.

    Attributes:
        known: a replica whose digest reaches these versions holds what was durable of the ids when they were staged.
        fresh: the keys for which this request has raised what is staged.
        again: the keys that were staged already, with as much.
    """

    __slots__ = ("again", "fresh", "known")

    def __init__(self) -> None:
        self.known: Digest = {}
        self.fresh: list[str] = []
        self.again: list[str] = []

    def __bool__(self) -> bool:
        """Whether the request has any."""
        return bool(self.fresh or self.known or self.again)

    def rest_on(self, holder: bytes, version: int) -> None:
        """Note that what is asked is counted already, in this version of an incarnation."""
        self.known[holder] = max(version, self.known.get(holder, 0))

    def position(self, changes: IdChanges, own: Digest) -> Digest:
        """A replica whose digest reaches this holds all that the request asked for.

        Args:
            changes: those of the batch, which is durable.
            own: the version of this node's own incarnation after it, as a digest.
        """
        if not (changes.known or self.known):
            return own
        found = dict(own)
        rests = [changes.known[key] for key in (*self.fresh, *self.again) if key in changes.known]
        for holder, version in (*self.known.items(), *rests):
            found[holder] = max(version, found.get(holder, 0))
        return found

    def replayed(self, changes: IdChanges) -> bool:
        """Whether all that was asked was counted before, or by another request of the batch."""
        return not any(key in changes.written for key in self.fresh)


def _restore(values: dict[str, int], key: str, value: int | None) -> None:
    if value is None:
        del values[key]
    else:
        values[key] = value
