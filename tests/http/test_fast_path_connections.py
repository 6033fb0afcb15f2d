"""Connections on the fast path and without it: requests in pieces, silence, clients that leave, the end of the node."""

from __future__ import annotations

import contextlib
from random import Random

import pytest
import trio
import trio.testing
from hypercorn.events import Event

from gcount.http.hypercorn import Http1Protocol
from gcount.net.connection_state import Outbound
from gcount.net.options import ConnectionOptions
from gcount.net.stream import PlainStream
from tests.fakes.streams import chosen, narrow_buffers
from tests.http.served_node import CHUNKED, LAST, PATHS, both, consistent, get, post, served, statuses, until, value

UPGRADE = get(
    b"/link",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


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
async def test_a_request_that_comes_too_slowly_is_left_to_the_application(
    begun: bytes, more: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application's own limits apply then, also to a client that sends a byte now and then."""
    monkeypatch.setattr("gcount.http.fast_path._WHOLE_WITHIN", 0.1)
    async with served() as server:
        client = await server.dial()
        handled = trio.Event()
        handle = Http1Protocol.handle

        async def noted(self: Http1Protocol, event: Event) -> None:
            handled.set()
            await handle(self, event)

        monkeypatch.setattr(Http1Protocol, "handle", noted)
        await client.send(begun)
        for _ in range(100):  # fewer than would make the request whole
            with trio.move_on_after(0.04):
                await handled.wait()
                break
            await client.send(more)
        assert handled.is_set(), "the fast path waits for ever"
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
    """quart-trio cancels the handler of a request when the client disconnects."""
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
    """hypercorn sends under a shield and without a deadline."""
    async with served(path, options=ConnectionOptions(send_timeout=0.2)) as server:
        client = await server.dial()
        for descriptor in (client.stream.descriptor, client.connection.stream.descriptor):
            narrow_buffers(descriptor, trio.socket.SO_RCVBUF, trio.socket.SO_SNDBUF)
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await client.send(value(b"a") * 100)
        await until(lambda: not server.all())
        await client.stream.aclose()


async def test_a_websocket_can_be_opened_after_plain_requests() -> None:
    found = []
    async with both() as (fast, application):
        for server in (fast, application):
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
    assert (fast.asked, application.asked) == (1, 3)


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
        assert server.asked == (1 if path == "fast path" else 2)


@pytest.mark.parametrize("path", PATHS)
async def test_a_node_that_takes_long_to_recover_says_so(path: str) -> None:
    async with served(path, recovered=False) as server:
        client = await server.dial()
        for request in (value(b"a"), post(b"a", b"1"), consistent(b"a")):
            await client.send(request)
            assert statuses(await client.answer()) == [503]


@pytest.mark.parametrize("path", PATHS)
async def test_a_connection_that_waits_for_a_commit_is_busy_and_an_idle_one_is_displaced(path: str) -> None:
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


class UnreadableStream(PlainStream):
    """A stream that can't read any more, like an encrypted one that can't decipher its input; it could still send."""

    __slots__ = ()

    def read_now(self, most: int) -> bytes | None:
        data = super().read_now(most)
        if data == b"?":
            raise OSError("not to be deciphered")
        return data


async def test_an_answer_to_a_connection_that_has_sent_its_end_is_lost_and_the_node_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer is sent by the task that commits the increment. An error there would end the node."""
    monkeypatch.setattr(chosen, "wrap", UnreadableStream)
    async with served() as server:
        client, other = await server.dial(), await server.dial()
        await client.send(value(b"a"))
        await client.answer()
        server.disk.shut()
        await client.send(post(b"a", b"5"))
        await until(lambda: client.connection.busy)
        await client.send(b"?")
        await until(lambda: client.connection.outbound is Outbound.ENDED)
        server.disk.gate.set()
        await until(lambda: server.node.value("a") == 5)
        await other.send(value(b"a"))
        assert (await other.answer()).endswith(b"\r\n\r\n5\n")
