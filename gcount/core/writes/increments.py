"""Requests to a node's counters and their outcomes, the same for every protocol and every kind of caller.

The items of one request are staged in order and at one instant, and they share one commit. A refusal is one of the
values of an outcome: it answers the item that was refused, and the other items of the request go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import msgspec

from gcount.core.state.counters import Digest
from gcount.errors import Refusal


class Add(msgspec.Struct, frozen=True, gc=False):
    """Add to a counter. The value of this item is the counter's value afterwards.

    Args:
        name: a valid name.
        amount: 0 to 2^64-1. Adding 0 changes nothing; no limit and no full disk ever refuses it.
    """

    name: str
    amount: int


class Peek(msgspec.Struct, frozen=True, gc=False):
    """Read a counter between the items of a request that stand before and after this one.

    Args:
        name: a valid name.
    """

    name: str


class Raise(msgspec.Struct, frozen=True, gc=False):
    """Raise what an id has added to a counter. The value of this item is the counter's value afterwards.

    However often and wherever in the cluster it is asked for, it counts once.

    Args:
        name: a valid name.
        id: a well-formed id that says its time (see ids.py).
        total: what the id has added so far, 0 to 2^64-1. A total that is not above the known one changes nothing.
        once: whether the id is an increment, which has one amount for ever. Another total is refused then.
    """

    name: str
    id: str
    total: int
    once: bool = False


class Together(msgspec.Struct, frozen=True):
    """Count all of these items or none. If one of them is refused, that refusal is the value of each.

    Args:
        items: in the order in which they count.
    """

    items: Sequence[Add | Raise | Peek]


class Repeat(msgspec.Struct, frozen=True):
    """Add the same amount to each of many counters.

    Long pipelines have this shape, and it is staged in a fraction of the time.

    Args:
        names: valid names in the order in which they count; at least one.
        amount: 0 to 2^64-1.
    """

    names: Sequence[str]
    amount: int


Asked = Repeat | Sequence[Add | Raise | Peek | Together]
"""One request. Its outcome has one value for each `Add`, `Raise` and `Peek`, also those in groups, in their order."""


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of one request.

    Args:
        values: for each item its value, or the refusal.
        position: a replica whose digest reaches this one holds all that was counted; empty when nothing can have been
            counted.
        refused: whether any of the values is a refusal.
        replayed: whether the request had ids, and all that it asked for was known already.
    """

    values: Sequence[int | Refusal]
    position: Digest
    refused: bool = False
    replayed: bool = False

    @property
    def numbers(self) -> Sequence[int] | None:
        """The values; None when an item was refused."""
        return None if self.refused else cast("Sequence[int]", self.values)

    def part(self, first: int, size: int) -> Sequence[int] | Refusal:
        """The values of `size` items from the index `first` on, or the first refusal among them."""
        part = self.values[first : first + size]
        if self.refused:
            for value in part:
                if isinstance(value, Refusal):
                    return value
        return cast("Sequence[int]", part)


def flat(asked: Asked) -> Iterator[Add | Raise | Peek]:
    """All items of a request, one by one."""
    if isinstance(asked, Repeat):
        yield from (Add(name, asked.amount) for name in asked.names)
        return
    for one in asked:
        if isinstance(one, Together):
            yield from one.items
        else:
            yield one


def grown(asked: Asked) -> Sequence[str]:
    """The names of the counters to which a request adds more than 0, or would if its ids were new."""
    if isinstance(asked, Repeat):
        return asked.names if asked.amount else ()
    return [one.name for one in flat(asked) if _asks_for_more(one)]


def changes(asked: Asked, known: Callable[[Raise], bool] | None = None) -> bool:
    """Whether a request adds more than 0 to any counter, or may be refused for the id of an increment by 0.

    Args:
        asked: the request.
        known: returns whether all that an id adds is counted already; None when any id may be new.
    """
    if isinstance(asked, Repeat):
        return asked.amount > 0
    for one in asked:
        if isinstance(one, Add):
            if one.amount:
                return True
        elif isinstance(one, Raise):
            if (one.total or one.once) and (known is None or not known(one)):
                return True
        elif isinstance(one, Together) and changes(one.items, known):
            return True
    return False


def refused(asked: Asked, refusal: Refusal, value: Callable[[str], int] | None = None) -> Outcome:
    """The outcome of a request that can't be counted.

    Args:
        asked: the request.
        refusal: the reason. It is the value of each item that would have changed a counter.
        value: returns the value of a counter, for items that would have changed nothing; None when nothing can be
            read either: then those items are refused, too.
    """
    values: list[int | Refusal] = []
    for one in flat(asked) if isinstance(asked, Repeat) else asked:
        items = one.items if isinstance(one, Together) else (one,)
        read = None if changes(items) else value
        values += [refusal if read is None else read(each.name) for each in items]
    return Outcome(values, {}, refused=True)


def unchanged(asked: Asked, value: Callable[[str], int], position: Digest) -> Outcome:
    """The outcome of a request that changes no counter: the present values.

    Args:
        asked: the request; `changes` is False for it.
        value: returns the value of a counter.
        position: the version of this replica's own incarnation, and of those that hold the request's ids, as a digest.
    """
    replayed = not isinstance(asked, Repeat) and any(isinstance(one, Raise) and one.total for one in flat(asked))
    return Outcome([value(one.name) for one in flat(asked)], position, replayed=replayed)


def _asks_for_more(one: Add | Raise | Peek) -> bool:
    if isinstance(one, Add):
        return one.amount > 0
    return isinstance(one, Raise) and one.total > 0
