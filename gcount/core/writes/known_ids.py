"""Takes increments with ids, or says why one can't be taken.

An id is known if it is durable in any incarnation and not settled, or if this node has it in the batch in flight or
among what is staged. What is known is never checked again: it is counted, or will be.
"""

from collections.abc import Sequence

from gcount.core.limits import MAX_CELL
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Digest
from gcount.core.state.ids import key_of, split, time_of
from gcount.core.state.keyed import Entry
from gcount.core.state.replica import Replica
from gcount.core.writes.id_changes import Raised, RequestIds
from gcount.core.writes.id_rules import IdRules
from gcount.core.writes.increments import Asked, Raise, Repeat, flat
from gcount.core.writes.pending import Pending, too_many_counters
from gcount.core.writes.settling import settles
from gcount.core.writes.staging import Staging
from gcount.errors import IdConflict, IdLimitReached, IdsUnavailable, PartLimitReached, Refusal


class KnownIds:
    """Decides about increments with ids by what is known of them.

    Args:
        replica: the durable state.
        pending: what waits for the disk.
        rules: which new ids are taken.

    Attributes:
        rules: the same.
    """

    def __init__(self, replica: Replica, pending: Pending, rules: IdRules) -> None:
        self._replica = replica
        self._pending = pending
        self.rules = rules
        self._parts: dict[str, int] | None = None  # what own entries come to, with those that wait; None: not known

    def durable(self, one: Raise) -> bool:
        """Whether all that is asked is durable here, so that it can be answered without a write."""
        return self._held(one) is not None

    def position(self, asked: Asked, own: Digest) -> Digest:
        """A replica whose digest reaches this holds all that a request asks for, if that is durable here.

        Args:
            asked: the request.
            own: the version of this node's own incarnation, as a digest.
        """
        found = dict(own)
        if not isinstance(asked, Repeat):
            for one in flat(asked):
                if isinstance(one, Raise) and one.total and (entry := self._held(one)) is not None:
                    found[entry.holder] = max(entry.version, found.get(entry.holder, 0))
        return found

    def stage(self, one: Raise, ids: RequestIds, taken: list[Raised] | None = None) -> int | Refusal:
        """Stage a raise, if anything of it is new.

        Args:
            one: the raise.
            ids: the ids of its request. This one is added.
            taken: what is needed to take it back is appended to this list.

        Returns:
            The amount that waits for its counter, this item included; or why it can't be taken.
        """
        staging, total = self._pending.staging, one.total
        time, key = time_of(one.id), key_of(one.name, one.id)
        assert time is not None, "an id that is staged says its time"
        entry = self._replica.counters.entries.find(key, time)
        durable, staged = 0 if entry is None else entry.total, staging.ids.totals.get(key, 0)
        known = max(durable, self._pending.sealed.ids.totals.get(key, 0), staged)
        if known and one.once and known != total:
            return IdConflict(f"the id {one.id} was sent before with the amount {known}, and now with {total}")
        if not total:  # nothing to write, but an increment's id is checked, whatever its amount is
            late = self.rules.refusal(one.id, time, self._pending.promised) if one.once else None
            return staging.waiting(one.name) if late is None else late
        if total > known and (refusal := self._refusal(one, known, time)) is not None:
            return refusal
        if entry is not None and durable >= total:
            ids.rest_on(entry.holder, entry.version)
        elif staged >= total:
            ids.again.append(key)
        else:  # also if it is in flight, as that batch may be dropped: the seal leaves out what is durable then
            ids.fresh.append(key)
            if taken is not None or self._parts is not None:
                self._note(one, key, known, taken)
            return staging.raise_to(key, one.name, total, known, time)
        return staging.waiting(one.name)

    def _note(self, one: Raise, key: str, known: int, taken: list[Raised] | None) -> None:
        """Note what is about to be staged, to be able to take it back, and in the parts that are known."""
        part = max(0, one.total - self._own(key))
        if self._parts is not None:
            self._parts[one.name] = self._parts.get(one.name, 0) + part
        if taken is not None:
            taken.append(self._pending.staging.ids.saved(key, one.name, part, grew=one.total > known))

    def take_back(self, raised: Sequence[Raised]) -> None:
        """Undo the last raises that were staged.

        Args:
            raised: what was saved, in the order in which they were staged.
        """
        for was in reversed(raised):
            self._pending.staging.lower(was)
            if self._parts is not None:
                self._parts[was.name] -= was.part

    def landed(self, batch: Batch, sealed: Staging, *, dropped: bool) -> None:
        """Forget what own entries come to, if a batch may have made it less.

        Args:
            batch: the batch that was in flight.
            sealed: what it was made of.
            dropped: whether it is not on disk.
        """
        if self._parts is None:
            return
        own = self._replica.identity.incarnation
        elsewhere = any(holder != own for holder, _ in sealed.ids.known.values())
        if dropped or elsewhere or batch.identity is not None or any(map(settles, batch.deltas)):
            self._parts = None

    def _held(self, one: Raise) -> Entry | None:
        entry = self._replica.counters.entries.get(key_of(one.name, one.id))
        if entry is None or entry.total < one.total or (one.once and entry.total != one.total):
            return None
        return entry

    def _refusal(self, one: Raise, known: int, time: int) -> Refusal | None:
        """Why an id can't be raised to a total above the one that is known; None when it can."""
        pending, rules = self._pending, self.rules
        if self._replica.floor is None and (why := rules.unavailable()):
            return IdsUnavailable(f"increments with ids can't be taken yet: {why}; those without an id go on")
        late = rules.refusal(one.id, time, pending.promised)
        if late is not None:
            return late
        if not known and pending.live_ids >= rules.most and pending.live_ids - self._apart >= rules.most:
            return IdLimitReached(
                f"this node has {pending.live_ids} ids that are not settled, and takes new ones up to {rules.most} "
                f"(GCOUNT_MAX_IDS); increments without an id go on"
            )
        staged, sealed, total = pending.staging.ids, pending.sealed.ids, self._replica.counters.total(one.name)
        if total and total + one.total + staged.sum + sealed.sum <= MAX_CELL:
            return None  # nearly always: the counter is known, and all of it would fit into this node's part
        if not self._fits(one):
            return PartLimitReached(f"this node's part of the counter would pass 2^64-1 with {one.total} of {one.id}")
        return None if pending.allows_name(one.name) else too_many_counters(self._replica.max_counters)

    def left_for_strangers(self) -> int:
        """How many more ids can be taken from nodes that are not members."""
        pending, is_known = self._pending, self.rules.is_known
        waiting = sum(
            len(delta.keyed.entries)
            for delta in (*pending.staging.deltas, *pending.sealed.deltas)
            if delta.keyed is not None and not is_known(delta.incarnation)
        )
        return max(0, self.rules.most_of_strangers - self._of_strangers - waiting)

    @property
    def _of_strangers(self) -> int:
        """How many entries there are of incarnations that no member owns; those of one id count each."""
        entries = self._replica.counters.entries
        return entries.count([holder for holder in entries.holders if not self.rules.is_known(holder)])

    @property
    def _apart(self) -> int:
        """How many ids do not count among those that clients have brought: at least all that no member holds.

        There is a limit, so that memory has one: directories may be lost again and again, and then no member holds
        what was counted there.
        """
        return min(self._of_strangers, self.rules.most)

    def _fits(self, one: Raise) -> bool:
        """Whether what this node holds of the counter's ids stays within 64 bits, settled or not."""
        counters, name = self._replica.counters, one.name
        more = one.total + self._pending.staging.ids.sum + self._pending.sealed.ids.sum
        if counters.total(name) + more <= MAX_CELL or counters.keyed(name) + more <= MAX_CELL:
            return True
        if self._parts is None:
            self._parts = self._sum_up()
        settled = counters.parts(name).get(self._replica.identity.incarnation, 0)
        part = settled + self._parts.get(name, 0)
        return part + one.total - self._own(key_of(name, one.id)) <= MAX_CELL

    def _own(self, key: str) -> int:
        """The own total of an id, as it is or will be."""
        best, pending = self._replica.counters.entries.get(key), self._pending
        own = None if best is None else best.of(self._replica.identity.incarnation)
        waiting = pending.sealed.ids.totals.get(key, 0), pending.staging.ids.totals.get(key, 0)
        return max(0 if own is None else own.total, *waiting)

    def _sum_up(self) -> dict[str, int]:
        """What the own entries of each counter come to. This is a walk over all ids, so the result is kept."""
        own, pending = self._replica.identity.incarnation, self._pending
        held = (key for key, best in self._replica.counters.entries.items() if best.of(own) is not None)
        found: dict[str, int] = {}
        for key in {*held, *pending.sealed.ids.totals, *pending.staging.ids.totals}:
            name = split(key)[1]
            found[name] = found.get(name, 0) + self._own(key)
        return found
