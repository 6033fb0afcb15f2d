"""A real disk without space: increments are refused, all else goes on, and the node resumes when there is space."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from gcount.core.protocol import messages
from gcount.core.state.counters import Delta
from gcount.core.state.membership import Membership
from tests.harness.cluster import (
    configure,
    consistent_values_are,
    free_port,
    loopback_nodes,
    running,
    spread,
    values_are,
)
from tests.harness.processes import Node
from tests.harness.tmpfs import LONG, Filesystem, assert_refused, increments_until_refused, resumes
from tests.harness.waiting import eventually
from tests.harness.websocket import BINARY, frame, open_link


async def answer_to(stream: trio.SocketStream, push: bytes) -> messages.Ack:
    """What answers a push on a raw link; the hello before it is passed over."""
    await stream.send_all(frame(BINARY, push))
    received = b""
    while True:
        while len(received) >= 2 and len(received) >= 2 + received[1]:
            assert received[0] == 0x80 | BINARY, f"no message: {received!r}"
            assert received[1] < 126, "the answers are short"
            message = messages.decode(received[2 : 2 + received[1]])
            received = received[2 + received[1] :]
            if isinstance(message, messages.Ack):
                assert not received, "nothing follows without a question"
                return message
        data = await stream.receive_some(65536)
        assert data, "the link was closed"
        received += data


def cluster_with_one_on(disk: Filesystem, base: Path) -> list[Node]:
    """Three nodes, the last of which has its data directory there."""
    nodes = loopback_nodes(base, 3)
    last = nodes[-1]
    nodes[-1] = Node(last.number, last.host, last.port, disk.path / "data", log_dir=base)
    return nodes


async def increments_until_nothing_fits(node: Node) -> int:
    """Count until not even the empty batch fits with which a node finds out whether there is space again.

    Returns:
        How many increments were taken.
    """
    taken = 0
    refusals = -1.0

    async def refused_again() -> str | None:
        return None if await node.metric("gcount_disk_full_total") > refusals else "there is space again"

    while True:
        taken += await increments_until_refused(node, "x")
        refusals = await node.metric("gcount_disk_full_total")
        with suppress(AssertionError):
            await eventually(refused_again, within=2.5)
            return taken


async def test_a_full_disk_refuses_increments_and_nothing_else_then_resumes_by_itself(
    disk: Filesystem, tmp_path: Path
) -> None:
    nodes = cluster_with_one_on(disk, tmp_path)
    full, others = nodes[2], nodes[:2]
    async with running(*nodes, configured=True):
        total = await full.add("x", 10)
        await values_are(nodes, {"x": total}, within=10)
        disk.fill()
        long = await increments_until_refused(full, LONG)
        total += await increments_until_nothing_fits(full)
        said = full.stderr().count("disk full")
        for node in nodes:
            node.mark()

        # Refused, whatever the name, and nothing of it is anywhere; reads go on.
        for name in ("x", LONG, "new"):
            assert_refused(await full.post(f"/counter/{name}", b"1000"))
        refused_config = await full.post("/config", b'{"actors": ["127.0.0.1"]}')
        assert_refused(refused_config)
        assert await full.value("x") == total
        await consistent_values_are(nodes, {"x": total, LONG: long, "new": 0}, within=10)
        await values_are(nodes, {"x": total, LONG: long, "new": 0}, within=10)
        ready = await full.get("/health/ready")
        assert_refused(ready)
        assert (await full.get("/health/live")).status == 200

        # The others count on; the full node knows it when asked for the exact value, though it can't keep it.
        for node in others:
            await node.add("x", 100)
        total += 200
        await values_are(others, {"x": total}, within=10)
        await consistent_values_are(nodes, {"x": total}, within=10)
        assert await full.value("x") == total - 200
        refusals = await full.metric("gcount_disk_full_total")

        async def tried_again() -> str | None:
            return None if await full.metric("gcount_disk_full_total") >= refusals + 2 else "nobody tries again"

        await eventually(tried_again, within=10)
        for node in nodes:
            peers = (await node.get("/status")).json()["peers"]
            assert [peer["state"] for peer in peers] == ["linked", "linked"], node
            assert "link down" not in node.since_mark(), node
            behind = [peer["address"] for peer in peers if peer["unacknowledged_versions"]]
            assert behind == [f"{full.host}:{full.port}"] * (node in others), node

        # Room is all that it takes.
        disk.free_space()
        print(f"ready {await resumes(full):.2f} s after there was room")
        assert full.starts == 1
        await full.add("x", 5)
        total += 5
        await values_are(nodes, {"x": total, LONG: long, "new": 0}, within=10)
        assert "disk has space again" in full.stderr()
        assert full.stderr().count("disk full") == said, "no further line, however often it was tried"

        # The log is whole.
        full.kill9()
        await full.start()
        assert "torn" not in full.stderr()
        assert await full.value("x") == total
        await consistent_values_are(nodes, {"x": total, LONG: long, "new": 0}, within=10)
    assert "Traceback" not in "".join(node.stderr(whole=True) for node in nodes)


async def test_a_push_to_a_full_disk_is_refused_with_the_reason_and_taken_on_the_same_link_later(
    disk: Filesystem, tmp_path: Path
) -> None:
    node = Node(1, "127.0.0.1", free_port(["127.0.0.1"]), disk.path / "data", log_dir=tmp_path)
    caller, incarnation = b"c" * 16, b"i" * 16
    hello = messages.Hello(messages.PROTOCOL, "", caller, b"b" * 16, incarnation, [], Membership(), {})

    def push(number: int) -> bytes:
        return messages.encode(messages.Push(number, True, [Delta(incarnation, 0, 1, {LONG: 7})]))

    async with running(node):
        disk.fill()
        await increments_until_refused(node, "y" * 200)
        stream = await open_link(node.address)
        try:
            with trio.fail_after(10):
                await stream.send_all(frame(BINARY, messages.encode(hello)))
                answer = await answer_to(stream, push(1))
                assert "full" in answer.refused
                assert incarnation not in answer.digest, "it claims to have what it refused"
                assert await node.value(LONG) == 0
                disk.free_space()

                async def taken() -> str | None:  # asked often enough to keep the link alive
                    nonlocal answer
                    answer = await answer_to(stream, push(answer.number + 1))
                    return answer.refused or None

                await eventually(taken, within=10)
                assert answer.digest[incarnation] == 1
        finally:
            stream.socket.close()
        assert await node.value(LONG) == 7


@pytest.mark.parametrize("fresh", [True, False], ids=["empty", "with a log"])
async def test_a_start_on_a_full_disk_waits_for_space(disk: Filesystem, tmp_path: Path, fresh: bool) -> None:
    nodes = cluster_with_one_on(disk, tmp_path)
    full, others = nodes[2], nodes[:2]
    async with running(*others):
        total = 0
        if not fresh:
            await full.start()
            total = await full.add("x", 7)
        try:
            await configure(others[0], nodes)
            full.kill9()
            disk.fill()
            full.spawn()

            async def waits() -> str | None:
                assert full.runs(), full.stderr()
                return None if "disk full" in full.stderr() else "it has not noticed yet"

            await eventually(waits, within=30)
            assert (await full.get("/ping")).body == b"pong"
            assert (await full.get("/health/live")).status == 200
            for answer in (
                await full.get("/health/ready"),
                await full.post("/counter/x", b"1"),
                await full.get("/counter/x/value"),
                await full.consistent("x", timeout=0.2),
            ):
                assert_refused(answer)
            began = time.monotonic()
            disk.free_space()
            await full.ready(within=10)
            print(f"ready {time.monotonic() - began:.2f} s after there was room")
            assert full.stderr().count("disk full") == 1
            await spread(nodes)
            total = await full.add("x", 100)
            assert total == (100 if fresh else 107)
            await values_are(nodes, {"x": total}, within=10)
            await consistent_values_are(nodes, {"x": total}, within=10)
        finally:
            full.kill9()
