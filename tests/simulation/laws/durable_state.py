"""The durable state of all directories of a run, rebuilt from its journal, instant by instant.

The cells of an incarnation in a directory are *joined*, up to a version, or *detached*: behind a gap that rot has made.
Detached cells of the node's own former incarnations count in consistent reads. Those of other nodes count nowhere.

Missing increments are kept by name: as bits for a counter of powers of two, as a sum for any other counter.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from gcount.core.state.batch import Needs
from gcount.core.state.counters import Delta, Digest
from gcount.core.state.ids import split
from gcount.core.state.keyed import Keyed
from tests.simulation.campaign.history import PLAIN, Entry, Forgot, Forked, History, Repaired, Stored
from tests.simulation.laws.line_ids import LineIds, units_of

Cells = dict[tuple[str, bytes], int]  # by name and incarnation

UNTOLD = False
"""Whether no member tells a node which deltas of the node's incarnations are detached at that member.

The node may then close a gap without them, or go on from before them with an older copy of its directory. So detached
deltas are lost, or one incarnation has two histories. It is False, because members do tell it.
"""


class DurableState:
    """The state of all directories at one instant of the journal.

    Args:
        members: the addresses of the nodes that are members all the time.
    """

    def __init__(self, members: frozenset[str] = frozenset()) -> None:
        self._members = members
        self.versions: defaultdict[str, Digest] = defaultdict(dict)  # by line
        self.cells: defaultdict[str, Cells] = defaultdict(dict)
        self.detached: defaultdict[str, dict[bytes, list[Delta]]] = defaultdict(dict)
        self.ids: defaultdict[str, LineIds] = defaultdict(LineIds)
        self.numbers: dict[int, int] = {}  # the numbers of the batches that deltas came with, by the delta's `id`
        self.dropped: list[Delta] = []  # detached deltas: the last entry claims their versions without their cells
        self.lives: defaultdict[str, set[bytes]] = defaultdict(set)  # by line: the incarnations of its node
        self.owners: dict[bytes, str] = {}  # the line that began each incarnation: the first to have it on disk
        self.forgotten: set[bytes] = set()  # incarnations whose owner's directory was made to forget
        self.heirs: dict[bytes, str] = {}  # incarnations that a repair has retired, with the line that goes on
        self.closed: set[bytes] = set()  # incarnations whose gaps were closed
        self.forked: dict[bytes, tuple[str, str]] = {}  # incarnations with two writers, and their lines
        self.lost: Counter[str] = Counter()  # by name: increments that no directory has any more
        self.unknown: Counter[str] = Counter()  # by name: increments that no directory of a member has any more
        self.steps: defaultdict[tuple[bytes, int], dict[str, dict[str, int]]] = defaultdict(dict)
        """By incarnation and version, the cells that this one version changed, as each line has them."""
        self.taken: defaultdict[bytes, list[tuple[int, str, int]]] = defaultdict(list)
        """By incarnation, the ids that its node took: the version, the counter and the total."""
        self.names: defaultdict[bytes, set[str]] = defaultdict(set)  # the counters of each incarnation
        self._past: defaultdict[tuple[str, bytes], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        self._newest: dict[bytes, int] = {}  # the highest version that the owner ever had

    def put(self, entry: Entry) -> None:
        """Go on to the next entry."""
        self.dropped = []
        match entry:
            case Stored():
                if entry.identity is not None:
                    self.lives[entry.line] |= {entry.identity.incarnation, *entry.identity.retired}
                for delta in self._joinable(entry.line, entry.deltas, entry.needs):
                    self.numbers[id(delta)] = entry.number
                    self._store(entry.line, delta)
                if entry.floor is not None:
                    self.ids[entry.line].floor = max(entry.floor, self.ids[entry.line].floor)
            case Forgot():
                self._forget(entry.line)
            case Repaired():
                self._repair(entry)
            case Forked(incarnation=incarnation, line=line, copy=copy):
                self.forked[incarnation] = line, copy
                if host_of(line) in self._members:
                    self._members = self._members - {host_of(line)} | {host_of(copy)}

    def judged(self, incarnation: bytes) -> bool:
        """Whether an incarnation has one history: one writer, whose directory was never made to forget."""
        return incarnation in self.owners and incarnation not in self.forgotten and incarnation not in self.forked

    def owner_had(self, name: str, incarnation: bytes, version: int) -> int:
        """What the owner's cell was at a version."""
        versions, values = self._past[name, incarnation]
        at = bisect_right(versions, version)
        return values[at - 1] if at else 0

    def newest(self, incarnation: bytes) -> int:
        """The highest version that the owner ever had on disk, or claimed when it closed a gap."""
        return self._newest.get(incarnation, 0)

    def counted(self, line: str, name: str, incarnation: bytes) -> int:
        """The value of a cell for a consistent read: joined, or detached of the node's own incarnations."""
        own = incarnation in self.lives[line]
        return self.held(line, name, incarnation) if own else self.cells[line].get((name, incarnation), 0)

    def held(self, line: str, name: str, incarnation: bytes) -> int:
        """The value of a cell in a directory, joined or detached."""
        detached = (delta.cells.get(name, 0) for delta in self.detached[line].get(incarnation, ()))
        return max(self.cells[line].get((name, incarnation), 0), *detached, 0)

    def detached_before(self, line: str, name: str, incarnation: bytes, batch: int) -> int:
        """The value of a cell in a directory's detached deltas that came before a batch."""
        runs = self.detached[line].get(incarnation, ())
        return max((run.cells.get(name, 0) for run in runs if self.numbers.get(id(run), 0) < batch), default=0)

    def waiting(self) -> Counter[str]:
        """By name, what is detached somewhere and joined nowhere."""
        waiting: Counter[str] = Counter()
        detached = [run for runs in self.detached.values() for each in runs.values() for run in each]
        for name, who in {(name, run.incarnation) for run in detached for name in run.cells}:
            joined = _most(line.get((name, who), 0) for line in self.cells.values())
            _add(waiting, name, max(self.held(line, name, who) for line in self._lines()), joined)
        for name, units in {(name, units) for run in detached for name, units in units_of(run).items()}:
            waiting[name] |= units & ~self._known_units(self.ids, name)
        return waiting

    def closes(self, line: str, delta: Delta) -> bool:
        """Whether a delta is the one that may close the gaps of its incarnation there, now.

        It has all that is detached, and only that, as one version above. Only the parts of its settlements may be
        greater: what a settlement in the gap had added up is added up anew (see `LineIds.may_close`).
        """
        who = delta.incarnation
        runs = self.detached[line].get(who, [])
        if not runs or who not in self.lives[line]:
            return False
        cells: dict[str, int] = {}
        keyed = Keyed()
        for run in runs:
            for name, n in run.cells.items():
                cells[name] = max(n, cells.get(name, 0))
            keyed.merge(run.keyed or Keyed())
        after, upto = self.versions[line].get(who, 0), max(run.upto for run in runs) + 1
        same = (delta.after, delta.upto, delta.cells) == (after, upto, cells)
        return same and self.ids[line].may_close(who, keyed, delta.keyed or Keyed())

    def _lines(self) -> list[str]:
        return list({**self.cells, **self.detached})

    def _joinable(self, line: str, deltas: Sequence[Delta], needs: Needs | None) -> Sequence[Delta]:
        """The deltas of a batch. What lacks a settlement there is behind a gap that reaches up to its last version."""
        if needs is None:
            return deltas
        apart = set[bytes]()
        for _ in range(len(needs.columns) + 1):
            known = dict(self.versions[line])
            for delta in deltas:
                if delta.incarnation not in apart and delta.after <= known.get(delta.incarnation, 0):
                    known[delta.incarnation] = max(delta.upto, known.get(delta.incarnation, 0))
            gone = {who for who, version in needs.versions.items() if known.get(who, 0) < version}
            apart |= {column for column in needs.columns if gone - {column}}
        rest = [Delta(delta.incarnation, delta.upto, delta.upto, delta.cells, delta.keyed) for delta in deltas]
        return [left if left.incarnation in apart else one for one, left in zip(deltas, rest, strict=True)]

    def _store(self, line: str, delta: Delta) -> None:
        incarnation = delta.incarnation
        known = self.versions[line].get(incarnation, 0)
        if delta.after > known:
            self.detached[line].setdefault(incarnation, []).append(delta)
            return
        owner = self.owners.setdefault(incarnation, line)
        if delta.upto <= known:
            return
        if UNTOLD and incarnation in self.forgotten and host_of(owner) == host_of(line):
            self._fork_if_detached(line, delta)
        closes = self.closes(line, delta)
        self._join(line, delta)
        if owner == line:
            self._remember(line, delta)
        elif closes and not self._is_true(line, delta):
            self._close(line, delta)
        self._absorb(line, incarnation)

    def _fork_if_detached(self, line: str, delta: Delta) -> None:
        """Note a fork: an owner that was made to forget makes a version that is detached in another directory."""
        who = delta.incarnation
        detached = [run for runs in self.detached.values() for run in runs.get(who, ()) if run.upto >= delta.upto]
        if delta.upto != delta.after + 1 or not detached:
            return
        self.forked[who] = line, line
        for run in detached:
            for name, n in run.cells.items():
                _add(self.lost, name, n, self.cells[line].get((name, who), 0))

    def _join(self, line: str, delta: Delta) -> None:
        incarnation, cells = delta.incarnation, self.cells[line]
        self.versions[line][incarnation] = delta.upto
        self.ids[line].join(delta)
        if delta.upto == delta.after + 1:
            self.steps[incarnation, delta.upto][line] = delta.cells
        for name, n in delta.cells.items():
            old = cells.get((name, incarnation), 0)
            cells[name, incarnation] = max(n, old)
            if line in self.forked.get(incarnation, ()):
                for missing in (self.lost, self.unknown):  # one of the two histories may hide the other
                    _add(missing, name, n, old)

    def _absorb(self, line: str, incarnation: bytes) -> None:
        """Join the detached deltas that fit now. Those with versions that are known already must add nothing."""
        runs = self.detached[line].get(incarnation, [])
        while fitting := [run for run in runs if run.after <= self.versions[line][incarnation]]:
            for run in fitting:
                runs.remove(run)
                if run.upto > self.versions[line][incarnation]:
                    self._join(line, run)
                elif incarnation in self.forked:
                    pass
                elif UNTOLD and incarnation in self.closed:
                    for name, n in run.cells.items():
                        _add(self.lost, name, n, self.cells[line].get((name, incarnation), 0))
                else:
                    self.dropped.append(run)
        if not runs:
            self.detached[line].pop(incarnation, None)

    def _remember(self, line: str, delta: Delta) -> None:
        self._newest[delta.incarnation] = delta.upto
        if delta.keyed is not None:
            for key, (total, version) in delta.keyed.entries.items():
                self.taken[delta.incarnation].append((version, split(key)[1], total))
        self.names[delta.incarnation].update(delta.cells)
        for name, n in delta.cells.items():
            versions, values = self._past[name, delta.incarnation]
            versions.append(delta.upto)
            values.append(n)

    def _is_true(self, line: str, delta: Delta) -> bool:
        """Whether a delta has the owner's values at its version, and all cells that changed since the one before it.

        The directory that it was joined in also has all ids that the owner took since then.
        """
        who, units = delta.incarnation, self.ids[line].units
        taken = [(name, total) for version, name, total in self.taken[who] if delta.after < version <= delta.upto]
        cells = all(
            delta.cells.get(name, self.owner_had(name, who, delta.after)) == self.owner_had(name, who, delta.upto)
            for name in self.names[who]
        )
        return delta.upto <= self.newest(who) and cells and not any(n & ~units.get(name, 0) for name, n in taken)

    def _close(self, line: str, delta: Delta) -> None:
        """Note a closed gap: after the version before the gap there is one more, and the owner's cells are those."""
        who = delta.incarnation
        self.closed.add(who)
        self._newest[who] = delta.upto
        for name in self.names[who]:
            versions, values = self._past[name, who]
            at = bisect_right(versions, delta.after)
            versions[at:], values[at:] = [delta.upto], [self.cells[line].get((name, who), 0)]

    def _repair(self, entry: Repaired) -> None:
        line = entry.new_line
        if entry.lossless:
            return  # all goes on as before
        self.lives[line] = {entry.identity.incarnation, *entry.identity.retired}
        for batch in entry.kept:
            for delta in self._joinable(line, batch.deltas, batch.needs):
                self._store(line, delta)
        self.heirs = {who: line if at == entry.line else at for who, at in self.heirs.items()}
        self.heirs |= {who: line for who, owner in self.owners.items() if owner == entry.line}
        self._miss(entry.line)

    def _forget(self, line: str) -> None:
        gone = {who for who, owner in self.owners.items() if owner == line}
        self.forgotten |= gone | {who for who, at in self.heirs.items() if at == line}
        self._miss(line)

    def _miss(self, line: str) -> None:
        """Note the end of a line: what no other directory has, and what no other member has, is missing now."""
        runs = self.detached[line]
        gone = set(self.cells[line]) | {(name, who) for who, each in runs.items() for run in each for name in run.cells}
        held = {cell: (self.held(line, *cell), self.counted(line, *cell)) for cell in gone}
        units = [self.ids[line].units, *(units_of(run) for each in runs.values() for run in each)]
        for kept in (self.cells, self.versions, self.detached, self.lives, self.ids):
            kept.pop(line, None)
        for step in self.steps.values():
            step.pop(line, None)
        lines = self._lines()
        members = [other for other in lines if host_of(other) in self._members]
        for cell, (any_, counted) in held.items():
            _add(self.lost, cell[0], any_, _most(self.held(other, *cell) for other in lines))
            _add(self.unknown, cell[0], counted, _most(self.counted(other, *cell) for other in members))
        for name, n in [item for each in units for item in each.items()]:
            self.lost[name] |= n & ~self._known_units(lines, name)
            self.unknown[name] |= n & ~self._known_units(members, name)

    def units(self, line: str, name: str) -> int:
        """All units of a counter's ids in a directory, joined or detached."""
        known = self.ids[line].units.get(name, 0)
        for run in [run for each in self.detached[line].values() for run in each]:
            known |= units_of(run).get(name, 0)
        return known

    def _known_units(self, lines: Iterable[str], name: str) -> int:
        """All units of a counter's ids that some lines know."""
        known = 0
        for line in lines:
            known |= self.ids[line].units.get(name, 0)
        return known


def _most(values: Iterable[int]) -> int:
    return max(values, default=0)


def _add(missing: Counter[str], name: str, n: int, kept: int) -> None:
    """Add to the missing increments what a cell has beyond what is kept."""
    if name.startswith(PLAIN):
        missing[name] += max(0, n - kept)
    else:
        missing[name] |= n & ~kept


def host_of(line: str) -> str:
    """The address at which a line goes on."""
    return line.partition("#")[0]


def at_the_end(history: History) -> DurableState:
    """The state of the disks when the run is over, and what could not survive it."""
    state = DurableState(history.members)
    for entry in history.journal:
        state.put(entry)
    return state
