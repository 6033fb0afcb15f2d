"""What a look at a data directory has found, and what follows from it."""

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
        directory: where it was found.
        needless: damaged checkpoints to do without. They are not needed, nor is any newer one, if all that they cover
            is still there: left by a crash before it was removed.
        checkpoint: the newest one but for those; there the log begins.
        base: where that is.
        segments: those of the log, in order.
        strays: names of files that look like segments, and are none of this log.
        contradictions: what rot does not explain.
        lives: the incarnations under which the node was seen.
        replica: what a start makes of all that is whole, after a repair if one is needed.
        next_batch: the number of the batch that follows.
    """

    directory: Directory
    needless: Sequence[Checkpoint]
    checkpoint: Checkpoint | None
    base: Base
    segments: Sequence[Segment]
    strays: Sequence[str]
    contradictions: Sequence[str]
    lives: IdentityHistory
    replica: Replica
    next_batch: int

    @property
    def flaws(self) -> list[Corruption]:
        """All damage, in the order of the log."""
        strays = [Corruption(self.directory.describe(name), 0, "no segment of this log") for name in self.strays]
        checkpoints = [*self.needless_here, *([self.checkpoint] if self.checkpoint else [])]
        first = [checkpoint.flaw for checkpoint in checkpoints if checkpoint.flaw]
        return first + [segment.flaw for segment in self.segments if segment.flaw] + strays

    @property
    def needless_here(self) -> list[Checkpoint]:
        """The damaged checkpoints that are not needed, and not moved aside yet."""
        return [found for found in self.needless if found.source == checkpoint_name(found.sequence)]

    @property
    def lossless(self) -> bool:
        """Whether a repair loses nothing: what is damaged is not needed, and the log is known to reach far enough."""
        here = self.needless_here
        return len(self.flaws) == len(here) and all(found.salvage and found.salvage.identity for found in here)

    @property
    def serves(self) -> bool:
        """Whether the log that begins here has all that the damaged checkpoints held, and goes on behind it."""
        covered = max((found.sequence for found in self.needless), default=0)
        told = all(found.salvage and found.salvage.knows_reach for found in self.needless)
        reached = reach_of(self.needless) if told else inf
        needed = (each for each in self.segments if each.sequence < covered or each.first < reached)
        whole = all(segment.flaw is None for segment in needed)
        base = self.checkpoint is None or self.checkpoint.flaw is None
        return base and whole and self.base.sequence + len(self.segments) > covered and not self.contradictions

    @property
    def torn(self) -> Corruption | None:
        """What an interrupted write left at the end of the live segment; the next start cuts it."""
        return self.segments[-1].torn if self.segments else None

    @property
    def counters(self) -> int:
        """How many counters there are, those that are detached included."""
        joined = self.replica.counters
        return len(joined) + sum(name not in joined for name in self.replica.detached.names())

    @property
    def incarnations(self) -> int:
        """How many incarnations are known, those that are detached included."""
        return len({*self.replica.counters.digest(), *self.replica.detached.incarnations()})

    @property
    def whole(self) -> int:
        """How many whole batches there are."""
        return sum(segment.whole for segment in self.segments)

    @property
    def lost(self) -> int:
        """How many batches can't be read."""
        return sum(flaw.lost for flaw in self.flaws)

    @property
    def size(self) -> int:
        """The size of all segments, in bytes."""
        return sum(segment.size for segment in self.segments)


def reach_of(damaged: Iterable[Checkpoint]) -> int:
    """How far the log had come, as far as any of some damaged checkpoints tells: the next batch's number then."""
    return max((found.salvage.next_batch for found in damaged if found.salvage), default=0)
