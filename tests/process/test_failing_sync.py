"""A sync that fails ends the process, before it acknowledges anything that the sync should have made durable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.harness.client import NoAnswer, NotSent
from tests.harness.cluster import configure, consistent_values_are, free_port, running, spread, values_are
from tests.harness.order import Durable, departures, violations
from tests.harness.processes import Node, show
from tests.harness.strace import TracedNode, why_not

CLIENTS = 4  # a batch holds so many at most, and the amounts of all batches before the failure have to stay below 2^64


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    """Skips where nothing can be traced."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


@dataclass
class Sent:
    """Increments by powers of two: a total tells which of them it contains."""

    acknowledged: int = 0
    unanswered: int = 0
    next_bit: int = 2

    async def until_it_ends(self, node: Node, name: str) -> None:
        """One client that increments until there is no answer any more."""
        client = node.client()
        try:
            while True:
                amount, self.next_bit = self.next_bit, self.next_bit << 1
                answer = await client.request("POST", f"/counter/{name}", b"%d" % amount)
                assert answer.status == 200, answer
                self.acknowledged |= amount
        except NoAnswer:
            self.unanswered |= amount
        except NotSent:
            pass
        finally:
            client.drop()

    def check(self, total: int) -> None:
        """Check that a total has all acknowledged increments, and no increment that was never sent."""
        assert total & self.acknowledged == self.acknowledged, (total, self)
        assert total & ~(self.acknowledged | self.unanswered) == 0, (total, self)


def the_one_line(node: Node) -> str:
    """The last output of the node: one line after those of its log, and no traceback."""
    said = [line for line in node.lines() if line.startswith("gcount-node:")]
    assert len(said) == 1, node.stderr()
    assert node.lines()[-1] == said[0], node.stderr()
    assert "Traceback" not in node.stderr()
    return said[0]


def pair(base: Path) -> tuple[TracedNode, Node]:
    hosts = ["127.0.0.1", "127.0.0.2"]
    port = free_port(hosts)
    return TracedNode(1, hosts[0], port, base / "data-1"), Node(2, hosts[1], port, base / "data-2")


@pytest.mark.parametrize(
    ("error", "text", "number", "joined"),
    [
        ("EIO", "Input/output error", 2, False),
        ("EIO", "Input/output error", 3, False),
        ("EIO", "Input/output error", 14, True),
        ("ENOSPC", "No space left on device", 12, True),
    ],
)
async def test_a_sync_that_fails_under_load_ends_the_node_before_it_acknowledges_anything(
    tmp_path: Path, error: str, text: str, number: int, joined: bool
) -> None:
    """strace counts the syncs of each thread; the first is that of the start."""
    node, peer = pair(tmp_path)
    node.inject = [f"fdatasync:error={error}:when={number}"]
    sent = Sent()
    async with running(peer):
        try:
            await node.start()
            if joined:
                await configure(peer, [node, peer])
                await spread([node, peer])
                sent.acknowledged = await node.add("x", 1)
                await values_are([peer], {"x": 1}, within=10)
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(sent.until_it_ends, node, "x")
                assert await node.exited(within=20) == 1
            line = the_one_line(node)
            assert f"a sync failed: {text}" in line
            assert "the next start recovers" in line
            print(f"{sent.acknowledged.bit_count()} acknowledged, {sent.unanswered.bit_count()} unanswered: {line}")

            calls = await node.trace()
            assert any(call.name == "fdatasync" and call.result == -1 for call in calls)
            left = departures(calls)
            assert violations(left, Durable(calls, tmp_path / "data-1")) == []
            told = await peer.value("x")
            assert told & ~sent.acknowledged & ~sent.unanswered == 0

            node.inject = []
            await node.start()
            total = await node.value("x")
            sent.check(total)
            assert told & ~total == 0, "the peer knows of what the node lost"
            assert bool(told) == joined
            await configure(peer, [node, peer])
            await spread([node, peer])
            await node.add("x", sent.next_bit)
            total += sent.next_bit
            await values_are([node, peer], {"x": total}, within=10)
            await consistent_values_are([node, peer], {"x": total}, within=10)
        except BaseException:
            show([node])
            raise
        finally:
            node.kill9()


@pytest.mark.parametrize(("call", "error"), [("fdatasync", "EIO"), ("fdatasync", "ENOSPC"), ("fsync", "EIO")])
async def test_a_sync_that_fails_in_a_start_ends_it_with_one_line_and_the_next_start_has_all(
    tmp_path: Path, call: str, error: str
) -> None:
    """fdatasync: the live segment, written anew; fsync: its directory."""
    node = TracedNode(1, "127.0.0.1", free_port(["127.0.0.1"]), tmp_path / "data-1")
    plain = Node(1, node.host, node.port, tmp_path / "data-1", log_dir=tmp_path / "plain")
    async with running(plain):
        assert await plain.add("x", 7) == 7
        plain.kill9()
        node.inject = [f"{call}:error={error}:when=1"]
        node.spawn()
        try:
            assert await node.exited(within=20) == 1
        finally:
            node.kill9()
        assert node.lines() == [the_one_line(node)]
        assert "a sync failed" in node.lines()[0]
        assert departures(await node.trace()) == []
        await plain.start()
        assert await plain.value("x") == 7
        assert await plain.add("x", 1) == 8


async def test_a_sync_that_fails_in_the_very_first_start_ends_it_with_one_line(tmp_path: Path) -> None:
    node = TracedNode(1, "127.0.0.1", free_port(["127.0.0.1"]), tmp_path / "data-1")
    node.inject = ["fdatasync:error=EIO:when=1"]
    node.spawn()
    try:
        assert await node.exited(within=20) == 1
        assert node.lines() == [the_one_line(node)]
        node.inject = []
        await node.start()
        assert await node.add("x", 1) == 1
    finally:
        node.kill9()
