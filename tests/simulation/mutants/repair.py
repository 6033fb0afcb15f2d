"""Planted bugs of repairs, of detached deltas, and of limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from gcount.cluster import gap_closer
from gcount.core.format.checkpoint import Capture
from gcount.core.format.checkpoint_salvage import CheckpointSalvage
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.detached_deltas import DetachedDeltas
from gcount.core.state.identity import Identity, IdentityHistory
from gcount.core.state.replica import Replica
from gcount.core.writes.pending import Pending
from gcount.storage.inspect import repair
from tests.simulation.mutants.planted import mutant

# What a repair keeps


@mutant(repair, "find_batches")
def repair_stops_at_the_first_damage(find: Any) -> Any:
    """A segment is written anew with the batches before its first damage only."""

    def change(data: bytes) -> Iterator[Batch]:
        due = None
        for batch in find(data):
            if due not in (None, batch.number):
                return
            yield batch
            due = batch.number + 1

    return change


@mutant(IdentityHistory, "reborn")
def repair_keeps_the_incarnation(reborn: Any) -> Any:
    """A repaired node goes on under the incarnation that it had, though its disk has forgotten."""

    def change(self: IdentityHistory, incarnation: bytes, node: bytes, _: bytes) -> Identity:
        return Identity(self.node or node, self.incarnation or incarnation, tuple(self._raised)[:-1])

    return change


@mutant(IdentityHistory, "found")
def repair_forgets_former_lives(met: Any) -> Any:
    """Only the newest incarnation that is found counts as the node's own."""

    def change(self: IdentityHistory, identity: Identity) -> None:
        self.node, self.incarnation = identity.node, identity.incarnation
        self._raised = {identity.incarnation: None}

    return change


@mutant(CheckpointSalvage, "_column")
def half_a_column_passes_for_the_whole(column: Any) -> Any:
    """The part of a checkpoint's column that can be read is taken for all of it."""

    def change(self: CheckpointSalvage, incarnation: bytes, *, whole: bool) -> Delta:
        delta: Delta = column(self, incarnation, whole=True)
        return delta

    return change


# Detached deltas


@mutant(Replica, "cells")
def detached_left_out_of_reads(cells: Any) -> Any:
    """Consistent reads do not count detached deltas of the node's own former incarnations."""
    return lambda self, name: self.counters.cells(name)


@mutant(Replica, "cells")
def detached_of_others_counts(cells: Any) -> Any:
    """Consistent reads also count detached deltas of other nodes' incarnations."""

    def change(self: Replica, name: str) -> dict[bytes, int]:
        found = self.counters.cells(name)
        for who in self.detached.incarnations():
            if n := max(self.detached.cell(name, who), found.get(who, 0)):
                found[who] = n
        return found

    return change


@mutant(Capture, "__init__")
def detached_left_out_of_checkpoints(init: Any) -> Any:
    """A checkpoint does not have the detached deltas."""

    def change(self: Capture, *args: Any) -> None:
        init(self, *args)
        self._detached = []

    return change


@mutant(DetachedDeltas, "absorb")
def detached_dropped_when_its_gap_is_filled(absorb: Any) -> Any:
    """When a gap is filled, the detached deltas behind it are dropped, as if others sent them again."""

    def change(self: DetachedDeltas, counters: Counters, incarnation: bytes) -> None:
        runs = self._runs.get(incarnation, [])
        while runs and counters.fits(runs[0]):
            runs.pop(0)
        if not runs:
            self._runs.pop(incarnation, None)

    return change


# Closing a gap


@mutant(DetachedDeltas, "closing")
def gap_closed_at_the_highest_version(close: Any) -> Any:
    """The delta that closes a gap claims the highest detached version, not the one above it."""

    def change(self: DetachedDeltas, *args: Any) -> Delta | None:
        delta = close(self, *args)
        return delta and Delta(delta.incarnation, delta.after, delta.upto - 1, delta.cells)

    return change


@mutant(DetachedDeltas, "closing")
def only_the_first_gap_closed(close: Any) -> Any:
    """The delta that closes all gaps of an incarnation leaves out what is behind the second gap."""

    def change(self: DetachedDeltas, *args: Any) -> Delta | None:
        delta = close(self, *args)
        return delta and Delta(delta.incarnation, delta.after, delta.upto, dict(self._runs[delta.incarnation][0].cells))

    return change


@mutant(gap_closer, "_at_most_own")
def gap_closed_over_what_a_member_has(at_most: Any) -> Any:
    """A gap is closed though a member has said that it knows more."""
    return lambda local, peers, incarnation: True


@mutant(gap_closer, "_close")
def gaps_never_closed(close: Any) -> Any:
    """A gap that no member can fill is never closed."""

    async def change(local: Any, peers: Any) -> None:
        return

    return change


# Limits


@mutant(Pending, "_allows_name")
def one_counter_too_many(allows_name: Any) -> Any:
    """The limit of counters is checked one counter too late."""

    def change(self: Pending) -> bool:
        with patch.object(self._replica, "max_counters", self._replica.max_counters + 1):
            return bool(allows_name(self))

    return change


@mutant(Pending, "_allows_name")
def known_counters_refused_at_the_limit(allows_name: Any) -> Any:
    """Names that wait for the disk count twice."""

    def change(self: Pending) -> bool:
        waiting = (*self.staging.amounts, *self.sealed.amounts)
        return len(self._replica.counters) + len(waiting) < self._replica.max_counters

    return change
