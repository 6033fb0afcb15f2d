"""The durable state of one node.

A batch is on disk before it is applied here. Changes that wait for the disk are in `gcount.core.writes.pending`, and
`gcount.core.writes.writer` makes batches of them.
"""

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch, as_joinable
from gcount.core.state.counters import Counters, Delta, Digest, Gap
from gcount.core.state.detached_deltas import DetachedDeltas
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership


class Replica:
    """The state of one node as it is on disk. All that leaves the node is read from here.

    Args:
        identity: the identity of the node.
        max_counters: how many counters clients, and nodes that are not members, can make. Members can make more.
        options: the limits that it keeps.

    Attributes:
        membership: the membership that is in force.
        counters: all cells, and the version of each incarnation that they reach.
        detached: detached deltas, from a repaired log or given back by a member. They are durable, but no digest
            claims them.
        next_batch: the number of the next batch of the log.
        floor: this node takes no id with a time up to here any more, in seconds since 1970; None while ids are not in
            use, as some member may not understand them.
    """

    def __init__(self, identity: Identity, max_counters: int, options: Options = DEFAULTS) -> None:
        self.options = options
        self.identity = identity
        self.membership = Membership()
        self.counters = Counters(options)
        self.detached = DetachedDeltas()
        self.next_batch = 1
        self.floor: int | None = None
        self.max_counters = max_counters

    @property
    def version(self) -> int:
        """The version of this node's incarnation: how many batches with own increments it has committed under it."""
        return self.counters.version(self.identity.incarnation)

    def cells(self, name: str) -> dict[bytes, int]:
        """A counter's cells by incarnation, with detached deltas of this node's former incarnations.

        This is for reads, which only add the cells up. The result must never be joined, as no digest claims it.

        Detached deltas of another node's incarnation are left out. Its owner may go on from a version before them, as
        no node claims to know more, and then the two would hide each other.
        """
        cells = self.counters.cells(name)
        for incarnation in self.detached.incarnations():
            behind = self.detached.cell(name, incarnation)
            if incarnation in self.identity.retired and behind > cells.get(incarnation, 0):
                cells[incarnation] = behind
        return cells

    def changed(self, name: str) -> Digest:
        """By incarnation, at least the newest version in which an entry of a counter changed that is not settled.

        An entry in a detached delta of a former incarnation of this node counts only once the gap before it is closed.
        Until then no digest reaches the version that is returned, so that no read is confirmed without the entry.
        """
        changed = self.counters.changed(name)
        for incarnation in self.detached.incarnations():
            if incarnation in self.identity.retired and self.detached.has_ids(name, incarnation):
                changed[incarnation] = max(self.detached.reaches(incarnation), changed.get(incarnation, 0))
        return changed

    @property
    def max_uncounted_cells(self) -> int:
        """How many cells (or entries, or parts) all unfinished pushes may buffer, and how many members may give back.

        It is at least twice `max_counters`, so that a delta of all counters that clients may make here can be taken.
        """
        return max(self.options.max_uncounted_cells, 2 * self.max_counters + self.options.push_cells)

    def has_back(self, delta: Delta) -> bool:
        """Whether a delta of a former incarnation of this node is on disk, joined or detached."""
        return delta.upto <= self.counters.version(delta.incarnation) or self.detached.contains(delta)

    def takes_back(self, delta: Delta) -> bool:
        """Whether a delta behind a gap is to be detached, as it is of a former incarnation of this node.

        There is a limit, because a member that lies may make up any number of them.
        """
        detached = self.detached
        if delta.incarnation not in self.identity.retired or detached.contains(delta):
            return False
        return len(detached) < self.options.max_runs and detached.cells + delta.size <= self.max_uncounted_cells

    def apply(self, batch: Batch) -> None:
        """Apply a batch that is on disk. Batches come in order; applying one twice does no harm."""
        if batch.identity is not None:
            self.identity = batch.identity
        if batch.membership is not None:
            self.membership = self.membership.merge(batch.membership)
        if batch.floor is not None:
            self.floor = max(batch.floor, self.floor or 0)
        join, deltas = self.counters.join, batch.deltas
        if batch.needs is not None:  # only after a repair of the log some may be unknown
            deltas = as_joinable(self.counters, batch, batch.needs)
        for delta in deltas:
            try:
                news = join(delta)
            except Gap:
                self.detached.keep(delta)  # it comes from a repaired log, or a member gave it back
            else:
                if news and self.detached:
                    self.detached.absorb(self.counters, delta.incarnation)
        self.next_batch = batch.number + 1
