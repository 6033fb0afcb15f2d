"""Pipelines of INCR or GET that the reactor answers: the answers are as if each command had waited for its turn."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar
from unittest.mock import patch

import pytest
import trio

from gcount.core.options import Options
from gcount.core.writes.increments import Repeat
from gcount.http.app import make_app
from gcount.http.hypercorn import HttpService
from gcount.net.connection import Connection
from gcount.net.connection_pool import ConnectionPool
from gcount.node.node import Node
from gcount.redis.commands import COMMANDS
from gcount.redis.service import RedisService
from gcount.redis.session import Session
from gcount.server import serve
from tests.fakes.disk import SimDisk
from tests.harness.resp import line
from tests.http.served_node import until
from tests.redis.test_commands import BIG, PATIENCE, Client, Running, serving

T = TypeVar("T")


@contextmanager
def stuck(disk: SimDisk) -> Iterator[None]:
    """While the context lasts, no operation of the disk ends."""
    gate, run = trio.Event(), disk.run

    async def wait(operation: Callable[[], T], *, brief: bool = False, background: bool = False) -> T:
        await gate.wait()
        return await run(operation, brief=brief, background=background)

    with patch.object(disk, "run", wait):
        yield
    gate.set()


async def pending(running: Running, name: str = "x") -> None:
    await until(lambda: name in running.node.parts.context.pending)


def sleeping(running: Running) -> int:
    """How many sessions sleep while the reactor receives for them."""
    return len(running.connections.reactor._selector.get_map())


async def asleep(running: Running) -> Client:
    """A client whose session sleeps."""
    client, before = await running.connect(), sleeping(running)
    assert await client.ask("PING") == "PONG"
    await until(lambda: sleeping(running) > before)
    return client


async def awake(running: Running) -> None:
    """Return when no session sleeps any more."""
    await until(lambda: not sleeping(running))


async def replies(client: Client, number: int) -> list[object]:
    return [await client.reply() for _ in range(number)]


def only(running: Running) -> tuple[Session, Connection]:
    [session] = running.redis.sessions.values()
    return session, session.connection


def incr(number: int, name: str = "x") -> bytes:
    return line(f"INCR {name}") * number


# Order


@pytest.mark.parametrize("pieces", [1, 2, 7, 100])
async def test_a_pipeline_in_pieces_is_answered_in_order(pieces: int) -> None:
    async with serving() as running:
        client = await running.connect()
        data = line("INCR x;INCR y") * 150
        size = -(-len(data) // pieces)
        for at in range(0, len(data), size):
            await client.send(data[at : at + size])
            await trio.lowlevel.checkpoint()
        assert await replies(client, 300) == [n // 2 + 1 for n in range(300)]


@pytest.mark.parametrize(
    ("following", "answers"),
    [("INCR x;INCR x", [2, 3]), ("GET x;GET y", ["1", "1"]), ("PING;INCR x", ["PONG", 2]), ("INCR x;WAIT 0 0", [2, 0])],
)
async def test_input_during_a_pipeline_is_answered_after_it(following: str, answers: list[object]) -> None:
    async with serving() as running:
        client = await asleep(running)
        with stuck(running.disk):
            await client.send(line("INCR x;INCR y"))
            await pending(running)
            await client.send(line(following))
            await awake(running)
            assert only(running)[1].stream.bytes_out == len(b"+PONG\r\n")
        assert await replies(client, 4) == [1, 1, *answers]


async def test_a_session_on_its_way_to_the_disk_keeps_no_other_one_waiting() -> None:
    async with serving() as running:
        counts, reads = await asleep(running), await asleep(running)
        with stuck(running.disk):
            await counts.send(incr(2))
            await pending(running)
            assert await reads.ask("GET x;GET x") == [None, None]
            assert await reads.ask("PING") == "PONG"
        assert await replies(counts, 2) == [1, 2]
        assert await reads.ask("GET x") == "2"


async def test_increments_between_other_commands_keep_their_place() -> None:
    asked = ["INCR x;INCR x", "WAIT 0 0", "INCR x", "GCOUNT.CONSISTENT x", "INCR x;INCR y", "NOPE", "GET x", "INCR x"]
    async with serving() as running:
        client = await running.connect()
        for together in (True, False):
            for text in [";".join(asked)] if together else asked:
                await client.send(line(text))
                await trio.lowlevel.checkpoint()
            found = await replies(client, 10)
            assert str(found.pop(7)).startswith("ERR unknown command 'NOPE'")
            before, other = (0, 1) if together else (5, 2)
            first = [before + 1, before + 2, 0, before + 3, before + 3, before + 4, other]
            assert found == [*first, str(before + 4), before + 5]


WHILE_ONE_WAITS = {"commands": [incr(2), incr(2)], "single bytes": [bytes([byte]) for byte in incr(2) * 2]}


@pytest.mark.parametrize("title", WHILE_ONE_WAITS)
async def test_input_during_a_waiting_command_is_counted_and_answered_also_after_the_end_of_the_input(
    title: str,
) -> None:
    async with serving() as running:
        client = await running.connect()
        await client.send(line("WAIT 1 0"))
        await until(lambda: bool(running.connections._busy))
        session, _ = only(running)
        sent = b""
        for piece in WHILE_ONE_WAITS[title]:
            await client.send(piece)
            sent += piece
            await until(lambda: len(session.inbox._ahead) == len(sent))  # noqa: B023
        assert session.inbox._ahead == sent
        await client.stream.send_eof()
        assert await client.rest() == b":0\r\n:1\r\n:2\r\n:3\r\n:4\r\n"


# Ends


async def test_a_client_that_has_finished_sending_is_answered() -> None:
    async with serving() as running:
        client = await asleep(running)
        with stuck(running.disk):
            await client.send(incr(3))
            await pending(running)
            await client.stream.send_eof()
            await awake(running)
        assert await client.rest() == b":1\r\n:2\r\n:3\r\n"


@pytest.mark.parametrize("how", ["the client", "the node"])
async def test_an_increment_counts_though_its_client_is_disconnected_before_the_answer(how: str) -> None:
    async with serving() as running:
        client, other = await asleep(running), await running.connect()
        _, connection = only(running)
        with stuck(running.disk):
            await client.send(incr(3))
            await pending(running)
            if how == "the client":
                client.stream.close(reset=True)
                await awake(running)
            else:
                connection.abort()
            await until(lambda: connection.stream.descriptor == -1)
        assert await other.ask("INCR x") == 4
        await until(lambda: len(running.redis.sessions) == 1)


async def test_a_pipeline_on_its_way_to_the_disk_is_answered_when_the_node_stops() -> None:
    async with serving() as running:
        client, idle, connections = await asleep(running), await asleep(running), running.connections
        left: list[int] = []
        with patch.object(connections, "abort_all", lambda: left.append(connections.clients)):
            with stuck(running.disk):
                await client.send(incr(3))
                await pending(running)
                running.node.stopping.set()
                running.shutdown.set()
                assert await idle.rest() == b""
                assert connections.clients == 1
            assert await replies(client, 3) == [1, 2, 3]
            assert await client.rest() == b""
            await until(lambda: bool(left))
        assert left == [0]  # before the server's patience was over


async def test_a_server_that_is_cancelled_ends_without_an_error_while_tasks_sleep() -> None:
    async def server(node: Node, redis: RedisService) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        connections, shutdown = ConnectionPool(100), trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(serve, HttpService(make_app(node)), listeners, connections, shutdown=shutdown, redis=redis)
            )
            async with await trio.open_tcp_stream(*listeners[0].socket.getsockname()) as stream:
                await stream.send_all(line("GET x"))
                assert await stream.receive_some() == b"$-1\r\n"
                await until(lambda: bool(connections.reactor._selector.get_map()))
                nursery.cancel_scope.cancel()

    async with serving() as running:
        with trio.fail_after(PATIENCE), patch.object(running.node.metrics, "watch"):
            for _ in range(10):  # the order in which all learn of it is random
                await server(running.node, RedisService(running.node, COMMANDS))


# What makes increments wait, or refuses them


async def test_increments_of_a_held_counter_wait_for_the_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcount.core.protocol.write_holds.MAX_HOLD", 1000.0)
    async with serving() as running:
        client, other = await asleep(running), await running.connect()
        gate = running.node.parts.gate
        assert gate.ask("x", "reader")
        await client.send(incr(1, "y") + incr(2))
        await awake(running)
        assert await other.ask("INCR z;INCR z") == [1, 2]
        assert "x" not in running.node.parts.context.pending
        assert running.node.value("y") == 0
        gate.release("x", "reader")
        assert await replies(client, 3) == [1, 1, 2]


async def test_increments_of_a_node_that_is_not_confirmed_wait_for_that() -> None:
    async with serving(node_options=Options(confirm_within=1000.0)) as running:
        client, parts = await asleep(running), running.node.parts
        await running.node.configure({"actors": ["127.0.0.1:7777", "10.9.9.9:7777"]})
        parts.updates.found_self("127.0.0.1:7777")
        parts.guard.claim.settled = False
        await client.send(incr(2))
        await until(lambda: bool(running.connections._busy))
        assert "x" not in running.node.parts.context.pending
        parts.guard.heard("10.9.9.9:7777", b"n" * 16, 0)
        assert await replies(client, 2) == [1, 2]
        assert await client.ask("INCR x;INCR x") == [3, 4]


async def test_at_the_limit_of_counters_the_error_is_that_of_a_single_command() -> None:
    async with serving(max_counters=2) as running:
        client = await running.connect()
        refused = "OOM this node takes new counters up to 2 (--max-counters); names already known go on"
        assert await client.ask("INCR a;INCR b;INCR c;INCR a") == [1, 1, refused, 2]
        assert await client.ask("INCRBY c 1") == refused
        assert await client.ask("INCR c;INCR c") == [refused] * 2
        assert await client.ask("INCR a;INCR b") == [3, 2]


async def test_at_the_limit_of_a_part_the_error_is_that_of_a_single_command() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask(f"INCRBY x {BIG - 2}") == str(BIG - 2)
        found = await client.ask("INCR x;INCR x;INCR x")
        single = await client.ask("INCRBY x 1")
        assert found == [str(BIG - 1), str(BIG), single]
        assert str(single).startswith("ERR increment or decrement would overflow: this node's part of the counter is ")
        assert await client.ask("INCR y;INCR y") == [1, 2]


async def test_a_full_disk_refuses_each_increment_of_every_pipeline_in_the_batch() -> None:
    async with serving() as running:
        clients = [await asleep(running) for _ in range(3)]
        with stuck(running.disk):
            for number, client in enumerate(clients):
                await client.send(incr(3, f"x{number}"))
                await pending(running, f"x{number}")
            running.disk.fail("write", 0, errno.ENOSPC)
            running.disk.capacity = 0
        for client in clients:
            assert await replies(client, 3) == ["MISCONF the disk is full"] * 3
        assert len(running.node.replica.counters) == 0
        running.disk.capacity = 10**12
        assert [await client.ask("INCR x;INCR x") for client in clients] == [[1, 2], [3, 4], [5, 6]]
        text = running.node.metrics.text().decode()
        assert 'gcount_redis_commands_total{command="INCR",outcome="error"} 9.0' in text
        assert "gcount_increments_total 6.0" in text


@pytest.mark.parametrize("together", [True, False])
async def test_a_wait_behind_a_pipeline_is_for_its_increments(together: bool) -> None:
    """Also if a new incarnation begins with the batch that counts them, or with the next one."""
    async with serving() as running:
        client, replica = await asleep(running), running.node.replica
        committer, old, new = running.node.parts.context.committer, replica.identity, replica.identity.reborn(b"i" * 16)
        asked: list[dict[bytes, int]] = []

        def holders(versions: dict[bytes, int]) -> int:
            asked.append(versions.copy())
            return 0

        with patch.object(running.node.peers, "holders", holders):
            await client.send(incr(2))
            await client.send(line("WAIT 0 0"))
            assert await replies(client, 3) == [1, 2, 0]
            with stuck(running.disk):
                if together:
                    committer.stage(Repeat(["other"], 1), lambda outcome: None)
                    await until(lambda: not running.node.parts.context.pending.staging)
                await client.send(incr(2))
                await pending(running)
                if not together:
                    await until(lambda: not running.node.parts.context.pending.staging)
                commit = committer.mint(new)
                await client.send(line("WAIT 0 0"))
                await awake(running)
            assert await replies(client, 3) == [3, 4, 0]
            await commit.wait()
            assert await client.ask("INCR x;INCR x") == [5, 6]
            assert await client.ask("WAIT 0 0") == 0
    was, now = old.incarnation, new.incarnation
    expected = [
        {was: 1},
        {was: 1, now: 1} if together else {was: 2},
        {was: 1, now: 2} if together else {was: 2, now: 1},
    ]
    assert asked[::2] == asked[1::2] == expected  # each WAIT asks twice
