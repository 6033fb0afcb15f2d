"""Increments and deltas that wait for the next batch, and the answers to the increments once the batch is visible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import add

import msgspec

from gcount.core.state.counters import Counters, Delta
from gcount.core.state.identity import Identity
from gcount.core.state.ids import split
from gcount.core.state.membership import Membership
from gcount.core.writes.id_changes import NO_CHANGES, IdChanges, Raised, RequestIds
from gcount.errors import Refusal


class Staging:
    """All that waits for one batch.

    `Replica.seal` replaces it by an empty one; from then on its content does not change.

    Attributes:
        amounts: what will be added to this node's own cells, by name; each at least 1.
        total: the sum of the amounts.
        ids: increments with ids, and all else that concerns ids.
        increments: how many increments the amounts and the raises come from.
        greatest: the greatest of the own cells that the seal computed.
        deltas: deltas that peers pushed.
        new: the incarnations of these deltas of which nothing is durable yet.
        new_names: how many new names the deltas bring; some may be counted twice.
        new_spans: of the spans of time of ids, those that deltas of nodes that are not members open.
        closings: deltas that close the gaps of this node's retired incarnations.
        identity: the new identity, if it is to change.
        membership: the new membership, if it is to change.
        own: set by the seal: the delta of this node's own incarnation; None when the batch has none.
    """

    __slots__ = (
        "amounts",
        "closings",
        "deltas",
        "greatest",
        "identity",
        "ids",
        "increments",
        "membership",
        "new",
        "new_names",
        "new_spans",
        "own",
        "total",
    )

    def __init__(self) -> None:
        self.amounts: dict[str, int] = {}
        self.total = 0
        self.increments = 0
        self.greatest = 0
        self.ids = NO_CHANGES
        self.deltas: list[Delta] = []
        self.new: set[bytes] = set()
        self.new_names = 0
        self.new_spans: set[int] = set()
        self.closings: list[Delta] = []
        self.identity: Identity | None = None
        self.membership: Membership | None = None
        self.own: Delta | None = None

    def __bool__(self) -> bool:
        """Whether there is something to seal."""
        return bool(self.amounts or self.deltas or self.closings or self.identity or self.membership or self.ids)

    def waiting(self, name: str) -> int:
        """The amount that is staged for a counter, with what raises are planned to add to it."""
        return self.amounts.get(name, 0) + self.ids.planned.get(name, 0)

    def add(self, name: str, amount: int) -> int:
        """Stage an amount of at least 1. Returns the amount that is staged for this counter afterwards."""
        assert amount > 0, "cells only grow"
        self.total += amount
        self.increments += 1
        self.amounts[name] = waiting = self.amounts.get(name, 0) + amount
        return waiting if self.ids is NO_CHANGES else waiting + self.ids.planned.get(name, 0)

    def take_back(self, name: str, amount: int) -> None:
        """Undo `add`, for the items of a group of which a later one was refused."""
        self.total -= amount
        self.increments -= 1
        self.amounts[name] -= amount
        assert self.amounts[name] >= 0, "what is taken back was added before"
        if not self.amounts[name]:
            del self.amounts[name]

    def raise_to(self, key: str, name: str, total: int, known: int, time: int) -> int:
        """Stage what an id has added to a counter; see `IdChanges.put`.

        Returns:
            The amount that waits for this counter afterwards.
        """
        if total > known:
            self.increments += 1
        ids = self.changing_ids() if self.ids is NO_CHANGES else self.ids
        planned = ids.put(key, name, total, known, time)
        return planned + self.amounts.get(name, 0)

    def changing_ids(self) -> IdChanges:
        """The changes of ids, to be added to."""
        if self.ids is NO_CHANGES:
            self.ids = IdChanges()
        return self.ids

    def lower(self, was: Raised) -> None:
        """Undo the last `raise_to`, for the items of a group of which a later one was refused."""
        self.increments -= was.grew
        self.ids.take_back(was)

    def add_each(self, names: Sequence[str], amount: int) -> Sequence[int]:
        """The same as `add` for each of many names, in a fraction of the time.

        Args:
            names: at least one.
            amount: at least 1.

        Returns:
            What `add` would have returned for each; a `range` when all names are the same.
        """
        assert amount > 0, "cells only grow"
        times, amounts, first = len(names), self.amounts, names[0]
        self.total += amount * times
        self.increments += times
        if names.count(first) == times:  # a pipeline on one counter: its answers are an arithmetic progression
            before = amounts.get(first, 0)
            amounts[first] = last = before + amount * times
            return range(before + amount, last + 1, amount)
        staged, waiting = [], amounts.get
        for name in names:
            amounts[name] = now = waiting(name, 0) + amount
            staged.append(now)
        return staged


def new_names(delta: Delta, known: Counters) -> int:
    """How many names a delta brings that are not known."""
    new = sum(name not in known for name in delta.cells)
    if delta.keyed is None:
        return new
    names = {split(key)[1] for key in delta.keyed.entries}
    names.update(name for settlement in delta.keyed.settled.values() for name in settlement.parts)
    return new + sum(name not in known and name not in delta.cells for name in names)


class Staged(msgspec.Struct, frozen=True):
    """What was staged of one request.

    Args:
        names: the counter of each item, in order.
        waiting: for each item the amount that is staged for its counter up to and including this item; or its refusal.
        refused: whether any item was refused.
        ids: the ids of the request; None when it has none.
    """

    names: Sequence[str]
    waiting: Sequence[int | Refusal]
    refused: bool = False
    ids: RequestIds | None = None

    def values(self, before: Before) -> Sequence[int | Refusal]:
        """The answers, at the instant at which the batch becomes visible.

        Increments count in the order in which they were staged. So the answer to an increment is the counter's value
        without this node's increments of the batch, plus what was staged up to and including this increment. No two
        increments get the same answer.

        Args:
            before: the values of all counters, without this node's increments of the batch.

        Returns:
            For each item its value, or its refusal.
        """
        names, waiting = self.names, self.waiting
        if isinstance(waiting, range):  # of one counter only, and staged before all raises
            value = before[names[0]]
            return range(waiting.start + value, waiting.stop + value, waiting.step)
        if before.short:
            return [*map(before.capped, names, waiting)]
        if self.refused:
            return [n if isinstance(n, Refusal) else n + before[name] for name, n in zip(names, waiting, strict=True)]
        return [*map(add, waiting, map(before.__getitem__, names))]  # no refusal is among them


class Before(dict[str, int]):
    """The values of all counters without this node's increments of a batch.

    Args:
        values: names and values of the counters in the batch.
        total: returns the present value of any counter.

    Attributes:
        short: the values of the counters to which raises have added less than was planned, because others had taken
            their ids meanwhile. No answer may be greater.
    """

    def __init__(self, values: Iterable[tuple[str, int]], total: Callable[[str], int]) -> None:
        super().__init__(values)
        self._total = total
        self.short: dict[str, int] = {}

    def leave_out(self, amounts: dict[str, int], ids: IdChanges) -> None:
        """Leave out what increments with ids have added, too.

        Args:
            amounts: the amounts of the same batch.
            ids: what the batch changed of ids.
        """
        for name, planned in ids.planned.items():
            gained, total = ids.gains.get(name, 0), self._total(name)
            # What was planned less is counted first: then each answer includes what is answered.
            self[name] = total - amounts.get(name, 0) - min(planned, gained)
            if gained < planned:
                self.short[name] = total

    def __missing__(self, name: str) -> int:
        return self._total(name)

    def capped(self, name: str, waiting: int | Refusal) -> int | Refusal:
        """The answer to an item, if raises may have added less than was planned."""
        if isinstance(waiting, Refusal):
            return waiting
        value = self[name] + waiting
        return min(value, self.short.get(name, value))
