"""A node that may open few files, and a stranger that takes as many of them as it can get."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from gcount.core.limits import ID_BYTES
from gcount.core.protocol import messages
from tests.fakes.caller import hello
from tests.harness.cluster import free_port, loopback_nodes, running, still_serves
from tests.harness.processes import Node
from tests.harness.resp import RespConnection, encoded
from tests.harness.waiting import eventually

NAME = b"n" * 240
LIMIT = 256  # open files of the node
MANY = 60  # links that it then dials, at least
RESERVED = 40  # what nobody but the node itself takes, at least
WRITERS = 8
TURN = 500  # increments that are sent together
WITHIN = 60.0  # seconds


@pytest.fixture
def many_files() -> Iterator[None]:
    """Lets this process open more files than a node may here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Stranger:
    """Answers at any number of addresses as a member would, keeps the links, and takes one push at most."""

    def __init__(self) -> None:
        self.links = 0
        self.most = 0

    async def serve(self, request: WebSocketRequest) -> None:
        link = await request.accept()
        try:
            await link.get_message()
            node, start_id, incarnation = (os.urandom(ID_BYTES) for _ in range(3))
            await link.send_message(messages.encode(hello(node=node, start_id=start_id, incarnation=incarnation)))
            self.links += 1
            self.most = max(self.most, self.links)
            while True:
                if isinstance(messages.decode(await link.get_message()), messages.Heartbeat):
                    await link.send_message(messages.encode(messages.HeartbeatAck({})))
        except ConnectionClosed:
            pass
        finally:
            self.links -= 1


def open_files(node: Node) -> int:
    assert node.process is not None
    return len(os.listdir(f"/proc/{node.process.pid}/fd"))


def members(number: int, port: int) -> list[str]:
    """Addresses of this machine at which the stranger answers."""
    return [f"127.77.{number}.{last}:{port}" for last in range(1, 128)]


async def post_config(node: Node, others: list[str]) -> int:
    body = json.dumps({"actors": [*others, f"{node.host}:{node.port}"]})
    return (await node.post("/config", body.encode())).status


async def fill_a_segment(node: Node) -> None:
    """Count until the log has begun its next segment, for which it needs one descriptor more."""
    async with trio.open_nursery() as nursery:
        for writer in range(WRITERS):
            nursery.start_soon(count, node, writer)


async def count(node: Node, writer: int) -> None:
    stream = await node.address.connect()
    names = [b"%d" % writer + NAME + b"%04d" % number for number in range(TURN)]
    client = RespConnection(stream.socket)
    turn = b"".join(encoded("INCR", name) for name in names)
    while len(segments(node)) == 1:
        answers = await client.exchange(turn, TURN)
        assert all(isinstance(answer, int) for answer in answers), answers
    await stream.aclose()


def segments(node: Node) -> list[Path]:
    assert node.data_dir is not None
    return list(node.data_dir.glob("*.log"))


async def test_a_stranger_takes_no_descriptor_from_the_log(tmp_path: Path, many_files: None) -> None:
    """It opens idle connections without end, and posts configs with its own addresses: only clients are displaced."""
    [node] = loopback_nodes(tmp_path, 1, nofile=LIMIT)
    stranger = Stranger()
    port = free_port(["0.0.0.0"])
    idle = []
    async with running(node), trio.open_nursery() as nursery:
        nursery.start_soon(serve_websocket, stranger.serve, "0.0.0.0", port, None)
        for number in (1, 2):
            assert await post_config(node, members(number, port)) == 200
        await eventually(lambda: enough(stranger), WITHIN)
        for _ in range(2 * LIMIT):
            idle.append(await node.address.connect())
        assert (await node.get("/ping")).status == 200, "a newcomer finds no place"
        assert open_files(node) < LIMIT - RESERVED
        await fill_a_segment(node)
        assert open_files(node) < LIMIT - RESERVED
        assert (await node.get("/ping")).status == 200
        assert node.runs()
        for stream in idle:
            stream.socket.close()
        nursery.cancel_scope.cancel()
    assert "open-file limit is low" in node.stderr()


async def enough(stranger: Stranger) -> str | None:
    return None if stranger.most >= MANY else f"{stranger.links} links"


async def test_nodes_with_64_descriptors_work_together(tmp_path: Path) -> None:
    nodes = loopback_nodes(tmp_path, 3, nofile=64)
    async with running(*nodes, configured=True):
        clients = [nodes[0].client() for _ in range(100)]
        for client in clients:
            assert (await client.request("POST", "/counter/crowd", b"1")).status == 200
        await still_serves(nodes)
        assert (await nodes[1].consistent("crowd")).body == b"100\n"
        for client in clients:
            client.drop()
    for node in nodes:
        assert "open-file limit is low" in node.stderr()
        assert "limit=64 connections=18" in node.stderr()
