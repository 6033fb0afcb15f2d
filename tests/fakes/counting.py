"""Increments as tests need them: one by one, with a refusal as an error.

What it promises: each increment goes to the node in the same way as an increment over HTTP or Redis.
"""

from __future__ import annotations

from collections.abc import Iterable

from gcount.core.writes.increments import Add
from gcount.core.writes.writer import Writer
from gcount.errors import Refusal
from gcount.node.node import Node


async def add(node: Node, name: str, amount: int) -> int:
    """Increment a counter on a node; returns the value after it."""
    return accepted((await node.count([Add(name, amount)])).values[0])


async def add_one_to_each(node: Node, names: Iterable[str]) -> list[int | Refusal]:
    """Add 1 to each of some counters with one commit."""
    return [*(await node.count([Add(name, 1) for name in names])).values]


def stage(writer: Writer, name: str, amount: int) -> int:
    """Stage an increment; returns the amount that is staged for that counter in the present batch."""
    return accepted(writer.stage([Add(name, amount)]).waiting[0])


def accepted(value: int | Refusal) -> int:
    """Return a value; raise a refusal."""
    if isinstance(value, Refusal):
        raise value
    return value
