"""What nodes know of one counter, as the rounds of consistent reads compare it.

Cells are compared as they are. Increments with ids are many, so a node does not send all of them. It sends for each
column what its settled ids came to, and the newest version in which an id that is not settled changed. An entry that
another node lacks is one of these: either it is not settled, and its version is beyond what that node knows; or it is
settled, and a part is larger than that node's. Entries that are not settled are told, too, if they are few; see
told_ids.py.
"""

from collections.abc import Iterable
from typing import NamedTuple

from gcount.core.state.counters import Digest

Cells = Digest


class Told(NamedTuple):
    """What a node tells of a counter's ids that are not settled: those that another node lacks.

    Args:
        entries: by incarnation and id: the total, and the version that last raised it.
        needs: by settler, its version with its newest settlement that the node knows. Entries that these settlements
            cover are not told.
    """

    entries: dict[bytes, dict[str, tuple[int, int]]]
    needs: Digest


class Found(NamedTuple):
    """What a node has on disk of a counter.

    Args:
        cells: its cells by incarnation.
        parts: by column, what the settled ids came to.
        changed: by incarnation, at least the newest version in which an entry changed that is not settled.
        told: the entries up to these versions that the node lacks to which this is told; None when they are not told.
    """

    cells: Cells
    parts: Cells
    changed: Digest
    told: Told | None = None


class Own(NamedTuple):
    """What this node has on disk of a counter, and of all, at one instant.

    Args:
        found: what it has of the counter.
        digest: the version of every incarnation.
        keyed: what all ids of the counter come to, settled or not, those included that this node was only told.
        told: by incarnation, up to which version this node was told the counter's entries.
    """

    found: Found
    digest: Digest
    keyed: int
    told: Digest

    def reach(self, incarnation: bytes) -> int:
        """The version of an incarnation up to which `keyed` holds its entries."""
        return max(self.digest.get(incarnation, 0), self.told.get(incarnation, 0))

    def knows(self, other: Found) -> bool:
        """Whether `keyed` holds each increment with an id that another node has."""
        parts, changed = other.parts, other.changed
        if not parts and not changed:
            return True  # the usual case: there are no ids of the counter
        return covers(self.found.parts, parts) and all(n <= self.reach(holder) for holder, n in changed.items())


class Ahead:
    """What members told of ids in the last round that this node did not know. It is empty when there is nothing.

    Args:
        found: the answers with such ids.
        until: when the next round begins even if this node does not know them by then, in seconds.

    Attributes:
        until: the same; 0 when there is nothing to wait for.
    """

    def __init__(self, found: Iterable[Found] = (), until: float = 0.0) -> None:
        self._found = [*found]
        self.until = until if self._found else 0.0

    def __bool__(self) -> bool:
        return bool(self._found)

    def look(self, own: Own) -> None:
        """Drop what this node knows by now."""
        self._found = [found for found in self._found if not own.knows(found)]
        self.until = self.until if self._found else 0.0


def join_cells(one: Cells, other: Cells) -> Cells:
    """The pointwise maximum."""
    joined = dict(one)
    for incarnation, n in other.items():
        if n > joined.get(incarnation, 0):
            joined[incarnation] = n
    return joined


def covers(one: Digest, other: Digest) -> bool:
    """Whether each number of `one` is at least as great as that of `other`."""
    return all(n <= one.get(incarnation, 0) for incarnation, n in other.items())
