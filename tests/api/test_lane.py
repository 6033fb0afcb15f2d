"""The fast lane and the application: the same node, the same requests, and the same bytes in answer."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
import trio
import trio.testing
from hypercorn.events import Event
from structlog.testing import capture_logs

from gcount.api.connections import Connection, Connections
from gcount.api.http import make_app
from gcount.api.lane import Lane
from gcount.api.protocol import Protocol
from gcount.api.server import serve
from gcount.node import Node, open_node
from gcount.settings import Settings
from tests.simulation.disk import SimDisk
from tests.simulation.network import SimNetwork

T = TypeVar("T")

ADDRESS, SILENT = "10.0.0.1:7777", "10.0.0.2:7777"
MOST = 2**64 - 1
PATIENCE = 20.0
PATHS = ["lane", "application"]


class GatedDisk(SimDisk):
    """A disk that keeps everybody waiting while its gate is shut."""

    def __init__(self) -> None:
        super().__init__(Random(0))
        self.gate = trio.Event()
        self.gate.set()

    def shut(self) -> None:
        self.gate = trio.Event()

    async def run(self, operation: Callable[[], T]) -> T:
        await self.gate.wait()
        return await super().run(operation)


class Served:
    """A node alone, behind the real server, with the lane or without it.

    Attributes:
        asked: how many requests and websockets came to the application.
    """

    def __init__(self, node: Node, disk: GatedDisk, *, laned: bool, limit: int = 100) -> None:
        self.node = node
        self.disk = disk
        self.app = make_app(node)
        self.connections = Connections(limit)
        self.shutdown = trio.Event()
        self.stopped = trio.Event()
        self.asked = 0
        self.sockets: list[trio.socket.SocketType] = []  # of the clients
        self._lane = Lane(node) if laned else None
        self._port = 0

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self._port = listeners[0].socket.getsockname()[1]
        await serve(
            self._application,
            listeners,
            self.connections,
            shutdown=self.shutdown,
            lane=self._lane,
            task_status=task_status,
        )
        self.stopped.set()

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await self.app(scope, receive, send)

    async def connect(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        self.sockets.append(stream.socket)
        return stream

    async def dial(self) -> Client:
        known = set(self.all())
        stream = await self.connect()
        await until(lambda: len(set(self.all()) - known) == 1)
        (connection,) = set(self.all()) - known
        return Client(stream, connection)

    def all(self) -> list[Connection]:
        return [*self.connections._idle, *self.connections._busy]

    async def exchange(self, data: bytes) -> bytes:
        """What is answered to some bytes until the server closes, but for the dates."""
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

    def __init__(self, stream: trio.SocketStream, connection: Connection) -> None:
        self.stream = stream
        self.connection = connection
        self._sent = 0
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        self._sent += len(data)
        await self.stream.send_all(data)

    async def send_alone(self, data: bytes) -> None:
        """Send a segment that the server takes before anything else comes, unless it has hung up."""
        await self.send(data)
        await until(lambda: self.connection.bytes_in == self._sent or self.connection.socket.fileno() == -1)

    async def answer(self, *, head: bool = False) -> bytes:
        """The next answer, and interim ones before it; less when the server closes."""
        found = b""
        while True:
            part = await self._until(b"\r\n\r\n")
            found += part
            if not part.startswith(b"HTTP/1.1 1"):
                break
        length = re.search(rb"content-length: ([0-9]+)", found.lower())
        size = 0 if head or length is None else int(length[1])
        while len(self._buffer) < size and await self._more():
            pass
        found += self._buffer[:size]
        self._buffer = self._buffer[size:]
        return undated(found)

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        while await self._more():
            pass
        return undated(self._buffer)

    async def _until(self, end: bytes) -> bytes:
        while end not in self._buffer and await self._more():
            pass
        found, mark, self._buffer = self._buffer.partition(end)
        return found + mark

    async def _more(self) -> bool:
        try:
            with trio.fail_after(PATIENCE):
                data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return False
        self._buffer += data
        return data != b""


def undated(answers: bytes) -> bytes:
    """Answers without the dates; the other fields sorted, their names in lower case, as neither means anything."""

    def plain(head: re.Match[bytes]) -> bytes:
        fields = [field.partition(b":") for field in head[2].split(b"\r\n") if field]
        known = sorted((name.lower(), value) for name, _, value in fields if name.lower() != b"date")
        return head[1] + b"".join(name + b":" + value + b"\r\n" for name, value in known) + b"\r\n"

    return re.sub(rb"(HTTP/1\.1 [^\r]*\r\n)((?:[^\r]+\r\n)*)\r\n", plain, answers)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that no event tells; fails with the time limit of the test."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.001)


@asynccontextmanager
async def served(
    path: str = "lane",
    *,
    actors: Sequence[str] = (ADDRESS,),
    max_counters: int = 1000,
    limit: int = 100,
    recovered: bool = True,
) -> AsyncIterator[Served]:
    """A node that serves, on either path, for as long as the context lasts, and lets go of every connection then."""
    disk = GatedDisk()
    if not recovered:
        disk.shut()
    settings = Settings(1, "10.0.0.1", 7777, Path("/data"), 0.3, "", max_counters, "text")
    transport = SimNetwork(Random(0), delay=(0.0, 0.0)).transport(ADDRESS)
    with trio.fail_after(60):
        async with (
            open_node(settings, disk, transport, random=Random(0), wall_clock=lambda: 1.7e9) as node,
            trio.open_nursery() as nursery,
        ):
            made = Served(node, disk, laned=path == "lane", limit=limit)
            await nursery.start(made.run)
            if recovered:
                await node.wait_ready()
                await node.configure({"actors": list(actors)})
            try:
                yield made
            finally:
                for socket in made.sockets:
                    socket.close()
            disk.gate.set()
            made.shutdown.set()
            await made.stopped.wait()
            assert len(made.connections) == 0


@asynccontextmanager
async def both(**options: Any) -> AsyncIterator[tuple[Served, Served]]:
    """Two nodes alike, one behind the lane, one behind the application alone."""
    async with AsyncExitStack() as stack:
        lane = await stack.enter_async_context(served("lane", **options))
        application = await stack.enter_async_context(served("application", **options))
        yield lane, application


def post(name: bytes, body: bytes, *fields: bytes) -> bytes:
    lines = [b"POST /counter/" + name + b" HTTP/1.1", b"Host: h", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def get(target: bytes, *fields: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([method + b" " + target + b" " + version, b"Host: h", *fields]) + b"\r\n\r\n"


def value(name: bytes, *fields: bytes) -> bytes:
    return get(b"/counter/" + name + b"/value", *fields)


def consistent(name: bytes, *fields: bytes) -> bytes:
    return get(b"/counter/" + name + b"/consistent_value", *fields)


LAST = value(b"last", b"Connection: close")
UPGRADE = get(
    b"/link",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def one_by_one(client: Client, requests: Sequence[bytes]) -> bytes:
    """Send each request after the answer to the one before."""
    answers = b""
    for request in requests:
        await client.send(request)
        answers += await client.answer(head=request.startswith(b"HEAD"))
    return answers + await client.rest()


async def at_once(client: Client, requests: Sequence[bytes]) -> bytes:
    """Send all requests in one segment."""
    await client.send(b"".join(requests))
    return await client.rest()


async def head_then_body(client: Client, requests: Sequence[bytes]) -> bytes:
    """Send each body after its head has arrived."""
    answers = b""
    for request in requests:
        head, end, body = request.partition(b"\r\n\r\n")
        await client.send_alone(head + end)
        await client.send(body)
        answers += await client.answer(head=request.startswith(b"HEAD"))
    return answers + await client.rest()


Way = Callable[[Client, Sequence[bytes]], Awaitable[bytes]]
WAYS: tuple[Way, ...] = (one_by_one, at_once, head_then_body)


@dataclass
class Case:
    """Requests on one connection, after which `LAST` ends it.

    Attributes:
        requests: one after the other.
        statuses: what is answered; fewer than there are requests when the connection ends before.
        plain: how many requests the lane answers itself when each comes alone; the last one not counted.
        ways: in which the requests may be sent.
        options: of the node.
    """

    requests: list[bytes]
    statuses: list[int]
    plain: int
    ways: tuple[Way, ...]
    options: dict[str, Any]


def case(
    requests: list[bytes], statuses: list[int], plain: int = 0, *, ways: tuple[Way, ...] = WAYS, **options: Any
) -> Case:
    return Case(requests, statuses, plain, ways, options)


def good(*requests: bytes, **options: Any) -> Case:
    return case(list(requests), [200] * len(requests), len(requests), **options)


def odd(*requests: bytes, status: int = 200, **options: Any) -> Case:
    return case(list(requests), [status] * len(requests), **options)


BIG = b"%d" % MOST
CHUNKED = b"POST /counter/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n5\r\n0\r\n\r\n"
CASES = {
    "increments": good(post(b"a", b"1"), post(b"a", b"0"), post(b"b", b"7"), post(b"a", BIG[:-1]), value(b"a")),
    "an increment by nothing": good(post(b"a", b"0"), value(b"a")),
    "the most": good(post(b"a", BIG), value(b"a"), consistent(b"a")),
    "white space": good(
        post(b"a", b" 5\r\n"), post(b"a", b"\t\v\f 5 \n\n"), post(b"a", b"0005"), post(b"a", b"5" + b" " * 900)
    ),
    "values": good(value(b"a"), post(b"a", b"3"), value(b"a"), value(b"b")),
    "consistent values": good(consistent(b"a"), post(b"a", b"3"), consistent(b"a"), consistent(b"b")),
    "names": good(
        *(post(name, b"1") for name in (b"-._~!$&'()*+,;=:@", b"%20", b"%25", b"%C3%A9", b"value", b"%41", b"A"))
    ),
    "dots": good(post(b".", b"1"), post(b"..", b"1"), value(b"."), value(b".."), value(b"%2e%2E"), post(b"...", b"1")),
    "255 bytes": good(post(b"a" * 255, b"1"), post(b"%C3%A9" * 127 + b"a", b"1"), consistent(b"a" * 255)),
    "keep-alive": good(value(b"a", b"Connection: keep-alive"), post(b"a", b"1", b"connection:Keep-Alive")),
    "harmless fields": good(post(b"a", b"1", b"Content-Type: application/x-www-form-urlencoded", b"Cookie: a=b;c")),
    "forms": good(post(b"a", b"1", b"Content-Type: multipart/form-data; boundary=x", b"Content-Encoding: gzip")),
    "many fields": good(value(b"a", *(b"X-%d: %s" % (n, b"y" * 50) for n in range(100)))),
    "a condition": good(value(b"a", b"If-None-Match: *", b"Range: bytes=0-0", b"If-Modified-Since: x")),
    "another scheme": good(value(b"a", b"X-Forwarded-Proto: https", b"X-HTTP-Method-Override: POST", b"Forwarded: x")),
    "closing": case([value(b"a", b"Connection: close")], [200], 1),
    "closing after an increment": case([post(b"a", b"2", b"Connection: Close")], [200], 1),
    "bad amounts": odd(
        *(
            post(b"a", body)
            for body in (b"", b" ", b"+1", b"-1", b"1.0", b"1_0", b"1 1", b"0x1", b"\xb2", b"x", b"1\0")
        ),
        *(post(b"a", body) for body in (b"%d" % (MOST + 1), b"9" * 400, b"9" * 999, b"\xd9\xa1", b"1e3")),
        status=400,
    ),
    "4,301 digits": odd(post(b"a", b"9" * 4301), post(b"a", b"0" * 4301 + b"x"), status=400),
    "long but right": odd(post(b"a", b"0" * 4301 + b"7"), post(b"a", b" " * 1000 + b"7")),
    "too long": odd(post(b"a", b"1" * 65_537), status=413),
    "bad names of counters to increment": odd(
        *(post(name, b"1") for name in (b"%00", b"%2F", b"a%2fb", b"%zz", b"%", b"%4", b"%ff", b"%C3", b"%0A", b"%7f")),
        status=400,
        ways=(one_by_one, at_once),  # whoever sees the name before the body comes refuses it, and closes
    ),
    "bad names": odd(
        *(value(name) for name in (b"%00", b"%2F", b"%zz", b"%ff", b"a" * 256, b"%C3%A9" * 128, b"%C2%80")),
        *(consistent(name) for name in (b"%00", b"%2F", b"%zz", b"%ff", b"a" * 256)),
        status=400,
    ),
    "no name": odd(value(b""), consistent(b""), post(b"", b"1"), status=400, ways=(one_by_one, at_once)),
    "bad bytes in a name": case([value(b"\xc3\xa9")], [400]),
    "other routes": odd(get(b"/counter/a/b/value"), get(b"/counter"), get(b"/counter/a/valu"), get(b"/"), status=404),
    "a slash at the end": odd(get(b"/counter/a/value/"), post(b"a/", b""), get(b"/counter/a/"), status=404),
    "wrong methods": odd(
        get(b"/counter/a"),
        post(b"a/value", b""),
        post(b"a/consistent_value", b""),
        get(b"/counter/a/value", b"Content-Length: 0", method=b"PUT"),
        get(b"/counter/a", method=b"DELETE"),
        get(b"/counter/a/value", method=b"BREW"),
        status=405,
    ),
    "queries": odd(get(b"/counter/a/value?x=1"), get(b"/counter/a/consistent_value?timeout=0.2"), post(b"a?5", b"1")),
    "a bad query": odd(get(b"/counter/a/consistent_value?timeout=x"), status=400),
    "absolute": odd(get(b"http://h/counter/a/value")),
    "a body of a GET": odd(get(b"/counter/a/value", b"Content-Length: 1") + b"1", value(b"a", b"Content-Length: 0")),
    "no length": odd(b"POST /counter/a HTTP/1.1\r\nHost: h\r\n\r\n", status=400),
    "chunks": odd(CHUNKED, CHUNKED),
    "expecting": odd(post(b"a", b"5", b"Expect: 100-continue")),
    "an offered upgrade": odd(value(b"a", b"Connection: Upgrade", b"Upgrade: h2c")),
    "a list of options": odd(value(b"a", b"Connection: keep-alive, x"), post(b"a", b"1", b"TE: trailers")),
    "bare line feeds": odd(value(b"a").replace(b"\r\n", b"\n"), post(b"a", b"1").replace(b"\r\n", b"\n")),
    "folded": odd(value(b"a", b"A: b\r\n c")),
    "HTTP/1.0": case([get(b"/counter/a/value", version=b"HTTP/1.0")], [200]),
    "HTTP/1.0 kept alive": case([get(b"/counter/a/value", b"Connection: keep-alive", version=b"HTTP/1.0")], [200]),
    "an increment by HTTP/1.0": case([post(b"a", b"4").replace(b"HTTP/1.1", b"HTTP/1.0")], [200]),
    "HTTP/2": case([value(b"a").replace(b"HTTP/1.1", b"HTTP/2.0")], [505]),
    "two hosts": case([value(b"a", b"Host: h")], [400]),
    "no host": case([b"GET /counter/a/value HTTP/1.1\r\n\r\n"], [400]),
    "strange hosts": good(
        *(value(b"a").replace(b" h\r", b" " + host + b"\r") for host in (b"", b"[::1]:80", b"h:80", b"_"))
    ),
    "two lengths": case([post(b"a", b"1", b"Content-Length: 2")], [400]),
    "two ways to frame": case([post(b"a", b"1", b"Transfer-Encoding: chunked")], [400], ways=(at_once,)),
    "white space before a colon": case([post(b"a", b"1", b"Content-Length : 0")], [400]),
    "a bad field": case([value(b"a", b"A: \0")], [400]),
    "garbage": case([b"\x16\x03\x01\x02\x00\x01\r\n\r\n"], [400]),
    "garbage after plain requests": case([value(b"a"), post(b"a", b"1"), b"\0\0\r\n\r\n"], [200, 200, 400], 2),
    "garbage that begins well": case([value(b"a"), b"GET /counter/\0\r\n\r\n"], [200, 400], 1),
    "plain and not": case(
        [
            post(b"a", b"1"),
            get(b"/ping"),
            value(b"a"),
            post(b"a", b"x"),
            CHUNKED,
            value(b"a"),
            get(b"/x"),
            consistent(b"a"),
        ],
        [200, 200, 200, 400, 200, 200, 404, 200],
        4,
    ),
    "the node's own part is full": case([post(b"a", BIG), post(b"a", b"1"), value(b"a")], [200, 409, 200], 3),
    "the limit of counters": case(
        [post(b"a", b"1"), post(b"b", b"1"), post(b"c", b"1"), post(b"a", b"1"), value(b"c")],
        [200, 200, 503, 200, 200],
        5,
        max_counters=2,
    ),
    "a member that does not answer": case(
        [post(b"a", b"3"), consistent(b"a"), value(b"a")], [200, 503, 200], 3, actors=(ADDRESS, SILENT)
    ),
}


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ", answers)]


@pytest.mark.parametrize(
    ("tried", "way"),
    [pytest.param(tried, way, id=f"{name}, {way.__name__}") for name, tried in CASES.items() for way in tried.ways],
)
async def test_the_same_requests_have_the_same_answers(tried: Case, way: Way) -> None:
    found = []
    async with both(**tried.options) as (lane, application):
        for server in (lane, application):
            client = await server.dial()
            found.append(await way(client, [*tried.requests, LAST]))
            await client.stream.aclose()
    assert found[0] == found[1]
    lasts = statuses(found[0]) == [*tried.statuses, 200]
    assert lasts or statuses(found[0]) == tried.statuses
    assert lane.counts() == application.counts()
    if way is one_by_one:
        assert application.asked - lane.asked == tried.plain + lasts
    if tried.plain == len(tried.requests):
        assert lane.asked == 0


MIXED = [post(b"a", b"1"), value(b"a"), CHUNKED, get(b"/ping"), post(b"a", b"x"), consistent(b"a"), get(b"/x"), LAST]
ANSWERS = [b"1\n", b"1\n", b"6\n", b"pong", b"}\n", b"6\n", b"}\n", b"0\n"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("most", [1, 7, 100])
async def test_requests_that_come_in_pieces_are_answered_in_order(path: str, most: int) -> None:
    async with served(path) as server:
        client = await server.dial()
        data, random = b"".join(MIXED), Random(most)
        while data:
            size = random.randint(1, most)
            await client.send_alone(data[:size])
            data = data[size:]
        for body in ANSWERS:
            assert (await client.answer()).endswith(body)
        assert await client.rest() == b""


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_that_does_not_come_is_answered_408(path: str) -> None:
    async with served(path) as server:
        server.app.config["BODY_TIMEOUT"] = 0.2
        client = await server.dial()
        await client.send(post(b"a", b"123")[:-2])
        assert statuses(await client.rest()) == [408]
        assert server.node.value("a") == 0


@pytest.mark.parametrize(
    ("begun", "more"),
    [(b"GET /counter/", b"a"), (post(b"a", b"1" * 200)[:-199], b"1")],
    ids=["head", "body"],
)
async def test_what_comes_too_slowly_is_left_to_the_application(
    begun: bytes, more: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own limits count then, also for who sends a byte now and then."""
    monkeypatch.setattr("gcount.api.lane._WHOLE_WITHIN", 0.1)
    async with served() as server:
        client = await server.dial()
        handled = []
        handle = Protocol.handle

        async def noted(self: Protocol, event: Event) -> None:
            handled.append(event)
            await handle(self, event)

        monkeypatch.setattr(Protocol, "handle", noted)
        await client.send(begun)
        for _ in range(100):
            if handled:
                break
            await client.send(more)
            await trio.sleep(0.04)
        assert handled, "the lane waits for ever"
        await client.stream.aclose()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "request_",
    [
        post(b"a", b"5"),
        post(b"a", b"5", b"Connection: close"),
        post(b"a", b"5", b"Expect: x"),
        post(b"a", b"5").replace(b"HTTP/1.1", b"HTTP/1.0"),
        CHUNKED,
        post(b"a", b"2") + post(b"a", b"3"),
        post(b"a", b"2") + CHUNKED.replace(b"\r\n5\r", b"\r\n3\r"),
    ],
    ids=["plain", "closing", "unusual", "HTTP/1.0", "chunks", "two", "two kinds"],
)
async def test_a_client_that_finishes_sending_right_after_its_request_gets_its_answer(
    path: str, request_: bytes
) -> None:
    async with served(path) as server:
        client = await server.dial()
        server.disk.shut()
        await client.send(request_)
        await client.stream.send_eof()
        await trio.testing.wait_all_tasks_blocked(0.05)
        server.disk.gate.set()
        answers = await client.rest()
        assert set(statuses(answers)) == {200}
        assert answers.endswith(b"\r\n\r\n5\n")


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_leaves_in_the_middle_of_its_request_changes_nothing(path: str) -> None:
    async with served(path) as server:
        for size in range(1, len(post(b"a", b"55")), 5):
            client = await server.dial()
            await client.send(post(b"a", b"55")[:size])
            await client.stream.aclose()
        await until(lambda: not server.all())
        assert server.node.value("a") == 0


@pytest.mark.parametrize("path", PATHS)
async def test_an_increment_under_way_outlives_the_client_that_sent_it(path: str) -> None:
    """Hazard 5."""
    async with served(path) as server:
        client = await server.dial()
        server.disk.shut()
        await client.send(post(b"a", b"5"))
        await until(lambda: client.connection.busy)
        await trio.testing.wait_all_tasks_blocked(0.02)
        await trio.aclose_forcefully(client.stream)
        server.disk.gate.set()
        await until(lambda: server.node.value("a") == 5)
        await until(lambda: not server.all())


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_does_not_read_its_answers_is_aborted(path: str) -> None:
    """Hazard 3."""
    async with served(path) as server:
        server.connections.send_timeout = 0.2
        client = await server.dial()
        for socket in (client.stream.socket, client.connection.socket):
            for option in (trio.socket.SO_RCVBUF, trio.socket.SO_SNDBUF):
                socket.setsockopt(trio.socket.SOL_SOCKET, option, 4096)
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await client.send(value(b"a") * 100)
        await until(lambda: not server.all())
        await client.stream.aclose()


async def test_a_websocket_can_be_opened_after_plain_requests() -> None:
    found = []
    async with both() as (lane, application):
        for server in (lane, application):
            client = await server.dial()
            await client.send(value(b"a"))
            await client.answer()
            await client.send(post(b"a", b"1") + UPGRADE)
            found.append([await client.answer(), await client.answer()])
            await until(lambda: server.asked > 0)  # noqa: B023
            await client.stream.aclose()
            await until(lambda: len(server.connections) == 0)  # noqa: B023
    assert found[0] == found[1]
    assert found[0][1].startswith(b"HTTP/1.1 101 ")
    assert (lane.asked, application.asked) == (1, 3)


@pytest.mark.parametrize("path", PATHS)
async def test_at_the_end_increments_under_way_are_answered_and_idle_connections_closed(path: str) -> None:
    async with served(path) as server:
        idle, used, partial, busy = [await server.dial() for _ in range(4)]
        await used.send(value(b"a"))
        await used.answer()
        await partial.send_alone(b"GET /counter/a/val")
        server.disk.shut()
        await busy.send(post(b"a", b"5"))
        await until(lambda: busy.connection.busy)
        await trio.testing.wait_all_tasks_blocked(0.02)
        server.shutdown.set()
        for client in (idle, used, partial):
            assert await client.rest() == b""
        server.disk.gate.set()
        answer = await busy.answer()
        assert statuses(answer) == [200]
        assert answer.endswith(b"\r\n\r\n5\n")
        assert path == "application" or b"\r\nconnection: close\r\n" in answer
        assert await busy.rest() == b""
        await server.stopped.wait()


@pytest.mark.parametrize("path", PATHS)
async def test_at_the_end_nothing_that_follows_the_request_under_way_is_answered(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        server.disk.shut()
        await client.send(post(b"a", b"5") + post(b"a", b"7"))
        await until(lambda: client.connection.busy)
        await trio.testing.wait_all_tasks_blocked(0.02)
        server.shutdown.set()
        await trio.testing.wait_all_tasks_blocked(0.02)
        server.disk.gate.set()
        assert statuses(await client.rest()) == [200]
        await server.stopped.wait()
        assert server.node.value("a") == 5


@pytest.mark.parametrize("path", PATHS)
async def test_before_the_node_has_recovered_requests_wait_for_it(path: str) -> None:
    async with served(path, recovered=False) as server:
        client = await server.dial()
        await client.send(value(b"a"))
        await until(lambda: server.asked == 1)
        server.disk.gate.set()
        assert (await client.answer()).endswith(b"\r\n\r\n0\n")
        await until(lambda: not client.connection.busy)
        await client.send(value(b"a"))
        assert (await client.answer()).endswith(b"\r\n\r\n0\n")
        assert server.asked == (1 if path == "lane" else 2)


@pytest.mark.parametrize("path", PATHS)
async def test_a_node_that_takes_long_to_recover_says_so(path: str) -> None:
    async with served(path, recovered=False) as server:
        client = await server.dial()
        for request in (value(b"a"), post(b"a", b"1"), consistent(b"a")):
            await client.send(request)
            assert b"503 \r\ncontent-length: " in await client.answer()


@pytest.mark.parametrize("path", PATHS)
async def test_a_connection_that_waits_for_a_commit_is_busy_and_an_idle_one_makes_room(path: str) -> None:
    async with served(path, limit=2) as server:
        busy, idle = await server.dial(), await server.dial()
        await idle.send(post(b"a", b"1"))
        await idle.answer()
        await until(lambda: not idle.connection.busy)
        server.disk.shut()
        await busy.send(post(b"a", b"5"))
        await until(lambda: busy.connection.busy)
        await server.connect()
        assert await idle.rest() == b""
        server.disk.gate.set()
        assert (await busy.answer()).endswith(b"\r\n\r\n6\n")
        await until(lambda: not busy.connection.busy)


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_is_a_use_of_a_connection(path: str) -> None:
    async with served(path, limit=2) as server:
        first, second = await server.dial(), await server.dial()
        await first.send(value(b"a"))
        await first.answer()
        await until(lambda: first.connection.last_used > second.connection.last_used and not first.connection.busy)
        await server.connect()
        assert await second.rest() == b""
        await first.send(value(b"a"))
        assert statuses(await first.answer()) == [200]


@pytest.mark.parametrize("path", PATHS)
async def test_a_full_disk_is_answered_503_and_the_connection_goes_on(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        server.disk.capacity = 0
        for name in (b"a", b"b"):
            await client.send(post(name, b"1"))
            answer = await client.answer()
            assert statuses(answer) == [503]
            assert b"\r\nretry-after: 1\r\n" in answer
            assert b"disk is full" in answer
        server.disk.capacity = 10**12
        await client.send(value(b"a"))
        assert (await client.answer()).endswith(b"\r\n\r\n0\n")
        await client.send(post(b"a", b"1"))
        assert (await client.answer()).endswith(b"\r\n\r\n1\n")


async def test_an_error_that_nobody_expects_is_answered_500(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> int:
        raise RuntimeError(name)

    found = []
    async with both() as (lane, application):
        for server in (lane, application):
            monkeypatch.setattr(server.node, "value", fail)
            with capture_logs() as logs:
                client = await server.dial()
                found.append(await one_by_one(client, [value(b"a"), value(b"b", b"Connection: close")]))
            assert [entry["event"] for entry in logs] == ["request failed"] * 2
    assert found[0] == found[1]
    assert statuses(found[0]) == [500, 500]
    assert lane.counts() == application.counts()


async def test_the_metrics_count_what_the_lane_answers() -> None:
    async with served() as server:
        await server.exchange(b"".join([post(b"a", b"1"), post(b"a", b"2"), value(b"a"), consistent(b"a"), LAST]))
        assert server.asked == 0
        assert server.counts() == [
            'gcount_http_requests_total{method="GET",route="/counter/{name}/consistent_value",status="200"} 1.0',
            'gcount_http_requests_total{method="GET",route="/counter/{name}/value",status="200"} 2.0',
            'gcount_http_requests_total{method="POST",route="/counter/{name}",status="200"} 2.0',
        ]


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_says_when_it_was_given(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        before = int(time.time())
        await client.send(value(b"a", b"Connection: close"))
        raw = b"".join([chunk async for chunk in client.stream])
        given = re.search(rb"\r\n[Dd]ate: ([^\r]+)\r\n", raw)
        assert given is not None
        assert before <= parsedate_to_datetime(given[1].decode()).timestamp() <= time.time()
        assert given[1].endswith(b" GMT")
        await client.stream.aclose()
