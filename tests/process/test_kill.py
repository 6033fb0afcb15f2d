"""kill -9 at random instants loses nothing that was acknowledged."""

from __future__ import annotations

import random
import time
from pathlib import Path

import trio

from tests.harness.cluster import (
    consistent_values_are,
    consistent_when_possible,
    loopback_nodes,
    running,
    spread,
    values_are,
)
from tests.harness.load import Ledger, fresh_seed, never_down, worker
from tests.harness.processes import Node
from tests.harness.waiting import eventually

KILLS = 51
NAMES = ["a", "b", "c"]


async def all_acknowledge_more(nodes: list[Node], ledger: Ledger) -> None:
    """Wait until each node has acknowledged some increments from now on."""
    before = ledger.answers.copy()

    async def check() -> str | None:
        idle = [node for node in nodes if ledger.answers[repr(node)] < before[repr(node)] + 5]
        return f"no increments at {idle}" if idle else None

    await eventually(check, within=20)


async def check_everything(nodes: list[Node], ledger: Ledger) -> None:
    """Bounds, the same exact value everywhere, and no complaint."""
    for node in nodes:
        assert node.runs(), f"{node} ended by itself:\n{node.stderr()}"
    totals = {name: await consistent_when_possible(nodes[0], name, within=20) for name in NAMES}
    for name, total in totals.items():
        ledger.check_bounds(name, total)
    await spread(nodes)
    await consistent_values_are(nodes, totals, within=20)
    await values_are(nodes, totals, within=20)
    assert not ledger.complaints, ledger.complaints[:10]


async def test_at_least_50_kills_at_random_instants_under_load(tmp_path: Path) -> None:
    """Each node is killed again and again, sometimes while it starts, sometimes with the others."""
    seed = fresh_seed()
    nodes = loopback_nodes(tmp_path)
    ledger = Ledger()
    killed = 0

    async def killer(node: Node, rng: random.Random) -> None:
        nonlocal killed
        for _ in range(KILLS // len(nodes)):
            if rng.random() < 0.8:
                await node.ready()
                await trio.sleep(rng.uniform(0.0, 2.0))  # any instant
            else:
                await trio.sleep(rng.uniform(0.0, 1.0))  # maybe before it is ready
            assert node.runs(), f"{node} ended by itself:\n{node.stderr()}"
            node.kill9()
            killed += 1
            node.spawn()
        await node.ready()

    async with running(*nodes, configured=True):
        stop = trio.Event()
        began = time.monotonic()
        async with trio.open_nursery() as load:
            for index, node in enumerate(nodes):
                load.start_soon(never_down, node, NAMES, ledger, stop)
                for number in range(2):
                    rng = random.Random(f"{seed} {index} {number}")
                    load.start_soon(worker, node, NAMES, ledger, rng, stop)
            async with trio.open_nursery() as killers:
                for index, node in enumerate(nodes):
                    killers.start_soon(killer, node, random.Random(f"{seed} {index}"))
            await all_acknowledge_more(nodes, ledger)
            stop.set()
        print(
            f"{killed} kills in {time.monotonic() - began:.1f} s; acknowledged by {dict(ledger.answers)}; "
            f"acked {dict(ledger.acked)}; unanswered {dict(ledger.unanswered)}; "
            f"refused {dict(ledger.refused)}"
        )
        assert killed >= 50
        assert len(ledger.answers) == len(nodes)
        assert min(ledger.answers.values()) >= 20, ledger.answers
        await check_everything(nodes, ledger)
        assert "Traceback" not in "".join(node.stderr(whole=True) for node in nodes)


async def test_all_three_killed_at_once_under_load_three_times(tmp_path: Path) -> None:
    """They come back without a new config, with all that was acknowledged, and agree."""
    seed = fresh_seed()
    nodes = loopback_nodes(tmp_path)
    ledger = Ledger()
    async with running(*nodes, configured=True):
        for number in range(3):
            stop = trio.Event()
            rng = random.Random(f"{seed} {number}")
            async with trio.open_nursery() as load:
                for node in nodes:
                    load.start_soon(worker, node, NAMES, ledger, random.Random(rng.random()), stop)
                    load.start_soon(never_down, node, NAMES, ledger, stop)
                await all_acknowledge_more(nodes, ledger)
                await trio.sleep(rng.uniform(0.0, 0.5))  # any instant
                for node in nodes:
                    node.kill9()
                for node in nodes:
                    node.spawn()
                for node in nodes:
                    await node.ready()
                await all_acknowledge_more(nodes, ledger)
                stop.set()
            await check_everything(nodes, ledger)


async def test_a_node_that_starts_alone_has_its_own_and_takes_more(
    tmp_path: Path,
) -> None:
    """All that it had seen is on its own disk; new increments are taken while its peers are down."""
    nodes = loopback_nodes(tmp_path)
    async with running(*nodes, configured=True):
        for number, node in enumerate(nodes, start=1):
            await node.add("kept", number)
        await values_are(nodes, {"kept": 6}, within=10)
        for node in nodes:
            node.kill9()
        await nodes[1].start()
        assert await nodes[1].value("kept") == 6
        assert await nodes[1].add("kept", 100) == 106
        answer = await nodes[1].consistent("kept", timeout=0.5)
        assert answer.status == 503, "two of three members are down"
        await nodes[0].start()
        await nodes[2].start()
        await consistent_values_are(nodes, {"kept": 106}, within=10)
        await values_are(nodes, {"kept": 106}, within=10)
