"""What is on its way to a replica's disk, and how much more may set out: limits count what is durable and what will be.

staged ..... waits for the next batch
sealed ..... is in the batch in flight
"""

from collections.abc import Collection

from gcount.core.limits import MAX_CELL
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Digest, highest
from gcount.core.state.replica import Replica
from gcount.core.state.staging import Staging
from gcount.errors import CounterLimitReached, PartLimitReached, Refusal


class Pending:
    """What a replica does not hold yet, and will unless the disk is full. It is changed by a `Writer`.

    Args:
        replica: what is durable.

    Attributes:
        staging: what waits for the next batch.
        sealed: what is in the batch in flight; empty when none is.
        batch: the one in flight.
        greatest: the greatest of the own cells that are durable; None when it has to be looked up.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.staging = Staging()
        self.sealed = self._nothing = Staging()
        self.batch: Batch | None = None
        self.greatest: int | None = None

    def __contains__(self, name: str) -> bool:
        """Whether increments of that counter wait for the disk."""
        return name in self.staging.amounts or name in self.sealed.amounts

    def arriving(self, incarnations: Collection[bytes]) -> Digest:
        """The versions of some incarnations to which deltas of peers that are staged would bring this node."""
        return highest([*self.staging.deltas, *(self.batch.deltas if self.batch else ())], incarnations)

    def land(self) -> tuple[Batch, Staging]:
        """The fate of the batch in flight is known: none is in flight any more.

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
        if own + pending + amount > MAX_CELL:
            return PartLimitReached(
                f"this node's part of the counter is {own + pending}; with {amount} it would pass 2^64-1"
            )
        if pending == 0 and name not in replica.counters and not self._has_room():
            return CounterLimitReached(
                f"this node takes new counters up to {replica.max_counters} (--max-counters); names already known go on"
            )
        return None

    def has_room_for_all(self, times: int, amount: int) -> bool:
        """Whether no limit is so near that one of so many increments has to be looked at by itself."""
        replica, staged, sealed = self._replica, self.staging, self.sealed
        if self.greatest is None:
            self.greatest = replica.counters.greatest_cell(replica.identity.incarnation)
        most_names = len(replica.counters) + len(staged.amounts) + len(sealed.amounts) + times
        highest_cell = self.greatest + sealed.total + staged.total + amount * times
        return most_names <= replica.max_counters and highest_cell <= MAX_CELL

    def _has_room(self) -> bool:
        """Whether there may be one more counter."""
        counters, most = self._replica.counters, self._replica.max_counters
        staged, sealed = self.staging.amounts, self.sealed.amounts
        if len(counters) + len(staged) + len(sealed) < most:
            return True  # the usual case, without looking at what waits
        waiting = {name for name in (*staged, *sealed) if name not in counters}
        return len(counters) + len(waiting) < most

    # The limits of what peers tell, and of incarnations

    @property
    def room_for_names(self) -> int:
        """How many new names nodes that are no members can add, when all that deltas have staged is durable."""
        replica = self._replica
        return max(0, replica.max_counters - len(replica.counters) - self.staging.new_names - self.sealed.new_names)

    @property
    def incarnations(self) -> int:
        """How many are known, or will be when all that is staged is durable; some may be counted twice until then."""
        return self._replica.counters.incarnations + len(self.staging.new) + len(self.sealed.new)

    @property
    def lives(self) -> int:
        """How many incarnations are known, those of this node included under which nothing was counted yet."""
        counters, identity = self._replica.counters, self._replica.identity
        own = (identity.incarnation, *identity.retired)
        return self.incarnations + sum(counters.version(incarnation) == 0 for incarnation in own)

    @property
    def may_be_reborn(self) -> bool:
        """Whether this node may begin a new incarnation; more than the limit could not be told to anybody."""
        return self.lives < self._replica.options.reborn_below

    def has_room_for(self, incarnation: bytes) -> bool:
        """Whether an incarnation of which nothing is durable can be taken."""
        if incarnation in self.staging.new or incarnation in self.sealed.new:
            return True
        most = self._replica.options.max_incarnations  # one is kept for this node's own, if it is blank
        return self.incarnations + 1 < most
