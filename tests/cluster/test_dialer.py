"""Dialling what is no node: each dial ends with a reason, and leaves no socket behind."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from gcount.cluster.links import dialer
from gcount.cluster.links.dialer import MAX_NAMES, WebsocketTransport
from gcount.cluster.links.transport import CONNECT_TIMEOUT
from gcount.core.protocol.websocket_frames import BINARY, CLOSE, NORMAL_CLOSURE, PING, Frames
from gcount.errors import LinkClosed, LinkError
from tests.harness.websocket import frame

PATIENCE = 30.0  # seconds
PROBLEM = b'{"title": "Service Unavailable"}'
NO_NODE = "no node answers there"
CLOSED = "the connection was closed during the handshake"
Answer = Callable[[bytes], bytes]


def rejection(status: bytes, *fields: bytes, body: bytes = b"") -> Answer:
    head = b"\r\n".join([b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields])
    return lambda request: head + b"\r\n\r\n" + body


def accepted(request: bytes, *fields: bytes) -> bytes:
    """The right answer to an upgrade request, with more header fields."""
    (key,) = re.findall(rb"(?i)^sec-websocket-key: (\S+)\r$", request, re.MULTILINE)
    token = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade", *fields]
    return b"\r\n".join([*lines, b"Sec-WebSocket-Accept: " + token]) + b"\r\n\r\n"


class Server:
    """Answers each upgrade request with some bytes, and then does as it is told."""

    def __init__(self, answer: Answer, then: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
        self.address = ""
        self.ended = 0
        self._answer = answer
        self._then = then

    async def serve(self, stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        assert request.startswith(b"GET /link HTTP/1.1\r\n")
        try:
            await stream.send_all(self._answer(request))
            await self._then(stream)
        except trio.BrokenResourceError:
            pass
        self.ended += 1


async def close(stream: trio.SocketStream) -> None:
    """Finish sending, and read to the end, so that nothing is reset."""
    await stream.send_eof()
    await listen(stream)


async def listen(stream: trio.SocketStream) -> None:
    """Say nothing more."""
    while await stream.receive_some():
        pass


@asynccontextmanager
async def server(
    answer: Answer, then: Callable[[trio.SocketStream], Awaitable[None]] = listen
) -> AsyncIterator[Server]:
    """A server whose clients all leave, with no socket left behind in this process."""
    before = descriptors()
    made = Server(answer, then)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            made.address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            nursery.start_soon(trio.serve_listeners, made.serve, listeners)
            yield made
            while not made.ended:
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert descriptors() == before


def descriptors() -> set[str]:
    """This process's, as far as the system tells."""
    known = Path("/proc/self/fd")
    return {entry.name for entry in known.iterdir()} if known.exists() else set()


async def dial(server: Server) -> str:
    """Dial in vain; returns the reason."""
    with pytest.raises(LinkClosed) as failed:
        async with WebsocketTransport("127.0.0.1", 1).connect(server.address):
            pytest.fail("this was no handshake")
    return str(failed.value)


REJECTED = {
    "503": rejection(b"503 Service Unavailable", b"Content-Type: application/problem+json", body=PROBLEM),
    "503 without a body": rejection(b"503 Service Unavailable"),
    "404": rejection(b"404 Not Found", b"Connection: close", body=b"no such page"),
    "301": rejection(b"301 Moved Permanently", b"Location: /elsewhere"),
    "200": rejection(b"200 OK", body=b"welcome"),
}


@pytest.mark.parametrize("title", REJECTED)
@pytest.mark.parametrize("then", [listen, close])
async def test_a_rejected_handshake_says_its_status(
    title: str, then: Callable[[trio.SocketStream], Awaitable[None]]
) -> None:
    async with server(REJECTED[title], then) as other:
        reason = await dial(other)
    assert reason == f"{NO_NODE}, or it is still starting (HTTP status {title[:3]})"


WRONG: dict[str, Answer] = {
    "zeros": lambda request: bytes(1000),
    "a long line": lambda request: b"x" * 200_000,
    "another protocol": lambda request: b"220 mail.example ESMTP ready\r\n\r\n",
    "another key": lambda request: accepted(request).replace(b"Accept: ", b"Accept: A"),
    "no key": lambda request: re.sub(rb"\r\nSec-WebSocket-Accept: \S+", b"", accepted(request)),
    "no upgrade": lambda request: accepted(request).replace(b"\r\nUpgrade: websocket", b""),
    "compression": lambda request: accepted(request, b"Sec-WebSocket-Extensions: permessage-deflate"),
    "a subprotocol": lambda request: accepted(request, b"Sec-WebSocket-Protocol: chat"),
}


@pytest.mark.parametrize("title", WRONG)
async def test_an_answer_that_is_no_websocket_is_reported_at_once(title: str) -> None:
    async with server(WRONG[title]) as other:
        assert await dial(other) == f"{NO_NODE}: what does speaks no websocket"


CUT: dict[str, Answer] = {
    "at once": lambda request: b"",
    "in a line": lambda request: b"HTTP/1.1 101 Switch",
    "before the last line": lambda request: accepted(request)[:-2],
    "after a line of something else": lambda request: b"-ERR unknown command 'GET'\r\n",
    "in a rejection's body": lambda request: rejection(b"503 Unavailable", body=PROBLEM)(request)[:-1],
}


@pytest.mark.parametrize("title", CUT)
async def test_a_connection_that_closes_during_the_handshake_is_not_waited_for(title: str) -> None:
    async with server(CUT[title], close) as other:
        assert await dial(other) == CLOSED


async def test_a_connection_that_is_reset_during_the_handshake_is_not_waited_for() -> None:
    async def reset(stream: trio.SocketStream) -> None:
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()

    async with server(lambda request: b"HTTP", reset) as other:
        assert await dial(other) == CLOSED


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switching", b"SSH-2.0-OpenSSH_9.2\r\n"])
async def test_silence_has_a_deadline(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "CONNECT_TIMEOUT", 0.05)
    async with server(lambda request: answer) as other:
        assert await dial(other) == "no connection in time"


async def test_an_address_without_a_node_is_reported_at_once() -> None:
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as listener:
        port = listener.socket.getsockname()[1]
    with pytest.raises(LinkClosed, match="no connection: "):
        async with WebsocketTransport("127.0.0.1", 1).connect(f"127.0.0.1:{port}"):
            pytest.fail("nobody listens there")


async def own_address() -> str:
    """An address of this machine that is not one of the loopback's, which all lead here in any case."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):
            await probe.connect(("192.0.2.1", 9))
        address = probe.getsockname()[0]
    if address == "0.0.0.0":
        pytest.skip("this machine has no network but the loopback")
    return f"{address}:7777"


Found = list[tuple[int, int, int, str, tuple[str, int]]]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every name have these addresses."""

    async def getaddrinfo(*args: object, **options: object) -> Found:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)


async def test_the_addresses_of_a_name_are_dialled_with_one_socket_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many a stranger's name server tells of: each would take one from the log."""
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as listener:
        nobody = ("127.0.0.1", listener.socket.getsockname()[1])
    before, most = len(descriptors()), 0  # those open when an address is about to be dialled
    connect = dialer._connect

    async def counted(*args: object) -> trio.SocketStream:
        nonlocal most
        most = max(most, len(descriptors()) - before)
        return await connect(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(dialer, "_connect", counted)
    resolve_to(monkeypatch, *[nobody] * 1000)
    with pytest.raises(LinkClosed, match="no connection: Connection refused"):
        async with WebsocketTransport("127.0.0.1", 1).connect("stranger:7777"):
            pytest.fail("nobody listens there")
    assert most == 0
    assert len(descriptors()) == before


async def test_an_address_that_does_not_answer_leaves_time_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    tried: list[tuple[float, str]] = []

    async def connect(family: int, protocol: int, sockaddr: tuple[str, int]) -> trio.SocketStream:
        tried.append((trio.current_time(), sockaddr[0]))
        if sockaddr[0] == "10.0.0.1":
            await trio.sleep_forever()
        raise OSError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(dialer, "_connect", connect)
    resolve_to(monkeypatch, ("10.0.0.1", 7777), ("10.0.0.2", 7777))
    started = trio.current_time()
    with pytest.raises(LinkClosed, match="no connection: Connection refused"):
        async with WebsocketTransport("127.0.0.1", 1).connect("two:7777"):
            pytest.fail("nobody listens there")
    assert tried == [(started, "10.0.0.1"), (pytest.approx(started + CONNECT_TIMEOUT / 2), "10.0.0.2")]


async def test_no_more_is_dialled_at_a_time_than_there_are_descriptors_for() -> None:
    transport = WebsocketTransport("127.0.0.1", 1, most=1)
    async with server(lambda request: accepted(request)) as other:
        async with transport.connect(other.address):
            with pytest.raises(LinkClosed, match="open-file limit"):
                async with transport.connect(other.address):
                    pytest.fail("there was no descriptor for it")
        async with transport.connect(other.address):
            pass


TROUBLE = [
    OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT)),
]


@pytest.mark.parametrize("trouble", TROUBLE, ids=str)
async def test_an_address_that_no_socket_can_be_made_for_is_not_the_nodes_own(
    trouble: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither used-up descriptors nor a member's IPv6 address on a machine without IPv6 may end the node."""

    def refuse(family: int, kind: int) -> None:
        raise trouble

    transport = WebsocketTransport("0.0.0.0", 7777)
    own = await own_address()
    assert await transport.is_self(own)
    monkeypatch.setattr(socket, "socket", refuse)
    assert not await transport.is_self(own)


async def test_the_places_of_so_many_names_only_are_remembered_as_members_can_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = False

    async def getaddrinfo(*args: object, **options: object) -> Found:
        if silent:
            raise OSError("the name server is silent")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    transport = WebsocketTransport("0.0.0.0", 7777)
    for number in range(MAX_NAMES):
        assert await transport.stands_for(f"name-{number}:7777")
        assert await transport.stands_for("member:7777")
    silent = True
    assert not await transport.stands_for("name-0:7777")
    assert await transport.stands_for("member:7777")
    assert await transport.stands_for(f"name-{MAX_NAMES - 1}:7777")


async def test_a_name_that_no_thread_can_be_started_to_look_up_is_dialled_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
    transport = WebsocketTransport("0.0.0.0", 7777)
    assert not await transport.is_self("somewhere:7777")
    with pytest.raises(LinkClosed, match="can't start new thread"):
        async with transport.connect("somewhere:7777"):
            pytest.fail("nobody could be dialled")


async def test_a_dial_that_is_cancelled_leaves_nothing_behind() -> None:
    async with server(lambda request: b"HTTP/1.1 101") as other:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dial, other)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught


EARLY = {
    "a message": frame(BINARY, b"early", masked=False),
    "many messages": frame(BINARY, b"early", masked=False) * 3000,
    "a ping": frame(PING, b"early", masked=False),
    "a masked frame": frame(BINARY, b"early"),
    "a close frame": frame(CLOSE, b"\x03\xe8", masked=False),
    "garbage": b"\xff" * 100,
    "half a frame": frame(BINARY, bytes(1000), masked=False)[:500],
}


@pytest.mark.parametrize("title", EARLY)
async def test_what_comes_with_the_answer_to_the_handshake_may_be_lost_but_breaks_nothing(title: str) -> None:
    """No node says anything before it is spoken to."""
    async with (
        server(lambda request: accepted(request) + EARLY[title], close) as other,
        WebsocketTransport("127.0.0.1", 1).connect(other.address) as link,
    ):
        link.post(b"hello")
        with contextlib.suppress(LinkError):
            while True:
                assert await link.receive() == b"early"


async def test_a_link_that_is_left_says_that_it_hangs_up() -> None:
    frames, heard = Frames(masked=True), []

    async def hear(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some():
            frames.feed(data)
            while (one := frames.next()) is not None:
                heard.append(one)

    async with server(accepted, hear) as other, WebsocketTransport("127.0.0.1", 1).connect(other.address) as link:
        link.post(b"hello")
    assert heard == [(BINARY, b"hello"), (CLOSE, NORMAL_CLOSURE)]
