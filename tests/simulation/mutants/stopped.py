"""Planted bugs that break a law which the product asserts: the node ends at that very step, before it does harm."""

from __future__ import annotations

from typing import Any

import trio

from gcount.cluster.consistent_reads import _View
from gcount.cluster.links.accepted_link import AcceptedLink
from gcount.cluster.links.handshake import Handshake
from gcount.core.protocol.counter_views import Own
from gcount.core.protocol.messages import Hello
from gcount.core.protocol.told_ids import Learned
from gcount.core.state.batch import Batch
from gcount.core.state.columns import Column
from gcount.core.state.counters import Delta, Digest
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from gcount.storage.checkpoints import Checkpoints
from gcount.storage.group_commit import Committer
from tests.simulation.mutants.planted import mutant

STOPPED_BY = {
    "visible-before-durable": "one writer per incarnation",
    "totals-merged": "[0-9]+ [+] [0-9]+ became [0-9]+",
    "number-of-a-refused-batch-left-out": "batch [0-9]+ follows [0-9]+",
    "sum-of-a-refused-batch-kept": "the sum of what is staged",
    "two-who-commit": "one batch in flight",
    "own-cells-not-read-again": "a round expects less of its own node than that has on disk",
    "round-under-way-joined": "a round answers a read that arrived after it was sent",
    "majority-is-enough": "a round is concluded before all members have answered",
    "round-counts-addresses": "a round takes the answers of one node for those of two members",
    "version-behind-the-join": "a join brings a column to exactly the delta's version",
    "acknowledged-before-the-peers-sync": "what was reported is never taken back",
    "staged-cells-captured": "a checkpoint holds only what is durable",
    "log-goes-on-where-the-capture-ended": "a checkpoint covers closed segments only",
    "leftovers-removed-before-the-directory-is-synced": "what is removed is behind the live segment",
    "former-life-goes-on": "one process of a node is linked at a time",
    "only-the-last-life-remembered": "a new identity forgets no incarnation",
    "gap-closed-at-the-highest-version": "a gap is closed above all that is detached",
    "commit-of-two-versions": "a version counts the commits of its own node",
    "whole-cell-added-to-the-total": "a total is the sum of its cells",
    "push-acknowledged-as-it-comes-and-when-synced": "each push is acknowledged once",
    "one-chunk-too-many-kept": "a caller is told how much of its transfer is kept",
    "own-cells-looked-up-once": "an exact value holds all that was on disk here when its read arrived",
    "told-before-it-is-visible": "what a commit sets off comes when the batch is visible",
    "two-who-make-checkpoints": "one checkpoint at a time reads a column",
}
"""The planted bugs that end a node, here and in other modules, each with its message (a regular expression)."""


@mutant(Writer, "abort")
def number_of_a_refused_batch_left_out(abort: Any) -> Any:
    """The number of a batch that a full disk refused is not used again."""

    def change(self: Writer) -> Batch:
        batch: Batch = abort(self)
        self.replica.next_batch += 1
        return batch

    return change


@mutant(Writer, "abort")
def sum_of_a_refused_batch_kept(abort: Any) -> Any:
    """Increments that a full disk refused still count in the sum of staged increments."""

    def change(self: Writer) -> Batch:
        self.pending.staging.total += self.pending.sealed.total
        batch: Batch = abort(self)
        return batch

    return change


@mutant(Committer, "run")
def two_who_commit(run: Any) -> Any:
    """Two tasks commit at the same time."""

    async def change(self: Committer, committed: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, self, committed)
            nursery.start_soon(run, self, committed)

    return change


@mutant(Column, "join_one")
def version_behind_the_join(join_one: Any) -> Any:
    """A column that learns one cell of several versions at once gets the version before the last of them."""

    def change(self: Column, index: int, n: int, upto: int, totals: list[int] | None) -> None:
        before = self.version
        join_one(self, index, n, upto, totals)
        self.version = max(before + 1, upto - 1)

    return change


@mutant(Column, "join_one")
def whole_cell_added_to_the_total(join_one: Any) -> Any:
    """A total grows by the whole new cell, not by what the cell has grown."""

    def change(self: Column, index: int, n: int, upto: int, totals: list[int] | None) -> None:
        before = self.get(index)
        join_one(self, index, n, upto, totals)
        if totals is not None:
            totals[index] += before

    return change


@mutant(Writer, "seal")
def commit_of_two_versions(seal: Any) -> Any:
    """A batch with increments of this node claims two versions of its incarnation."""

    def change(self: Writer) -> Batch:
        batch: Batch = seal(self)
        if self.pending.sealed.amounts:
            own = batch.deltas[0]
            batch.deltas[0] = Delta(own.incarnation, own.after, own.upto + 1, own.cells)
        return batch

    return change


@mutant(AcceptedLink, "_push")
def push_acknowledged_as_it_comes_and_when_synced(push: Any) -> Any:
    """A push is acknowledged when it has come, and again when it is on disk."""

    def change(self: AcceptedLink, nursery: Any, message: Any) -> None:
        push(self, nursery, message)
        if message.last:
            self._answers.post(self.receiver.ack({}))

    return change


@mutant(Handshake, "hello")
def one_chunk_too_many_kept(hello: Any) -> Any:
    """A caller is told that one chunk more of its transfer has arrived."""

    def change(self: Handshake, *, kept: int = 0, **rest: Any) -> Hello:
        answer: Hello = hello(self, kept=kept and kept + 1, **rest)
        return answer

    return change


@mutant(_View, "own")
def own_cells_looked_up_once(own: Any) -> Any:
    """Every round of a counter's reads expects the cells that the node itself had when the first one began."""

    def change(self: _View, name: str, learned: Learned) -> Own:
        now: Own = own(self, name, learned)
        known: dict[str, Digest] = self.__dict__.setdefault("known", {})
        return now._replace(found=now.found._replace(cells=known.setdefault(name, now.found.cells)))

    return change


@mutant(Committer, "_commit_batch")
def told_before_it_is_visible(commit_batch: Any) -> Any:
    """What a commit sets off is done before the batch is written, too."""

    async def change(self: Committer, committed: Any) -> Any:
        committed(Batch(self._replica.next_batch, []))
        return await commit_batch(self, committed)

    return change


@mutant(Checkpoints, "run")
def two_who_make_checkpoints(run: Any) -> Any:
    """Two tasks make checkpoints, as if that were faster."""

    async def change(self: Checkpoints, replica: Replica) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, self, replica)
            nursery.start_soon(run, self, replica)

    return change
