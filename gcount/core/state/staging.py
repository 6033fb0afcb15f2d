"""What waits for the next batch, and what its increments are answered once it is visible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import add

import msgspec

from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.errors import Refusal


class Staging:
    """All that waits for one batch. A seal puts an empty one in its place, and what it holds changes no more.

    Attributes:
        amounts: what is added to this node's own cells, by name; each at least 1.
        total: the sum of the amounts.
        increments: how many were added up to them.
        greatest: the greatest of the own cells that the seal computed.
        deltas: what peers told.
        new: the incarnations among them of which nothing is known yet.
        new_names: how many names the deltas bring; some may be counted twice.
        closings: what closes the gaps of retired incarnations of this node.
        identity: the new one, if it is to change.
        membership: the new one, if it is to change.
    """

    __slots__ = (
        "amounts",
        "closings",
        "deltas",
        "greatest",
        "identity",
        "increments",
        "membership",
        "new",
        "new_names",
        "total",
    )

    def __init__(self) -> None:
        self.amounts: dict[str, int] = {}
        self.total = 0
        self.increments = 0
        self.greatest = 0
        self.deltas: list[Delta] = []
        self.new: set[bytes] = set()
        self.new_names = 0
        self.closings: list[Delta] = []
        self.identity: Identity | None = None
        self.membership: Membership | None = None

    def __bool__(self) -> bool:
        """Whether there is something to seal."""
        return bool(self.amounts or self.deltas or self.closings or self.identity or self.membership)

    def add(self, name: str, amount: int) -> int:
        """Let an amount wait, of at least 1; returns what waits for that counter then."""
        assert amount > 0, "cells only grow"
        self.total += amount
        self.increments += 1
        self.amounts[name] = waiting = self.amounts.get(name, 0) + amount
        return waiting

    def take_back(self, name: str, amount: int) -> None:
        """Let an amount that was added not wait any more."""
        self.total -= amount
        self.increments -= 1
        self.amounts[name] -= amount
        assert self.amounts[name] >= 0, "what is taken back was added before"
        if not self.amounts[name]:
            del self.amounts[name]

    def add_each(self, names: Sequence[str], amount: int) -> Sequence[int]:
        """Let an amount of at least 1 wait for each of many names, in a fraction of the time; as `add` returns."""
        assert amount > 0, "cells only grow"
        times, amounts, first = len(names), self.amounts, names[0]
        self.total += amount * times
        self.increments += times
        if names.count(first) == times:
            before = amounts.get(first, 0)
            amounts[first] = last = before + amount * times
            return range(before + amount, last + 1, amount)
        staged, waiting = [], amounts.get
        for name in names:
            amounts[name] = now = waiting(name, 0) + amount
            staged.append(now)
        return staged


class Staged(msgspec.Struct, frozen=True):
    """What was staged of something that was asked.

    Args:
        names: the counter of each value, in order.
        waiting: for each what waits for its counter then, itself included; or why it was refused.
        refused: whether any was.
    """

    names: Sequence[str]
    waiting: Sequence[int | Refusal]
    refused: bool = False

    def values(self, before: Mapping[str, int]) -> Sequence[int | Refusal]:
        """What it is answered in the instant in which its batch becomes visible.

        The order in which increments are staged is the order in which they count. So the answer to one is the value
        before this node's part of the batch, and what was staged up to it: no two get the same answer.

        Args:
            before: the values of all counters, without this node's part of the batch.
        """
        names, waiting = self.names, self.waiting
        if isinstance(waiting, range):  # of one counter only
            value = before[names[0]]
            return range(waiting.start + value, waiting.stop + value, waiting.step)
        if self.refused:
            return [n if isinstance(n, Refusal) else n + before[name] for name, n in zip(names, waiting, strict=True)]
        return [*map(add, waiting, map(before.__getitem__, names))]  # no refusal is among them


class Before(dict[str, int]):
    """The values of all counters without this node's part of a batch; those in it are at hand, others are looked up.

    Args:
        values: of the counters in the batch, by name.
        total: the value of any other counter now.
    """

    def __init__(self, values: Iterable[tuple[str, int]], total: Callable[[str], int]) -> None:
        super().__init__(values)
        self._total = total

    def __missing__(self, name: str) -> int:
        return self._total(name)
