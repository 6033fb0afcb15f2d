"""Nodes in network namespaces, cut off from each other: they always count, are never wrong, and heal soon."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.harness.cluster import (
    assert_unavailable,
    configure,
    consistent_values_are,
    has_members,
    namespace_nodes,
    running,
    spread,
    values_are,
)
from tests.harness.load import Ledger, fresh_seed, never_down, worker
from tests.harness.namespaces import Network, why_not
from tests.harness.processes import Node

HEALED_WITHIN = 2.0  # the promise: exact again, counted from the healing
SLOWEST_INCREMENT = 2.0  # disk speed but for two short waits; what waits for a peer's timeout takes longer


@pytest.fixture(scope="module", autouse=True)
def _namespaces_work() -> None:
    if reason := why_not():
        pytest.skip(reason)


@asynccontextmanager
async def three(base: Path, timeout: int = 1, *, lo: bool = True) -> AsyncIterator[tuple[Network, list[Node]]]:
    """Three configured nodes in three namespaces."""
    with Network(3, loopback_up=lo) as network:
        nodes = namespace_nodes(base, network, env={"CHALLENGE_TIMEOUT": str(timeout)})
        async with running(*nodes, configured=True):
            yield network, nodes


async def increment_all(nodes: Sequence[Node], ledger: Ledger, name: str, rounds: int = 10) -> None:
    """Every node takes increments at the same time; each must be acknowledged, and soon."""

    async def one(node: Node) -> None:
        client = node.client()
        for number in range(1, rounds + 1):
            assert await ledger.increment(client, node, name, number * node.number) is not None, (
                f"{node} refused an increment: {ledger}"
            )
        client.drop()

    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(one, node)
    ledger.check_quiet()
    assert ledger.slowest < SLOWEST_INCREMENT, ledger.slowest


async def is_unavailable(node: Node, name: str, timeout: float, missing: Sequence[Node], high: int) -> None:
    """A consistent read during a cut: 503 in time, with the names of the missing members."""
    answer = await node.consistent(name)
    assert_unavailable(answer, missing, at_most=high)
    assert answer.elapsed < timeout + 0.5, answer


async def heals(network: Network, nodes: Sequence[Node], ledger: Ledger) -> None:
    """Heal all; from that moment, exact consistent values and exact /value everywhere within the promise."""
    assert not ledger.unanswered.total()
    began = time.monotonic()
    network.heal_all()
    took: dict[str, float] = {}

    async def consistent() -> None:
        took["consistent"] = await consistent_values_are(nodes, ledger.acked, within=HEALED_WITHIN)

    async def values() -> None:
        await values_are(nodes, ledger.acked, within=HEALED_WITHIN)
        took["value"] = time.monotonic() - began

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consistent)
        nursery.start_soon(values)
    print(f"healed: {took}, slowest increment {ledger.slowest:.3f} s")


@pytest.mark.parametrize("lo", [True, False], ids=["lo-up", "lo-down"])
async def test_the_challenge_in_namespaces(tmp_path: Path, lo: bool) -> None:
    """0.0.0.0:7777 everywhere, one config, one file system; also where `lo` was never brought up."""
    with Network(3, loopback_up=lo) as network:
        nodes = namespace_nodes(tmp_path, network)
        async with running(*nodes):
            answer = await configure(nodes[2], nodes)
            assert has_members(answer, nodes[2], nodes), answer
            ledger = Ledger()
            await increment_all(nodes, ledger, "n", 20)
            await spread(nodes)
            await consistent_values_are(nodes, ledger.acked, within=5)
            await values_are(nodes, ledger.acked, within=10)


async def test_each_node_cut_off_in_turn(tmp_path: Path) -> None:
    """Increments go on on both sides, consistent reads are refused in time, and healing is quick."""
    timeout = 1
    async with three(tmp_path, timeout) as (network, nodes):
        ledger = Ledger()
        for lost in nodes:
            network.isolate(lost.number)
            await increment_all(nodes, ledger, "n")
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    missing = [other for other in nodes if (node is lost) != (other is lost)]
                    nursery.start_soon(is_unavailable, node, "n", timeout, missing, ledger.acked["n"])
                nursery.start_soon(increment_all, nodes, ledger, "m")
            await heals(network, nodes, ledger)


async def test_all_nodes_cut_from_each_other_for_longer_than_any_connection_lives(tmp_path: Path) -> None:
    """Three nodes count alone, and agree within the promised time after 8 s without contact."""
    async with three(tmp_path) as (network, nodes):
        ledger = Ledger()
        await increment_all(nodes, ledger, "n")
        network.isolate_all()
        for _ in range(8):
            await increment_all(nodes, ledger, "n")
            await trio.sleep(1)  # the cut has to last
        await is_unavailable(nodes[0], "n", 1, nodes[1:], ledger.acked["n"])
        await heals(network, nodes, ledger)


async def test_one_pair_cut_while_both_reach_the_third(tmp_path: Path) -> None:
    """Both sides' increments arrive through the third, whose consistent reads go on and are exact."""
    timeout = 1
    async with three(tmp_path, timeout) as (network, nodes):
        one, other, third = nodes
        network.cut(one.number, other.number)
        ledger = Ledger()
        await increment_all(nodes, ledger, "n")
        took = await values_are(nodes, ledger.acked, within=15)
        print(f"relayed after {took:.2f} s")
        assert (await third.consistent("n")).number() == ledger.acked["n"]
        await is_unavailable(one, "n", timeout, [other], ledger.acked["n"])
        await is_unavailable(other, "n", timeout, [one], ledger.acked["n"])
        await increment_all(nodes, ledger, "n")
        await heals(network, nodes, ledger)


async def test_a_cut_in_one_direction(tmp_path: Path) -> None:
    """One node hears the others but is not heard. It counts, no client waits, and healing is as quick."""
    async with three(tmp_path) as (network, nodes):
        network.cut_one_way(1, 2)
        network.cut_one_way(1, 3)
        ledger = Ledger()
        await increment_all(nodes, ledger, "n")
        await is_unavailable(nodes[1], "n", 1, [nodes[0]], ledger.acked["n"])
        await increment_all(nodes, ledger, "n")
        await heals(network, nodes, ledger)


async def test_the_default_timeout_of_5_s_and_a_read_that_outlives_the_cut(tmp_path: Path) -> None:
    """503 after 5 s; a read that waits while the network heals answers the exact value."""
    with Network(3) as network:
        nodes = namespace_nodes(tmp_path, network)
        async with running(*nodes, configured=True):
            ledger = Ledger()
            network.isolate(1)
            await increment_all(nodes, ledger, "n")
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    missing = [other for other in nodes if (node is nodes[0]) != (other is nodes[0])]
                    nursery.start_soon(is_unavailable, node, "n", 5, missing, ledger.acked["n"])
            async with trio.open_nursery() as nursery:

                async def waiting_read(node: Node) -> None:
                    assert (await node.consistent("n")).number() == ledger.acked["n"]

                for node in nodes:
                    nursery.start_soon(waiting_read, node)
                await trio.sleep(1.5)  # the reads have to wait for longer than a link lives without a word
                await heals(network, nodes, ledger)


async def test_a_restart_during_a_partition(tmp_path: Path) -> None:
    """Killed and started while cut off, and one on the other side too: nothing lost, nothing refused."""
    async with three(tmp_path) as (network, nodes):
        ledger = Ledger()
        await increment_all(nodes, ledger, "n")
        await values_are(nodes, ledger.acked, within=10)
        network.isolate(1)
        await increment_all(nodes, ledger, "n")
        for node in nodes[:2]:
            before = await node.value("n")
            node.kill9()
            await node.start()
            assert await node.value("n") >= before
        await increment_all(nodes, ledger, "n")
        await is_unavailable(nodes[0], "n", 1, nodes[1:], ledger.acked["n"])
        await is_unavailable(nodes[2], "n", 1, nodes[:1], ledger.acked["n"])
        await heals(network, nodes, ledger)


async def test_a_config_posted_during_a_partition_arrives_after_it(tmp_path: Path) -> None:
    """The node that was cut off learns the membership, and what it had counted alone is counted."""
    with Network(3) as network:
        nodes = namespace_nodes(tmp_path, network, env={"CHALLENGE_TIMEOUT": "1"})
        async with running(*nodes):
            network.isolate(3)
            await configure(nodes[0], nodes)
            ledger = Ledger()
            await increment_all(nodes, ledger, "n")
            await is_unavailable(nodes[0], "n", 1, nodes[2:], ledger.acked["n"])
            network.heal_all()
            await spread(nodes)
            await consistent_values_are(nodes, ledger.acked, within=5)
            await values_are(nodes, ledger.acked, within=5)


async def test_random_cuts_under_load_lose_and_invent_nothing(tmp_path: Path) -> None:
    """Many short cuts of every kind while clients increment and watch every node."""
    seed = fresh_seed()
    rng = random.Random(seed)
    names = ["a", "b"]
    async with three(tmp_path) as (network, nodes):
        ledger = Ledger()
        stop = trio.Event()
        async with trio.open_nursery() as load:
            for index, node in enumerate(nodes):
                load.start_soon(worker, node, names, ledger, random.Random(f"{seed} {index}"), stop)
                load.start_soon(never_down, node, names, ledger, stop)
            for _ in range(10):
                one, other = rng.sample(network.hosts, 2)
                rng.choice((network.cut, network.cut_one_way))(one, other)
                if rng.random() < 0.3:
                    network.isolate(other)
                await trio.sleep(rng.uniform(0.1, 1.5))  # how long that lasts
                if rng.random() < 0.7:
                    network.heal_all()
                    await trio.sleep(rng.uniform(0.0, 0.5))  # and how long all is well
            stop.set()
        ledger.check_quiet()
        assert ledger.slowest < SLOWEST_INCREMENT, ledger.slowest
        assert min(ledger.answers.values()) > 50, ledger.answers
        await heals(network, nodes, ledger)
        assert "Traceback" not in "".join(node.stderr(whole=True) for node in nodes)
