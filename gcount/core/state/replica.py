"""One node's replica: what is staged, what is sealed, what is durable.

    stage ...... an amount or a peer's delta waits; nothing can see it
    seal ....... all that waits becomes one batch; absolute values are computed only now
    (the log writes and syncs the batch)
    commit ..... the batch is joined and becomes visible        or        abort ..... its amounts are dropped

At most one batch is sealed at a time, so the own cells that it computed stay right until it is committed or aborted.
"""

from collections.abc import Collection, Sequence
from operator import add

from gcount.core.limits import MAX_CELL
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters, Delta, Digest, Gap, highest
from gcount.core.state.detached_deltas import DetachedDeltas
from gcount.core.state.identity import Identity
from gcount.core.state.increments import Add, Asked, Peek, Repeat, Together
from gcount.core.state.membership import Membership
from gcount.core.state.staging import Staged, Staging
from gcount.errors import CounterLimitReached, PartLimitReached, Refusal


class Replica:
    """The state of one node.

    Args:
        identity: who this node is.
        max_counters: with so many names, clients and nodes that are no members can't add further ones; members can.
        options: the limits that it keeps.

    `staging` is what waits for the next batch, `sealed` what is in the batch in flight, or nothing.

    `counters`, `identity` and `membership` are durable; everything that leaves the node is read from them. `detached`
    is durable, too, but claimed by nobody; a repaired log brings it about, or a member that gives back what its own
    held.
    """

    def __init__(self, identity: Identity, max_counters: int, options: Options = DEFAULTS) -> None:
        self.options = options
        self.identity = identity
        self.membership = Membership()
        self.counters = Counters(options)
        self.detached = DetachedDeltas()
        self.next_batch = 1
        self.max_counters = max_counters
        self.staging = Staging()
        self.sealed = self._nothing = Staging()
        self._batch: Batch | None = None  # in flight
        self._greatest: int | None = None  # of the own cells that are durable; None: to be looked up

    @property
    def version(self) -> int:
        """This node's own version: how often it committed increments under its incarnation."""
        return self.counters.version(self.identity.incarnation)

    def cells(self, name: str) -> dict[bytes, int]:
        """A counter's cells by incarnation, what is detached of this node's own former lives included.

        For reads, which only add up; never to be joined. What is detached of another node's life does not count: its
        owner may go on with it from before that, as nobody claims to know more, and would be hidden by it.
        """
        cells = self.counters.cells(name)
        for incarnation in self.detached.incarnations():
            behind = self.detached.cell(name, incarnation)
            if incarnation in self.identity.retired and behind > cells.get(incarnation, 0):
                cells[incarnation] = behind
        return cells

    def arriving(self, incarnations: Collection[bytes]) -> Digest:
        """The versions of some incarnations to which deltas of peers that are staged would bring this node."""
        return highest([*self.staging.deltas, *(self._batch.deltas if self._batch else ())], incarnations)

    @property
    def max_uncounted_cells(self) -> int:
        """How many cells may be held that do not count yet; what clients may make here never bounds what members tell.

        So many of all unfinished pushes together, and as many of what members give back.
        """
        return max(self.options.max_uncounted_cells, 2 * self.max_counters + self.options.push_cells)

    @property
    def anything_staged(self) -> bool:
        """Whether there is something to seal."""
        return bool(self.staging)

    @property
    def room_for_names(self) -> int:
        """How many new names nodes that are no members can add, when all that deltas have staged is durable."""
        return max(0, self.max_counters - len(self.counters) - self.staging.new_names - self.sealed.new_names)

    @property
    def incarnations(self) -> int:
        """How many are known, or will be when all that is staged is durable; some may be counted twice until then."""
        return self.counters.incarnations + len(self.staging.new) + len(self.sealed.new)

    @property
    def lives(self) -> int:
        """How many incarnations are known, those of this node included under which nothing was counted yet."""
        own = (self.identity.incarnation, *self.identity.retired)
        return self.incarnations + sum(self.counters.version(incarnation) == 0 for incarnation in own)

    @property
    def may_be_reborn(self) -> bool:
        """Whether this node may begin a new incarnation; more than the limit could not be told to anybody."""
        return self.lives < self.options.reborn_below

    def is_pending(self, name: str) -> bool:
        """Whether increments of that counter wait for the disk."""
        return name in self.staging.amounts or name in self.sealed.amounts

    def stage(self, asked: Asked) -> Staged:
        """Let what was asked wait for the next batch, in its order; see `gcount.core.state.increments`."""
        if isinstance(asked, Repeat):
            each = self._stage_each(asked.names, asked.amount)
            if each is not None:
                return Staged(asked.names, each)
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
        """What waits for a counter in the batch being gathered, this included; or why it can't be taken."""
        if isinstance(one, Peek) or not one.amount:
            return self.staging.amounts.get(one.name, 0)
        refusal = self._refusal(one.name, one.amount)
        return self.staging.add(one.name, one.amount) if refusal is None else refusal

    def _stage_together(self, items: Sequence[Add | Peek]) -> Sequence[int | Refusal]:
        """As `_stage_one` for each, or the refusal of one of them for all: then nothing was changed."""
        staged: list[int | Refusal] = []
        for one in items:
            now = self._stage_one(one)
            if isinstance(now, Refusal):
                for taken in items[: len(staged)]:
                    if isinstance(taken, Add) and taken.amount:
                        self.staging.take_back(taken.name, taken.amount)
                return [now] * len(items)
            staged.append(now)
        return staged

    def _stage_each(self, names: Sequence[str], amount: int) -> Sequence[int] | None:
        """As `_stage_one` for each; None when a limit is so near that each has to be looked at: nothing was changed."""
        times = len(names)
        most_names = len(self.counters) + len(self.staging.amounts) + len(self.sealed.amounts) + times
        if not amount or self._highest() + amount * times > MAX_CELL or most_names > self.max_counters:
            return None
        return self.staging.add_each(names, amount)

    def _refusal(self, name: str, amount: int) -> Refusal | None:
        """Why an amount of at least 1 can't be taken; None when it can."""
        pending = self.staging.amounts.get(name, 0) + self.sealed.amounts.get(name, 0)
        own = self.counters.cell(name, self.identity.incarnation)
        if own + pending + amount > MAX_CELL:
            return PartLimitReached(
                f"this node's part of the counter is {own + pending}; with {amount} it would pass 2^64-1"
            )
        if pending == 0 and name not in self.counters and not self._has_room():
            return CounterLimitReached(
                f"this node takes new counters up to {self.max_counters} (--max-counters); names already known go on"
            )
        return None

    def stage_delta(self, delta: Delta) -> bool:
        """Let a peer's delta wait for the next batch.

        Returns:
            False when it can't be taken: it is this node's own incarnation (one writer per incarnation), it leaves a
            gap after what is durable, or a limit is reached. The sender then starts from what is known. Of a former
            life of this node itself it is detached behind its gap, as a member has given it back.
        """
        known = self.counters.version(delta.incarnation)
        if delta.incarnation == self.identity.incarnation:
            return False
        if delta.after > known and not self._takes_back(delta):
            return False
        if known == 0 and not self._has_room_for(delta.incarnation):
            return False
        self.staging.deltas.append(delta)
        if known == 0:
            self.staging.new.add(delta.incarnation)
        self.staging.new_names += sum(name not in self.counters for name in delta.cells)
        return True

    def has_back(self, delta: Delta) -> bool:
        """Whether a delta of a former life of this node is on disk, joined or detached."""
        return delta.upto <= self.counters.version(delta.incarnation) or self.detached.contains(delta)

    def stage_closing(self, incarnation: bytes) -> bool:
        """Let what closes the gaps of a retired incarnation of this node wait for the next batch.

        The caller vouches for it that nobody knows more of the incarnation than this node has on disk.

        Returns:
            Whether there is anything to close.
        """
        closing = self.detached.closing(self.counters, self.identity, incarnation)
        if closing is None or not (closing.after or self._has_room_for(incarnation)):
            return False
        self.staging.closings.append(closing)
        return True

    def stage_membership(self, membership: Membership) -> bool:
        """Let a membership wait for the next batch, if it wins over what is known and staged already."""
        newest = self.staging.membership or self.sealed.membership or self.membership
        if newest.merge(membership) == newest:
            return False
        self.staging.membership = newest.merge(membership)
        return True

    def stage_identity(self, identity: Identity) -> None:
        """Let a new identity wait for the next batch, which counts under it already."""
        self.staging.identity = identity

    def seal(self) -> Batch:
        """Make one batch of all that is staged; no other may be in flight."""
        assert self._batch is None, "one batch in flight"
        staged, self.staging = self.staging, Staging()
        assert staged.total == sum(staged.amounts.values()), "the sum of what is staged is wrong"
        incarnation = (staged.identity or self.identity).incarnation
        deltas = [*staged.deltas, *self._closing_still(staged)]
        if staged.amounts:
            version = self.counters.version(incarnation)
            own = map(add, self.counters.cells_of(staged.amounts, incarnation), staged.amounts.values())
            cells = dict(zip(staged.amounts, own, strict=True))
            deltas = [Delta(incarnation, version, version + 1, cells), *deltas]
            staged.greatest = max(cells.values())
        self.sealed = staged
        self._batch = Batch(self.next_batch, deltas, staged.identity, staged.membership)
        return self._batch

    def commit(self) -> Batch:
        """The sealed batch is on disk: make it visible."""
        batch, sealed = self._unseal()
        assert batch.number == self.next_batch, f"batch {batch.number} follows {self.next_batch - 1}"
        if sealed.amounts:
            self._check_own(batch.deltas[0], sealed)
        self._apply(batch)
        if self._greatest is not None:
            self._greatest = max(self._greatest, sealed.greatest)
        return batch

    def abort(self) -> Batch:
        """The sealed batch could not be written: drop it all."""
        return self._unseal()[0]

    def recover(self, batch: Batch) -> None:
        """Join a batch that the log holds; batches come in their order, and again does no harm."""
        self._apply(batch)

    def _takes_back(self, delta: Delta) -> bool:
        """Whether a delta behind a gap is to be detached; a member that lies may make up any number of them."""
        detached = self.detached
        if delta.incarnation not in self.identity.retired or detached.contains(delta):
            return False
        return len(detached) < self.options.max_runs and detached.cells + len(delta.cells) <= self.max_uncounted_cells

    def _highest(self) -> int:
        """What no own cell can exceed when all that is staged is durable."""
        if self._greatest is None:
            self._greatest = self.counters.greatest_cell(self.identity.incarnation)
        return self._greatest + self.sealed.total + self.staging.total

    def _unseal(self) -> tuple[Batch, Staging]:
        batch, sealed = self._batch, self.sealed
        assert batch is not None, "no batch in flight"
        self._batch, self.sealed = None, self._nothing
        return batch, sealed

    def _check_own(self, own: Delta, sealed: Staging) -> None:
        """What the seal computed still holds, as nothing else changed own cells since; one of them stands for all."""
        assert own.after == self.counters.version(own.incarnation), "one writer per incarnation"
        name, amount = next(reversed(sealed.amounts.items()))
        durable = self.counters.cell(name, own.incarnation)
        assert own.cells[name] == durable + amount, f"{durable} + {amount} became {own.cells[name]}"

    def _closing_still(self, staged: Staging) -> list[Delta]:
        """More may have come since a closing was staged, to be joined or to be detached: then it is dropped."""
        coming = {delta.incarnation for delta in staged.deltas}
        return [
            closing
            for closing in staged.closings
            if closing.incarnation not in coming
            and closing == self.detached.closing(self.counters, self.identity, closing.incarnation)
        ]

    def _has_room(self) -> bool:
        staged, sealed = self.staging.amounts, self.sealed.amounts
        if len(self.counters) + len(staged) + len(sealed) < self.max_counters:
            return True  # the usual case, without looking at what waits
        waiting = {name for name in (*staged, *sealed) if name not in self.counters}
        return len(self.counters) + len(waiting) < self.max_counters

    def _has_room_for(self, incarnation: bytes) -> bool:
        if incarnation in self.staging.new or incarnation in self.sealed.new:
            return True
        return self.incarnations + 1 < self.options.max_incarnations  # one is kept for this node's own, if it is blank

    def _apply(self, batch: Batch) -> None:
        if batch.identity is not None:
            self.identity, self._greatest = batch.identity, None
        if batch.membership is not None:
            self.membership = self.membership.merge(batch.membership)
        join = self.counters.join
        for delta in batch.deltas:
            try:
                news = join(delta)
            except Gap:
                self.detached.keep(delta)  # of a repaired log, or given back
            else:
                if news and self.detached:
                    self.detached.absorb(self.counters, delta.incarnation)
        self.next_batch = batch.number + 1
