"""Planted bugs of gaps: how they are found, what is kept behind them and given back, how they are filled and closed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from gcount.cluster import gap_closer
from gcount.cluster.links.peers import Peers
from gcount.core.format.checkpoint_salvage import CheckpointSalvage
from gcount.core.protocol.replication import DeltaSender
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.detached_deltas import DetachedDeltas
from gcount.core.state.identity import IdentityHistory
from gcount.core.state.replica import Replica
from gcount.storage.inspect.survey import Survey
from tests.simulation.mutants.planted import mutant

# Finding gaps


@mutant(CheckpointSalvage, "_whole")
def column_without_its_end(whole: Any) -> Any:
    """A checkpoint's column is taken for whole though its last slices are lost."""

    def change(self: CheckpointSalvage) -> set[bytes]:
        ends = [(column, slices[max(slices)]) for column, slices in self._cells.items()]
        columns = [(column, last.version, last.first + last.count) for column, last in ends]
        with patch.object(self, "_heads", [SimpleNamespace(columns=columns, holders=[], settlers=[])]):
            found: set[bytes] = whole(self)
        return found

    return change


@mutant(Survey, "_keep")
def repair_forgets_who_it_became(keep: Any) -> Any:
    """Incarnations that a node began in the midst of a segment are not known after its repair."""

    def change(self: Survey, found: Any, batch: Batch) -> None:
        with patch.object(IdentityHistory, "found", lambda lives, identity: None):
            keep(self, found, batch)

    return change


# Filling gaps


@mutant(Counters, "join")
def gap_of_one_version_overlooked(join: Any) -> Any:
    """A delta is joined though one version before it is missing."""

    def change(self: Counters, delta: Delta) -> bool:
        known = self.version(delta.incarnation)
        if delta.after == known + 1:
            delta = Delta(delta.incarnation, known, delta.upto, delta.cells)
        return bool(join(self, delta))

    return change


@mutant(DetachedDeltas, "absorb")
def only_the_first_run_absorbed(absorb: Any) -> Any:
    """When a gap is filled, only the first delta behind it is joined, though the next one fits too."""

    def change(self: DetachedDeltas, counters: Counters, incarnation: bytes) -> None:
        runs = self._runs.get(incarnation, [])
        self._runs[incarnation] = runs[:1]
        absorb(self, counters, incarnation)
        rest = [*self._runs.get(incarnation, []), *runs[1:]]
        if rest:
            self._runs[incarnation] = rest

    return change


@mutant(Replica, "apply")
def never_looked_behind_a_gap(apply: Any) -> Any:
    """Deltas stay detached when their gap is filled."""

    def change(self: Replica, batch: Batch) -> None:
        with patch.object(DetachedDeltas, "absorb", lambda detached, counters, incarnation: None):
            apply(self, batch)

    return change


@mutant(DetachedDeltas, "keep")
def detached_changed_while_it_is_read(keep: Any) -> Any:
    """A delta that is given back is merged into a detached delta that a checkpoint is just reading."""

    def change(self: DetachedDeltas, delta: Delta) -> None:
        self._shown.clear()
        keep(self, delta)

    return change


# Giving back


@mutant(DeltaSender, "__init__")
def nothing_given_back(init: Any) -> Any:
    """Detached deltas of another node's former incarnation are not offered to that node."""

    def change(
        self: DeltaSender, digest: Any, now: float, draw: Any = lambda: 0, transfer: Any = None, _: Any = ()
    ) -> None:
        init(self, digest, now, draw, transfer)

    return change


@mutant(DetachedDeltas, "contains")
def taken_for_given_back_already(_: Any) -> Any:
    """A node takes every delta that it is given back for one that it has already."""
    return lambda self, delta: True


# Closing gaps


@mutant(gap_closer, "_watch")
def closed_without_all_members(_: Any) -> Any:
    """A gap is closed when those members that are linked know no more."""

    def change(replica: Any, members: Any, peers: Any) -> Any:
        wanted = gap_closer._to_be_linked(members)
        if not wanted and not replica.membership.actors:
            return None
        found = {address: peers.get(address) for address in wanted}
        linked = {
            address: (peer.sender, peer.heartbeats_sent) for address, peer in found.items() if peer and peer.sender
        }
        return gap_closer._Watch(wanted, linked)

    return change


@mutant(Peers, "owes")
def closed_before_all_is_given_back(_: Any) -> Any:
    """A gap is closed while members still have detached deltas that are not on the owner's disk."""
    return lambda peers, hello: False
