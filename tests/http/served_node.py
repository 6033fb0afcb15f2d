"""A node behind the real server, with the fast path or without it, and a client that sees every byte of its answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any, TypeVar

import trio

from gcount.http.app import make_app
from gcount.http.fast_path import FastPath
from gcount.http.hypercorn import HttpService
from gcount.net.connection import Connection
from gcount.net.connection_pool import ConnectionPool
from gcount.net.options import ConnectionOptions
from gcount.net.stream import Stream
from gcount.node.node import Node
from gcount.server import serve
from tests.fakes.cluster import open_alone
from tests.fakes.disk import SimDisk
from tests.fakes.streams import StreamSocket, chosen, open_stream
from tests.harness.http_connection import Closed, HttpConnection

T = TypeVar("T")

ADDRESS = "10.0.0.1:7777"
PATIENCE = 20.0  # seconds
PATHS = ["fast path", "application"]


class GatedDisk(SimDisk):
    """A disk on which every operation waits while its gate is shut."""

    def __init__(self) -> None:
        super().__init__(Random(0))
        self.gate = trio.Event()
        self.gate.set()

    def shut(self) -> None:
        self.gate = trio.Event()

    async def run(self, operation: Callable[[], T], *, brief: bool = False, background: bool = False) -> T:
        await self.gate.wait()
        return await super().run(operation, brief=brief, background=background)


class Served:
    """A node alone, behind the real server, with the fast path or without it.

    Attributes:
        asked: how many requests and websockets came to the application.
    """

    def __init__(self, node: Node, disk: GatedDisk, *, fast: bool, connections: ConnectionPool) -> None:
        self.node = node
        self.disk = disk
        self.app = make_app(node)
        self.connections = connections
        self.shutdown = trio.Event()
        self.stopped = trio.Event()
        self.asked = 0
        self.streams: list[Stream] = []  # of the clients
        self._fast_path = FastPath(node) if fast else None
        self.port = 0

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await serve(
            HttpService(self._application, self._fast_path),
            listeners,
            self.connections,
            shutdown=self.shutdown,
            wrap=chosen.wrap,
            task_status=task_status,
        )
        self.stopped.set()

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await self.app(scope, receive, send)

    async def connect(self) -> Stream:
        self.streams.append(await open_stream(self.port))
        return self.streams[-1]

    async def dial(self) -> Client:
        known = set(self.all())
        stream = await self.connect()
        await until(lambda: len(set(self.all()) - known) == 1)
        (connection,) = set(self.all()) - known
        return Client(stream, connection)

    def all(self) -> list[Connection]:
        return [*self.connections._idle, *self.connections._busy]

    async def exchange(self, data: bytes) -> bytes:
        """Send some bytes; returns all answers until the server closes, without their dates."""
        client = await self.dial()
        await client.send(data)
        return await client.rest()

    def counts(self) -> list[str]:
        """The lines of /metrics that count requests."""
        return sorted(re.findall(r"^gcount_http_requests_total\{.*$", self.node.metrics.text().decode(), re.MULTILINE))


class Client:
    """The client's end of a connection.

    Attributes:
        connection: the server's end.
    """

    def __init__(self, stream: Stream, connection: Connection) -> None:
        self.stream = stream
        self.connection = connection
        self._sent = 0
        self._http = HttpConnection(StreamSocket(stream))

    async def send(self, data: bytes) -> None:
        self._sent += len(data)
        await self.stream.send_all(data)

    async def send_alone(self, data: bytes) -> None:
        """Send a segment, and wait until the server has taken it or has closed the connection."""
        await self.send(data)
        stream = self.connection.stream
        await until(lambda: stream.bytes_in == self._sent or stream.descriptor == -1)

    async def answer(self, *, head: bool = False) -> bytes:
        """The next answer, with interim ones before it; less if the server closes."""
        with trio.fail_after(PATIENCE):
            try:
                return undated(b"".join(await self._http.answer(head=head)))
            except Closed as closed:
                return undated(closed.received)

    async def rest(self) -> bytes:
        """All input until the server closes."""
        with trio.fail_after(PATIENCE):
            return undated(await self._http.rest())


def undated(answers: bytes) -> bytes:
    """Answers without the dates; the other fields sorted, their names in lower case, as neither means anything."""

    def plain(head: re.Match[bytes]) -> bytes:
        fields = [field.partition(b":") for field in head[2].split(b"\r\n") if field]
        known = sorted((name.lower(), value) for name, _, value in fields if name.lower() != b"date")
        return head[1] + b"".join(name + b":" + value + b"\r\n" for name, value in known) + b"\r\n"

    return re.sub(rb"(HTTP/1\.1 [^\r]*\r\n)((?:[^\r]+\r\n)*)\r\n", plain, answers)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.001)


@asynccontextmanager
async def served(
    path: str = "fast path",
    *,
    actors: Sequence[str] = (ADDRESS,),
    max_counters: int = 1000,
    limit: int = 100,
    recovered: bool = True,
    options: ConnectionOptions | None = None,
) -> AsyncIterator[Served]:
    """A node that serves on either path while the context lasts, and has closed every connection at the end."""
    disk = GatedDisk()
    if not recovered:
        disk.shut()
    with trio.fail_after(60):
        async with (
            open_alone(disk, address=ADDRESS, timeout=0.3, max_counters=max_counters) as node,
            trio.open_nursery() as nursery,
        ):
            connections = ConnectionPool(limit, options=options or ConnectionOptions())
            made = Served(node, disk, fast=path == "fast path", connections=connections)
            await nursery.start(made.run)
            if recovered:
                await node.wait_ready()
                await node.configure({"actors": list(actors)})
            try:
                yield made
            finally:
                for stream in made.streams:
                    stream.close()
            disk.gate.set()
            made.shutdown.set()
            await made.stopped.wait()
            assert len(made.connections) == 0


@asynccontextmanager
async def both(**options: Any) -> AsyncIterator[tuple[Served, Served]]:
    """Two equal nodes, one behind the fast path, one behind the application alone."""
    async with AsyncExitStack() as stack:
        fast = await stack.enter_async_context(served("fast path", **options))
        application = await stack.enter_async_context(served("application", **options))
        yield fast, application


def post(name: bytes, body: bytes, *fields: bytes) -> bytes:
    lines = [b"POST /counter/" + name + b" HTTP/1.1", b"Host: h", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def once(name: bytes, body: bytes, id_: bytes, *fields: bytes) -> bytes:
    return post(name, body, b"Idempotency-Key: " + id_, *fields)


def put(name: bytes, id_: bytes, body: bytes, *fields: bytes) -> bytes:
    return post(name + b"/sources/" + id_, body, *fields).replace(b"POST", b"PUT")


def source(name: bytes, id_: bytes, *fields: bytes) -> bytes:
    return get(b"/counter/" + name + b"/sources/" + id_, *fields)


def get(target: bytes, *fields: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([method + b" " + target + b" " + version, b"Host: h", *fields]) + b"\r\n\r\n"


def value(name: bytes, *fields: bytes) -> bytes:
    return get(b"/counter/" + name + b"/value", *fields)


def consistent(name: bytes, *fields: bytes) -> bytes:
    return get(b"/counter/" + name + b"/consistent_value", *fields)


LAST = value(b"last", b"Connection: close")
CHUNKED = b"POST /counter/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n5\r\n0\r\n\r\n"


async def one_by_one(client: Client, requests: Sequence[bytes]) -> bytes:
    """Send each request after the answer to the one before."""
    answers = b""
    for request in requests:
        await client.send(request)
        answers += await client.answer(head=request.startswith(b"HEAD"))
    return answers + await client.rest()


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ", answers)]
