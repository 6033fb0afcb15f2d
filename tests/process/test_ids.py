"""Increments with ids on real nodes: over kill -9, and until they are settled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from tests.harness.client import Response, once
from tests.harness.cluster import configure, loopback_nodes, running, take_ids, values_are
from tests.harness.processes import Node
from tests.harness.resp import RespConnection, encoded
from tests.harness.waiting import eventually

WINDOW = 1  # seconds
AHEAD = 200  # seconds; ids of a time to come stay as long as the test lasts


async def test_an_id_counts_once_over_kill_9_and_is_refused_when_it_is_settled(tmp_path: Path) -> None:
    nodes = loopback_nodes(tmp_path, 3, env={"GCOUNT_RETRY_WINDOW": str(WINDOW)})
    first, second, third = nodes
    later = int(time.time()) + AHEAD
    async with running(*nodes, configured=True):
        await take_ids(nodes)
        short = f"{int(time.time()) + 2}-d"
        assert (await post(second, short)).number() >= 5
        assert (await post(first, f"{later}-a")).number() >= 5
        assert (await put(second, f"{later}-b", 7)).number() >= 7
        assert isinstance(await incrby(third, f"{later}-c"), int)
        first.kill9()
        await first.start()
        for node in nodes:
            again = await post(node, f"{later}-a")
            assert again.number() >= 5
            assert node is not first or again.headers["idempotent-replayed"] == "true"
        assert (await put(third, f"{later}-b", 9)).number() >= 9
        assert isinstance(await incrby(first, f"{later}-c"), int)

        await values_are(nodes, {"x": 5 + 5 + 9 + 5}, within=20)
        await eventually(lambda: live_ids_are(nodes, 3), within=60)
        for node in nodes:
            assert (await post(node, short)).status == 410
            assert (await put(node, short, 100)).status == 410
        second.kill9()
        await second.start()
        assert (await post(second, short)).status == 410
        assert (await second.consistent("x", timeout=20)).number() == 5 + 5 + 9 + 5
        await values_are(nodes, {"x": 5 + 5 + 9 + 5}, within=20)


async def test_a_new_cluster_takes_ids_when_every_member_was_heard_and_from_then_on(tmp_path: Path) -> None:
    first, second = loopback_nodes(tmp_path, 2)
    async with running(first):
        await configure(first, [first, second])
        refused = await post(first, f"{int(time.time())}-a")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["code"] == "ids_unavailable"
        assert f"{second.host}:{second.port}" in refused.json()["detail"]
        with pytest.raises(AssertionError, match="takes no ids"):
            await take_ids([first], within=0)
        assert await first.add("x", 1) == 1
        async with running(second):
            await take_ids([first, second])
        first.kill9()
        await first.start()
        assert (await post(first, f"{int(time.time())}-b")).number() == 6


async def post(node: Node, id_: str) -> Response:
    return await once(node.address, "POST", "/counter/x", b"5", headers={"Idempotency-Key": id_})


async def put(node: Node, source: str, total: int) -> Response:
    return await once(node.address, "PUT", f"/counter/x/sources/{source}", b"%d" % total)


async def incrby(node: Node, id_: str) -> object:
    async with await trio.open_tcp_stream(node.host, node.port) as stream:
        command = encoded("GCOUNT.INCRBY", "x", 5, "ID", id_)
        [value] = await RespConnection(stream.socket).exchange(command, 1)
        return value


async def live_ids_are(nodes: Sequence[Node], expected: int) -> str | None:
    live = [(await node.get("/status")).json()["ids"]["live"] for node in nodes]
    return None if live == [expected] * len(nodes) else f"live ids: {live}"
