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
from gcount.core.state.membership import Membership
from gcount.errors import CounterLimitReached, PartLimitReached, Refusal


class Replica:
    """The state of one node.

    Args:
        identity: who this node is.
        max_counters: with so many names, clients and nodes that are no members can't add further ones; members can.
        options: the limits that it keeps.

    `amounts` is what was staged of this node's own increments since the last seal.

    `counters`, `identity` and `membership` are durable; everything that leaves the node is read from them. `salvage` is
    durable, too, but claimed by nobody; a repaired log brings it about, or a member that gives back what its own held.
    """

    def __init__(self, identity: Identity, max_counters: int, options: Options = DEFAULTS) -> None:
        self.options = options
        self.identity = identity
        self.membership = Membership()
        self.counters = Counters(options)
        self.salvage = DetachedDeltas()
        self.next_batch = 1
        self.max_counters = max_counters
        self.amounts: dict[str, int] = {}
        self._staged = 0  # the sum of the amounts
        self._greatest: int | None = None  # of the own cells that are durable; None: to be looked up
        self._deltas: list[Delta] = []
        self._new: set[bytes] = set()  # the incarnations among them of which nothing is known yet
        self._new_names = 0
        self._closings: list[Delta] = []
        self._identity: Identity | None = None
        self._membership: Membership | None = None
        self._sealed: Batch | None = None
        self._sealed_amounts: dict[str, int] = {}
        self._sealed_sum = self._sealed_greatest = 0
        self._sealed_new: set[bytes] = set()
        self._sealed_names = 0

    @property
    def version(self) -> int:
        """This node's own version: how often it committed increments under its incarnation."""
        return self.counters.version(self.identity.incarnation)

    def cells(self, name: str) -> dict[bytes, int]:
        """A counter's cells by incarnation, what is kept aside of this node's own former lives included.

        For reads, which only add up; never to be joined. What is aside of another node's life does not count: its owner
        may go on with it from before that, as nobody claims to know more, and would be hidden by it.
        """
        cells = self.counters.cells(name)
        for incarnation in self.salvage.incarnations():
            aside = self.salvage.cell(name, incarnation)
            if incarnation in self.identity.retired and aside > cells.get(incarnation, 0):
                cells[incarnation] = aside
        return cells

    def arriving(self, incarnations: Collection[bytes]) -> Digest:
        """The versions of some incarnations to which deltas of peers that are staged would bring this node."""
        deltas = [*self._deltas, *(self._sealed.deltas if self._sealed else ())]
        return highest(deltas, incarnations)

    @property
    def max_aside_cells(self) -> int:
        """How many cells may be kept aside; what clients may make here never bounds what members tell.

        So many of all unfinished pushes together, and as many of what members give back.
        """
        return max(self.options.max_aside_cells, 2 * self.max_counters + self.options.push_cells)

    @property
    def anything_staged(self) -> bool:
        """Whether there is something to seal."""
        return bool(self.amounts or self._deltas or self._closings or self._identity or self._membership)

    @property
    def room_for_names(self) -> int:
        """How many new names nodes that are no members can add, when all that deltas have staged is durable."""
        return max(0, self.max_counters - len(self.counters) - self._new_names - self._sealed_names)

    @property
    def incarnations(self) -> int:
        """How many are known, or will be when all that is staged is durable; some may be counted twice until then."""
        return self.counters.incarnations + len(self._new) + len(self._sealed_new)

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
        return name in self.amounts or name in self._sealed_amounts

    def stage_increment(self, name: str, amount: int) -> int:
        """Let an amount wait for the next batch.

        Args:
            name: a valid name.
            amount: at least 1.

        Returns:
            What waits for that counter in the batch being gathered, this amount included.

        Raises:
            PartLimitReached: this node's part of the counter would pass 2^64-1.
            CounterLimitReached: the name is new and the limit of counters is reached.
        """
        pending = self.amounts.get(name, 0) + self._sealed_amounts.get(name, 0)
        own = self.counters.cell(name, self.identity.incarnation)
        if own + pending + amount > MAX_CELL:
            raise PartLimitReached(
                f"this node's part of the counter is {own + pending}; with {amount} it would pass 2^64-1"
            )
        if pending == 0 and name not in self.counters and not self._has_room():
            raise CounterLimitReached(
                f"this node takes new counters up to {self.max_counters} (--max-counters); names already known go on"
            )
        self._staged += amount
        self.amounts[name] = waiting = self.amounts.get(name, 0) + amount
        return waiting

    def stage_together(self, amounts: Sequence[tuple[str, int]]) -> list[int]:
        """Let many amounts wait for the next batch, all of them or none.

        Args:
            amounts: valid names, each with what to add; 0 is there to know what waits at its place in the order.

        Returns:
            For each what waits for that counter then, itself included.

        Raises:
            PartLimitReached, CounterLimitReached: one of them can't be taken; nothing was changed.
        """
        staged: list[int] = []
        try:
            for name, amount in amounts:
                staged.append(self.stage_increment(name, amount) if amount else self.amounts.get(name, 0))
        except Refusal:
            for name, amount in amounts[: len(staged)]:
                self._unstage(name, amount)
            raise
        return staged

    def _unstage(self, name: str, amount: int) -> None:
        if amount:
            self._staged -= amount
            self.amounts[name] -= amount
            if not self.amounts[name]:
                del self.amounts[name]

    def stage_each(self, names: Sequence[str], amount: int) -> Sequence[int] | None:
        """Let an amount for each of many names wait for the next batch, in a fraction of the time.

        Args:
            names: valid ones, in their order; at least one.
            amount: at least 1.

        Returns:
            What waits for each then; None when a limit is so near that each has to be looked at: nothing was changed.
        """
        times, amounts = len(names), self.amounts
        most_names = len(self.counters) + len(amounts) + len(self._sealed_amounts) + times
        if self._highest() + amount * times > MAX_CELL or most_names > self.max_counters:
            return None
        self._staged += amount * times
        first = names[0]
        if names.count(first) == times:
            before = amounts.get(first, 0)
            amounts[first] = last = before + amount * times
            return range(before + amount, last + 1, amount)
        staged, waiting = [], amounts.get
        for name in names:
            amounts[name] = now = waiting(name, 0) + amount
            staged.append(now)
        return staged

    def stage_delta(self, delta: Delta) -> bool:
        """Let a peer's delta wait for the next batch.

        Returns:
            False when it can't be taken: it is this node's own incarnation (one writer per incarnation), it leaves a
            gap after what is durable, or a limit is reached. The sender then starts from what is known. Of a former
            life of this node itself it is kept aside behind its gap, as a member has given it back.
        """
        known = self.counters.version(delta.incarnation)
        if delta.incarnation == self.identity.incarnation:
            return False
        if delta.after > known and not self._takes_back(delta):
            return False
        if known == 0 and not self._has_room_for(delta.incarnation):
            return False
        self._deltas.append(delta)
        if known == 0:
            self._new.add(delta.incarnation)
        self._new_names += sum(name not in self.counters for name in delta.cells)
        return True

    def has_back(self, delta: Delta) -> bool:
        """Whether a delta of a former life of this node is on disk, joined or kept aside."""
        return delta.upto <= self.counters.version(delta.incarnation) or self.salvage.holds(delta)

    def stage_closing(self, incarnation: bytes) -> bool:
        """Let what closes the gaps of a retired incarnation of this node wait for the next batch.

        The caller vouches for it that nobody knows more of the incarnation than this node has on disk.

        Returns:
            Whether there is anything to close.
        """
        closing = self.salvage.closing(self.counters, self.identity, incarnation)
        if closing is None or not (closing.after or self._has_room_for(incarnation)):
            return False
        self._closings.append(closing)
        return True

    def stage_membership(self, membership: Membership) -> bool:
        """Let a membership wait for the next batch, if it wins over what is known and staged already."""
        newest = self._membership or (self._sealed and self._sealed.membership) or self.membership
        if newest.merge(membership) == newest:
            return False
        self._membership = newest.merge(membership)
        return True

    def stage_identity(self, identity: Identity) -> None:
        """Let a new identity wait for the next batch, which counts under it already."""
        self._identity = identity

    def seal(self) -> Batch:
        """Make one batch of all that is staged.

        Raises:
            RuntimeError: a batch is sealed already.
        """
        if self._sealed is not None:
            raise RuntimeError("one batch in flight")
        incarnation = (self._identity or self.identity).incarnation
        deltas = [*self._deltas, *self._closing_still()]
        if self.amounts:
            version = self.counters.version(incarnation)
            own = map(add, self.counters.cells_of(self.amounts, incarnation), self.amounts.values())
            cells = dict(zip(self.amounts, own, strict=True))
            deltas = [Delta(incarnation, version, version + 1, cells), *deltas]
            self._sealed_greatest = max(cells.values())
        self._sealed_sum, self._staged = self._staged, 0
        self._sealed = Batch(self.next_batch, deltas, self._identity, self._membership)
        self._sealed_amounts, self._sealed_new, self._sealed_names = self.amounts, self._new, self._new_names
        self._new, self._new_names = set(), 0
        self.amounts, self._deltas, self._closings, self._identity, self._membership = {}, [], [], None, None
        return self._sealed

    def commit(self) -> Batch:
        """The sealed batch is on disk: make it visible."""
        batch = self._unseal()
        self._apply(batch)
        if self._greatest is not None:
            self._greatest = max(self._greatest, self._sealed_greatest)
        return batch

    def abort(self) -> Batch:
        """The sealed batch could not be written: drop it all."""
        return self._unseal()

    def recover(self, batch: Batch) -> None:
        """Join a batch that the log holds; batches come in their order, and again does no harm."""
        self._apply(batch)

    def _takes_back(self, delta: Delta) -> bool:
        """Whether a delta behind a gap is to be kept aside; a member that lies may make up any number of them."""
        salvage = self.salvage
        if delta.incarnation not in self.identity.retired or salvage.holds(delta):
            return False
        return len(salvage) < self.options.max_runs and salvage.cells + len(delta.cells) <= self.max_aside_cells

    def _highest(self) -> int:
        """What no own cell can exceed when all that is staged is durable."""
        if self._greatest is None:
            self._greatest = self.counters.greatest_cell(self.identity.incarnation)
        return self._greatest + self._sealed_sum + self._staged

    def _unseal(self) -> Batch:
        if self._sealed is None:
            raise RuntimeError("no batch in flight")
        batch, self._sealed = self._sealed, None
        self._sealed_amounts, self._sealed_new, self._sealed_names, self._sealed_sum = {}, set(), 0, 0
        return batch

    def _closing_still(self) -> list[Delta]:
        """More may have come since a closing was staged, to be joined or to be kept aside: then it is dropped."""
        staged = {delta.incarnation for delta in self._deltas}
        return [
            closing
            for closing in self._closings
            if closing.incarnation not in staged
            and closing == self.salvage.closing(self.counters, self.identity, closing.incarnation)
        ]

    def _has_room(self) -> bool:
        if len(self.counters) + len(self.amounts) + len(self._sealed_amounts) < self.max_counters:
            return True  # the usual case, without looking at what waits
        waiting = {name for name in (*self.amounts, *self._sealed_amounts) if name not in self.counters}
        return len(self.counters) + len(waiting) < self.max_counters

    def _has_room_for(self, incarnation: bytes) -> bool:
        if incarnation in self._new or incarnation in self._sealed_new:
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
                self.salvage.keep(delta)  # of a repaired log, or given back
            else:
                if news and self.salvage:
                    self.salvage.absorb(self.counters, delta.incarnation)
        self.next_batch = batch.number + 1
