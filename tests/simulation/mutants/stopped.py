"""Planted bugs that break a law which the product asserts: the node ends at that very step, before it does harm."""

from __future__ import annotations

from typing import Any

import trio

from gcount.core.state.batch import Batch
from gcount.core.state.columns import Column
from gcount.core.state.writer import Writer
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
