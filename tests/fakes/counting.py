"""Increments as tests ask for them: one by one, with a refusal as an error.

What it promises: each is asked for in the one way that the doors use, and nothing stands between.
"""

from __future__ import annotations

from collections.abc import Iterable

from gcount.core.state.increments import Add
from gcount.core.state.writer import Writer
from gcount.errors import Refusal
from gcount.node.node import Node


async def add(node: Node, name: str, amount: int) -> int:
    """Count on a node; returns the value afterwards."""
    return accepted((await node.count([Add(name, amount)])).values[0])


async def add_one_to_each(node: Node, names: Iterable[str]) -> list[int | Refusal]:
    """Count one for each of some counters with one commit."""
    return [*(await node.count([Add(name, 1) for name in names])).values]


def stage(writer: Writer, name: str, amount: int) -> int:
    """Stage an increment; returns what waits for that counter in the batch being gathered."""
    return accepted(writer.stage([Add(name, amount)]).waiting[0])


def accepted(value: int | Refusal) -> int:
    """A value; a refusal is raised."""
    if isinstance(value, Refusal):
        raise value
    return value
