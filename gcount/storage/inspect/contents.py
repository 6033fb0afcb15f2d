"""What a survey of a data directory has found, and what follows from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from gcount.core.state.identity import IdentityHistory
from gcount.core.state.replica import Replica
from gcount.storage.checkpoints import checkpoint_name
from gcount.storage.disk import Directory
from gcount.storage.inspect.corruption import Checkpoint, Corruption, Segment
from gcount.storage.log import Base


@dataclass(frozen=True)
class Contents:
    """What is in a data directory, whole or damaged.

    Args:
        directory: the directory.
        needless: damaged checkpoints that were left out. They are not needed if all files that they cover are still
            there, because a crash came before those were removed.
        checkpoint: the newest checkpoint besides these; None when there is none.
        base: where the log begins after it.
        segments: the segments of the log, in order.
        strays: names of files that look like segments, but do not belong to this log.
        contradictions: findings that rot does not explain, in words.
        identities: the identity of the node, with all incarnations that were found.
        replica: the state that a start restores from all that is whole, after a repair if one is needed.
        next_batch: the number of the batch that will follow.
    """

    directory: Directory
    needless: Sequence[Checkpoint]
    checkpoint: Checkpoint | None
    base: Base
    segments: Sequence[Segment]
    strays: Sequence[str]
    contradictions: Sequence[str]
    identities: IdentityHistory
    replica: Replica
    next_batch: int

    @property
    def corruptions(self) -> list[Corruption]:
        """All damage, in the order of the log."""
        strays = [Corruption(self.directory.describe(name), 0, "no segment of this log") for name in self.strays]
        checkpoints = [*self.needless_here, *([self.checkpoint] if self.checkpoint else [])]
        first = [checkpoint.corruption for checkpoint in checkpoints if checkpoint.corruption]
        return first + [segment.corruption for segment in self.segments if segment.corruption] + strays

    @property
    def needless_here(self) -> list[Checkpoint]:
        """Those checkpoints of `needless` that no repair has renamed yet."""
        return [found for found in self.needless if found.source == checkpoint_name(found.sequence)]

    @property
    def lossless(self) -> bool:
        """Whether a repair loses nothing: only needless checkpoints are damaged, and it is known how far they reach."""
        here = self.needless_here
        return len(self.corruptions) == len(here) and all(found.salvage and found.salvage.identity for found in here)

    @property
    def serves(self) -> bool:
        """Whether this log holds all that the needless checkpoints held, and continues after it."""
        covered = max((found.sequence for found in self.needless), default=0)
        known = all(found.salvage and found.salvage.knows_reach for found in self.needless)
        reached = reach_of(self.needless) if known else inf
        needed = (each for each in self.segments if each.sequence < covered or each.first < reached)
        whole = all(segment.corruption is None for segment in needed)
        base = self.checkpoint is None or self.checkpoint.corruption is None
        return base and whole and self.base.sequence + len(self.segments) > covered and not self.contradictions

    @property
    def torn(self) -> Corruption | None:
        """What an interrupted write left at the end of the live segment; the next start removes it."""
        return self.segments[-1].torn if self.segments else None

    @property
    def counters(self) -> int:
        """How many counters there are, with those in detached deltas."""
        joined = self.replica.counters
        return len(joined) + sum(name not in joined for name in self.replica.detached.names())

    @property
    def ids(self) -> int:
        """How many ids of increments are not settled, without those in detached deltas."""
        return self.replica.counters.entries.live

    @property
    def incarnations(self) -> int:
        """How many incarnations are known, with those of detached deltas."""
        return len({*self.replica.counters.digest(), *self.replica.detached.incarnations()})

    @property
    def whole(self) -> int:
        """How many whole batches there are."""
        return sum(segment.whole for segment in self.segments)

    @property
    def lost(self) -> int:
        """How many batches can't be read."""
        return sum(corruption.lost for corruption in self.corruptions)

    @property
    def size(self) -> int:
        """The size of all segments, in bytes."""
        return sum(segment.size for segment in self.segments)


def reach_of(damaged: Iterable[Checkpoint]) -> int:
    """The number of the next batch when the newest of some damaged checkpoints was made, as far as they say it."""
    return max((found.salvage.next_batch for found in damaged if found.salvage), default=0)
