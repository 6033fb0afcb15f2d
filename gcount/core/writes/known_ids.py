"""Takes increments with ids, or says why one can't be taken.

An id is known if it is durable in any incarnation and not settled, or if this node has it in the batch in flight or
among what is staged. What is known is never checked again: it is counted, or will be.
"""

from gcount.core.limits import MAX_CELL
from gcount.core.state.counters import Digest
from gcount.core.state.ids import key_of, split, time_of
from gcount.core.state.keyed import Entry
from gcount.core.state.replica import Replica
from gcount.core.writes.id_changes import Raised, RequestIds
from gcount.core.writes.id_rules import IdRules
from gcount.core.writes.increments import Asked, Raise, Repeat, flat
from gcount.core.writes.pending import Pending, too_many_counters
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
        if not total:
            return staging.waiting(one.name)
        key = key_of(one.name, one.id)
        entry = self._replica.counters.entries.get(key)
        durable, staged = 0 if entry is None else entry.total, staging.ids.totals.get(key, 0)
        known = max(durable, self._pending.sealed.ids.totals.get(key, 0), staged)
        time = time_of(one.id)
        assert time is not None, "an id that is staged says its time"
        if known and one.once and known != total:
            return IdConflict(f"the id {one.id} was sent before with the amount {known}, and now with {total}")
        if total > known and (refusal := self._refusal(one, known, time)) is not None:
            return refusal
        if entry is not None and durable >= total:
            ids.rest_on(entry.holder, entry.version)
        elif staged >= total:
            ids.again.append(key)
        else:  # also if it is in flight, as that batch may be dropped: the seal leaves out what is durable then
            ids.fresh.append(key)
            if taken is not None:
                taken.append(staging.ids.saved(key, one.name, grew=total > known))
            return staging.raise_to(key, one.name, total, known, time)
        return staging.waiting(one.name)

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
        if not known and pending.live_ids >= rules.most:
            return IdLimitReached(
                f"this node has {pending.live_ids} ids that are not settled, and takes new ones up to {rules.most} "
                f"(GCOUNT_MAX_IDS); increments without an id go on"
            )
        if not self._fits(one):
            return PartLimitReached(f"this node's part of the counter would pass 2^64-1 with {one.total} of {one.id}")
        return None if pending.allows_name(one.name) else too_many_counters(self._replica.max_counters)

    def _fits(self, one: Raise) -> bool:
        """Whether what this node holds of the counter's ids stays within 64 bits, settled or not."""
        counters, own = self._replica.counters, self._replica.identity.incarnation
        more = one.total + self._pending.staging.ids.sum + self._pending.sealed.ids.sum
        if counters.total(one.name) + more <= MAX_CELL or counters.keyed(one.name) + more <= MAX_CELL:
            return True  # nearly always: the exact sum is a walk over all ids
        asked = {key_of(one.name, one.id): one.total}
        totals = {key: entry.total for key, best in counters.entries.items() if (entry := best.of(own)) is not None}
        for waiting in (self._pending.sealed.ids.totals, self._pending.staging.ids.totals, asked):
            for key, total in waiting.items():
                totals[key] = max(total, totals.get(key, 0))
        held = sum(total for key, total in totals.items() if split(key)[1] == one.name)
        return counters.parts(one.name).get(own, 0) + held <= MAX_CELL
