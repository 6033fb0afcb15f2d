"""The memory that a Redis client can make a node keep, and for how long, with any input and at any end."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from gcount.redis.command import Command
from gcount.redis.commands import COMMANDS
from gcount.redis.context import Call
from tests.harness.resp import line
from tests.http.served_node import until
from tests.redis.test_commands import PATIENCE, Client, Running, serving

NO_ROOM = "ERR Protocol error: no memory is left for more unfinished commands"


async def waiting(running: Running) -> Client:
    """A client with a WAIT in progress."""
    client = await running.connect()
    await client.send(line("WAIT 1 0"))
    await until(lambda: bool(running.connections._busy))
    return client


async def unfinished(running: Running, size: int) -> Client:
    """A client that has sent some bytes of a command, and sends no more."""
    client = await running.connect()
    await client.send(line("PING") + b"*2\r\n$4\r\nECHO\r\n$60000\r\n" + b"x" * size)
    assert await client.reply() == "PONG"
    return client


async def test_a_client_that_sends_too_much_while_a_command_waits_is_disconnected() -> None:
    async with serving() as running:
        client = await waiting(running)
        await client.send(line("PING") * 10_000)
        answers = await client.rest()
        assert answers.startswith(b":0\r\n" + b"+PONG\r\n" * 1000)
        await until(lambda: running.connections.clients == 0)


async def test_a_client_that_sends_too_much_and_leaves_while_a_command_waits_is_disconnected() -> None:
    async with serving() as running:
        client = await waiting(running)
        with trio.fail_after(PATIENCE):
            await client.send(line("WAIT 1 0;PING") * 5_000)
        await client.stream.aclose()
        await until(lambda: running.connections.clients == 0)


@pytest.mark.parametrize("milliseconds", [0, 10**15])
async def test_wait_ends_with_any_timeout(monkeypatch: pytest.MonkeyPatch, milliseconds: int) -> None:
    monkeypatch.setattr("gcount.redis.commands.counters.MAX_READ_TIMEOUT", 0.01)
    async with serving() as running:
        assert await (await running.connect()).ask(f"WAIT 1 {milliseconds};PING") == [0, "PONG"]


async def test_config_get_takes_names_and_no_patterns() -> None:
    async with serving() as running:
        client = await running.connect()
        assert await client.ask("CONFIG GET SAVE appendonly nope;CONFIG GET a*") == [
            ["appendonly", "yes", "save", ""],
            [],
        ]
        everything = await client.ask("CONFIG GET * save")
        assert isinstance(everything, list)
        assert {"maxclients", "save", "timeout"} < set(everything[::2])
        assert await client.ask("CONFIG GET" + " x" * 64) == []
        assert await client.ask("CONFIG GET" + " x" * 65) == "ERR CONFIG GET takes 64 names at most"


async def test_between_two_commands_that_wait_others_get_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0
    seen: list[int] = []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def look(_call: Call) -> bytes:
        seen.append(turns)
        return b"+OK\r\n"

    monkeypatch.setitem(COMMANDS.known, b"LOOK", Command("LOOK", 1, later=look))
    async with serving() as running, trio.open_nursery() as nursery:
        nursery.start_soon(others)
        assert await (await running.connect()).ask(";".join(["LOOK"] * 50)) == ["OK"] * 50
        nursery.cancel_scope.cancel()
    assert max(Counter(seen).values()) <= 2  # the order within a round of the scheduler varies


async def test_bytes_of_a_command_that_does_not_come_to_an_end_are_no_use_of_a_connection() -> None:
    async with serving() as running:
        client = await unfinished(running, 1)
        [session] = running.redis.sessions.values()
        session.connection.last_used -= 1000.0
        await client.send(b"y")
        await until(lambda: session.inbox.parser._tail.endswith(b"y"))
        running.connections.close_unused(500.0)
        assert await client.rest() == b""


async def test_the_unfinished_commands_of_all_sessions_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcount.redis.inbox._SHARED_BYTES", 60_000)
    async with serving() as running:
        first = await unfinished(running, 40_000)
        small = await unfinished(running, 1_000)  # there is always room for that
        second = await unfinished(running, 40_000)
        assert await second.reply() == NO_ROOM
        await small.send(b"x" * 59_000 + b"\r\n")
        assert await small.reply() == NO_ROOM
        assert await second.rest() == await small.rest() == b""
        await first.send(b"x" * 20_000 + b"\r\n")
        assert await first.reply() == "x" * 60_000
        assert running.redis.shared.kept == 0
        await (await unfinished(running, 40_000)).stream.aclose()
        await until(lambda: running.redis.shared.kept == 0)


async def test_input_ahead_of_answers_counts_as_kept_until_it_is_executed() -> None:
    async with serving() as running:
        client = await waiting(running)
        await client.send(line("INCR x") * 1_000)
        await until(lambda: running.redis.shared.kept > 10_000)
        await client.stream.send_eof()
        assert await client.rest() == b":0\r\n" + b"".join(b":%d\r\n" % n for n in range(1, 1001))
        assert running.redis.shared.kept == 0
