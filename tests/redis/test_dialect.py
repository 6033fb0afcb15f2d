"""The protocol of a connection, known by its first bytes. A connection with neither protocol does not hang."""

from __future__ import annotations

import pytest
import trio

from gcount.http.request_line import can_be_no_request
from gcount.redis.dialect import speaks_redis
from tests.harness.resp import line
from tests.http.served_node import until
from tests.redis.test_commands import GET_PING, PATIENCE, serving

COMMANDS = {b"PING", b"GET", b"INCR", b"INFO", b"MOVE"}
PREFIXES = {name[:size] for name in COMMANDS for size in range(len(name) + 1)}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"*1\r\n", True),
        (b"INCR x\r\n" * 4_000, True),
        (b"\r\n*1\r\n", True),
        (b"\n\n\r\n*", True),
        (b"PING\r\n", True),
        (b"ping\n", True),
        (b"\r\n  PiNG x\r\n", True),
        (b'"PING"\r\n', True),
        (b'PING "x\r\n', True),
        (b"GET views\r\n", True),
        (b"get /views\r\n", True),
        (b"GET\r\n", True),
        (b"info replication\r\n", True),
        (b"INCR /views\r\n", True),
        (b"GET /views\r\n", False),
        (b"GET /ping HTTP/1.1\r\n", False),
        (b"GET http://x/ping HTTP/1.1\r\n", False),
        (b"get x HTTP/1.1\r\n", False),
        (b"MOVE /x HTTP/1.1\r\n", False),
        (b"PING / HTTP/1.1\r\n", False),
        (b"\r\nGET / HTTP/1.1\r\n", False),
        (b"GET /", False),
        (b"POST /x", False),
        (b"PO", False),
        (b"FOO bar\r\n", False),
        (b"PINGPONG\r\n", False),
        (b":5\r\n", False),
        (b"\x16\x03\x01", False),
        (b"\x00", False),
        (b"GET " + b"x" * 20_000, False),
        (b"\r\n" * 10_000, False),
        (b"\r\n", None),
        (b"G", None),
        (b"get", None),
        (b"GET ", None),
        (b"GET http://x/ping HT", None),
        (b"PING x", None),
        (b"INCR /", None),
        (b"P", None),
    ],
)
def test_the_protocol_is_known_as_soon_as_possible(data: bytes, told: bool | None) -> None:
    assert speaks_redis(data, COMMANDS, PREFIXES) is told


@pytest.mark.parametrize(
    "data", [b"FOO bar\r\n", b"GET /ping\r\n", b"\xff\xff", b"{}\n", b":5\r\n", b"\r\nEHLO x\r\n", b"GET /x HTTP\r\n"]
)
def test_input_that_can_not_become_a_request_is_recognized(data: bytes) -> None:
    assert can_be_no_request(data)


@pytest.mark.parametrize(
    "data", [b"GET /ping HTTP/1.1\r\nHost", b"POST /x", b"PUT", b"PRI * HTTP/2.0\r\n", b"\r\nGET / HTTP/1.0\n", b""]
)
def test_what_may_become_a_request_is_waited_for(data: bytes) -> None:
    assert not can_be_no_request(data)


TYPED = {
    b"PING\r\n": b"+PONG\r\n",
    b"PING\n": b"+PONG\r\n",
    b"incrby 'page views' 5\r\nGET \"page views\"\r\n": b":5\r\n$1\r\n5\r\n",
    b"\r\n" + line("PING"): b"+PONG\r\n",
    b"\r\n\r\nPING\r\n\r\nPING\r\n" + line("PING"): b"+PONG\r\n" * 3,
    b"MULTI\r\nINCR x\r\nEXEC\r\n": b"+OK\r\n+QUEUED\r\n*1\r\n:1\r\n",
    b"INCR /blog/2026\r\n": b":1\r\n",
    b"SELECT 1\r\n": b"-ERR DB index is out of range; there is only 0\r\n",
    b"INFO keyspace\r\nQUIT\r\n": b"$12\r\n# Keyspace\r\n\r\n+OK\r\n",
}


@pytest.mark.parametrize("data", TYPED)
@pytest.mark.parametrize("step", [1, 1000])
async def test_inline_commands_are_answered_as_by_redis(data: bytes, step: int) -> None:
    async with serving() as running:
        client = await running.connect()
        for start in range(0, len(data), step):
            await client.send(data[start : start + step])
            await trio.lowlevel.checkpoint()
        assert await client.raw(b"", len(TYPED[data])) == TYPED[data]


REFUSED = {
    b"FOO bar\r\n": b"HTTP/1.1 400",
    b"EHLO x\r\n": b"HTTP/1.1 400",
    b"GET /counter/x/value\r\n": b"HTTP/1.1 400",
    b"\xff\xfe\xfd": b"HTTP/1.1 400",
    b"\x16\x03\x01\x02\x00\x01": b"HTTP/1.1 400",
    b":5\r\n": b"HTTP/1.1 400",
    b"PING HTTP/1.1\r\n": b"HTTP/1.1 400",
    b'PING "x\r\n': b"-ERR Protocol error: unbalanced quotes in request\r\n",
    line("PING") + b"GET / HTTP/1.1\r\n": b"+PONG\r\n-ERR Protocol error: an HTTP request on a connection",
    line("PING") + b"\x00\xff": b"+PONG\r\n-ERR Protocol error: expected '*', got '\\x00'\r\n",
}


@pytest.mark.parametrize("data", REFUSED)
@pytest.mark.parametrize("fast", [True, False])
async def test_input_that_can_not_become_a_request_is_refused_at_once(data: bytes, fast: bool) -> None:
    """Also when the client waits and leaves the connection open."""
    async with serving(fast=fast) as running:
        client = await running.connect()
        await client.send(data)
        assert (await client.rest()).startswith(REFUSED[data])


@pytest.mark.parametrize("before", [b"", GET_PING, b"GET /counter/x/value HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize("fast", [True, False])
async def test_input_that_can_not_become_a_request_is_refused_in_whatever_pieces_it_comes(
    before: bytes, fast: bool
) -> None:
    """In pieces, or after a request."""
    async with serving(fast=fast) as running:
        client = await running.connect()
        await client.send(before + b"FOO")
        await until(lambda: any(each.stream.bytes_in == len(before) + 3 for each in running.connections._idle))
        await client.send(b" bar\r\n")
        assert b"HTTP/1.1 400" in await client.rest()


@pytest.mark.parametrize("step", [1, 3, 1000])
async def test_an_http_request_is_recognized_in_whatever_pieces_it_comes(step: int) -> None:
    data = b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with serving() as running:
        client = await running.connect()
        for start in range(0, len(data), step):
            await client.send(data[start : start + step])
            await trio.lowlevel.checkpoint()
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"pong")


async def test_a_client_that_sends_too_little_is_closed_as_an_idle_one() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.send(b"PIN")
        await until(lambda: [connection.stream.bytes_in for connection in running.connections._idle] == [3])
        running.connections.close_unused(0.0)
        assert await client.rest() == b""


async def test_a_client_may_leave_before_its_protocol_is_known() -> None:
    async with serving() as running:
        for data in (b"GE", b"PING", b"\r\n"):
            with trio.fail_after(PATIENCE):
                await running.once(data)
        await until(lambda: len(running.connections) == 0)
