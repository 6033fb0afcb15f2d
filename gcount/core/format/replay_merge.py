"""Merges many batches of a log into few, so that a replay looks up each counter once, however often it was counted."""

from collections.abc import Callable
from itertools import repeat
from operator import lt

import msgspec

from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.keyed import Keyed


class _Run(msgspec.Struct, gc=False):
    """Deltas of one incarnation that were merged into one."""

    after: int
    upto: int
    cells: dict[str, int]
    keyed: Keyed | None

    @property
    def size(self) -> int:
        """How many cells, entries and parts there are."""
        return len(self.cells) + (0 if self.keyed is None else len(self.keyed))

    def followed_by(self, delta: Delta) -> bool:
        """Whether a delta is newer, has no gap before it, and makes nothing smaller."""
        if not self.after <= delta.after <= self.upto < delta.upto:
            return False
        if any(map(lt, delta.cells.values(), map(self.cells.get, delta.cells, repeat(0)))):
            return False
        if self.keyed is None or delta.keyed is None:
            return True
        mine, none = self.keyed.entries, (0, 0)
        return not any(total < mine.get(key, none)[0] for key, (total, _) in delta.keyed.entries.items())

    def extend(self, delta: Delta) -> None:
        """Take a delta that follows."""
        self.cells.update(delta.cells)
        if delta.keyed is not None:
            # Entries up to the version that is known are here, or were covered. A join leaves them out, too.
            new = {key: entry for key, entry in delta.keyed.entries.items() if entry[1] > self.upto}
            self.keyed = self.keyed or Keyed()
            self.keyed.merge(Keyed(new, delta.keyed.settled))
        self.upto = delta.upto


class Coalescer:
    """Merges deltas of an incarnation that follow each other or overlap. Joining the result gives the same state.

    Cells only grow, so the later of two values is the maximum. The coalescer checks that nevertheless, because the log
    also holds what peers claimed. All merged cells get the stamp of the newest version, so a peer that knows an older
    version may later be sent more than it lacks. Entries of increments with ids keep their versions, as settlements
    rest on them.

    Args:
        apply: is called with each merged batch. Deltas of different incarnations may change places.
        options: how many cells, entries and parts are merged before they are applied.
    """

    def __init__(self, apply: Callable[[Batch], None], options: Options = DEFAULTS) -> None:
        self._apply = apply
        self._most_cells = options.merge_cells
        self._runs: dict[bytes, _Run] = {}
        self._number = 0  # of the newest batch taken since the last flush
        self._cells = 0

    def add(self, batch: Batch) -> None:
        """Take the next batch. It is applied at the latest by the next `flush`."""
        order = (batch.identity, batch.membership, batch.floor, batch.needs)
        if order != (None, None, None, None):  # these have an order, cells have none
            self.flush()
            self._apply(batch)
            return
        self._number = batch.number
        for delta in batch.deltas:
            run = self._runs.get(delta.incarnation)
            if run is not None and run.followed_by(delta):
                self._cells -= run.size
                run.extend(delta)
                self._cells += run.size
                continue
            if run is not None:  # the delta does not follow: a gap, a fork or a repetition, which joining will show
                self.flush()
                self._number = batch.number
            keyed = None if delta.keyed is None else delta.keyed.copy()
            self._runs[delta.incarnation] = _Run(delta.after, delta.upto, dict(delta.cells), keyed)
            self._cells += delta.size
        if self._cells > self._most_cells:
            self.flush()

    def flush(self) -> None:
        """Apply all batches that were taken."""
        if self._number:
            merged = [
                Delta(incarnation, run.after, run.upto, run.cells, run.keyed) for incarnation, run in self._runs.items()
            ]
            number, self._number, self._runs, self._cells = self._number, 0, {}, 0
            self._apply(Batch(number, merged))
