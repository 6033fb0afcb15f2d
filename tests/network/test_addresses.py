"""A member is a node, not an address: addresses move and names change, and no read is ever wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio_websocket

from tests.harness.cluster import eventually, namespace_nodes, running
from tests.harness.namespaces import Network, inside, why_not
from tests.harness.processes import Node

MENDED_WITHIN = 10.0  # seconds; how fast belongs to the benchmarks


@pytest.fixture(scope="module", autouse=True)
def _namespaces_work() -> None:
    if reason := why_not():
        pytest.skip(reason)


@asynccontextmanager
async def network(
    base: Path, count: int, prepare: Callable[[Network], None]
) -> AsyncIterator[tuple[Network, list[Node]]]:
    with Network(count) as made:
        prepare(made)
        yield made, namespace_nodes(base, made, env={"CHALLENGE_TIMEOUT": "1"})


async def post(node: Node, *actors: str) -> dict[str, object]:
    answer = await node.post("/config", json.dumps({"actors": actors}).encode())
    assert answer.status == 200, answer
    document: dict[str, object] = answer.json()
    return document


async def never_below(reader: Node, writer: Node, name: str, times: int = 20) -> int:
    """Each consistent read that begins after an increment elsewhere was acknowledged contains it, or is an error.

    Returns:
        How many were answered.
    """
    answered = 0
    for _ in range(times):
        acknowledged = await writer.add(name, 1)
        answer = await reader.consistent(name)
        assert answer.status in (200, 503), answer
        if answer.status == 200:
            assert answer.number() >= acknowledged
            answered += 1
    return answered


async def exact(nodes: Sequence[Node], name: str) -> None:
    """Wait until all nodes answer consistent reads with one value."""

    async def check() -> str | None:
        answers = [await node.consistent(name) for node in nodes]
        if any(answer.status != 200 for answer in answers) or len({answer.number() for answer in answers}) > 1:
            return f"{answers}"
        return None

    await eventually(check, MENDED_WITHIN)


async def echo(made: Network, host: int, *, task_status: trio.TaskStatus[list[str | bytes]]) -> None:
    """Send back everything that comes on a websocket at a host's address."""
    heard: list[str | bytes] = []
    with inside(made.namespace(host)):
        listening = socket.create_server((made.address(host), 7777))

    async def serve(stream: trio.SocketStream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                request = await trio_websocket.wrap_server_stream(nursery, stream)
                link = await request.accept()
                while True:
                    heard.append(message := await link.get_message())
                    await link.send_message(message)
        except* (trio_websocket.ConnectionClosed, trio_websocket.HandshakeError):
            pass

    async with (
        trio.open_nursery() as nursery,
        trio.SocketListener(trio.socket.from_stdlib_socket(listening)) as listener,
    ):
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        task_status.started(heard)
        await trio.sleep_forever()


async def test_an_address_that_was_this_nodes_is_asked_again_when_another_node_has_it(tmp_path: Path) -> None:
    """The machine of node 2 is down, and node 1's has taken its address over."""
    async with network(tmp_path, 2, lambda made: made.move(made.address(2), 1)) as (made, (one, two)), running(one):
        answer = await post(one, one.host, two.host)
        assert answer["same_node"] == [[f"{one.host}:7777", f"{two.host}:7777"]]
        await one.add("x", 1)
        refused = await one.consistent("x")
        assert refused.status == 503
        assert f"{two.host}:7777 and {one.host}:7777 lead to one node" in refused.json()["detail"]
        assert (await one.get("/status")).json()["membership"]["same_node"] == answer["same_node"]
        assert "config entries lead to one node" in one.stderr()
        made.move(two.host, 2)
        async with running(two):
            await never_below(one, two, "x")
            await exact([one, two], "x")
            assert await never_below(one, two, "x") == 20
            assert "same_node" not in await one.config()
            made.cut(1, 2)
            await two.add("x", 1_000_000)
            assert (await one.consistent("x")).status == 503


async def test_an_own_entry_is_not_own_any_more_when_its_address_leaves_the_machine(tmp_path: Path) -> None:
    async with network(tmp_path, 2, lambda made: None) as (made, (one, two)), running(one, two):
        await post(one, one.host, two.host)
        await exact([one, two], "x")
        made.move("10.77.0.9", 1)
        answer = await post(one, "10.77.0.9", two.host)
        assert answer["self"] == "10.77.0.9:7777"
        await exact([one, two], "x")
        made.move("10.77.0.9", 2)

        async def told() -> str | None:
            config = await one.config()
            return None if config["self"] is None and "entry is no longer this node" in one.stderr() else f"{config}"

        await eventually(told, MENDED_WITHIN)
        assert (await one.consistent("x")).status == 503


async def test_two_names_of_one_node_make_reads_an_error_until_a_name_is_mended(tmp_path: Path) -> None:
    """While they do, on one machine, the node of the second name is not asked there, so no read is right."""

    def names(made: Network, host: int, third: int) -> None:
        made.names(host, {"node-one": made.address(1), "node-two": made.address(2), "node-three": made.address(third)})

    def prepare(made: Network) -> None:
        for host, third in ((1, 2), (2, 3), (3, 3)):
            names(made, host, third)

    async with network(tmp_path, 3, prepare) as (made, nodes), running(*nodes):
        one, two, three = nodes
        await post(two, "node-one", "node-two", "node-three")
        await exact([two, three], "x")

        async def told() -> str | None:
            shared = (await one.get("/status")).json()["membership"].get("same_node")
            return None if shared == [["node-three:7777", "node-two:7777"]] else f"{shared}"

        await eventually(told, MENDED_WITHIN)
        assert await never_below(one, three, "x", 5) == 0
        assert "node-three:7777" in (refused := (await one.consistent("x")).json()["detail"])
        assert "node-two:7777" in refused
        names(made, 1, 3)
        await exact(nodes, "x")
        assert await never_below(one, three, "x") == 20
        three.kill9()
        assert (await one.consistent("x")).status == 503


async def test_an_echo_at_a_members_address_is_not_this_node(tmp_path: Path) -> None:
    async with network(tmp_path, 2, lambda made: None) as (made, (one, two)), running(one):
        await two.start()
        try:
            await post(one, one.host, two.host)
            await exact([one, two], "x")
            two.kill9()
            async with trio.open_nursery() as nursery:
                heard = await nursery.start(echo, made, 2)

                async def repeated() -> str | None:
                    return None if "repeats this node's own hello" in one.stderr() else f"{len(heard)} frames"

                await eventually(repeated, MENDED_WITHIN)
                refused = await one.consistent("x")
                assert (refused.status, refused.json()["missing"]) == (503, [f"{two.host}:7777"])
                nursery.cancel_scope.cancel()
            await two.start()
            await never_below(one, two, "x")
            await exact([one, two], "x")
        finally:
            two.kill9()
