"""What nodes know of one counter, as the rounds of consistent reads compare it.

Cells are compared as they are. Increments with ids are many, so a node does not send them. It sends for each column
what its settled ids came to, and the newest version in which an id that is not settled changed. An entry that another
node lacks is one of these: either it is not settled, and its version is beyond that node's digest; or it is settled,
and a part is larger than that node's.
"""

from collections.abc import Iterable
from typing import NamedTuple

from gcount.core.state.counters import Digest

Cells = Digest


class Found(NamedTuple):
    """What a node has on disk of a counter.

    Args:
        cells: its cells by incarnation.
        parts: by column, what the settled ids came to.
        changed: by incarnation, at least the newest version in which an entry changed that is not settled.
    """

    cells: Cells
    parts: Cells
    changed: Digest


class Own(NamedTuple):
    """What this node has on disk of a counter, and of all, at one instant.

    Args:
        found: what it has of the counter.
        digest: the version of every incarnation.
        keyed: what all ids of the counter come to, settled or not.
    """

    found: Found
    digest: Digest
    keyed: int

    def knows(self, other: Found) -> bool:
        """Whether `keyed` holds each increment with an id that another node has."""
        parts, changed = other.parts, other.changed
        if not parts and not changed:
            return True  # the usual case: there are no ids of the counter
        return covers(self.found.parts, parts) and covers(self.digest, changed)


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
