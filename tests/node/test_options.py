"""The options of a node reach all of its parts, and each option is used."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import trio
from trio.testing import MockClock

import gcount
from gcount.core.options import DEFAULTS, Options
from tests.fakes.cluster import Host, open_cluster
from tests.fakes.counting import add

PACKAGE = Path(gcount.__file__).parent
HANDED_IN = replace(DEFAULTS, segment_bytes=2000, checkpoint_floor_bytes=0, push_bytes=1000)


def parts_of(node: object) -> Iterator[object]:
    """All objects of the product's own classes that a node consists of."""
    seen, queue = {id(node)}, deque([node])
    while queue:
        each = queue.popleft()
        if type(each).__module__.startswith("gcount."):
            yield each
            held = list(getattr(each, "__dict__", {}).values())
            slots = (name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ()))
            held += [getattr(each, name, None) for name in slots]
        elif isinstance(each, dict):
            held = [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set | frozenset | deque):
            held = list(each)
        else:
            held = [getattr(each, "__self__", None), *getattr(each, "keywords", {}).values()]  # bound, or partial
        for one in held:
            if id(one) not in seen:
                seen.add(id(one))
                queue.append(one)


async def filled(host: Host) -> None:
    for number in range(30):
        await add(host.node, f"n{number}", 1)


async def test_no_part_of_a_node_works_with_other_options_than_those_it_was_opened_with(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2, options=HANDED_IN) as cluster:
        async with trio.open_nursery() as nursery:
            for host in cluster.hosts:
                nursery.start_soon(filled, host)
        await cluster.converged("n29", 2)
        for host in cluster.hosts:
            parts = list(parts_of(host.node))
            found = [each for each in parts if isinstance(each, Options)]
            assert found == [HANDED_IN]
            kinds = {type(each).__name__ for each in parts}
            assert {"Replica", "Column", "Log", "Checkpoints", "DeltaSender", "AcceptedLink", "Holds"} <= kinds


def test_each_option_is_used() -> None:
    used = {
        node.attr
        for file in PACKAGE.rglob("*.py")
        if file.name != "options.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
    }
    assert {field.name for field in fields(Options)} - used == set()
