"""Data directories that are lost, restored, copied, replaced and moved under real nodes.

Nothing is counted twice, and nothing that another member knew is lost.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.harness.cluster import (
    configure,
    consistent_values_are,
    consistent_when_possible,
    loopback_nodes,
    running,
    spread,
    values_are,
)
from tests.harness.processes import Node, show
from tests.harness.waiting import eventually

COPIED = "copy of this node's data directory"
REFUSED_AS_COPY = "refused by the peer: this node runs on a copy of the data directory of the member at"


def directory(node: Node) -> Path:
    assert node.data_dir is not None
    return node.data_dir


def put(copy: Path, node: Node) -> None:
    """Replace the directory of a node that does not run by a copy."""
    shutil.rmtree(directory(node))
    shutil.copytree(copy, directory(node))


async def status(node: Node) -> dict[str, Any]:
    document: dict[str, Any] = (await node.get("/status")).json()
    return document


async def life(node: Node) -> str:
    """The incarnation under which a node counts now."""
    return str((await status(node))["incarnation"])


def reasons(node: Node) -> list[str]:
    """The lines in which this start of a node says why it counts under a new incarnation."""
    return [line for line in node.lines() if "new incarnation" in line and "reason=" in line]


async def exact(nodes: Sequence[Node], name: str, total: int) -> None:
    """Every read of it, of both kinds, on each of the nodes."""
    await values_are(nodes, {name: total}, within=10)
    await consistent_values_are(nodes, {name: total}, within=10)


async def shows_incarnations(nodes: Sequence[Node], known: int) -> None:
    """On every node `/status` and `/metrics` tell how many have counted anything."""
    for node in nodes:
        document = await status(node)
        assert len(bytes.fromhex(document["incarnation"])) == 16
        assert document["incarnations_known"] == known, (node, document)
        assert await node.metric("gcount_incarnations") == known
        assert await node.metric("gcount_incarnations_minted_total") == len(reasons(node)), node.stderr()


@asynccontextmanager
async def three(base: Path) -> AsyncIterator[list[Node]]:
    """Three nodes of which the first has counted 1, and all know it."""
    nodes = loopback_nodes(base)
    async with running(*nodes, configured=True):
        await nodes[0].add("x", 1)
        await values_are(nodes, {"x": 1}, within=10)
        yield nodes


@asynccontextmanager
async def another(node: Node) -> AsyncIterator[None]:
    """One more node for a while, which is not started yet."""
    try:
        yield
    except BaseException:
        show([node])
        raise
    finally:
        node.kill9()


@pytest.mark.parametrize("directory_is", ["wiped", "new, with another id"])
async def test_an_empty_directory_at_a_known_address_begins_a_new_incarnation_and_refills(
    tmp_path: Path, directory_is: str
) -> None:
    async with three(tmp_path) as nodes:
        one = nodes[0]
        before = await status(one)
        one.kill9()
        if directory_is == "wiped":
            shutil.rmtree(directory(one))
        else:
            one = Node(9, one.host, one.port, tmp_path / "data-9")
        async with another(one):
            await one.start()
            assert await consistent_when_possible(one, "x", within=10) == 1, "it answered from its empty disk"
            await one.add("x", 10)
            now_there = [one, *nodes[1:]]
            await exact(now_there, "x", 11)
            await spread(now_there)
            now = await status(one)
            assert now["incarnation"] != before["incarnation"]
            assert now["node"] != before["node"]
            assert "fresh=True" in one.stderr()
            await shows_incarnations(now_there, 2)


async def test_an_older_copy_restored_again_and_again_loses_and_repeats_nothing(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with three(tmp_path) as nodes:
        one = nodes[0]
        shutil.copytree(directory(one), copy)
        await one.add("x", 10)
        await values_are(nodes, {"x": 11}, within=10)
        lives, total = [await life(one)], 11
        for amount in (100, 1000):
            one.kill9()
            put(copy, one)
            await one.start()
            assert await consistent_when_possible(one, "x", within=10) == total
            await one.add("x", amount)
            total += amount
            await exact(nodes, "x", total)
            lives.append(await life(one))
            assert any("knows 2 commits" in line and "its disk holds 1" in line for line in reasons(one)), one.stderr()
        assert len(set(lives)) == 3
        await shows_incarnations(nodes, 3)


@pytest.mark.parametrize("trouble", ["down", "paused"])
async def test_an_older_copy_though_the_only_peer_that_knows_more_is_away(tmp_path: Path, trouble: str) -> None:
    copy = tmp_path / "copy"
    async with three(tmp_path) as nodes:
        one, witness, ignorant = nodes
        shutil.copytree(directory(one), copy)
        ignorant.kill9()
        await one.add("x", 10)
        await values_are([one, witness], {"x": 11}, within=10)
        before = await life(one)
        one.kill9()
        put(copy, one)
        if trouble == "down":
            witness.kill9()
        else:
            witness.pause()
        await ignorant.start()
        assert await ignorant.value("x") == 1
        await one.start()
        await one.add("x", 100)
        assert await life(one) != before
        assert [line for line in reasons(one) if "not confirmed in time by" in line and witness.host in line]
        await values_are([one, ignorant], {"x": 101}, within=10)
        answer = await one.consistent("x", timeout=0.3)
        assert answer.status == 503, "the node that knows more is a member"
        if trouble == "down":
            await witness.start()
        else:
            witness.resume()
        await exact(nodes, "x", 111)
        await shows_incarnations(nodes, 2)


async def both_say_so(one: Node, twin: Node) -> None:
    """Check that both logs report another process with this directory, and that both nodes have new node ids."""

    async def check() -> str | None:
        for node in (one, twin):
            if COPIED not in node.stderr() and REFUSED_AS_COPY not in node.stderr():
                return f"{node} does not say so"
        return None

    await eventually(check, within=10)
    assert (await status(one))["node"] != (await status(twin))["node"]
    assert await life(one) != await life(twin)


async def test_a_copied_directory_beside_its_running_original(tmp_path: Path) -> None:
    async with three(tmp_path) as nodes:
        one = nodes[0]
        before = await life(one)
        twin = Node(1, "127.0.0.4", one.port, tmp_path / "data-4")
        shutil.copytree(directory(one), directory(twin))
        async with another(twin):
            await twin.start()
            async with trio.open_nursery() as nursery:
                for node in (one, twin):
                    for _ in range(5):
                        nursery.start_soon(node.add, "x", 10)
            await both_say_so(one, twin)
            assert before not in (await life(one), await life(twin))
            await exact(nodes, "x", 51)  # what the copy counts stays out while no config names it
            for node in (one, twin):
                await node.add("x", 1000)
            await exact(nodes, "x", 1051)
            assert "start it with an empty directory, or with another --cluster name" in twin.stderr()
            await configure(one, [*nodes, twin])
            await exact([*nodes, twin], "x", 2101)
            for node in (one, twin):
                assert await node.metric("gcount_incarnations_minted_total") == len(reasons(node))


@pytest.mark.parametrize("copy_is", ["elsewhere", "in the original's place"])
async def test_a_copied_directory_whose_original_was_stopped_and_comes_back(tmp_path: Path, copy_is: str) -> None:
    """In its place the copy may go on under the same incarnation that the original remembers."""
    async with three(tmp_path) as nodes:
        one, *others = nodes
        before = await life(one)
        one.kill9()
        elsewhere = Node(1, "127.0.0.4", one.port, tmp_path / "data-4")
        shutil.copytree(directory(one), directory(elsewhere))
        twin, original = (elsewhere, one) if copy_is == "elsewhere" else (one, elsewhere)
        async with another(elsewhere):
            await twin.start()
            await twin.add("x", 10)
            await values_are([twin, *others], {"x": 11}, within=10)
            if copy_is == "in the original's place":
                assert await life(twin) == before, "all members confirmed it"
            await original.start()
            await both_say_so(twin, original)
            async with trio.open_nursery() as nursery:
                for amount, node in ((100, original), (1000, twin)):
                    for _ in range(5):
                        nursery.start_soon(node.add, "x", amount)
            inside = 5011 if copy_is == "in the original's place" else 511
            await exact(nodes, "x", inside)  # what is counted outside the config beside a member's past stays there
            await configure(one, [*nodes, elsewhere])
            await exact([*nodes, elsewhere], "x", 5511)
            assert before not in (await life(twin), await life(original))


async def test_a_node_that_moved_to_another_address_keeps_its_counts(tmp_path: Path) -> None:
    """A new node at its former address is another node."""
    async with three(tmp_path) as nodes:
        one, *others = nodes
        before = await status(one)
        one.kill9()
        moved = Node(1, "127.0.0.4", one.port, directory(one))
        successor = Node(5, one.host, one.port, tmp_path / "data-5")
        async with another(moved), another(successor):
            await moved.start()
            members = [moved, *others]
            await configure(others[0], members)
            await spread(members)
            await moved.add("x", 10)
            await exact(members, "x", 11)
            assert (await status(moved))["node"] == before["node"]
            await successor.start()
            members.append(successor)
            await configure(others[1], members)
            await spread(members)
            assert await consistent_when_possible(successor, "x", within=10) == 11
            await successor.add("x", 100)
            await exact(members, "x", 111)
            assert (await status(successor))["node"] != before["node"]
            for node in members:
                assert COPIED not in node.stderr(), "nobody runs twice"
