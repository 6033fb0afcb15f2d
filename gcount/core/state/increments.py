"""What can be asked of a node's counters, and what came of it: the same values at every door, for every kind of caller.

What is asked in one piece is staged in its order and at one instant, and shares one commit. A refusal is a value among
the others: it answers what it refuses, and all else that was asked with it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import msgspec

from gcount.core.state.counters import Digest
from gcount.errors import Refusal


class Add(msgspec.Struct, frozen=True, gc=False):
    """Count; its value is that of the counter afterwards.

    Args:
        name: a valid name.
        amount: 0 to 2^64-1; adding 0 changes nothing, and is never refused by a limit or a full disk.
    """

    name: str
    amount: int


class Peek(msgspec.Struct, frozen=True, gc=False):
    """Read a counter as it is at this place among what is asked.

    Args:
        name: a valid name.
    """

    name: str


class Together(msgspec.Struct, frozen=True):
    """Take all of these or none; a refusal of one of them is the value of each.

    Args:
        items: in their order.
    """

    items: Sequence[Add | Peek]


class Repeat(msgspec.Struct, frozen=True):
    """Add the same amount to each of many names: the shape of long pipelines, staged in a fraction of the time.

    Args:
        names: valid ones, in their order; at least one.
        amount: 0 to 2^64-1.
    """

    names: Sequence[str]
    amount: int


Asked = Repeat | Sequence[Add | Peek | Together]
"""What is asked in one piece. It has one value for each `Add` and `Peek`, those in groups included, in their order."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of it.

    Args:
        values: for each what was asked for, or why it was refused.
        position: what a replica has to know to hold all that was counted; empty when nothing can have been.
        refused: whether any of the values is a refusal.
    """

    values: Sequence[int | Refusal]
    position: Digest
    refused: bool = False

    @property
    def numbers(self) -> Sequence[int] | None:
        """The values, when nothing was refused; else None."""
        return None if self.refused else cast("Sequence[int]", self.values)

    def part(self, first: int, size: int) -> Sequence[int] | Refusal:
        """Some of the values, or the first refusal among them."""
        part = self.values[first : first + size]
        if self.refused:
            for value in part:
                if isinstance(value, Refusal):
                    return value
        return cast("Sequence[int]", part)


def flat(asked: Asked) -> Iterator[Add | Peek]:
    """All that was asked, one by one."""
    if isinstance(asked, Repeat):
        yield from (Add(name, asked.amount) for name in asked.names)
        return
    for one in asked:
        if isinstance(one, Together):
            yield from one.items
        else:
            yield one


def grown(asked: Asked) -> Sequence[str]:
    """The names of the counters that it lets grow."""
    if isinstance(asked, Repeat):
        return asked.names if asked.amount else ()
    return [one.name for one in flat(asked) if isinstance(one, Add) and one.amount]


def changes(asked: Asked) -> bool:
    """Whether it lets any counter grow."""
    if isinstance(asked, Repeat):
        return asked.amount > 0
    for one in asked:
        if isinstance(one, Add):
            if one.amount:
                return True
        elif isinstance(one, Together) and changes(one.items):
            return True
    return False


def refused(asked: Asked, refusal: Refusal, value: Callable[[str], int] | None = None) -> Outcome:
    """Nothing can be counted.

    Args:
        asked: what was asked for.
        refusal: why.
        value: of a counter, by its name, for what would have changed nothing; None when nothing can be read either.
    """
    values: list[int | Refusal] = []
    for one in flat(asked) if isinstance(asked, Repeat) else asked:
        items = one.items if isinstance(one, Together) else (one,)
        read = None if changes(items) else value
        values += [refusal if read is None else read(each.name) for each in items]
    return Outcome(values, {}, refused=True)


def unchanged(asked: Asked, value: Callable[[str], int], position: Digest) -> Outcome:
    """What lets no counter grow is answered with the values of now.

    Args:
        asked: what was asked for; see `changes`.
        value: of a counter, by its name.
        position: what this replica knows of what it counted itself.
    """
    return Outcome([value(one.name) for one in flat(asked)], position)
