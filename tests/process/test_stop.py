"""SIGTERM at bad moments: while a batch is on its way to the disk, and several times."""

from __future__ import annotations

import random
from pathlib import Path

import trio
import trio.testing

from tests.harness.client import Response
from tests.harness.cluster import assert_unavailable, configure, consistent_values_are, loopback_nodes, running, spread
from tests.harness.load import Ledger, worker
from tests.harness.waiting import eventually

STOPS = 6


async def counted(ledger: Ledger, more: int) -> None:
    """Return when some more increments were acknowledged, so that a stop comes in the middle of others."""
    wanted = ledger.acked["n"] + more

    async def check() -> str | None:
        return None if ledger.acked["n"] >= wanted else f"only {ledger.acked['n']} of {wanted} were acknowledged"

    await eventually(check, 20)


async def test_sigterm_under_load_exits_0_every_time_and_loses_nothing(tmp_path: Path) -> None:
    """The first node writes what clients send, the second what the first pushes: both are stopped at it."""
    nodes = loopback_nodes(tmp_path)[:2]
    rng = random.Random(1)
    async with running(*nodes):
        await configure(nodes[0], nodes)
        await spread(nodes)
        ledger, stop = Ledger(), trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(worker, nodes[0], ["n"], ledger, random.Random(number), stop, 0.0)
            for number in range(STOPS):
                await counted(ledger, rng.randint(20, 100))
                stopped = nodes[number % 2]
                assert await stopped.stop() == 0, stopped.stderr()
                await stopped.start()
            stop.set()
        value = await nodes[1].consistent("n", 10)
        ledger.check_bounds("n", value.number())
        await consistent_values_are(nodes, {"n": value.number()}, within=5)


async def test_a_consistent_read_in_flight_at_sigterm_is_answered_in_time_whatever_its_timeout(tmp_path: Path) -> None:
    """Over both ways to a counter: with a query a request is not plain."""
    node, absent = loopback_nodes(tmp_path, 2, env={"CHALLENGE_TIMEOUT": "1" + "0" * 30})
    async with running(node):
        await configure(node, [node, absent])
        await node.add("x", 5)
        answers: list[Response] = []

        async def read(query: str) -> None:
            client = node.client()
            await client.request("GET", "/ping")
            answers.append(await client.request("GET", f"/counter/x/consistent_value{query}"))
            client.drop()

        async with trio.open_nursery() as nursery:
            for query in ("", "?timeout=60"):
                nursery.start_soon(read, query)
            await trio.testing.wait_all_tasks_blocked(0.05)
            for _ in range(10):  # what the node answers later than it was asked for the reads
                await node.get("/ping")
            assert answers == []
            assert await node.stop() == 0
        for answer in answers:
            assert_unavailable(answer, [absent], at_least=5, at_most=5)
            assert "stops" in answer.json()["detail"]
        assert len(answers) == 2
