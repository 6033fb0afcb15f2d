"""Redis clients of a real node over loopback: bytes in, bytes out. No test may take the node down."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from random import Random

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.options import DEFAULTS, Options
from gcount.http.app import make_app
from gcount.http.fast_path import FastPath
from gcount.http.hypercorn import HttpService
from gcount.net.connection_pool import ConnectionPool
from gcount.net.options import ConnectionOptions
from gcount.net.stream import Stream
from gcount.node.node import Node
from gcount.redis.commands import COMMANDS
from gcount.redis.commands.counters import MAX_SCAN
from gcount.redis.commands.refused import REFUSED
from gcount.redis.service import RedisService
from gcount.server import serve
from tests.fakes.cluster import open_alone
from tests.fakes.counting import add
from tests.fakes.disk import SimDisk
from tests.fakes.streams import StreamSocket, chosen, open_stream
from tests.harness.resp import RespConnection, encoded, line
from tests.http.served_node import until

PATIENCE = 20.0
BIG = 2**64 - 1
GET_PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"


class Client(RespConnection):
    """A connection, and the input that has come on it."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(StreamSocket(stream))
        self.stream = stream

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def reply(self) -> object:
        with trio.fail_after(PATIENCE):
            reply = await super().reply()
        return str(reply) if isinstance(reply, Exception) else reply

    async def ask(self, text: str) -> object:
        """Send commands; returns the replies, or the only reply."""
        await self.send(line(text))
        replies = [await self.reply() for _ in text.split(";")]
        return replies if len(replies) > 1 else replies[0]

    async def raw(self, data: bytes, size: int) -> bytes:
        await self.send(data)
        received = b""
        with trio.fail_after(PATIENCE):
            while len(received) < size:
                received += await self.stream.receive_some()
        return received

    async def rest(self) -> bytes:
        """All input until the end of the connection."""
        received = b""
        with trio.fail_after(PATIENCE):
            while data := await self.stream.receive_some():
                received += data
        return received


@dataclass
class Running:
    """A node that serves."""

    node: Node
    redis: RedisService
    disk: SimDisk
    port: int
    shutdown: trio.Event
    connections: ConnectionPool
    streams: list[Stream] = field(default_factory=list)

    async def connect(self) -> Client:
        """A client, whose end of the connection is closed with the test."""
        self.streams.append(await open_stream(self.port))
        return Client(self.streams[-1])

    async def once(self, data: bytes) -> bytes:
        """Send bytes on a connection of its own; returns all input until its end."""
        client = await self.connect()
        async with client.stream:
            await client.send(data)
            with suppress(trio.BrokenResourceError):  # closed already
                await client.stream.send_eof()
            return await client.rest()


@asynccontextmanager
async def serving(
    *,
    max_counters: int = 100_000,
    fast: bool = True,
    latency: float | None = None,
    options: ConnectionOptions | None = None,
    node_options: Options = DEFAULTS,
) -> AsyncIterator[Running]:
    """A node without peers, which still has to answer both protocols at the end of the test, unless it was stopped."""
    disk = SimDisk(Random(3), (0.0, 0.001) if latency is None else (latency, latency))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    shutdown, stopped, connections = (
        trio.Event(),
        trio.Event(),
        ConnectionPool(100, options=options or ConnectionOptions()),
    )
    async with (
        open_alone(disk, max_counters=max_counters, options=node_options) as node,
        trio.open_nursery() as nursery,
    ):
        redis = RedisService(node, COMMANDS)

        async def run(task_status: trio.TaskStatus[None]) -> None:
            http = HttpService(make_app(node), FastPath(node) if fast else None)
            work = partial(serve, http, listeners, connections, shutdown=shutdown, redis=redis, wrap=chosen.wrap)
            await work(task_status=task_status)
            stopped.set()

        await nursery.start(run)
        if latency is None:
            await node.wait_ready()
        made = Running(node, redis, disk, listeners[0].socket.getsockname()[1], shutdown, connections)
        try:
            yield made
        finally:
            for stream in made.streams:
                stream.close()
        if not shutdown.is_set():
            assert await made.once(line("PING")) == b"+PONG\r\n"
            assert (await made.once(GET_PING)).endswith(b"pong")
            shutdown.set()
        if not node.stopping.is_set:
            node.stopping.set()
        with trio.fail_after(PATIENCE):
            await stopped.wait()
        nursery.cancel_scope.cancel()


# Counting and reading


async def test_counters_are_counted_and_read() -> None:
    async with serving() as running:
        client = await running.connect()
        asked = "INCR x;INCRBY x 41;GET x;STRLEN x;TYPE x;EXISTS x x y;MGET x y;TYPE y;STRLEN y;GET y;DBSIZE"
        assert await client.ask(asked) == [1, 42, "42", 2, "string", 2, ["42", None], "none", 0, None, 1]
        assert running.node.value("x") == 42


async def test_adding_0_makes_no_counter() -> None:
    async with serving() as running:
        assert await (await running.connect()).ask("INCRBY x 0;EXISTS x;GET x") == [0, 0, None]


async def test_every_command_of_a_pipeline_sees_exactly_those_before_it() -> None:
    async with serving() as running:
        client = await running.connect()
        asked = "GET x;INCR x;GET x;MGET y x;INCR y;INCR x;EXISTS x y;GET x;INCRBY x 0;INCR x;STRLEN x"
        expected = [None, 1, "1", [None, "1"], 1, 2, 2, "2", 2, 3, 1]
        assert await client.ask(asked) == expected


async def test_a_pipeline_shares_one_commit() -> None:
    async with serving() as running:
        client = await running.connect()
        batches = running.node.replica.next_batch
        assert await client.ask(";".join(f"INCR x{n % 7};GET x{n % 7};PING" for n in range(100)))
        assert running.node.replica.next_batch == batches + 1
        assert await client.ask(";".join(["INCR hot"] * 300)) == list(range(1, 301))
        assert running.node.replica.next_batch == batches + 2
        assert await client.ask(";".join(f"INCR cold{n}" for n in range(300))) == [1] * 300
        assert running.node.replica.next_batch == batches + 3
        text = running.node.metrics.text().decode()
        assert "gcount_increments_total 700.0" in text
        assert 'gcount_redis_commands_total{command="INCR",outcome="ok"} 700.0' in text


@pytest.mark.parametrize("shape", ["INCR hot", "INCR hot;PING", "INCR hot;INCR other", "INCRBY hot 1;GET hot"])
async def test_answers_of_many_connections_at_once_are_serial(shape: str) -> None:
    """No two increments get the same answer, over both protocols and in pipelines of any shape."""
    answers: list[object] = []

    async def redis(running: Running) -> None:
        client = await running.connect()
        for _ in range(5):
            replies = await client.ask(";".join([shape] * 10))
            assert isinstance(replies, list)
            answers.extend(replies[:: len(shape.split(";"))])

    async def http(node: Node) -> None:
        for _ in range(20):
            answers.append(await add(node, "hot", 1))

    async with serving() as running:
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(redis, running)
                nursery.start_soon(http, running.node)
        assert sorted(int(str(answer)) for answer in answers) == list(range(1, 6 * 70 + 1))


async def test_numbers_beyond_64_bits() -> None:
    async with serving() as running:
        client = await running.connect()
        big = str(BIG)
        assert await client.ask(f"INCRBY x {big};GET x") == [big, big]
        assert await client.ask(f"HELLO 3;INCRBY x 0;INCRBY y {2**63 - 1};INCR y") != []
        raw = await client.raw(encoded("INCRBY", "x", 0), 23)
        assert raw == b"(%d\r\n" % BIG
        assert await client.raw(line(";".join(["INCR y"] * 2)), 44) == b"(%d\r\n(%d\r\n" % (2**63 + 1, 2**63 + 2)


async def test_a_reply_has_the_version_that_was_spoken_when_its_command_came() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.ask(f"INCRBY x {BIG}")
        answer = await client.raw(line("INCRBY x 0;GET y;HELLO 3;INCRBY x 0;GET y"), 180)
        assert answer.startswith(b"$20\r\n%d\r\n$-1\r\n%%7\r\n" % BIG)
        assert answer.endswith(b"(%d\r\n_\r\n" % BIG)


async def test_a_part_that_would_pass_its_limit_is_refused_one_by_one() -> None:
    async with serving() as running:
        client = await running.connect()
        replies = await client.ask(f"INCRBY x {BIG - 2};" + ";".join(["INCR x"] * 3))
        assert isinstance(replies, list)
        assert replies[:3] == [str(BIG - 2), str(BIG - 1), str(BIG)]
        assert str(replies[3]).startswith("ERR increment or decrement would overflow: ")
        assert await client.ask(f"INCRBY y {BIG - 2}")
        replies = await client.ask(";".join(["INCR y"] * 3))
        assert isinstance(replies, list)
        assert replies[:2] == [str(BIG - 1), str(BIG)]
        assert str(replies[2]).startswith("ERR increment or decrement would overflow: ")


async def test_a_full_disk_refuses_increments_and_answers_reads() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask("INCR x") == 1
        running.disk.fail("write", 0, errno.ENOSPC)
        replies = await client.ask("INCR x;GET x;PING")
        assert isinstance(replies, list)
        assert str(replies[0]).startswith("MISCONF ")
        assert replies[1:] == ["1", "PONG"]
        assert await client.ask("INCR x;INCR x") == [2, 3]


async def test_at_the_limit_of_incarnations_increments_are_refused_and_reads_are_answered() -> None:
    async with serving(node_options=Options(reborn_below=1)) as running:
        client = await running.connect()
        assert await client.ask("INCR x") == 1
        running.node.parts.guard.claim.doubt("somebody knows more")
        replies = await client.ask("INCR x;GET x;PING")
        assert isinstance(replies, list)
        assert "no node begins a new one" in str(replies[0])
        assert replies[1:] == ["1", "PONG"]


async def test_the_limit_of_counters_refuses_new_names_only() -> None:
    async with serving(max_counters=2) as running:
        replies = await (await running.connect()).ask("INCR a;INCR b;INCR c;INCR a;EXISTS c")
        assert isinstance(replies, list)
        assert str(replies[2]).startswith("OOM ")
        assert [*replies[:2], *replies[3:]] == [1, 1, 2, 0]


@pytest.mark.parametrize(
    ("asked", "reply"),
    [
        ("INCRBY x -1", "ERR a negative amount is not possible: counters only grow; "),
        ("INCRBY x +1", "ERR value is not an integer or out of range"),
        ("INCRBY x 01", "ERR value is not an integer or out of range"),
        ("INCRBY x 1.5", "ERR value is not an integer or out of range"),
        (f"INCRBY x {BIG + 1}", "ERR value is not an integer or out of range"),
        ("INCR a\x7f", "ERR the counter's name is not allowed: 1 to 255 bytes of UTF-8"),
        ("GET " + "x" * 256, "ERR the counter's name is not allowed: 1 to 255 bytes of UTF-8"),
        ("MGET x a\x7f", "ERR the counter's name is not allowed: 1 to 255 bytes of UTF-8"),
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("incr a b", "ERR wrong number of arguments for 'incr' command"),
        ("FOO bar baz", "ERR unknown command 'FOO', with args beginning with: 'bar' 'baz'"),
        ("SELECT 1", "ERR DB index is out of range"),
        ("AUTH secret", "ERR AUTH <password> called without any password configured for the default user."),
        ("AUTH user secret", "WRONGPASS invalid username-password pair or user is disabled."),
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        ("HELLO 3 AUTH user secret", "WRONGPASS "),
        ("HELLO 3 FOO", "ERR Syntax error in HELLO option 'FOO'"),
        ("CLIENT REPLY OFF", "ERR CLIENT REPLY is not possible: "),
        ("CLIENT FOO", "ERR unknown subcommand"),
        ("CONFIG SET save x", "ERR only CONFIG GET is possible"),
        ("SCAN x", "ERR invalid cursor"),
        ("SCAN 0 COUNT", "ERR syntax error"),
        ("SCAN 0 COUNT 0", "ERR syntax error"),
        ("SCAN 0 MATCH " + "*" * 256, "ERR the pattern is longer than 255 bytes"),
        ("WAIT x 1", "ERR value is not an integer or out of range"),
        ("WAIT 1 -1", "ERR timeout is negative"),
        ("GCOUNT.CONSISTENT x 0", "ERR timeout must be a number of seconds above 0"),
        ("GCOUNT.CONSISTENT x 1 2", "ERR wrong number of arguments"),
    ],
)
async def test_errors_say_what_is_wrong_and_change_nothing(asked: str, reply: str) -> None:
    async with serving() as running:
        replies = await (await running.connect()).ask(asked + ";PING")
        assert isinstance(replies, list)
        assert str(replies[0]).startswith(reply)
        assert replies[1] == "PONG"
        assert len(running.node.replica.counters) == 0


@pytest.mark.parametrize("command", ["DECR", "SET", "DEL", "EXPIRE", "FLUSHALL", "INCRBYFLOAT", "hget"])
async def test_commands_that_make_no_sense_are_refused_in_one_line_with_the_reason(command: str) -> None:
    assert command.upper().encode() in REFUSED
    async with serving() as running:
        reply = str(await (await running.connect()).ask(f"{command} x 1"))
        assert reply.startswith(f"ERR {command.upper()} is not possible: ")
        assert len(reply) > len(f"ERR {command} is not possible: ") + 10


# What clients say when they connect


async def test_greetings() -> None:
    async with serving() as running:
        client = await running.connect()
        hello = await client.ask("HELLO 2 AUTH default any SETNAME me")
        assert isinstance(hello, list)
        assert dict(zip(hello[::2], hello[1::2], strict=True))["proto"] == 2
        hello = await client.ask("HELLO 3")
        assert isinstance(hello, dict)
        assert (hello["server"], hello["proto"]) == ("gcount", 3)
        asked = (
            "CLIENT GETNAME;CLIENT SETINFO LIB-NAME x;CLIENT NO-EVICT on;CLIENT NO-TOUCH off;SELECT 0;ECHO hi;PING x"
        )
        assert await client.ask(asked) == ["me", "OK", "OK", "OK", "OK", "hi", "x"]
        assert await client.ask("AUTH default any;CONFIG GET save") == ["OK", {"save": ""}]
        assert await client.ask("RESET;CLIENT GETNAME") == ["RESET", None]
        assert await client.ask("CONFIG GET appendonly") == ["appendonly", "yes"]
        commands = await client.ask("COMMAND")
        assert isinstance(commands, list)
        assert await client.ask("COMMAND COUNT") == len(commands)
        assert await client.ask("COMMAND INFO get nope;COMMAND DOCS") == [
            [["get", 2, ["readonly", "fast"], 1, 1, 1, [], [], [], []], None],
            [],
        ]
        assert await client.ask("QUIT") == "OK"
        assert await client.rest() == b""


async def test_info_describes_the_node() -> None:
    async with serving() as running:
        client = await running.connect()
        everything, keyspace = await client.ask("INCR x"), str(await client.ask("INFO keyspace"))
        assert everything == 1
        assert "db0:keys=1," in keyspace
        assert "redis_version" not in keyspace
        assert "loading:0" in str(await client.ask("INFO"))


async def test_http_and_redis_are_distinguished_on_one_port() -> None:
    for fast in (True, False):
        async with serving(fast=fast) as running:
            assert await running.once(line("INCR x")) == b":1\r\n"
            post = b"POST /counter/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n5"
            assert (await running.once(post)).endswith(b"\r\n6\n")
            assert await running.once(line("GET x")) == b"$1\r\n6\r\n"


# Scans


async def test_a_scan_returns_every_counter_that_exists_throughout() -> None:
    async with serving() as running:
        client = await running.connect()
        names = {f"n{n}" for n in range(2500)}
        await client.ask(";".join(f"INCR {name}" for name in names))
        found: list[str] = []
        cursor, calls = "0", 0
        while True:
            await client.ask(f"INCR new{calls}")
            reply = await client.ask(f"SCAN {cursor} COUNT 100000")
            assert isinstance(reply, list)
            cursor, calls = reply[0], calls + 1
            assert len(reply[1]) <= MAX_SCAN
            found += reply[1]
            if cursor == "0":
                break
        assert names <= set(found)
        assert len(found) == len(set(found))
        assert calls == 3


async def test_a_scan_picks_by_pattern_and_by_type() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.ask("INCR a1;INCR a2;INCR b1")
        asked = "SCAN 0 MATCH a*;SCAN 0 MATCH *1 COUNT 1000;SCAN 0 TYPE string;SCAN 0 TYPE list"
        assert await client.ask(asked) == [
            ["0", ["a1", "a2"]],
            ["0", ["a1", "b1"]],
            ["0", ["a1", "a2", "b1"]],
            ["0", []],
        ]


async def test_a_cursor_of_another_start_is_refused() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.ask(";".join(f"INCR n{n}" for n in range(20)))
        reply = await client.ask("SCAN 0")
        assert isinstance(reply, list)
        other = int(reply[0]) + (1 << 40)
        assert "begin again" in str(await client.ask(f"SCAN {other}"))


# Waiting


async def test_wait_without_members_ends_with_its_timeout_or_the_input() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask("INCR x;WAIT 0 0;WAIT 1 1") == [1, 0, 0]
        await client.send(line("INCR x;WAIT 1 0;GET x"))
        assert await client.reply() == 2
        await client.stream.send_eof()
        assert [await client.reply(), await client.reply()] == [0, "2"]
        assert await client.rest() == b""


async def test_wait_ends_when_the_node_stops() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.send(line("PING;WAIT 1 0"))
        assert await client.reply() == "PONG"
        await until(lambda: bool(running.connections._busy))
        running.node.stopping.set()
        running.shutdown.set()
        assert await client.reply() == 0
        assert await client.rest() == b""


async def test_a_consistent_read() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask("INCR x;GCOUNT.CONSISTENT x;GCOUNT.CONSISTENT y 0.5;INCR x") == [1, 1, 0, 2]


async def test_a_consistent_read_that_cannot_be_known_says_so() -> None:
    async with serving() as running:
        client = await running.connect()
        await client.ask("INCR x")
        await running.node.configure({"actors": ["127.0.0.1:7777", "10.9.9.9:7777"]})
        reply = str(await client.ask("GCOUNT.CONSISTENT x 0.05"))
        assert reply.startswith("UNAVAILABLE ")
        assert "at least 1" in reply
        assert "10.9.9.9:7777" in reply


async def test_staged_increments_are_answered_when_the_node_stops() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask("INCR x") == 1
        running.disk.latency = (0.1, 0.1)  # seconds, so that the stop comes in the middle of a commit
        await client.send(line(";".join(["INCR x"] * 50)))
        await until(lambda: "x" in running.node.parts.context.pending)
        running.node.stopping.set()
        running.shutdown.set()
        assert [await client.reply() for _ in range(50)] == list(range(2, 52))
        assert await client.rest() == b""


async def test_a_node_that_starts_answers_ping_and_lets_what_needs_it_wait() -> None:
    async with serving(latency=0.2) as running:
        client = await running.connect()
        assert await client.ask("PING;SELECT 0") == ["PONG", "OK"]
        assert "loading:1" in str(await client.ask("INFO persistence"))
        assert not running.node.recovered
        assert await client.ask("PING;INCR x;GET x") == ["PONG", 1, "1"]
        assert running.node.recovered


async def test_a_node_that_is_stopped_before_it_has_started_says_that_it_is_loading() -> None:
    async with serving(latency=0.5) as running:
        client = await running.connect()
        await client.send(line("PING;INCR x;GET x;PING"))
        assert await client.reply() == "PONG"
        running.node.stopping.set()
        running.shutdown.set()
        replies = [str(await client.reply()) for _ in range(3)]
        assert [reply.split()[0] for reply in replies] == ["LOADING", "LOADING", "PONG"]


# Hostile input


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"*1000000000\r\n", "invalid multibulk length"),
        (b"*1\r\n$536870912\r\n", "invalid bulk length"),
        (b"*1\r\n" * 10_000, "expected '$', got '*'"),
        (b"*2\r\n$4\r\nINCR\r\n:5\r\n", "expected '$', got ':'"),
        (b"*1\r\n$1\r\nxyz*1\r\n", "a string is not followed by a line end"),
        (b"GET / HTTP/1.1\r\n", "an HTTP request on a connection that speaks Redis' protocol"),
        (b'ECHO "a\r\n', "unbalanced quotes in request"),
        (b"$4\r\nPING\r\n", "expected '*', got '$'"),
    ],
)
async def test_input_that_is_not_resp_is_answered_and_ends_the_connection(data: bytes, fault: str) -> None:
    async with serving() as running:
        answer = await running.once(line("INCR x") + data)
        assert answer.startswith(b":1\r\n")
        assert answer.endswith(f"-ERR Protocol error: {fault}\r\n".encode())


async def test_idle_clients_stay_and_those_in_the_middle_of_a_command_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcount.redis.service._REFRESH_SECONDS", 0.0)
    async with serving() as running:
        whole, half = await running.connect(), await running.connect()
        assert await whole.ask("PING") == await half.ask("PING") == "PONG"
        await half.send(b"*2\r\n$4\r\n")
        await until(
            lambda: any(not session.inbox.parser.between_commands for session in running.redis.sessions.values())
        )
        for connection in running.connections._idle:
            connection.last_used -= 1000.0
        running.redis.refresh()
        running.connections.close_unused(500.0)
        assert await half.rest() == b""
        assert await whole.ask("PING") == "PONG"


async def test_a_great_pipeline_of_one_client_lets_others_in() -> None:
    async with serving() as running:
        greedy, other = await running.connect(), await running.connect()
        count = 20_000
        order: list[str] = []

        async def flood() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(greedy.send, line("INCR x;PING") * (count // 2))
                for _ in range(count):
                    await greedy.reply()
            order.append("flood")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await until(lambda: running.node.value("x") > 0)
            for _ in range(5):
                assert await other.ask("PING") == "PONG"
            order.append("other")
        assert order == ["other", "flood"]
        assert running.node.value("x") == count // 2


async def test_answers_are_sent_before_they_are_many() -> None:
    """A client that asks for much and reads nothing does not make the node keep all the answers."""
    async with serving(options=ConnectionOptions(send_timeout=0.1)) as running:
        client = await running.connect()
        with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
            while True:
                await client.send(line("ECHO " + "x" * 60_000) * 10)
        await until(lambda: running.connections.clients == 0)


# Any cut of any pipeline


NAMES = st.sampled_from(["a", "", "c"])
ASKED = st.one_of(
    st.builds("INCR {}".format, NAMES),
    st.builds("INCRBY {} {}".format, NAMES, st.sampled_from([0, 1, 7, -1, "x", BIG])),
    st.builds("GCOUNT.INCRBY {} {} ID 1700000000-{}".format, NAMES, st.integers(0, 2), st.sampled_from(["a", "b"])),
    st.builds("GET {}".format, NAMES),
    st.builds("MGET {} {}".format, NAMES, NAMES),
    st.builds("EXISTS {} {}".format, NAMES, NAMES),
    st.builds("STRLEN {}".format, NAMES),
    st.sampled_from(["PING", "DBSIZE", "SCAN 0", "SET a 1", "NOPE", "GET a\x7f", "WAIT 0 0", "GCOUNT.CONSISTENT a 1"]),
)


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(st.lists(ASKED, min_size=1, max_size=12), st.lists(st.integers(0, 10_000), max_size=6))
async def test_any_cut_of_any_pipeline_gives_the_same_answers(commands: list[str], cuts: list[int]) -> None:
    data = line(";".join(commands))
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    answers = []
    for pieces in ([data], [data[start:end] for start, end in pairwise(places)]):
        async with serving() as running:
            client = await running.connect()
            for piece in pieces:
                await client.send(piece)
                await trio.testing.wait_all_tasks_blocked(0.002)
            answers.append([await client.reply() for _ in commands])
    assert answers[0] == answers[1]
