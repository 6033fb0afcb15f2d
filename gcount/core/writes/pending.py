"""Changes that wait for a replica's disk, and the limits that they keep.

    staged ..... waits for the next batch
    sealed ..... is in the batch in flight

A limit has to count what is durable and what will be, so this is the place where limits are checked.
"""

from collections.abc import Collection, Sequence

from gcount.core.limits import MAX_CELL
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Digest, highest
from gcount.core.state.replica import Replica
from gcount.core.writes.id_changes import NO_CHANGES
from gcount.core.writes.staging import Staging
from gcount.errors import CounterLimitReached, PartLimitReached, Refusal


class Pending:
    """Changes that a replica does not hold yet, and will hold unless the disk is full. Only a `Writer` changes them.

    Args:
        replica: the durable state.

    Attributes:
        staging: what waits for the next batch.
        sealed: what is in the batch in flight; empty when there is none.
        batch: the batch in flight; None when there is none.
        greatest: the greatest own cell that is durable; None when it has to be looked up.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.staging = Staging()
        self.sealed = self._nothing = Staging()
        self.batch: Batch | None = None
        self.greatest: int | None = None

    def __contains__(self, name: str) -> bool:
        """Whether increments of a counter wait for the disk."""
        staging, sealed = self.staging, self.sealed
        return (
            name in staging.amounts
            or name in sealed.amounts
            or name in staging.ids.planned
            or name in sealed.ids.planned
        )

    def arriving(self, incarnations: Collection[bytes]) -> Digest:
        """The versions of some incarnations that this node will have when the deltas that wait are durable."""
        return highest([*self.staging.deltas, *(self.batch.deltas if self.batch else ())], incarnations)

    def land(self) -> tuple[Batch, Staging]:
        """Take the batch in flight out, as it is known whether it is on disk.

        Returns:
            The batch, and what it was made of.
        """
        batch, sealed = self.batch, self.sealed
        assert batch is not None, "no batch in flight"
        assert sealed is not self.staging, "what is sealed changes no more"
        self.batch, self.sealed = None, self._nothing
        return batch, sealed

    # The limits of increments

    def refusal(self, name: str, amount: int) -> Refusal | None:
        """Why an amount of at least 1 can't be taken; None when it can."""
        replica = self._replica
        pending = self.staging.amounts.get(name, 0) + self.sealed.amounts.get(name, 0)
        own = replica.counters.cell(name, replica.identity.incarnation)
        # What waits is counted in full, although its batch may be dropped: a limit must hold whatever happens to it.
        if own + pending + amount > MAX_CELL:
            return PartLimitReached(
                f"this node's part of the counter is {own + pending}; with {amount} it would pass 2^64-1"
            )
        if pending == 0 and name not in replica.counters and not self.allows_name(name):
            return too_many_counters(replica.max_counters)
        return None

    def allows_all(self, names: Sequence[str], amount: int) -> bool:
        """Whether adding the same amount to many counters surely keeps all limits, and ids play no part in it."""
        replica, staged, sealed = self._replica, self.staging, self.sealed
        if self.greatest is None:
            self.greatest = replica.counters.greatest_cell(replica.identity.incarnation)
        if staged.ids is not NO_CHANGES and not staged.ids.planned.keys().isdisjoint(names):
            return False
        waiting = len(staged.amounts) + len(sealed.amounts) + len(staged.ids.planned) + len(sealed.ids.planned)
        most_names = len(replica.counters) + waiting + len(names)
        highest_cell = self.greatest + sealed.total + staged.total + amount * len(names)
        return most_names <= replica.max_counters and highest_cell <= MAX_CELL

    def allows_name(self, name: str) -> bool:
        """Whether clients may increment a counter, which may be a new one."""
        return name in self._replica.counters or name in self or self._allows_name()

    def _allows_name(self) -> bool:
        """Whether clients may make one more counter."""
        counters, most, both = self._replica.counters, self._replica.max_counters, (self.staging, self.sealed)
        if len(counters) + sum(len(each.amounts) + len(each.ids.planned) for each in both) < most:
            return True  # the usual case, in constant time
        waiting = {name for each in both for name in (*each.amounts, *each.ids.planned) if name not in counters}
        return len(counters) + len(waiting) < most

    @property
    def live_ids(self) -> int:
        """How many ids are not settled, with those that wait; some may be counted twice."""
        return self._replica.counters.entries.live + self.staging.ids.new + self.sealed.ids.new

    @property
    def promised(self) -> int:
        """This node takes no new id with a time up to here, in seconds since 1970; -1 when it has promised nothing.

        A promise binds from the instant at which it is staged.
        """
        if (staged := self.staging.ids.floor) is not None:
            return staged
        if (sealed := self.sealed.ids.floor) is not None:
            return sealed
        return -1 if self._replica.floor is None else self._replica.floor

    # The limits of deltas and of incarnations

    @property
    def names_left(self) -> int:
        """How many new names nodes that are not members may add, besides those in the deltas that wait."""
        replica = self._replica
        return max(0, replica.max_counters - len(replica.counters) - self.staging.new_names - self.sealed.new_names)

    @property
    def incarnations(self) -> int:
        """How many incarnations are known, or will be when all that waits is durable. Some may be counted twice."""
        return self._replica.counters.incarnations + len(self.staging.new) + len(self.sealed.new)

    @property
    def all_incarnations(self) -> int:
        """As `incarnations`, with those included that are known and have no version here yet.

        Such are this node's own under which nothing was counted yet. Such are also those of which a repair has left
        only detached deltas: they get a version as soon as a peer has filled the gap.
        """
        counters, identity, detached = self._replica.counters, self._replica.identity, self._replica.detached
        named = {identity.incarnation, *identity.retired, *detached.incarnations()}
        return self.incarnations + sum(counters.version(incarnation) == 0 for incarnation in named)

    @property
    def may_be_reborn(self) -> bool:
        """Whether this node may begin a new incarnation. Above the limit, other nodes might not take it."""
        return self.all_incarnations < self._replica.options.reborn_below

    def allows_incarnation(self, incarnation: bytes) -> bool:
        """Whether an incarnation of which nothing is durable can be taken."""
        if incarnation in self.staging.new or incarnation in self.sealed.new:
            return True
        # One place is kept for this node's own incarnation, which is not counted while it is blank.
        return self.incarnations + 1 < self._replica.options.max_incarnations


def too_many_counters(most: int) -> CounterLimitReached:
    """The refusal of an increment that would make one counter more than clients may make."""
    return CounterLimitReached(f"this node takes new counters up to {most} (--max-counters); names already known go on")
