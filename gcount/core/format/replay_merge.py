"""Many batches of a log as few: a replay looks up a counter in the state once, however often it was incremented."""

from collections.abc import Callable
from itertools import repeat
from operator import lt

import msgspec

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta


class _Run(msgspec.Struct, gc=False):
    """Deltas of one incarnation, as one."""

    after: int
    upto: int
    cells: dict[str, int]

    def followed_by(self, delta: Delta) -> bool:
        """Whether a delta is newer, with no gap before it, and lets no cell fall."""
        if not self.after <= delta.after <= self.upto < delta.upto:
            return False
        return not any(map(lt, delta.cells.values(), map(self.cells.get, delta.cells, repeat(0))))


class Coalescer:
    """Merges deltas of an incarnation that follow each other, or overlap, into one that brings to the same state.

    As cells only grow, the later of two values is the maximum. They are compared nevertheless: what a peer claimed is
    in the log, too. All merged cells are stamped with the newest version: a peer that knows an older one may later be
    told more than necessary.

    Args:
        apply: called with what came of the batches. Deltas of different incarnations may change places.
        options: how many cells are merged before they are applied.
    """

    def __init__(self, apply: Callable[[Batch], None], options: Options = DEFAULTS) -> None:
        self._apply = apply
        self._most_cells = options.merge_cells
        self._runs: dict[bytes, _Run] = {}
        self._number = 0  # of the newest batch taken since the last flush
        self._cells = 0

    def add(self, batch: Batch) -> None:
        """Take the next batch; it counts when `flush` has returned."""
        if batch.identity is not None or batch.membership is not None:
            self.flush()
            self._apply(batch)
            return
        self._number = batch.number
        for delta in batch.deltas:
            run = self._runs.get(delta.incarnation)
            if run is not None and run.followed_by(delta):
                before = len(run.cells)
                run.cells.update(delta.cells)
                run.upto = delta.upto
                self._cells += len(run.cells) - before
                continue
            if run is not None:
                self.flush()
                self._number = batch.number
            self._runs[delta.incarnation] = _Run(delta.after, delta.upto, dict(delta.cells))
            self._cells += len(delta.cells)
        if self._cells > self._most_cells:
            self.flush()

    def flush(self) -> None:
        """Apply all that was taken."""
        if self._number:
            merged = [Delta(incarnation, run.after, run.upto, run.cells) for incarnation, run in self._runs.items()]
            number, self._number, self._runs, self._cells = self._number, 0, {}, 0
            self._apply(Batch(number, merged))
