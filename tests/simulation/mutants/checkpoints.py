"""Planted bugs of checkpoints, and of where segments begin."""

from __future__ import annotations

import gc
from array import array
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import trio

from gcount.core.format.checkpoint import Capture
from gcount.core.format.log_records import Header
from gcount.core.state.columns import Frozen
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from gcount.storage import checkpoints
from gcount.storage.checkpoints import Checkpoints
from gcount.storage.disk import File
from gcount.storage.live_segment import UNFINISHED, LiveSegment
from gcount.storage.log import Base
from tests.simulation.mutants.planted import mutant


@mutant(Checkpoints, "_publish")
def segments_removed_before_the_rename_is_durable(publish: Any) -> Any:
    """The directory is not synced between the checkpoint's rename and the removal of what it covers."""
    return lambda self, name: self._disk.rename(name + UNFINISHED, name)


@mutant(checkpoints, "sync_or_fail")
def checkpoint_renamed_before_it_is_synced(sync_or_fail: Any) -> Any:
    """The new name is durable before the bytes are."""

    def change(sync: Any) -> None:
        if not isinstance(sync.__self__, File):
            sync_or_fail(sync)

    return change


@mutant(Capture, "__init__")
def staged_cells_captured(init: Any) -> Any:
    """A checkpoint has the cells of the batch that is still on its way to the disk."""

    def change(self: Capture, replica: Replica, live: Header) -> None:
        ahead = deepcopy(replica)
        # Nothing leads from a replica to what is on its way there, so this bug has to search for it.
        writers = [each for each in gc.get_objects() if isinstance(each, Writer) and each.replica is replica]
        for delta in (delta for each in writers if each.pending.batch for delta in each.pending.batch.deltas):
            if ahead.counters.fits(delta):
                ahead.counters.join(delta)
        init(self, ahead, live)

    return change


@mutant(Checkpoints, "make")
def versions_of_the_end_recorded(make: Any) -> Any:
    """The versions of a checkpoint are noted after its cells were captured, which takes a while."""

    class Stale(Frozen):
        old: array[int]

        def read(self, size: int) -> tuple[array[int], array[int], array[int]]:
            start, (indexes, cells, stamps) = self._next, super().read(size)
            for index in range(len(cells)):
                cells[index] = self.old[start + index] if start + index < len(self.old) else 0
            return indexes, cells, stamps

    async def change(self: Any, replica: Replica) -> None:
        columns = replica.counters._columns
        old = {incarnation: column.cells[:] for incarnation, column in columns.items()}
        await trio.sleep(0.05)

        def freeze() -> dict[bytes, Frozen]:
            frozen = dict[bytes, Frozen]()
            for incarnation, column in columns.items():
                frozen[incarnation] = column.frozen = stale = Stale(column)
                stale.old = old.get(incarnation, array("Q"))
            return frozen

        with patch.object(replica.counters, "freeze", freeze):
            await make(self, replica)

    return change


@mutant(Capture, "__init__")
def log_goes_on_where_the_capture_ended(init: Any) -> Any:
    """The checkpoint claims to cover the segment that is live when it starts."""

    def change(self: Capture, replica: Replica, live: Header) -> None:
        init(self, replica, Header(live.node, live.incarnation, live.sequence + 1, replica.next_batch))

    return change


@mutant(Checkpoints, "load")
def leftovers_removed_before_the_directory_is_synced(load: Any) -> Any:
    """A start trusts a rename that the former process may not have made durable."""

    async def change(self: Any, replica: Replica) -> Base:
        base: Base = await load(self, replica)
        with patch.object(self._disk, "sync_names", lambda: None):
            await self.tidy()
        return base

    return change


@mutant(LiveSegment, "put")
def segment_without_its_name_on_disk(put: Any) -> Any:
    """A segment is used before its directory is synced."""

    def change(self: Any, name: str, data: bytes) -> None:
        with patch.object(self._disk, "sync_names", lambda: None):
            put(self, name, data)

    return change
