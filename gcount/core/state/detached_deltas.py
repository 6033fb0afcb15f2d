"""What a repaired log holds behind a gap: whole deltas whose versions can't be claimed yet.

Rot takes batches out of the middle of a log. A delta from behind the gap is whole, but it says what changed after a
version that is no longer known: joined, it would let the digest run ahead of the cells (see `Counters`), and nobody
would ever offer what the gap held. So it is detached, durable where it is, in the log. It is joined as soon as
others have filled the gap.

Only a gap that nobody can fill may be *closed*: the incarnation's own node, when it is retired, commits what was
detached under a version that the incarnation never reached, so that everybody takes it, whatever they know of it. So
what is detached of another node's former life is given back to that node, which detaches it in turn.
"""

from collections.abc import Collection, Iterator

from gcount.core.state.counters import Counters, Delta
from gcount.core.state.identity import Identity


class DetachedDeltas:
    """Detached deltas, by incarnation; those that follow each other, or overlap, are one."""

    def __init__(self) -> None:
        self._runs: dict[bytes, list[Delta]] = {}  # each in order, with a gap before every one of them
        self._shown: set[bytes] = set()  # incarnations whose runs somebody may be reading

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __len__(self) -> int:
        return sum(len(runs) for runs in self._runs.values())

    @property
    def cells(self) -> int:
        """How many cells are detached; never more than the log's whole state."""
        return sum(len(run.cells) for runs in self._runs.values() for run in runs)

    def deltas(self) -> list[Delta]:
        """All that is detached, as it is now: whatever is kept later changes none of them."""
        return self.of(self._runs)

    def incarnations(self) -> Iterator[bytes]:
        """Whose deltas are detached."""
        return iter(tuple(self._runs))

    def names(self) -> set[str]:
        """The counters that are detached."""
        return {name for runs in self._runs.values() for run in runs for name in run.cells}

    def cell(self, name: str, incarnation: bytes) -> int:
        """The most that is known, detached, of what an incarnation has added to a counter."""
        return max((run.cells.get(name, 0) for run in self._runs.get(incarnation, ())), default=0)

    def of(self, incarnations: Collection[bytes]) -> list[Delta]:
        """What is detached of some incarnations, as it is now."""
        self._shown.update(self._runs.keys() & set(incarnations))
        return [run for incarnation, runs in self._runs.items() if incarnation in incarnations for run in runs]

    def holds(self, delta: Delta) -> bool:
        """Whether all of a delta is detached already."""
        return any(
            run.after <= delta.after
            and delta.upto <= run.upto
            and all(n <= run.cells.get(name, 0) for name, n in delta.cells.items())
            for run in self._runs.get(delta.incarnation, ())
        )

    def reaches(self, incarnation: bytes) -> int:
        """The newest version of an incarnation of which anything is detached; 0 when nothing is."""
        runs = self._runs.get(incarnation)
        return runs[-1].upto if runs else 0

    def keep(self, delta: Delta) -> None:
        """Keep a delta that does not fit."""
        runs = self._runs.setdefault(delta.incarnation, [])
        if delta.incarnation in self._shown:  # a checkpoint or a link is in the midst of them
            self._shown.discard(delta.incarnation)
            runs = [_copy(run) for run in runs]
        runs.append(_copy(delta))
        runs.sort(key=lambda run: run.after)
        whole = [runs[0]]
        for run in runs[1:]:
            if run.after <= whole[-1].upto:
                whole[-1] = _merged(whole[-1], run)
            else:
                whole.append(run)
        self._runs[delta.incarnation] = whole

    def absorb(self, counters: Counters, incarnation: bytes) -> None:
        """More is known of an incarnation: join what fits now."""
        runs = self._runs.get(incarnation, [])
        while runs and counters.fits(runs[0]):
            counters.join(runs.pop(0))
        # Of the next one only: a member may bring thousands of runs about, and then thousands of deltas before them.
        assert len(runs) < 2 or runs[0].upto < runs[1].after, "a gap is before each run"
        if not runs:
            self._runs.pop(incarnation, None)

    def closing(self, counters: Counters, identity: Identity, incarnation: bytes) -> Delta | None:
        """The delta that closes all gaps of an incarnation for good.

        It may be committed only when nobody else can know more of it than `counters` does.

        Returns:
            None when there is no gap, or when the incarnation is not a retired one of this very node: another writer
            may still commit under the versions that would be claimed.
        """
        runs = self._runs.get(incarnation)
        if not runs or incarnation not in identity.retired or incarnation == identity.incarnation:
            return None
        whole = runs[0]
        for run in runs[1:]:
            whole = _merged(whole, run, dict(whole.cells))
        return Delta(incarnation, counters.version(incarnation), whole.upto + 1, dict(whole.cells))


def _copy(delta: Delta) -> Delta:
    return Delta(delta.incarnation, delta.after, delta.upto, dict(delta.cells))


def _merged(one: Delta, other: Delta, cells: dict[str, int] | None = None) -> Delta:
    """Two deltas as one; the cells of the first are changed, unless others are given."""
    cells = one.cells if cells is None else cells
    for name, n in other.cells.items():
        cells[name] = max(n, cells.get(name, 0))
    return Delta(one.incarnation, one.after, max(one.upto, other.upto), cells)
