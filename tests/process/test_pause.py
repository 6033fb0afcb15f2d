"""A node that is stopped with SIGSTOP keeps its connections and is silent: the other nodes go on."""

from __future__ import annotations

import time
from pathlib import Path

import trio

from tests.harness.client import NoAnswer
from tests.harness.cluster import (
    assert_unavailable,
    clients_are,
    consistent_values_are,
    loopback_nodes,
    running,
    values_are,
)
from tests.harness.load import Ledger
from tests.harness.processes import Node
from tests.harness.waiting import eventually

TIMEOUT = 2


async def misses_a_peer(node: Node) -> None:
    """Wait until the node has given up a link."""

    async def check() -> str | None:
        peers = (await node.get("/status")).json()["peers"]
        return "all are linked" if all(peer["state"] == "linked" for peer in peers) else None

    await eventually(check, within=10)


async def test_the_others_go_on_and_the_paused_node_catches_up(tmp_path: Path) -> None:
    """Increments at once, consistent reads 503 in time with a lower bound; all exact after SIGCONT."""
    nodes = loopback_nodes(tmp_path, env={"CHALLENGE_TIMEOUT": str(TIMEOUT)})
    awake, paused = nodes[:2], nodes[2]
    async with running(*nodes, configured=True):
        await paused.add("n", 1000)
        await values_are(nodes, {"n": 1000}, within=10)
        paused.pause()
        ledger = Ledger()
        for node in awake:
            client = node.client()
            for _ in range(40):
                await ledger.increment(client, node, "n", 1)
            client.drop()
        ledger.check_quiet()
        assert ledger.acked["n"] == 80
        print(f"slowest increment {ledger.slowest:.3f} s")
        await values_are(awake, {"n": 1080}, within=10)

        async def read(index: int, timeout: float | None) -> None:
            answer = await awake[index].consistent("n", timeout)
            assert_unavailable(answer, [paused], at_least=1040, at_most=1080)
            assert answer.elapsed < (timeout or TIMEOUT) + 0.5, answer

        async with trio.open_nursery() as nursery:
            for index in range(2):
                nursery.start_soon(read, index, None)
                nursery.start_soon(read, index, 0.4)
        assert (await awake[0].get("/counter/n/value")).number() == 1080
        paused.resume()
        took = await consistent_values_are(nodes, {"n": 1080}, within=10)
        print(f"exact {took:.2f} s after SIGCONT")
        await values_are(nodes, {"n": 1080}, within=10)


async def test_a_read_that_waits_for_a_paused_node_answers_when_it_continues(tmp_path: Path) -> None:
    """The same round asks a returning member again: no 503, no second request."""
    nodes = loopback_nodes(tmp_path, env={"CHALLENGE_TIMEOUT": "20"})
    async with running(*nodes, configured=True):
        await nodes[0].add("n", 7)
        nodes[2].pause()
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                assert (await nodes[1].consistent("n")).number() == 7

            nursery.start_soon(read)
            await misses_a_peer(nodes[1])
            nodes[2].resume()


async def test_sigterm_ends_a_node_within_3_s_though_its_peer_is_paused(tmp_path: Path) -> None:
    """With links to the paused peer both ways, a blocked consistent read and idle clients."""
    nodes = loopback_nodes(tmp_path)
    async with running(*nodes, configured=True):
        await nodes[0].add("n", 1)
        await values_are(nodes, {"n": 1}, within=10)
        nodes[1].pause()
        idle = [await nodes[0].address.connect() for _ in range(5)]
        client = nodes[0].client()
        assert (await client.request("GET", "/ping")).body.strip() == b"pong"
        async with trio.open_nursery() as nursery:

            async def blocked_read() -> None:
                try:
                    answer = await nodes[0].consistent("n", timeout=30)
                except NoAnswer:
                    return
                assert answer.status == 503, answer

            nursery.start_soon(blocked_read)
            await clients_are(nodes[0], len(idle) + 2, within=10)  # also the reader and `client`
            began = time.monotonic()
            assert await nodes[0].stop(within=3.0) == 0
            print(f"ended after {time.monotonic() - began:.2f} s")
        client.drop()
        for stream in idle:
            stream.socket.close()
        assert await nodes[2].stop(within=3.0) == 0
        assert "Traceback" not in nodes[0].stderr() + nodes[2].stderr()
