"""Planted bugs of links: an off-by-one, a floor that is forgotten, a transfer that is continued wrongly."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

from gcount.core.protocol.replication import DeltaSender
from gcount.core.protocol.transfer import Transfer
from gcount.core.state import columns
from gcount.core.state.columns import Column
from tests.simulation.mutants.planted import mutant

Pieces = Iterator[list[tuple[int, int]]]


@mutant(Column, "restore")
def floor_forgotten_after_a_start(restore: Any) -> Any:
    """After a start from a checkpoint, the order of changes is taken to reach back to the first change."""

    def change(self: Column, version: int, *words: array[int]) -> None:
        restore(self, version, *words)
        self._floor = 0

    return change


@mutant(Column, "newer")
def order_trusted_one_too_far(newer: Any) -> Any:
    """The order of changes is taken to reach one version further back than it does."""

    def change(self: Column, version: int) -> tuple[int, Pieces]:
        full = len(self._when) == self._when.maxlen
        answer: tuple[int, Pieces] = newer(self, version + (full and version == self._when[0] - 1))
        return answer

    return change


@mutant(columns, "_newer")
def change_of_the_next_version_left_out(newer: Any) -> Any:
    """A pass over a whole column leaves out what changed in the very next version."""

    def change(indexes: Any, cells: Any, stamps: Any, version: int) -> Pieces:
        pieces: Pieces = newer(indexes, cells, stamps, version and version + 1)
        return pieces

    return change


@mutant(DeltaSender, "acked")
def refused_push_gone_on_with(acked: Any) -> Any:
    """After a refusal only the last chunk is sent again."""

    def change(self: DeltaSender, ack: Any, now: float) -> None:
        transfer = self._transfer
        acked(self, ack, now)
        if ack.refused:
            self._transfer = transfer

    return change


@mutant(Transfer, "goes_on")
def chunk_under_way_held_to_be_there(goes_on: Any) -> Any:
    """The next link goes on after a chunk that was not acknowledged, though that chunk had not arrived."""

    def change(self: Transfer, digest: Any, kept: int) -> bool:
        on = bool(goes_on(self, digest, kept))
        if on and self._under_way is not None and not self._last:
            self.acked()
        return on

    return change
