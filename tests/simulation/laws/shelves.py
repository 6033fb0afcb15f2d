"""The directories of a run, rebuilt from its journal: what each of them holds for certain, instant by instant.

What is missing is kept by name: the bits of a counter of powers of two, the sum of any other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict

from gcount.core.counters import Delta, Digest
from tests.simulation.history import PLAIN, Claimed, Forgot, History, Stored, Waited

Cells = dict[tuple[str, bytes], int]  # by name and incarnation


class Shelves:
    """All directories at one instant of the journal.

    Args:
        members: the addresses of those that are members all the time.
    """

    def __init__(self, members: frozenset[str] = frozenset()) -> None:
        self._members = members
        self.versions: defaultdict[str, Digest] = defaultdict(dict)  # by line
        self.cells: defaultdict[str, Cells] = defaultdict(dict)
        self.owners: dict[bytes, str] = {}  # the line that minted each incarnation: the first to have it on disk
        self.forgotten: set[bytes] = set()  # incarnations whose owner's directory was made to forget
        self.lost: Counter[str] = Counter()  # by name: what no directory holds any more
        self.unknown: Counter[str] = Counter()  # by name: what no directory of a member holds any more
        self.steps: defaultdict[tuple[bytes, int], dict[str, dict[str, int]]] = defaultdict(dict)
        """What exactly one version changed, by incarnation and version, as each line has it."""
        self._past: defaultdict[tuple[str, bytes], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))

    def put(self, entry: Stored | Forgot | Claimed | Waited) -> None:
        """Go on to the next entry."""
        match entry:
            case Stored():
                for delta in entry.deltas:
                    self._store(entry.line, delta)
            case Forgot():
                self._forget(entry.line)

    def owner_had(self, name: str, incarnation: bytes, version: int) -> int:
        """What the owner's cell was at a version."""
        versions, values = self._past[name, incarnation]
        at = bisect_right(versions, version)
        return values[at - 1] if at else 0

    def _store(self, line: str, delta: Delta) -> None:
        incarnation = delta.incarnation
        if delta.after > self.versions[line].get(incarnation, 0):
            return  # the log holds it, but nobody may join it
        owner = self.owners.setdefault(incarnation, line)
        if delta.upto <= self.versions[line].get(incarnation, 0):
            return
        self.versions[line][incarnation] = delta.upto
        if delta.upto == delta.after + 1:
            self.steps[incarnation, delta.upto][line] = delta.cells
        cells = self.cells[line]
        for name, n in delta.cells.items():
            cells[name, incarnation] = max(n, cells.get((name, incarnation), 0))
            if owner == line:
                versions, values = self._past[name, incarnation]
                versions.append(delta.upto)
                values.append(n)

    def _forget(self, line: str) -> None:
        gone = self.cells.pop(line, {})
        self.versions.pop(line, None)
        for step in self.steps.values():
            step.pop(line, None)
        self.forgotten |= {incarnation for incarnation, owner in self.owners.items() if owner == line}
        for (name, incarnation), n in gone.items():
            cell = name, incarnation
            everybody = [cells.get(cell, 0) for cells in self.cells.values()]
            members = [cells.get(cell, 0) for line, cells in self.cells.items() if host_of(line) in self._members]
            for missing, held in ((self.lost, everybody), (self.unknown, members)):
                kept = max(held, default=0)
                if name.startswith(PLAIN):
                    missing[name] += max(0, n - kept)
                else:
                    missing[name] |= n & ~kept


def host_of(line: str) -> str:
    """The address at which a line goes on."""
    return line.partition("#")[0]


def at_the_end(history: History) -> Shelves:
    """What is on the disks when the run is over, and what could not survive it."""
    shelves = Shelves(history.members)
    for entry in history.journal:
        shelves.put(entry)
    return shelves
