"""Hostile connections to real nodes: whatever a client does on its connection, the nodes go on serving."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from tests.harness.client import Address
from tests.harness.cluster import loopback_nodes, revive, running, serving, still_serves, values_are
from tests.harness.load import Ledger
from tests.harness.processes import Node
from tests.harness.waiting import eventually
from tests.harness.websocket import BINARY, CLOSE, PING, TEXT, frame, open_link, read_to_end, upgrade

MEGABYTE = 1 << 20
GROWTH = 64 * MEGABYTE  # "some tens of MB"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with serving(tmp_path_factory.mktemp("hostile"), 2) as nodes:
        yield nodes


async def send_and_listen(address: Address, data: bytes, within: float) -> bytes:
    """Send bytes on a connection of their own; what came back until it was closed or `within` was over."""
    stream = await address.connect()
    received = b""
    try:
        with trio.move_on_after(within):
            await stream.send_all(data)
            while more := await stream.receive_some(65536):
                received += more
    except trio.BrokenResourceError:
        pass
    finally:
        stream.socket.close()
    return received


class Memory:
    """The highest resident size of a node while a task samples it."""

    def __init__(self, node: Node) -> None:
        self.node, self.before = node, node.resident_bytes()
        self.highest = self.before

    async def sample(self) -> None:
        while True:
            self.highest = max(self.highest, self.node.resident_bytes())
            await trio.sleep(0.05)  # between two samples

    def check(self) -> None:
        grown = self.highest - self.before
        print(f"{self.node} grew by {grown / MEGABYTE:.1f} MB from {self.before / MEGABYTE:.1f} MB")
        assert grown < GROWTH, f"{self.node} grew by {grown / MEGABYTE:.1f} MB"


async def test_a_stray_byte_after_a_websocket_upgrade(pair: list[Node]) -> None:
    """hypercorn issue 225: one such request used to end the whole server."""
    await revive(pair)
    for path in ("/link", "/", "/counter/x", "/counter/x/value", "/no/such/path"):
        for stray in (b"x", b"\x00", b"\xff\xff", b"GET / HTTP/1.1\r\n\r\n", frame(BINARY, b"early")):
            await send_and_listen(pair[0].address, upgrade(path, pair[0].host) + stray, within=0.05)
        assert (await pair[0].get("/ping")).status == 200, path
    await still_serves(pair)


HELLOS: dict[str, Callable[[], list[bytes]]] = {
    "silence": list,
    "random bytes": lambda: [frame(BINARY, os.urandom(300))],
    "text": lambda: [frame(TEXT, b"hello")],
    "text that is not UTF-8": lambda: [frame(TEXT, b"\xff\xfe")],
    "an empty binary frame": lambda: [frame(BINARY, b"")],
    "an empty text frame": lambda: [frame(TEXT, b"")],
    "nothing valid in msgpack": lambda: [frame(BINARY, b"\xc1" * 50)],
    "deep arrays": lambda: [frame(BINARY, b"\x91" * 100_000)],
    "an array of 4 billion": lambda: [frame(BINARY, b"\xdd\xff\xff\xff\xff")],
    "a map of bools": lambda: [frame(BINARY, b"\x81\xc2\xc3")],
    "a claim of 2^62 bytes": lambda: [frame(BINARY, b"x" * 100, claim=1 << 62)],
    "a claim of 2^63 bytes": lambda: [frame(BINARY, b"x" * 100, claim=1 << 63)],
    "16 MB": lambda: [frame(BINARY, bytes(16 * MEGABYTE))],
    "endless fragments": lambda: [frame(BINARY, b"", final=False)] + [frame(0, bytes(MEGABYTE), final=False)] * 64,
    "many small frames": lambda: [frame(BINARY, b"abc") * 20_000],
    "many pings": lambda: [frame(PING, b"abc") * 20_000],
    "an oversized ping": lambda: [frame(PING, bytes(1000))],
    "unmasked": lambda: [frame(BINARY, b"abc", masked=False)],
    "a reserved opcode": lambda: [frame(0x7, b"abc")],
    "a stray continuation": lambda: [frame(0x0, b"abc")],
    "close at once": lambda: [frame(CLOSE, b"")],
    "a bad close": lambda: [frame(CLOSE, b"\x00")],
    "half a frame": lambda: [frame(BINARY, b"hello")[:5]],
}


async def test_garbage_hellos_are_closed_and_harm_nothing(pair: list[Node]) -> None:
    """Links with frames that no node sends, or with none at all, are closed. None causes a traceback."""
    await revive(pair)
    memory = Memory(pair[0])
    still_open: list[str] = []

    async def spoil(title: str, frames: list[bytes]) -> None:
        stream = await open_link(pair[0].address)
        try:
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    try:
                        for each in frames:
                            await stream.send_all(each)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        pass

                nursery.start_soon(send)
                if await read_to_end(stream, within=15) is None:
                    still_open.append(title)
                nursery.cancel_scope.cancel()
        finally:
            stream.socket.close()

    async with trio.open_nursery() as outer:
        outer.start_soon(memory.sample)
        async with trio.open_nursery() as nursery:
            for title, make in HELLOS.items():
                nursery.start_soon(spoil, title, make())
        outer.cancel_scope.cancel()
    assert not still_open
    memory.check()
    await still_serves(pair)


async def test_300_silent_links_keep_no_real_one_out(pair: list[Node]) -> None:
    """A peer that restarts meanwhile is linked again."""
    await revive(pair)
    streams: list[trio.SocketStream] = []
    for _ in range(300):
        try:
            streams.append(await open_link(pair[0].address))
        except (AssertionError, OSError, trio.BrokenResourceError):
            break  # no more of them are taken: as good
    print(f"{len(streams)} silent links")
    pair[1].kill9()
    await pair[1].start()
    await still_serves(pair)
    for stream in streams:
        stream.socket.close()


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
async def test_a_body_of_1_gb(pair: list[Node], chunked: bool) -> None:
    """413 or closed, and never in memory; for increments and configs."""
    await revive(pair)
    memory = Memory(pair[0])
    total, piece = 1 << 30, b"9" * MEGABYTE
    if chunked:
        piece = b"%x\r\n" % len(piece) + piece + b"\r\n"

    async def pour(target: str) -> None:
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {total}"
        stream = await pair[0].address.connect()
        sent, answer = 0, b""
        await stream.send_all(f"POST {target} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
        try:
            async with trio.open_nursery() as nursery:

                async def listen() -> None:
                    nonlocal answer
                    try:
                        while data := await stream.receive_some(65536):
                            answer += data
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        pass
                    nursery.cancel_scope.cancel()

                nursery.start_soon(listen)
                with trio.fail_after(90):
                    try:
                        while sent < total:
                            await stream.send_all(piece)
                            sent += MEGABYTE
                    except trio.BrokenResourceError:
                        await trio.sleep_forever()  # until the listener has what was on its way
                nursery.cancel_scope.cancel()
        finally:
            stream.socket.close()
        print(f"{target}: {sent / MEGABYTE:.0f} MB went out, answer {answer[:40]!r}")
        assert not answer or answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 100")), answer[:200]
        assert sent < total or b" 413 " in answer

    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.sample)
        await pour("/counter/big")
        await pour("/config")
        nursery.cancel_scope.cancel()
    memory.check()
    assert await pair[0].value("big") == 0
    await still_serves(pair)


async def test_200_slow_clients_and_some_that_never_read(pair: list[Node]) -> None:
    """They send headers and bodies byte by byte, or take no answers. Others are served, and memory does not grow."""
    await revive(pair)
    node, memory, ledger = pair[0], Memory(pair[0]), Ledger()
    header = b"GET /ping HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 1000
    body = b"POST /counter/dribbled HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"1" * 999
    greedy = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 5000

    async def dribble(data: bytes, size: int) -> None:
        try:
            stream = await node.address.connect()
            try:
                await stream.send_all(data[:60])
                for index in range(60, len(data), size):
                    await stream.send_all(data[index : index + size])
                    await trio.sleep(0.25)  # often enough for no time limit of a read, too slowly ever to end
            finally:
                stream.socket.close()
        except (OSError, trio.BrokenResourceError):
            pass  # closed by the node, which is its right

    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.sample)
        for _ in range(100):
            nursery.start_soon(dribble, header, 1)
            nursery.start_soon(dribble, body, 1)
        for _ in range(10):
            nursery.start_soon(dribble, greedy, len(greedy))
        client = node.client()
        began = time.monotonic()
        while time.monotonic() - began < 4:  # so long do they dribble
            assert await ledger.increment(client, node, "served", 1) is not None
            await trio.sleep(0.02)  # a client, not a load test
        client.drop()
        nursery.cancel_scope.cancel()
    print(f"{ledger.acked['served']} increments, slowest {ledger.slowest:.3f} s")
    ledger.check_quiet()
    memory.check()
    assert await node.value("dribbled") == 0, "an unfinished body must not count"
    await still_serves(pair)


async def test_a_slow_but_honest_client_is_counted(pair: list[Node]) -> None:
    """A body in two pieces, a second apart."""
    await revive(pair)
    stream = await pair[0].address.connect()
    await stream.send_all(b"POST /counter/honest HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1")
    await trio.sleep(1)  # the client's own slowness
    await stream.send_all(b"2")
    assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 200")
    stream.socket.close()
    assert await pair[0].value("honest") == 12


async def test_clients_that_vanish_are_counted_once_or_not_at_all(pair: list[Node]) -> None:
    """They close right after the request, or in the middle of it; the nodes agree on what was counted."""
    await revive(pair)
    request = b"POST /counter/vanished HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"
    for index in range(60):
        stream = await pair[index % 2].address.connect()
        await stream.send_all(request if index % 3 else request[:-1])
        stream.socket.close()
    for node in pair:
        await node.add("behind", 1)  # answered when what came before has been looked at

    async def agree() -> str | None:
        counted = (await pair[0].consistent("vanished")).number()
        assert 0 <= counted <= 40, counted
        values = [await node.value("vanished") for node in pair]
        return None if values == [counted, counted] else f"{counted} in all, but {values}"

    await eventually(agree, within=10)
    await still_serves(pair)


async def test_10_000_idle_connections(tmp_path: Path) -> None:
    """From many loopback addresses; meanwhile increments are taken, links work, and a member can restart."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = min(10_000, hard - 1000) if hard != resource.RLIM_INFINITY else 10_000
    nodes = loopback_nodes(tmp_path, 2)
    streams: list[trio.SocketStream] = []
    refused = 0

    async def connect(source: str, count: int) -> None:
        nonlocal refused
        for index in range(count):
            try:
                with trio.fail_after(20):
                    stream = await nodes[0].address.connect(source)
            except (OSError, trio.TooSlowError):
                refused += 1
                continue
            streams.append(stream)
            if index % 4 == 0:  # some have been of use once
                try:
                    await stream.send_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
                except trio.BrokenResourceError:
                    refused += 1

    try:
        async with running(*nodes, configured=True):
            began = time.monotonic()
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(connect, f"127.0.1.{number + 1}", wanted // 20)
            took, size = time.monotonic() - began, nodes[0].resident_bytes() / MEGABYTE
            print(f"{len(streams)} of {wanted} connections in {took:.1f} s, {refused} refused, {size:.0f} MB")
            assert len(streams) > 0.9 * wanted
            await still_serves(nodes)
            nodes[1].kill9()
            await nodes[1].start()
            await still_serves(nodes)
            for stream in streams:
                stream.socket.close()
            await still_serves(nodes)
    finally:
        for stream in streams:
            stream.socket.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_at_its_limit_of_descriptors_it_closes_the_longest_idle_client_never_a_link(
    tmp_path: Path,
) -> None:
    """256 descriptors, 400 clients: the newest are served, the oldest closed, log and links have theirs."""
    nodes = loopback_nodes(tmp_path, 2, nofile=256)
    clients = [nodes[0].client() for _ in range(400)]
    async with running(*nodes, configured=True):
        try:
            for client in clients:
                assert (await client.request("POST", "/counter/crowd", b"1")).status == 200
            assert (await clients[-1].request("GET", "/ping")).status == 200
            assert await nodes[0].value("crowd") == 400
            alive = 0
            for client in clients:
                alive += await is_open(client.stream)
            print(f"{alive} of 400 connections are still open")
            assert alive < 256
            assert not await is_open(clients[0].stream), "the longest idle should have gone first"
            assert await is_open(clients[-1].stream)
            await values_are(nodes, {"crowd": 400}, within=10)
            await still_serves(nodes)
        finally:
            for client in clients:
                client.drop()


async def is_open(stream: trio.SocketStream | None) -> bool:
    """Whether the other side has not closed yet."""
    if stream is None:
        return False
    closed = False
    with trio.move_on_after(0.01):
        try:
            closed = not await stream.receive_some(1)
        except trio.BrokenResourceError:
            closed = True
    return not closed
