"""Changes a replica: changes are staged, sealed into a batch, and applied when the batch is on disk.

    stage ...... an amount or a peer's delta waits, and is not visible
    seal ....... all that waits becomes one batch; absolute values are computed only now
    (the log writes and syncs the batch)
    commit ..... the batch is applied and becomes visible       or        abort ..... it is dropped

At most one batch is sealed at a time. So the own cells that the seal computed are right until it is committed.
"""

from collections.abc import Callable, Collection, Sequence

from gcount.core.state.batch import Batch, as_joinable, needs_of
from gcount.core.state.buckets import time_of_key
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.core.writes.id_changes import NO_CHANGES, Raised, RequestIds
from gcount.core.writes.id_rules import NO_IDS, IdRules
from gcount.core.writes.increments import Add, Asked, Peek, Raise, Repeat, Together
from gcount.core.writes.known_ids import KnownIds
from gcount.core.writes.pending import Pending
from gcount.core.writes.sealing import check_ids, check_own, check_visible, new_floor, own_delta, total_before
from gcount.core.writes.settling import covers_some, keeping_values, keeps_values, parts_fit, settles
from gcount.core.writes.staging import Staged, Staging, new_names
from gcount.errors import Refusal


class Writer:
    """Stages, seals and commits changes of a replica. A replica may have only one writer.

    Args:
        replica: the replica.
        rules: which increments with ids are taken; by default none.

    Attributes:
        replica: the same.
        pending: the changes that wait for the disk.
        ids: what is known of ids.
    """

    def __init__(self, replica: Replica, rules: IdRules = NO_IDS) -> None:
        self.replica = replica
        self.pending = Pending(replica)
        self.ids = KnownIds(replica, self.pending, rules)

    # What clients ask

    def stage(self, asked: Asked) -> Staged:
        """Stage the items of a request, in their order; see `gcount.core.writes.increments`."""
        if isinstance(asked, Repeat):
            if asked.amount and self.pending.allows_all(asked.names, asked.amount):
                return Staged(asked.names, self.pending.staging.add_each(asked.names, asked.amount))
            asked = [Add(name, asked.amount) for name in asked.names]
        names: list[str] = []
        waiting: list[int | Refusal] = []
        refused = False
        ids: RequestIds | None = None
        staging = self.pending.staging
        for one in asked:
            if isinstance(one, Add):
                names.append(one.name)
                waiting.append(now := self._stage_one(one))
                refused = refused or isinstance(now, Refusal)
                continue
            if ids is None:
                ids = RequestIds()
            if isinstance(one, Together):
                names += [each.name for each in one.items]
                waiting += self._stage_together(one.items, ids)
            else:
                names.append(one.name)
                waiting.append(self.ids.stage(one, ids) if isinstance(one, Raise) else staging.waiting(one.name))
            refused = refused or (bool(waiting) and isinstance(waiting[-1], Refusal))
        return Staged(names, waiting, refused, ids or None)

    def _stage_one(self, one: Add) -> int | Refusal:
        """The amount that is staged for the item's counter, the item included; or its refusal."""
        if not one.amount:
            return self.pending.staging.waiting(one.name)
        refusal = self.pending.refusal(one.name, one.amount)
        return self.pending.staging.add(one.name, one.amount) if refusal is None else refusal

    def _stage_together(self, items: Sequence[Add | Raise | Peek], ids: RequestIds) -> Sequence[int | Refusal]:
        """As `_stage_one` for each item; or the refusal of one item for all, and then nothing was staged."""
        staged: list[int | Refusal] = []
        raised: list[Raised] = []
        for one in items:
            if isinstance(one, Add):
                now = self._stage_one(one)
            elif isinstance(one, Raise):
                now = self.ids.stage(one, ids, raised)
            else:
                now = self.pending.staging.waiting(one.name)
            if isinstance(now, Refusal):
                for taken in items[: len(staged)]:
                    if isinstance(taken, Add) and taken.amount:
                        self.pending.staging.take_back(taken.name, taken.amount)
                self.ids.take_back(raised)
                return [now] * len(items)
            staged.append(now)
        return staged

    # What peers push, and what this node decides

    def stage_delta(self, delta: Delta, stranger: Collection[bytes] | None = None) -> bool:
        """Stage a peer's delta.

        Args:
            delta: the delta.
            stranger: the incarnations of the peer if it is not a member; None if it is one.

        Returns:
            False when it can't be taken: it is of this node's own incarnation (one writer per incarnation), it would
            leave a gap after what is durable, a value might fall by settlements of a stranger, its ids are of the
            future, or a limit is reached.
            The sender then starts from what is durable here.
            A delta of a former incarnation of this node is taken even behind a gap, as a member gives it back; it will
            be detached.
        """
        replica, staging = self.replica, self.pending.staging
        known = replica.counters.version(delta.incarnation)
        if delta.incarnation == replica.identity.incarnation:
            return False
        if delta.after > known and not replica.takes_back(delta):
            return False
        if known == 0 and not self.pending.allows_incarnation(delta.incarnation):
            return False
        if delta.keyed is not None:
            if stranger is not None and not _takes_ids(self, delta, delta.keyed, stranger):
                return False
            staging.changing_ids()
        staging.deltas.append(delta)
        if known == 0:
            staging.new.add(delta.incarnation)
        staging.new_names += new_names(delta, replica.counters)
        return True

    def stage_closing(self, incarnation: bytes) -> bool:
        """Stage the delta that closes the gaps of a retired incarnation of this node.

        The caller has made sure that no other node knows more of the incarnation than this one has on disk.

        Returns:
            Whether there is anything to close.
        """
        closing = self._closing(incarnation)
        _check_closing(closing, self.replica.detached.reaches(incarnation))
        if closing is None or not (closing.after or self.pending.allows_incarnation(incarnation)):
            return False
        self.pending.staging.closings.append(closing)
        if closing.keyed is not None:
            self.pending.staging.changing_ids()
        return True

    def stage_membership(self, membership: Membership) -> bool:
        """Stage a membership if it wins over those that are durable or staged; returns whether it does."""
        staging, sealed = self.pending.staging, self.pending.sealed
        newest = staging.membership or sealed.membership or self.replica.membership
        if newest.merge(membership) == newest:
            return False
        staging.membership = newest.merge(membership)
        assert staging.membership.rank() > newest.rank(), "a membership gives way only to one that wins over it"
        return True

    def stage_identity(self, identity: Identity) -> None:
        """Stage a new identity. The increments of the same batch are counted under it already."""
        assert identity.continues(self.replica.identity), "a new identity forgets no incarnation"
        self.pending.staging.identity = identity

    def stage_floor(self, floor: int) -> bool:
        """Stage the promise to take no id with a time up to here any more. It binds at once.

        Args:
            floor: in seconds since 1970.

        Returns:
            Whether it goes beyond what was promised before.
        """
        if floor <= self.pending.promised:
            return False
        self.pending.staging.changing_ids().floor = floor
        return True

    def stage_settlement(self, until: Callable[[], int | None]) -> None:
        """Ask for a settlement in the next batch.

        Args:
            until: returns up to which time ids can be settled, in seconds since 1970; None when none can be. It is
                called at the seal, when what is durable is known.
        """
        self.pending.staging.changing_ids().settle = until

    # A batch

    def seal(self) -> Batch:
        """Make one batch of all that is staged. No other may be in flight."""
        replica, pending = self.replica, self.pending
        assert pending.batch is None, "one batch in flight"
        staged, pending.staging = pending.staging, Staging()
        assert staged.total == sum(staged.amounts.values()), "the sum of what is staged is wrong"
        deltas = [*staged.deltas, *self._closing_still(staged)]
        if (staged.amounts or staged.ids is not NO_CHANGES) and (own := own_delta(replica, staged, deltas)) is not None:
            staged.own, deltas = own, [own, *deltas]
        floor = None if staged.ids is NO_CHANGES else new_floor(replica, staged, deltas)
        pending.sealed = staged
        settled = staged.ids is not NO_CHANGES or replica.counters.settlements
        needs = needs_of(replica.counters, deltas) if settled else None
        batch = Batch(replica.next_batch, deltas, staged.identity, staged.membership, floor, needs)
        assert needs is None or as_joinable(replica.counters, batch, needs) is deltas, "what a batch needs is known"
        pending.batch = batch
        return batch

    def commit(self) -> Batch:
        """Make the sealed batch visible, as it is on disk."""
        replica, pending = self.replica, self.pending
        batch, sealed = pending.land()
        assert batch.number == replica.next_batch, f"batch {batch.number} follows {replica.next_batch - 1}"
        version = check_own(replica, batch, sealed)
        before = None if sealed.ids is NO_CHANGES else total_before(replica, batch, sealed)
        replica.apply(batch)
        check_visible(replica, batch, sealed, version)
        if sealed.ids is not NO_CHANGES:
            check_ids(replica, sealed, before)
            self.ids.landed(batch, sealed, dropped=False)
        if batch.identity is not None:
            pending.greatest = None  # of another incarnation
            self.ids.landed(batch, sealed, dropped=False)
        elif pending.greatest is not None:
            pending.greatest = max(pending.greatest, sealed.greatest)
        return batch

    def abort(self) -> Batch:
        """Drop the sealed batch, as it could not be written."""
        batch, sealed = self.pending.land()
        self.ids.landed(batch, sealed, dropped=True)
        return batch

    def _closing_still(self, staged: Staging) -> list[Delta]:
        """The staged closings that are still right.

        If more of an incarnation came since, to be joined or to be detached, its closing is dropped. So is one that
        settles ids which another delta of the batch brings or settles, as these are not added up in it. An incarnation
        can have settled ids of an older one, so the oldest comes first.
        """
        coming, counters, still = {delta.incarnation for delta in staged.deltas}, self.replica.counters, list[Delta]()
        oldest_first = self.replica.identity.retired.index
        for closing in sorted(staged.closings, key=lambda closing: oldest_first(closing.incarnation)):
            if closing.incarnation in coming or closing != self._closing(closing.incarnation):
                continue
            if not any(covers_some(counters, closing, other) for other in (*staged.deltas, *still)):
                still.append(closing)
        return still

    def _closing(self, incarnation: bytes) -> Delta | None:
        replica = self.replica
        closing = replica.detached.closing(replica.counters, replica.identity, incarnation)
        return None if closing is None else keeping_values(replica.counters, closing)


def _takes_ids(writer: Writer, delta: Delta, keyed: Keyed, stranger: Collection[bytes]) -> bool:
    """Whether entries and settlements of a stranger can be taken. What they count towards limits is noted then.

    By several settlements together a value could fall, so these have to wait while others wait for the disk.
    """
    counters, pending = writer.replica.counters, writer.pending
    times = {time_of_key(key) for key in keyed.entries}
    if times and max(times) > writer.ids.rules.latest_of_strangers:
        return False
    new_spans = _new_spans(writer, times)
    if new_spans is None:
        return False
    waiting = (*pending.staging.deltas, *pending.sealed.deltas)
    if keyed.settled and (
        any(map(settles, waiting)) or not keeps_values(counters, delta.incarnation, keyed.settled, stranger)
    ):
        return False
    same = (other.keyed for other in waiting if other.incarnation == delta.incarnation and other.keyed is not None)
    if not parts_fit(counters, (keyed, *same)):
        return False
    pending.staging.new_spans |= new_spans
    return True


def _new_spans(writer: Writer, times: Collection[int]) -> set[int] | None:
    """The spans of time that ids of a stranger with these times would open; None when there would be too many."""
    options, pending, known = writer.replica.options, writer.pending, writer.replica.counters.entries.spans
    staged = pending.staging.new_spans
    new = {time // options.id_span for time in times} - known - staged
    spans = len(known) + len(pending.sealed.new_spans) + len(staged) + len(new)  # some may be counted twice
    return None if new and spans > options.max_spans else new


def _check_closing(closing: Delta | None, reached: int) -> None:
    """Assert that the delta that closes the gaps of an incarnation claims a version that it never reached."""
    assert closing is None or closing.upto > reached, "a gap is closed above all that is detached"
