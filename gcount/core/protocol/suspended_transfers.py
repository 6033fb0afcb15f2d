"""Suspended transfers: unfinished ones whose link was lost, kept for another link of the same process of the sender.

They are as invisible as what a link buffers: nothing of them is joined, claimed or sent to anybody before the last
chunk has come. They are bounded in number, in cells and in time.
"""

from collections.abc import Iterator
from typing import NamedTuple

from gcount.core.format.chunks import Assembly
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.counters import Delta

KEEP = 60.0  # seconds for which a transfer is kept after its link was lost


class _Entry(NamedTuple):
    node: bytes
    start_id: bytes
    until: float  # in seconds
    assembly: Assembly


class SuspendedTransfers:
    """The suspended transfers from all nodes.

    Args:
        max_cells: how many cells all of them together may have; above that the oldest ones are dropped.
        options: how many transfers there may be.
    """

    def __init__(self, max_cells: int, options: Options = DEFAULTS) -> None:
        self._max_cells = max_cells
        self._most = options.max_suspended
        self._entries: dict[int, _Entry] = {}  # by transfer, the oldest first

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Delta]:
        return (delta for entry in self._entries.values() for delta in entry.assembly)

    @property
    def cells(self) -> int:
        """How many cells are kept."""
        return sum(entry.assembly.cells for entry in self._entries.values())

    @property
    def biggest(self) -> int:
        """How many cells the largest transfer has."""
        return max((entry.assembly.cells for entry in self._entries.values()), default=0)

    def keep(self, node: bytes, start_id: bytes, assembly: Assembly, now: float) -> None:
        """Keep what came of a transfer whose link was lost.

        Args:
            node: the id of the sender.
            start_id: the id of the sender's start.
            assembly: what came of the transfer.
            now: the current time, in seconds.
        """
        assert assembly.transfer, "only a transfer that another link can go on with is kept"
        self.expire(now)
        self._entries.pop(assembly.transfer, None)  # so that the entry below is the newest in the order of the dict
        self._entries[assembly.transfer] = _Entry(node, start_id, now + KEEP, assembly)
        while len(self._entries) > self._most:
            del self._entries[next(iter(self._entries))]
        self.shrink(self._max_cells)

    def shrink(self, cells: int) -> None:
        """Drop the oldest transfers until there are no more than so many cells."""
        while self.cells > max(0, cells):
            del self._entries[next(iter(self._entries))]

    def take(self, node: bytes, start_id: bytes, transfer: int, now: float) -> Assembly | None:
        """What came of a transfer, for another link that continues it.

        Returns:
            None when the transfer is not kept, or another process began it: that one's state may have been different.
        """
        self.expire(now)
        entry = self._entries.get(transfer)
        if entry is None or (entry.node, entry.start_id) != (node, start_id):
            return None
        del self._entries[transfer]
        return entry.assembly

    def said_hello(self, node: bytes, start_id: bytes) -> None:
        """Drop what other starts of a node began, as this one said hello: nothing else will finish it."""
        self._drop([key for key, one in self._entries.items() if one.node == node and one.start_id != start_id])

    def expire(self, now: float) -> None:
        """Drop the transfers whose links were lost more than `KEEP` seconds ago."""
        if self._entries:
            self._drop([transfer for transfer, one in self._entries.items() if one.until <= now])

    def clear(self) -> None:
        """Drop all transfers."""
        self._entries.clear()

    def _drop(self, transfers: list[int]) -> None:
        for transfer in transfers:
            del self._entries[transfer]
