"""Durable before visible, in a real process under strace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.harness.client import NoAnswer, NotSent
from tests.harness.cluster import (
    configure,
    consistent_when_possible,
    eventually,
    free_port,
    running,
    spread,
    values_are,
)
from tests.harness.order import Answer, Durable, Left, departures, violations
from tests.harness.processes import Node
from tests.harness.strace import Call, TracedNode, why_not, without

# What a start may answer before all that it has is durable: whether it lives, and that it is not ready.
EARLY = ("/ping", "/health/live", "/health/ready")
ALONE = 5  # increments of which each is in a batch of its own


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    """Skips where nothing can be traced."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


def traced_and_peer(base: Path) -> tuple[TracedNode, Node]:
    hosts = ["127.0.0.1", "127.0.0.2"]
    port = free_port(hosts)
    return TracedNode(1, hosts[0], port, base / "data-1"), Node(2, hosts[1], port, base / "data-2")


def kinds(left: list[Left]) -> Counter[str]:
    return Counter(
        f"{one.what.method} {one.what.status}" if isinstance(one.what, Answer) else type(one.what).__name__
        for one in left
    )


def syncs_of_the_log(calls: list[Call]) -> list[Call]:
    return [call for call in calls if call.name == "fdatasync" and call.fd.endswith(".log")]


async def test_nothing_of_an_increment_leaves_before_the_sync_of_its_record_has_returned(tmp_path: Path) -> None:
    """It checks answers, deltas, acknowledgements and cells replies. Each sync is slow, to show what leaves early."""
    node, peer = traced_and_peer(tmp_path)
    node.inject = ["fdatasync:delay_enter=3000"]  # microseconds
    amounts = {f"c{number}": number + 1 for number in range(4)}
    rounds = 10
    done = 0

    async def write(to: Node, name: str) -> None:
        nonlocal done
        client = to.client()
        for _ in range(rounds):
            answer = await client.request("POST", f"/counter/{name}", b"%d" % amounts[name])
            assert answer.status == 200, answer
            await client.request("GET", f"/counter/{name}/value")
        client.drop()
        done += 1

    async def read() -> None:
        while done < 2 * len(amounts):
            for name in amounts:
                await consistent_when_possible(peer, name, within=20)

    async with running(node, peer):
        await configure(peer, [node, peer])
        await spread([node, peer])
        async with trio.open_nursery() as nursery:
            for name in amounts:
                nursery.start_soon(write, node, name)
                nursery.start_soon(write, peer, name)
            nursery.start_soon(read)
        await values_are([node, peer], {name: 2 * rounds * amount for name, amount in amounts.items()}, within=10)
        for _ in range(ALONE):
            await node.add("alone", 1)
        node.kill9()
        calls = await node.trace()

    left = departures(calls)
    seen = kinds(left)
    print(f"{len(calls)} calls, {len(syncs_of_the_log(calls))} syncs; left the process: {dict(seen)}")
    assert seen["POST 200"] == rounds * len(amounts) + ALONE
    for kind in ("Hello", "Push", "Ack", "Cells", "HeartbeatAck"):
        assert seen[kind], f"no {kind} was seen: this proves nothing about them"
    durable = Durable(calls, tmp_path / "data-1")
    assert violations(left, durable) == []

    # The same trace, had one of the last syncs failed: each was needed by the one answer that came after it.
    for sync in syncs_of_the_log(calls)[-ALONE:]:
        assert violations(left, Durable(without(calls, sync), tmp_path / "data-1")) != []


async def test_a_start_answers_nothing_before_its_live_segment_is_written_again_and_synced(tmp_path: Path) -> None:
    """After kill -9; the syncs of the start are slowed down, and clients and a peer press all the while."""
    node, peer = traced_and_peer(tmp_path)
    async with running(node, peer):
        await configure(peer, [node, peer])
        await spread([node, peer])
        for _ in range(10):
            await node.add("x", 1)
        node.kill9()
        node.inject = ["fdatasync:delay_enter=1000000:when=1", "fsync:delay_enter=1000000:when=1"]  # microseconds
        node.spawn()

        async with trio.open_nursery() as nursery:
            await eventually(answers(node, "/ping", 200), within=20)
            nursery.start_soon(node.add, "x", 1)
            nursery.start_soon(node.value, "x")
            assert (await node.get("/health/live")).status == 200
            await eventually(answers(node, "/health/ready", 200), within=20)
        await node.ready()
        await values_are([node, peer], {"x": 11}, within=10)
        node.kill9()
        calls = await node.trace()

    directory = tmp_path / "data-1"
    durable, left = Durable(calls, directory), departures(calls)
    since = durable.since
    assert since is not None, "the live segment was not written anew, synced and renamed"
    assert durable.total("x", since + 1) == 10, "what was acknowledged before the kill"
    early = [one.what for one in left if one.at < since]
    print(f"before line {since}: {dict(kinds([one for one in left if one.at < since]))}")
    asked = {(what.path, what.status) for what in early if isinstance(what, Answer)}
    assert {("/ping", 200), ("/health/ready", 503), ("/link", 503)} <= asked
    assert too_early(left, durable) == []
    assert violations(left, durable) == []
    assert {"Hello", "Push", "POST 200", "GET 200"} <= kinds([one for one in left if one.at > since]).keys()
    assert live_segment_steps(calls, directory) == ["write", "fdatasync", "renameat", "fsync"]

    # Without the sync of the directory, or of the file, nothing at all would have been allowed.
    for call in calls:
        if call.name in ("fsync", "fdatasync") and call.ended is not None and call.ended <= since:
            assert violations(left, Durable(without(calls, call), directory)) != []


def answers(node: Node, path: str, status: int) -> Callable[[], Awaitable[str | None]]:
    """A check for `eventually`."""

    async def check() -> str | None:
        try:
            answer = await node.get(path)
        except (NotSent, NoAnswer) as trouble:
            return f"{path} is no answer from {trouble}"
        return None if answer.status == status else f"{path} is answered {answer}"

    return check


def too_early(left: list[Left], durable: Durable) -> list[Left]:
    """What left before the end of the start, except answers of early routes and 503."""
    return [
        one
        for one in left
        if (durable.since is None or one.at < durable.since)
        and not (isinstance(one.what, Answer) and (one.what.path in EARLY or one.what.status == 503))
    ]


def live_segment_steps(calls: list[Call], directory: Path) -> list[str]:
    """What was changed in the data directory until the live segment was in place."""
    steps = [call.name for call in calls if inside(call, directory) and call.name != "read"]
    return steps[: steps.index("fsync") + 1]


def inside(call: Call, directory: Path) -> bool:
    return call.fd == str(directory) or call.fd.startswith(f"{directory}/")
