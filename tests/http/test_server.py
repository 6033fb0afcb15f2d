"""The real server over loopback, with hostile and broken clients. No test may take it down."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from quart import request, websocket
from quart_trio import QuartTrio
from structlog.testing import capture_logs

from gcount.http.hypercorn import Http1Protocol, HttpService
from gcount.net.connection import Connection
from gcount.net.connection_pool import ConnectionPool
from gcount.net.connection_state import Inbound
from gcount.net.options import ConnectionOptions
from gcount.server import serve
from tests.http.served_node import PATIENCE, until

PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET /link HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
BODY_LIMIT = 65536


class Node:
    """A running server with a small application."""

    def __init__(self, connections: ConnectionPool) -> None:
        self.connections = connections
        self.shutdown = trio.Event()
        self.stopped = trio.Event()
        self.started = trio.Event()  # a request of /slow has begun
        self.go_on = trio.Event()  # lets the requests of /slow be answered
        self.received: list[object] = []
        self.port = 0
        self.app = QuartTrio("test")
        self.app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
        self.app.add_url_rule("/ping", view_func=self.ping)
        self.app.add_url_rule("/slow", view_func=self.slow, methods=["GET", "POST"])
        self.app.add_url_rule("/body", view_func=self.body, methods=["POST"])
        self.app.websocket("/link")(self.link)
        self.app.websocket("/flood")(self.flood)

    async def ping(self) -> str:
        return "pong\n"

    async def slow(self) -> str:
        self.started.set()
        await self.go_on.wait()
        return "done\n"

    async def body(self) -> str:
        return f"{len(await request.get_data())}\n"

    async def link(self) -> None:
        connection: Connection = websocket.scope["state"]["connection"]
        connection.become_link()
        while True:
            self.received.append(await websocket.receive())
            await websocket.send(b"ack")

    async def flood(self) -> None:
        for _ in range(20_000):
            await websocket.send(b"x" * 65536)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await serve(HttpService(self.app), listeners, self.connections, shutdown=self.shutdown, task_status=task_status)
        self.stopped.set()

    async def dial(self, data: bytes = b"") -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        await stream.send_all(data)
        return stream

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes, then read until the server closes; a reset counts as the end too."""
        received = bytearray()
        stream = await self.dial()
        with trio.fail_after(PATIENCE):
            async with stream:
                try:
                    await stream.send_all(data)
                    async for chunk in stream:
                        received += chunk
                except trio.BrokenResourceError:
                    pass
        return bytes(received)

    async def assert_serving(self) -> None:
        response = await self.exchange(b"GET /ping HTTP/1.0\r\n\r\n")
        assert response.endswith(b"\r\n\r\npong\n")


@asynccontextmanager
async def node(limit: int = 100, options: ConnectionOptions | None = None) -> AsyncIterator[Node]:
    """A node that still has to serve, and to have closed every connection, when the test is over."""
    made = Node(ConnectionPool(limit, options=options or ConnectionOptions()))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(made.run)
            yield made
            if not made.shutdown.is_set():
                await made.assert_serving()
            made.shutdown.set()
            await made.stopped.wait()
    assert len(made.connections) == 0


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    received = b""
    with trio.fail_after(PATIENCE):
        while not received.endswith(end):
            chunk = await stream.receive_some()
            assert chunk, f"closed after {received!r}"
            received += chunk
    return received


async def send_until_cut(stream: trio.SocketStream, data: bytes, most: int) -> int:
    """Send the same bytes again and again until the server cuts the connection; returns how many were taken."""
    sent = 0
    with contextlib.suppress(trio.BrokenResourceError):
        while sent < most:
            await stream.send_all(data)
            sent += len(data)
    return sent


def problem(response: bytes) -> dict[str, object]:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    found: dict[str, object] = json.loads(body)
    assert f"HTTP/1.1 {found['status']} ".encode() in head
    assert found.keys() == {"type", "title", "status", "detail", "code"}
    return found


async def test_a_stray_byte_after_an_upgrade_request_ends_only_its_connection() -> None:
    """In hypercorn, an error of one connection ends the whole server (its issue 225)."""
    async with node() as server:
        other = await server.dial()
        assert problem(await server.exchange(UPGRADE + b"\r\nX"))["status"] == 400
        await other.send_all(PING)
        await read_until(other, b"pong\n")
        await other.aclose()


async def test_an_error_inside_one_connection_is_logged_once_and_ends_only_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be any error, as another version of hypercorn may raise others."""
    handle = Http1Protocol.handle

    async def faulty(self: Http1Protocol, event: object) -> None:
        if b"boom" in getattr(event, "data", b""):
            raise ValueError("boom")
        await handle(self, event)  # type: ignore[arg-type]

    monkeypatch.setattr(Http1Protocol, "handle", faulty)
    with capture_logs() as logs:
        async with node() as server:
            other = await server.dial()
            for _ in range(20):
                assert await server.exchange(b"boom") == b""
            await other.send_all(PING)
            await read_until(other, b"pong\n")
            await other.aclose()
    failures = [entry for entry in logs if entry["event"] == "connection failed"]
    assert failures
    assert failures[0]["error"] == "ValueError"
    assert len(failures) < 20


@pytest.mark.parametrize(
    "data",
    [
        os.urandom(4096).replace(b"\n", b"") + b"\n\n",
        b"\0" * 100,
        b"\0" * 100_000,
        b"GET /ping HTTP/1.1\r\n\r\n",
        b"GET ?x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + PING,
        UPGRADE.replace(b"13", b"12") + b"\r\n",
        UPGRADE + b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
        UPGRADE.replace(b": Upgrade", b": Upgrade, \xff") + b"\r\n",
    ],
    ids=[
        "garbage",
        "nulls",
        "more nulls",
        "no host",
        "no path",
        "bad target",
        "connect",
        "length",
        "chunk",
        "framed twice",
        "version",
        "protocol",
        "option",
    ],
)
async def test_malformed_requests_get_a_400_problem_and_the_end_of_their_connection(data: bytes) -> None:
    with capture_logs() as logs:
        async with node() as server:
            assert problem(await server.exchange(data))["status"] == 400
    assert logs == []


async def test_errors_of_the_application_server_are_logged_once_in_a_while() -> None:
    with capture_logs() as logs:
        async with node() as server:
            answering = server.app.asgi_app

            async def failing(*_arguments: object) -> None:
                raise ZeroDivisionError

            server.app.asgi_app = failing  # type: ignore[method-assign,assignment]
            for _ in range(5):
                assert b" 500 " in await server.exchange(PING.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            server.app.asgi_app = answering  # type: ignore[method-assign]
    assert len(logs) < 5
    assert logs[0]["event"] == "application server failed"
    assert logs[0]["exc_info"]


async def test_headers_over_16_kib_get_a_431_problem() -> None:
    async with node() as server:
        response = await server.exchange(b"GET /ping HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n")
        assert problem(response)["status"] == 431


async def test_http2_gets_a_505_problem_and_an_offered_upgrade_to_it_is_ignored() -> None:
    async with node() as server:
        assert problem(await server.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))["status"] == 505
        offer = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        assert (await server.exchange(PING[:-2] + offer)).startswith(b"HTTP/1.1 200")


async def test_a_refused_head_request_has_no_body() -> None:
    async with node() as server:
        response = await server.exchange(b"HEAD ?x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 400")
        assert response.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "frames",
    [
        os.urandom(3000).replace(b"\x88", b"") or b"x",
        b"\x88\x80\0\0\0\0" + b"garbage after close",
        b"\xc2\x81\0\0\0\0X",
        b"\x02\x01x",
    ],
    ids=["garbage", "after close", "compressed", "unmasked"],
)
async def test_garbage_after_an_upgrade_ends_only_its_connection(frames: bytes) -> None:
    async with node() as server:
        stream = await server.dial(UPGRADE + b"\r\n")
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(frames)
        await stream.send_eof()
        await until(lambda: server.connections.links == 0)
        await stream.aclose()


async def test_compression_of_websockets_is_not_accepted() -> None:
    """hypercorn inflates a piece of input before it checks the size: 64 KiB become 64 MiB."""
    async with node() as server:
        stream = await server.dial(UPGRADE + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        response = await read_until(stream, b"\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 101")
        assert b"extensions" not in response.lower()
        await stream.aclose()


async def test_an_empty_binary_frame_does_not_end_the_server() -> None:
    """hypercorn passes it on as None."""
    async with node() as server:
        stream = await server.dial(UPGRADE + b"\r\n")
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"\x82\x80\0\0\0\0")
        await read_until(stream, b"ack")
        assert server.received == [None]
        await stream.aclose()


@pytest.mark.parametrize("framing", [b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"])
async def test_a_body_of_1_gib_is_answered_413_and_cut_off(framing: bytes) -> None:
    async with node() as server:
        stream = await server.dial(b"POST /body HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
        received = bytearray()

        async def read() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                async for chunk in stream:
                    received.extend(chunk)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            sent = await send_until_cut(stream, b"10000\r\n" + b"x" * 65536 + b"\r\n", 1 << 30)
        assert received.startswith(b"HTTP/1.1 413")
        assert sent < 32 * 1024 * 1024
        await stream.aclose()


async def test_an_endless_body_that_the_application_does_not_read_is_cut_off() -> None:
    async with node() as server:
        stream = await server.dial(b"POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = await send_until_cut(stream, b"10000\r\n" + b"x" * 65536 + b"\r\n", 1 << 30)
        assert sent < 32 * 1024 * 1024
        await stream.aclose()


async def test_a_huge_announced_body_is_answered_413_before_it_comes() -> None:
    async with node() as server:
        response = await server.exchange(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\nx")
        assert response.startswith(b"HTTP/1.1 413")


async def test_a_client_that_pipelines_and_never_reads_is_aborted() -> None:
    """hypercorn sends the answers under a shield and without a deadline."""
    async with node(options=ConnectionOptions(send_timeout=0.2)) as server:
        stream = await server.dial()
        sent = await send_until_cut(stream, PING * 1000, 100_000 * len(PING))
        assert sent < 100_000 * len(PING)
        await until(lambda: len(server.connections) == 0)
        await stream.aclose()


async def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    async with node() as server:
        last = PING[:-2] + b"Connection: close\r\n\r\n"
        assert (await server.exchange(PING * 49 + last)).count(b"pong\n") == 50


async def test_expect_100_continue_and_head_work() -> None:
    async with node() as server:
        stream = await server.dial(
            b"POST /body HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"abc")
        await read_until(stream, b"\r\n\r\n3\n")
        await stream.send_all(b"HEAD /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"content-length: 5" in await read_until(stream, b"\r\n\r\n")
        assert await stream.receive_some() == b""
        await stream.aclose()


async def test_a_client_that_dribbles_its_headers_is_displaced_like_an_idle_one() -> None:
    async with node(limit=2) as server:
        dribbler = await server.dial(b"GET /pi")
        await until(lambda: len(server.connections) == 1)
        used = await server.dial(PING)
        await read_until(used, b"pong\n")
        await dribbler.send_all(b"n")
        await server.assert_serving()
        assert await dribbler.receive_some() == b""
        await used.send_all(PING)
        await read_until(used, b"pong\n")
        await dribbler.aclose()
        await used.aclose()


async def test_unused_connections_are_closed_after_a_while() -> None:
    """Also those that have had a request: quart-trio would cancel hypercorn's timer of such a connection."""
    async with node(options=ConnectionOptions(keep_alive=0.3)) as server:
        fresh = await server.dial(b"GET /pi")
        used = await server.dial(PING)
        await read_until(used, b"pong\n")
        with trio.fail_after(PATIENCE):
            assert await fresh.receive_some() == b""
            assert await used.receive_some() == b""
        await fresh.aclose()
        await used.aclose()


async def test_at_the_limit_a_link_and_a_request_in_flight_are_kept() -> None:
    async with node(limit=3) as server:
        link = await server.dial(UPGRADE + b"\r\n")
        await read_until(link, b"\r\n\r\n")
        slow = await server.dial(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.started.wait()
        for _ in range(20):
            await (await server.dial()).aclose()
        await server.assert_serving()
        server.go_on.set()
        await read_until(slow, b"done\n")
        await link.send_all(b"\x82\x81\0\0\0\0x")
        await read_until(link, b"ack")
        await slow.aclose()
        await link.aclose()


async def test_a_request_is_served_among_2000_idle_connections_of_which_1000_are_displaced() -> None:
    async with node(limit=1000) as server:
        streams = [await server.dial() for _ in range(2000)]
        await until(lambda: server.connections.displaced >= 1000)
        assert len(server.connections) == 1000
        await server.assert_serving()
        for stream in streams:
            await trio.aclose_forcefully(stream)


EXHAUSTED = """
import resource, socket, sys
import trio
from quart_trio import QuartTrio
from gcount.http.hypercorn import HttpService
from gcount.net.connection_pool import ConnectionPool
from gcount.server import serve
from gcount.observe.throttle import Throttle

Throttle.__init__.__defaults__ = (0.0,)  # so that nothing but the server keeps it from logging again
app = QuartTrio("test")

@app.route("/ping")
async def ping():
    return "pong\\n"

def fail_thrice(listener):
    accept, failed, event = listener.accept, [], trio.Event()

    async def counted():
        try:
            return await accept()
        except OSError:
            failed.append(True)
            if len(failed) == 3:
                event.set()
            raise

    listener.accept = counted
    return event

async def main():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listeners[0].socket.getsockname()
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(
            HttpService(app), listeners, ConnectionPool(10_000), shutdown=shutdown, task_status=task_status))
        failed_thrice = fail_thrice(listeners[0])
        taken = []
        try:
            while True:
                taken.append(open("/dev/null"))
        except OSError:
            pass
        taken.pop().close()
        client = socket.socket()  # takes the last descriptor, so that accept() finds none
        client.setblocking(False)
        client.connect_ex(address)
        await failed_thrice.wait()
        for _ in range(3):
            taken.pop().close()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
        await stream.send_all(b"GET /ping HTTP/1.0\\r\\n\\r\\n")
        received = b"".join([chunk async for chunk in stream])
        assert received.endswith(b"pong\\n"), received
        await stream.aclose()
        shutdown.set()

resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
trio.run(main)
print("served")
"""


async def test_running_out_of_descriptors_is_survived_and_logged_once() -> None:
    with trio.fail_after(60):
        run = await trio.run_process(
            [sys.executable, "-c", EXHAUSTED],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=Path(__file__).parents[2],
        )
    output = run.stdout.decode()
    assert "served" in output, output
    assert output.count("cannot accept connections") == 1, output


async def test_shutdown_finishes_the_request_in_flight_and_takes_no_new_connection() -> None:
    async with node() as server:
        idle = await server.dial(PING)
        await read_until(idle, b"pong\n")
        slow = await server.dial(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.started.wait()
        server.shutdown.set()
        assert await idle.receive_some() == b""
        with pytest.raises(OSError, match="connect"):
            await server.dial()
        server.go_on.set()
        await read_until(slow, b"done\n")
        assert await slow.receive_some() == b""
        await server.stopped.wait()
        await idle.aclose()
        await slow.aclose()


@pytest.mark.parametrize("by", ["event", "cancel"])
async def test_shutdown_does_not_wait_for_a_websocket_peer_that_does_not_read(by: str) -> None:
    """hypercorn would wait for open websockets, and for a send that nothing can cancel."""
    server = Node(ConnectionPool(10))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        stream = await server.dial(UPGRADE.replace(b"/link", b"/flood") + b"\r\n")
        assert (await stream.receive_some(5)) == b"HTTP/"
        (connection,) = server.connections._busy
        await until(lambda: connection._sending.locked())
        begun = trio.current_time()
        if by == "event":
            server.shutdown.set()
        else:
            nursery.cancel_scope.cancel()
    assert trio.current_time() - begun < 3.0  # the promise is 1.5; a blocked send would take 10
    assert len(server.connections) == 0
    await stream.aclose()


async def test_shutdown_does_not_spend_its_grace_on_links() -> None:
    server = Node(ConnectionPool(10))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        stream = await server.dial(UPGRADE + b"\r\n")
        await read_until(stream, b"\r\n\r\n")
        await until(lambda: server.connections.links == 1)
        begun = trio.current_time()
        server.shutdown.set()
    assert trio.current_time() - begun < 0.9
    await stream.aclose()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /slow HTTP/1.0\r\n\r\n",
        b"POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["kept alive", "closing", "HTTP/1.0", "chunks"],
)
async def test_a_client_that_has_finished_sending_gets_its_answer(head: bytes) -> None:
    """hypercorn takes the end of the input for the end of the client."""
    async with node() as server:
        stream = await server.dial(head)
        await server.started.wait()
        (connection,) = server.connections._busy
        await stream.send_eof()
        await until(lambda: connection.inbound is Inbound.FINISHED)
        await trio.testing.wait_all_tasks_blocked(0.01)
        server.go_on.set()
        await read_until(stream, b"\r\n\r\ndone\n")
        assert await stream.receive_some() == b""
        await stream.aclose()


async def test_a_client_that_finishes_sending_in_the_middle_of_a_request_gets_an_error() -> None:
    async with node() as server:
        stream = await server.dial(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na")
        await stream.send_eof()
        received = b"".join([chunk async for chunk in stream])
        assert problem(received)["status"] == 400
        await stream.aclose()


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
async def test_a_connection_whose_client_left_during_its_request_does_not_stay(reset: bool) -> None:
    """hypercorn ends a request whose answer cannot be sent without saying so."""
    async with node() as server:
        for _ in range(10):
            stream = await server.dial(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            await server.started.wait()
            if reset:
                stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
            await trio.aclose_forcefully(stream)
            await trio.testing.wait_all_tasks_blocked(0.01)
            server.go_on.set()
            with trio.fail_after(PATIENCE):
                await until(lambda: len(server.connections) == 0)
            server.started, server.go_on = trio.Event(), trio.Event()


@pytest.mark.parametrize("closing", [b"HTTP/1.1\r\nHost: x\r\nConnection: close", b"HTTP/1.0"])
async def test_input_after_the_last_request_of_a_connection_is_ignored(closing: bytes) -> None:
    """It does not get a 400 instead of the answer to the request, which may have changed something by then."""
    async with node() as server:
        head = b"GET /slow " + closing + b"\r\n\r\n"
        for together in (True, False):
            stream = await server.dial(head + PING if together else head)
            await server.started.wait()
            if not together:
                await stream.send_all(PING)
            await trio.testing.wait_all_tasks_blocked(0.01)
            server.go_on.set()
            received = await read_until(stream, b"\r\n\r\ndone\n")
            assert received.startswith(b"HTTP/1.1 200 ")
            assert await stream.receive_some() == b""
            await stream.aclose()
            server.started, server.go_on = trio.Event(), trio.Event()
