"""One node's replica: all that is durable of it, and what is read off it.

A batch is on disk before it is applied. What waits for the disk is apart: see `gcount.core.state.pending`, and
`gcount.core.state.writer`, which makes the batches.
"""

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters, Delta, Gap
from gcount.core.state.detached_deltas import DetachedDeltas
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership


class Replica:
    """The state of one node, as far as it is on disk; everything that leaves the node is read from it.

    Args:
        identity: who this node is.
        max_counters: with so many names, clients and nodes that are no members can't add further ones; members can.
        options: the limits that it keeps.

    `detached` is durable, too, but claimed by nobody; a repaired log brings it about, or a member that gives back what
    its own held.
    """

    def __init__(self, identity: Identity, max_counters: int, options: Options = DEFAULTS) -> None:
        self.options = options
        self.identity = identity
        self.membership = Membership()
        self.counters = Counters(options)
        self.detached = DetachedDeltas()
        self.next_batch = 1
        self.max_counters = max_counters

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

    @property
    def max_uncounted_cells(self) -> int:
        """How many cells may be held that do not count yet; what clients may make here never bounds what members tell.

        So many of all unfinished pushes together, and as many of what members give back.
        """
        return max(self.options.max_uncounted_cells, 2 * self.max_counters + self.options.push_cells)

    def has_back(self, delta: Delta) -> bool:
        """Whether a delta of a former life of this node is on disk, joined or detached."""
        return delta.upto <= self.counters.version(delta.incarnation) or self.detached.contains(delta)

    def takes_back(self, delta: Delta) -> bool:
        """Whether a delta behind a gap is to be detached: a member gives it back, of a former life of this node.

        There is a limit, as a member that lies may make up any number of them.
        """
        detached = self.detached
        if delta.incarnation not in self.identity.retired or detached.contains(delta):
            return False
        return len(detached) < self.options.max_runs and detached.cells + len(delta.cells) <= self.max_uncounted_cells

    def apply(self, batch: Batch) -> None:
        """Join a batch that is on disk; batches come in their order, and again does no harm."""
        if batch.identity is not None:
            self.identity = batch.identity
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
