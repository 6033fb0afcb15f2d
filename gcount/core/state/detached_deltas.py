"""Detached deltas: whole deltas of a repaired log behind a gap, whose versions can't be claimed yet.

Rot takes batches out of the middle of a log. A delta behind the gap is whole, but it says what changed after a version
that this node no longer knows. If it were joined, the digest would run ahead of the cells (see `Counters`), and no peer
would ever offer what the gap held. So the delta is detached. It stays durable in the log, and it is joined as soon as
peers have filled the gap.

A gap that no node can fill is *closed*. Only the node that owns the incarnation may do so, and only when the
incarnation is retired. It commits the detached deltas under a version that the incarnation never reached, so that every
node takes them, whatever it knows of the incarnation. For that purpose a node gives back the detached deltas of another
node's former incarnation to that node, which detaches them in turn.
"""

from collections.abc import Collection, Iterator

from gcount.core.state.counters import Counters, Delta
from gcount.core.state.identity import Identity
from gcount.core.state.ids import split, time_of
from gcount.core.state.keyed import Keyed


class DetachedDeltas:
    """Detached deltas by incarnation. Deltas that follow each other or overlap are merged into one *run*.

    Attributes:
        ids_from: by incarnation, the time of the oldest id in its runs, in seconds since 1970; 0 if there are
            settlements: what they cover may not be settled again before they are known. It has no incarnations without
            ids.
    """

    def __init__(self) -> None:
        self._runs: dict[bytes, list[Delta]] = {}  # in order of versions, with a gap before each run
        self._shown: set[bytes] = set()  # incarnations whose runs were handed out, so that they must not change
        self.ids_from: dict[bytes, int] = {}
        self._starts: dict[bytes, dict[int, int]] = {}  # the same by incarnation for each run, by what it is `after`

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __len__(self) -> int:
        return sum(len(runs) for runs in self._runs.values())

    @property
    def cells(self) -> int:
        """How many cells, entries and parts are detached; never more than the log holds."""
        return sum(run.size for runs in self._runs.values() for run in runs)

    def deltas(self) -> list[Delta]:
        """All detached deltas as they are now. Later calls of `keep` do not change them."""
        return self.of(self._runs)

    def incarnations(self) -> Iterator[bytes]:
        """The incarnations of which anything is detached."""
        return iter(tuple(self._runs))

    def names(self) -> set[str]:
        """The names of the counters in detached deltas."""
        runs = [run for runs in self._runs.values() for run in runs]
        keyed = {name for run in runs if run.keyed is not None for name in run.keyed.names()}
        return keyed.union(*(run.cells for run in runs))

    def cell(self, name: str, incarnation: bytes) -> int:
        """The greatest cell of an incarnation and a counter in any detached delta; 0 when there is none."""
        return max((run.cells.get(name, 0) for run in self._runs.get(incarnation, ())), default=0)

    def has_ids(self, name: str, incarnation: bytes) -> bool:
        """Whether an incarnation's detached deltas have entries or settled parts of a counter."""
        keyed = [run.keyed for run in self._runs.get(incarnation, ()) if run.keyed is not None]
        return any(
            any(split(key)[1] == name for key in one.entries)
            or any(name in settlement.parts for settlement in one.settled.values())
            for one in keyed
        )

    def of(self, incarnations: Collection[bytes]) -> list[Delta]:
        """The detached deltas of some incarnations, as they are now."""
        self._shown.update(self._runs.keys() & set(incarnations))
        return [run for incarnation, runs in self._runs.items() if incarnation in incarnations for run in runs]

    def contains(self, delta: Delta) -> bool:
        """Whether all of a delta is detached already."""
        return any(
            run.after <= delta.after
            and delta.upto <= run.upto
            and all(n <= run.cells.get(name, 0) for name, n in delta.cells.items())
            and (delta.keyed is None or (run.keyed is not None and run.keyed.contains(delta.keyed)))
            for run in self._runs.get(delta.incarnation, ())
        )

    def reaches(self, incarnation: bytes) -> int:
        """The newest version of an incarnation of which anything is detached; 0 when nothing is."""
        runs = self._runs.get(incarnation)
        return runs[-1].upto if runs else 0

    def keep(self, delta: Delta) -> None:
        """Detach a delta that begins after what is known of its incarnation."""
        runs = self._runs.setdefault(delta.incarnation, [])
        if delta.incarnation in self._shown:  # a checkpoint or a link may be reading them: change copies
            self._shown.discard(delta.incarnation)
            runs = [run.copy() for run in runs]
        runs.append(delta.copy())
        runs.sort(key=lambda run: run.after)
        whole, starts = [runs[0]], self._starts.setdefault(delta.incarnation, {})
        if delta.keyed is not None and delta.keyed:
            _lower(starts, delta.after, _ids_from(delta.keyed))
        for run in runs[1:]:
            # Without a gap between them, two deltas say together what changed between the first and the last version.
            if run.after <= whole[-1].upto:
                whole[-1] = _merged(whole[-1], run)
                if run.after in starts:
                    _lower(starts, whole[-1].after, starts.pop(run.after))
            else:
                whole.append(run)
        self._runs[delta.incarnation] = whole
        if starts:
            self.ids_from[delta.incarnation] = min(starts.values())

    def absorb(self, counters: Counters, incarnation: bytes) -> None:
        """Join the deltas of an incarnation that fit now, after more of it became known."""
        runs, starts = self._runs.get(incarnation, []), self._starts.get(incarnation, {})
        while runs and counters.fits(runs[0]):
            starts.pop(runs[0].after, None)
            counters.join(runs.pop(0))
        # Of the next one only: a member may bring thousands of runs about, and then thousands of deltas before them.
        assert len(runs) < 2 or runs[0].upto < runs[1].after, "a gap is before each run"
        if not runs:
            self._runs.pop(incarnation, None)
            self._starts.pop(incarnation, None)
        self.ids_from.pop(incarnation, None)
        if starts:
            self.ids_from[incarnation] = min(starts.values())

    def closing(self, counters: Counters, identity: Identity, incarnation: bytes) -> Delta | None:
        """The delta that closes all gaps of an incarnation for good.

        It may be committed only when no other node can know more of the incarnation than `counters` does.

        Returns:
            None when there is no gap, or when the incarnation is not a retired one of this very node: then another
            node may still commit under the versions that the delta would claim.
        """
        runs = self._runs.get(incarnation)
        if not runs or incarnation not in identity.retired or incarnation == identity.incarnation:
            return None
        whole = runs[0].copy()
        for run in runs[1:]:
            whole = _merged(whole, run)
        # One version above all that the incarnation reached: a node that knows any of them still takes the delta.
        return Delta(incarnation, counters.version(incarnation), whole.upto + 1, whole.cells, whole.keyed)


def remainder(delta: Delta) -> Delta:
    """What is left of a delta of which something is lost, or rests on something that is lost.

    It begins at its own last version. So it is behind a gap for each node that knows less, and is detached there.
    """
    return Delta(delta.incarnation, delta.upto, delta.upto, delta.cells, delta.keyed)


def _ids_from(keyed: Keyed) -> int:
    """The time of the oldest id, in seconds since 1970; 0 if there are settlements."""
    times = [0] if keyed.settled else [time_of(split(key)[0]) for key in keyed.entries]
    return min(time for time in times if time is not None)


def _lower(starts: dict[int, int], after: int, start: int) -> None:
    starts[after] = min(start, starts.get(after, start))


def _merged(one: Delta, other: Delta) -> Delta:
    """Two deltas as one. What the second one has is added to the cells and the rest of the first."""
    for name, n in other.cells.items():
        one.cells[name] = max(n, one.cells.get(name, 0))
    keyed = one.keyed
    if other.keyed is not None:
        keyed = keyed or Keyed()
        keyed.merge(other.keyed)
    return Delta(one.incarnation, one.after, max(one.upto, other.upto), one.cells, keyed)
