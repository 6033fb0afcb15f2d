"""Many batches of a log as few: a replay then looks up a counter in the state once, however often it was incremented."""

from collections.abc import Callable
from typing import Final

from gcount.core.counters import Delta
from gcount.core.records import Batch

MOST_CELLS: Final = 131_072  # merged before they are applied; some 50 ms of work, and 20 MB


class Coalescer:
    """Merges deltas of an incarnation that follow each other, or overlap, into one that brings to the same state.

    Cells only grow, so the later of two values is the maximum. All merged cells are stamped with the newest version:
    somebody who knows an older one may later be told more than necessary.

    Args:
        apply: called with what came of the batches, in an order that makes no difference to theirs.
    """

    def __init__(self, apply: Callable[[Batch], None]) -> None:
        self._apply = apply
        self._merged: dict[bytes, Delta] = {}
        self._number = 0
        self._cells = 0

    def add(self, batch: Batch) -> None:
        """Take the next batch; it counts when `flush` has returned."""
        if batch.identity is not None or batch.membership is not None:
            self.flush()
            self._apply(batch)
            return
        self._number = batch.number
        for delta in batch.deltas:
            incarnation = delta.incarnation
            before = self._merged.get(incarnation)
            if before is not None and before.after <= delta.after <= before.upto < delta.upto:
                cells = before.cells
                self._cells -= len(cells)
                cells.update(delta.cells)
                self._cells += len(cells)
                self._merged[incarnation] = Delta(incarnation, before.after, delta.upto, cells)
                continue
            if before is not None:
                self.flush()  # it does not follow: it tells of something older, or leaves a gap
            self._cells += len(delta.cells)
            self._merged[incarnation] = Delta(incarnation, delta.after, delta.upto, dict(delta.cells))
        if self._cells > MOST_CELLS:
            self.flush()

    def flush(self) -> None:
        """Apply all that was taken."""
        if self._merged:
            merged, self._merged, self._cells = list(self._merged.values()), {}, 0
            self._apply(Batch(self._number, merged))
