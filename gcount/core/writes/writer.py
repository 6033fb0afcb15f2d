"""Changes a replica: changes are staged, sealed into a batch, and applied when the batch is on disk.

    stage ...... an amount or a peer's delta waits, and is not visible
    seal ....... all that waits becomes one batch; absolute values are computed only now
    (the log writes and syncs the batch)
    commit ..... the batch is applied and becomes visible       or        abort ..... it is dropped

At most one batch is sealed at a time. So the own cells that the seal computed are right until it is committed.
"""

from collections.abc import Sequence
from operator import add

from gcount.core.limits import MAX_CELL
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.core.writes.increments import Add, Asked, Peek, Repeat, Together
from gcount.core.writes.pending import Pending
from gcount.core.writes.staging import Staged, Staging
from gcount.errors import Refusal

_TOTAL_EVERY = 4  # batches, times the number of incarnations, from one look at a total to the next


class Writer:
    """Stages, seals and commits changes of a replica. A replica may have only one writer.

    Args:
        replica: the replica.

    Attributes:
        replica: the same.
        pending: the changes that wait for the disk.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.pending = Pending(replica)

    # What clients ask

    def stage(self, asked: Asked) -> Staged:
        """Stage the items of a request, in their order; see `gcount.core.writes.increments`."""
        if isinstance(asked, Repeat):
            if asked.amount and self.pending.allows_all(len(asked.names), asked.amount):
                return Staged(asked.names, self.pending.staging.add_each(asked.names, asked.amount))
            asked = [Add(name, asked.amount) for name in asked.names]
        names: list[str] = []
        waiting: list[int | Refusal] = []
        refused = False
        for one in asked:
            if isinstance(one, Together):
                names += [each.name for each in one.items]
                waiting += self._stage_together(one.items)
                refused = refused or any(isinstance(each, Refusal) for each in waiting[-1:])
            else:
                names.append(one.name)
                waiting.append(now := self._stage_one(one))
                refused = refused or isinstance(now, Refusal)
        return Staged(names, waiting, refused)

    def _stage_one(self, one: Add | Peek) -> int | Refusal:
        """The amount that is staged for the item's counter, the item included; or its refusal."""
        if isinstance(one, Peek) or not one.amount:
            return self.pending.staging.amounts.get(one.name, 0)
        refusal = self.pending.refusal(one.name, one.amount)
        return self.pending.staging.add(one.name, one.amount) if refusal is None else refusal

    def _stage_together(self, items: Sequence[Add | Peek]) -> Sequence[int | Refusal]:
        """As `_stage_one` for each item; or the refusal of one item for all, and then nothing was staged."""
        staged: list[int | Refusal] = []
        for one in items:
            now = self._stage_one(one)
            if isinstance(now, Refusal):
                for taken in items[: len(staged)]:
                    if isinstance(taken, Add) and taken.amount:
                        self.pending.staging.take_back(taken.name, taken.amount)
                return [now] * len(items)
            staged.append(now)
        return staged

    # What peers push, and what this node decides

    def stage_delta(self, delta: Delta) -> bool:
        """Stage a peer's delta.

        Returns:
            False when it can't be taken: it is of this node's own incarnation (one writer per incarnation), it would
            leave a gap after what is durable, or a limit is reached. The sender then starts from what is durable here.
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
        staging.deltas.append(delta)
        if known == 0:
            staging.new.add(delta.incarnation)
        staging.new_names += sum(name not in replica.counters for name in delta.cells)
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

    # A batch

    def seal(self) -> Batch:
        """Make one batch of all that is staged. No other may be in flight."""
        replica, pending = self.replica, self.pending
        assert pending.batch is None, "one batch in flight"
        staged, pending.staging = pending.staging, Staging()
        assert staged.total == sum(staged.amounts.values()), "the sum of what is staged is wrong"
        incarnation = (staged.identity or replica.identity).incarnation
        deltas = [*staged.deltas, *self._closing_still(staged)]
        # The log gets absolute cells, so that replaying a batch twice does no harm. They are computed only now: when an
        # amount is staged, the batch before may still be in flight, and be dropped.
        if staged.amounts:
            version = replica.counters.version(incarnation)
            own = map(add, replica.counters.cells_of(staged.amounts, incarnation), staged.amounts.values())
            cells = dict(zip(staged.amounts, own, strict=True))
            deltas = [Delta(incarnation, version, version + 1, cells), *deltas]
            staged.greatest = max(cells.values())
            assert staged.greatest <= MAX_CELL, "the limits have let a cell pass 2^64-1"
        pending.sealed = staged
        pending.batch = Batch(replica.next_batch, deltas, staged.identity, staged.membership)
        return pending.batch

    def commit(self) -> Batch:
        """Make the sealed batch visible, as it is on disk."""
        replica, pending = self.replica, self.pending
        batch, sealed = pending.land()
        assert batch.number == replica.next_batch, f"batch {batch.number} follows {replica.next_batch - 1}"
        if sealed.amounts:
            self._check_own(batch, sealed)
            commits = batch.deltas[0].after + 1
        else:
            commits = replica.counters.version((batch.identity or replica.identity).incarnation)
        replica.apply(batch)
        self._check_visible(batch, sealed, commits)
        if batch.identity is not None:
            pending.greatest = None  # of another incarnation
        elif pending.greatest is not None:
            pending.greatest = max(pending.greatest, sealed.greatest)
        return batch

    def abort(self) -> Batch:
        """Drop the sealed batch, as it could not be written."""
        return self.pending.land()[0]

    def _check_visible(self, batch: Batch, sealed: Staging, commits: int) -> None:
        """Assert that the own version counts own commits, and that a total is right.

        One total is checked, in some of the batches: so it costs little, however many incarnations there are.
        """
        counters, number = self.replica.counters, batch.number
        assert self.replica.version == commits, "a version counts the commits of its own node"
        if number % _TOTAL_EVERY == 0 and sealed.amounts and number // _TOTAL_EVERY % counters.incarnations == 0:
            name = next(iter(sealed.amounts))
            assert counters.total(name) == sum(counters.cells(name).values()), "a total is the sum of its cells"

    def _check_own(self, batch: Batch, sealed: Staging) -> None:
        """Assert that no own cell has changed since the seal. One cell is checked for all, in constant time."""
        counters, own = self.replica.counters, batch.deltas[0]
        incarnation = (batch.identity or self.replica.identity).incarnation
        assert own.incarnation == incarnation, "a batch counts under the incarnation that is in force with it"
        assert own.after == counters.version(own.incarnation), "one writer per incarnation"
        name, amount = next(reversed(sealed.amounts.items()))
        durable = counters.cell(name, own.incarnation)
        assert own.cells[name] == durable + amount, f"{durable} + {amount} became {own.cells[name]}"

    def _closing_still(self, staged: Staging) -> list[Delta]:
        """The staged closings that are still right.

        If more of an incarnation came since, to be joined or to be detached, its closing is dropped.
        """
        coming = {delta.incarnation for delta in staged.deltas}
        return [
            closing
            for closing in staged.closings
            if closing.incarnation not in coming and closing == self._closing(closing.incarnation)
        ]

    def _closing(self, incarnation: bytes) -> Delta | None:
        replica = self.replica
        return replica.detached.closing(replica.counters, replica.identity, incarnation)


def _check_closing(closing: Delta | None, reached: int) -> None:
    """Assert that the delta that closes the gaps of an incarnation claims a version that it never reached."""
    assert closing is None or closing.upto > reached, "a gap is closed above all that is detached"
