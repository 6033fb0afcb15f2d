"""The challenge on loopback: three nodes on one port, and addresses without ports posted to one of them."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import trio

from tests.harness.cluster import (
    configure,
    consistent_values_are,
    has_members,
    loopback_nodes,
    running,
    spread,
    values_are,
)
from tests.harness.linearizable import violations
from tests.harness.load import History, Ledger, fresh_seed
from tests.harness.processes import Node

TOP = 2**64 - 1


async def test_plain_addresses_posted_to_one_node_make_every_node_know_itself(tmp_path: Path) -> None:
    """The default port is the node's own, `self` is right everywhere, and all have the same membership."""
    nodes = loopback_nodes(tmp_path, prefer=7777)
    async with running(*nodes):
        answer = await configure(nodes[1], nodes)
        assert has_members(answer, nodes[1], nodes), answer
        await spread(nodes)
        configs = [await node.config() for node in nodes]
        assert len({config["version"] for config in configs}) == 1, configs
        assert len({tuple(sorted(config["actors"])) for config in configs}) == 1, configs


async def test_300_concurrent_increments_are_exact_in_consistent_reads_at_once(tmp_path: Path) -> None:
    """Several counters, small and huge amounts: exact right after the last acknowledgement."""
    rng = random.Random(fresh_seed())
    nodes = loopback_nodes(tmp_path, prefer=7777)
    names = ["likes", "views", "a%20b", "%C3%A9"]
    ledger = Ledger()
    work = [
        (nodes[number % 3], rng.choice(names), rng.choice((0, 1, 5, 10**6, 2**58 - rng.randrange(9))))
        for number in range(300)
    ]

    async def increment(node: Node, name: str, amount: int, limiter: trio.CapacityLimiter) -> None:
        async with limiter:
            client = node.client()
            await ledger.increment(client, node, name, amount)
            client.drop()

    async with running(*nodes):
        await configure(nodes[0], nodes)
        limiter = trio.CapacityLimiter(64)
        async with trio.open_nursery() as nursery:
            for node, name, amount in work:
                nursery.start_soon(increment, node, name, amount, limiter)
        ledger.check_quiet()
        expected: Counter[str] = Counter()
        for _, name, amount in work:
            expected[name] += amount
        assert ledger.acked == expected
        await spread(nodes)
        took = await consistent_values_are(nodes, expected, within=5)
        print(f"12 consistent reads took {took:.3f} s, slowest increment {ledger.slowest:.3f} s")
        await values_are(nodes, expected, within=10)


async def test_every_consistent_read_is_exact_at_once_without_convergence(tmp_path: Path) -> None:
    """After each single acknowledgement, on every node, round after round; sums pass 2^64 exactly."""
    nodes = loopback_nodes(tmp_path)
    async with running(*nodes, configured=True):
        total = 0
        for number in range(60):
            node = nodes[number % 3]
            await node.add("chain", number)
            total += number
            reader = nodes[(number + number // 3) % 3]
            answer = await reader.consistent("chain")
            assert answer.number() == total, (number, reader)
        for node in nodes:
            assert await node.add("huge", TOP) >= TOP
        await consistent_values_are(nodes, {"huge": 3 * TOP}, within=5)
        assert (await nodes[0].post("/counter/huge", b"1")).status == 409
        assert (await nodes[0].post("/counter/huge", b"0")).status == 200
        await values_are(nodes, {"huge": 3 * TOP, "chain": total}, within=10)


async def test_consistent_reads_during_writes_are_linearizable(tmp_path: Path) -> None:
    """Writers and readers on all three nodes at once; a checker that knows each read's set of increments."""
    rng = random.Random(fresh_seed())
    nodes = loopback_nodes(tmp_path)
    histories = [History(f"line-{number}") for number in range(4)]

    async def write(node: Node, history: History, seed: int) -> None:
        mine, client = random.Random(seed), node.client()
        for _ in range(21):
            await history.write(client)
            await trio.sleep(mine.choice((0, 0, 0.01, 0.03)))
        client.drop()

    async def read(node: Node, history: History, done: trio.Event, seed: int) -> None:
        mine, client = random.Random(seed), node.client()
        while not done.is_set():
            await history.read(client, node)
            await trio.sleep(mine.choice((0, 0.005, 0.02)))
        client.drop()

    async with running(*nodes, configured=True):
        for history in histories:
            done = trio.Event()
            async with trio.open_nursery() as readers:
                for node in nodes * 2:
                    readers.start_soon(read, node, history, done, rng.randrange(2**32))
                async with trio.open_nursery() as writers:
                    for node in nodes:
                        writers.start_soon(write, node, history, rng.randrange(2**32))
                done.set()
            assert not list(violations(history.writes, history.reads)), history.name
            print(f"{history.name}: {len(history.reads)} reads, {history.refused_reads} refused")
            assert len(history.writes) == 63
            assert all(write.end is not None for write in history.writes)
            assert len(history.reads) >= 6
            assert history.refused_reads == 0, "nothing was wrong with the network"
        expected = {history.name: 2**63 - 1 for history in histories}
        await consistent_values_are(nodes, expected, within=5)
        await values_are(nodes, expected, within=10)
