"""Unfinished transfers whose link was lost, kept for another link of the same life of their sender.

What is kept is as invisible as what a link buffers: nothing of it is joined, claimed or told before the last
parcel has come. It is bounded in number, in cells and in time.
"""

from collections.abc import Iterator
from typing import NamedTuple

from gcount.core.format.chunks import Assembly
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.counters import Delta

KEEP = 60.0  # seconds after the loss of its link in which a transfer can be gone on with


class _Entry(NamedTuple):
    node: bytes
    boot: bytes
    until: float
    assembly: Assembly


class SuspendedTransfers:
    """The transfers of all nodes whose links were lost.

    Args:
        max_cells: how many cells all of them together may have; the oldest ones go first.
        options: how many there may be.
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
        """How many cells the biggest one has."""
        return max((entry.assembly.cells for entry in self._entries.values()), default=0)

    def keep(self, node: bytes, boot: bytes, assembly: Assembly, now: float) -> None:
        """A link was lost in the midst of a transfer.

        Args:
            node: the sender.
            boot: its life.
            assembly: what came of its transfer.
            now: the current time, in seconds.
        """
        assert assembly.transfer, "only a transfer that another link can go on with is kept"
        self.expire(now)
        self._entries.pop(assembly.transfer, None)
        self._entries[assembly.transfer] = _Entry(node, boot, now + KEEP, assembly)
        while len(self._entries) > self._most:
            del self._entries[next(iter(self._entries))]
        self.shrink(self._max_cells)

    def shrink(self, cells: int) -> None:
        """Drop the oldest ones until there are no more than so many cells."""
        while self.cells > max(0, cells):
            del self._entries[next(iter(self._entries))]

    def take(self, node: bytes, boot: bytes, transfer: int, now: float) -> Assembly | None:
        """Another link goes on with a transfer; None when it is not kept, or another node or life began it."""
        self.expire(now)
        entry = self._entries.get(transfer)
        if entry is None or (entry.node, entry.boot) != (node, boot):
            return None
        del self._entries[transfer]
        return entry.assembly

    def met(self, node: bytes, boot: bytes) -> None:
        """A life of a node says hello: what its other lives began is never finished."""
        self._drop([transfer for transfer, one in self._entries.items() if one.node == node and one.boot != boot])

    def expire(self, now: float) -> None:
        """Drop what is older than `KEEP`."""
        if self._entries:
            self._drop([transfer for transfer, one in self._entries.items() if one.until <= now])

    def clear(self) -> None:
        """Drop all."""
        self._entries.clear()

    def _drop(self, transfers: list[int]) -> None:
        for transfer in transfers:
            del self._entries[transfer]
