"""Redis clients that write before they read: how many answers wait for them, and what happens beyond the limits."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from gcount.net.connection import Connection
from gcount.net.options import ConnectionOptions
from gcount.redis import outbox
from tests.fakes.streams import chosen, narrow_buffers
from tests.harness.resp import line
from tests.http.served_node import until
from tests.redis.test_commands import PATIENCE, Client, Running, serving
from tests.redis.test_session import only, replies

COUNT = 20_000
IMPATIENT = ConnectionOptions(send_timeout=0.05)
NOT_EXECUTED = "ERR not executed: too many answers wait; read them while you send commands"


async def narrow(running: Running) -> tuple[Client, Connection]:
    """A client with small buffers in the kernel."""
    socket = trio.socket.socket()
    socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await socket.connect(("127.0.0.1", running.port))
    running.streams.append(chosen.wrap(trio.SocketStream(socket)))
    client = Client(running.streams[-1])
    before = [*running.redis.sessions]
    assert await client.ask("PING") == "PONG"
    [session] = [session for number, session in running.redis.sessions.items() if number not in before]
    narrow_buffers(session.connection.stream.descriptor, trio.socket.SO_SNDBUF)
    return client, session.connection


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are soon reached, and no patience with clients that take nothing."""
    monkeypatch.setattr(outbox, "MAX_UNSENT", 50_000)
    monkeypatch.setattr(outbox, "TAKES_WITHIN", 0.01)


@pytest.mark.parametrize("asked", ["INCR x", "GET y", "INCR x;PING", "MULTI;INCR x;EXEC"])
async def test_a_client_that_writes_a_whole_pipeline_before_it_reads_gets_every_answer_in_order(asked: str) -> None:
    commands = asked.split(";")
    async with serving() as running:
        client, _ = await narrow(running)
        other = await running.connect()
        with trio.fail_after(PATIENCE):
            await client.send(line(asked) * COUNT)
        assert await other.ask("INCR other;GET other") == [1, "1"]
        found = await replies(client, COUNT * len(commands))
        expected: dict[str, list[object]] = {
            "GET": [None] * COUNT,
            "INCR": list(range(1, COUNT + 1)),
            "PING": ["PONG"] * COUNT,
            "MULTI": ["OK"] * COUNT,
            "EXEC": [[n] for n in range(1, COUNT + 1)],
        }
        if "MULTI" in commands:
            expected["INCR"] = ["QUEUED"] * COUNT
        for place, command in enumerate(commands):
            assert found[place :: len(commands)] == expected[command.split()[0]]
        assert running.redis.shared.unsent.used == 0
        assert await client.ask("PING") == "PONG"


@pytest.mark.parametrize("end", ["QUIT", "the end of the input", "what is no request"])
async def test_commands_before_the_end_of_a_session_are_answered_no_matter_how_it_ends(end: str) -> None:
    async with serving() as running:
        client, _ = await narrow(running)
        last = {"QUIT": line("QUIT") + line("INCR x") * COUNT, "what is no request": b"$5\r\n" * COUNT}.get(end, b"")
        with trio.fail_after(PATIENCE):
            await client.send(line("INCR x") * COUNT + last)
        if end == "the end of the input":
            await client.stream.send_eof()
        assert await replies(client, COUNT) == list(range(1, COUNT + 1))
        if last:
            assert await client.reply() in ("OK", "ERR Protocol error: expected '*', got '$'")
        assert await client.rest() == b""
        assert running.node.value("x") == COUNT


@pytest.mark.usefixtures("small")
async def test_beyond_the_bound_each_command_is_answered_that_it_was_not_executed() -> None:
    async with serving() as running:
        client, _ = await narrow(running)
        with trio.fail_after(PATIENCE):
            await client.send(line("INCR x") * COUNT)
        found = await replies(client, COUNT)
        counted = running.node.value("x")
        assert 5_000 < counted < COUNT
        assert found == list(range(1, counted + 1)) + [NOT_EXECUTED] * (COUNT - counted)
        assert await client.ask("INCR x;PING") == [counted + 1, "PONG"]
        text = running.node.metrics.text().decode()
        assert f'gcount_redis_commands_total{{command="INCR",outcome="error"}} {COUNT - counted}.0' in text


async def test_beyond_the_limit_a_client_that_reads_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_UNSENT", 50_000)
    monkeypatch.setattr(outbox, "TAKES_WITHIN", 1000.0)
    async with serving() as running:
        client, connection = await narrow(running)
        session, _ = only(running)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, line("INCR x") * COUNT)
            await until(lambda: session.outbox.full)
            assert await (await running.connect()).ask("PING") == "PONG"
            assert connection.stream.bytes_in < len(line("INCR x")) * COUNT * 0.8
            assert await replies(client, COUNT) == list(range(1, COUNT + 1))


@pytest.mark.parametrize("asked", ["INCR x", "GET y", "PING"])
@pytest.mark.usefixtures("small")
async def test_a_client_that_never_reads_is_disconnected(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setattr(outbox, "MAX_REFUSED_BYTES", 100_000)
    async with serving(options=IMPATIENT) as running:
        client, connection = await narrow(running)
        with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
            while True:
                await client.send(line(asked) * 1000)
        await until(lambda: running.connections.clients == 0)
        assert connection.stream.descriptor == -1
        await until(lambda: not running.redis.sessions)
        assert running.redis.shared.unsent.used == 0


async def test_increments_of_a_client_that_has_left_keep_no_memory() -> None:
    """Otherwise clients that leave with an answer under way could use up the memory that all share."""
    async with serving(latency=0.1) as running:
        await running.node.wait_ready()
        client = await running.connect()
        assert await client.ask("PING") == "PONG"
        [session] = running.redis.sessions.values()
        await client.send(line("INCR x") * 100)
        await until(lambda: session.connection.busy)
        client.stream.close(reset=True)
        await until(lambda: not running.redis.sessions)
        assert running.node.value("x") == 0
        await until(lambda: running.node.value("x") == 100)
        assert running.redis.shared.unsent.used == 0


async def test_a_client_that_neither_reads_nor_writes_is_disconnected() -> None:
    async with serving(options=IMPATIENT) as running:
        client, _ = await narrow(running)
        with trio.fail_after(PATIENCE):
            await client.send(line("INCR x") * COUNT)
        await until(lambda: running.connections.clients == 0)
        assert running.node.value("x") == COUNT


@pytest.mark.usefixtures("small")
async def test_commands_of_a_refused_client_are_not_executed_in_whatever_pieces_they_come() -> None:
    async with serving() as running:
        client, connection = await narrow(running)
        session, _ = only(running)
        sent = connection.stream.bytes_in
        for pipeline in (line("INCR x") * COUNT, *[line("INCR y")] * 3):
            with trio.fail_after(PATIENCE):
                await client.send(pipeline)
            sent += len(pipeline)
            await until(lambda: connection.stream.bytes_in == sent and session.outbox.refusing)  # noqa: B023
        found = await replies(client, COUNT + 3)
        assert found[-3:] == [NOT_EXECUTED] * 3
        assert running.node.value("y") == 0


@pytest.mark.usefixtures("small")
async def test_a_transaction_that_is_refused_in_part_counts_nothing() -> None:
    async with serving() as running:
        client, _ = await narrow(running)
        with trio.fail_after(PATIENCE):
            await client.send(line("INCR x") * COUNT + line("MULTI;INCR y;EXEC;INCR y;MULTI;INCR y"))
        found = await replies(client, COUNT + 6)
        assert found[-6:] == [NOT_EXECUTED] * 6
        assert await client.ask("INCR y;EXEC;INCR y") == [
            "QUEUED",
            "EXECABORT Transaction discarded because of previous errors.",
            1,
        ]


@pytest.mark.usefixtures("small")
async def test_a_transaction_that_began_before_is_refused_too() -> None:
    async with serving() as running:
        client, _ = await narrow(running)
        with trio.fail_after(PATIENCE):
            await client.send(line("MULTI") + line("INCR x") * COUNT + line("EXEC"))
        found = await replies(client, COUNT + 2)
        assert found[0] == "OK"
        assert found[-1] == NOT_EXECUTED
        assert set(found[1:-1]) == {"QUEUED", NOT_EXECUTED}
        assert running.node.value("x") == 0
        assert await client.ask("INCR x") == 1


@pytest.mark.usefixtures("small")
async def test_a_transaction_is_not_executed_without_the_watch_that_was_refused() -> None:
    async with serving() as running:
        client, _ = await narrow(running)
        with trio.fail_after(PATIENCE):
            await client.send(line("INCR x") * COUNT + line("WATCH y"))
        assert (await replies(client, COUNT + 1))[-1] == NOT_EXECUTED
        found = await client.ask("MULTI;INCR y;EXEC;INCR y")
        assert isinstance(found, list)
        assert str(found[2]).startswith("EXECABORT Transaction discarded because of: WATCH")
        assert found[3] == 1


@pytest.mark.usefixtures("small")
async def test_quit_among_what_is_refused_ends_the_session() -> None:
    async with serving() as running:
        client, _ = await narrow(running)
        with trio.fail_after(PATIENCE):
            await client.send(line("INCR x") * COUNT + line("QUIT;INCR y"))
        assert (await replies(client, COUNT + 1))[-1] == NOT_EXECUTED
        assert await client.rest() == b""
        assert running.node.value("y") == 0


async def test_waiting_answers_are_sent_during_a_slow_command() -> None:
    async with serving() as running:
        client, _ = await narrow(running)
        with trio.fail_after(PATIENCE):
            await client.send(line("INCR x") * COUNT + line("WAIT 1 0;INCR x"))
        assert await replies(client, COUNT) == list(range(1, COUNT + 1))
        await client.stream.send_eof()
        assert await replies(client, 2) == [0, COUNT + 1]


async def test_a_slow_command_ends_when_its_client_leaves() -> None:
    async with serving() as running:
        client, _ = await narrow(running)
        with trio.fail_after(PATIENCE):
            await client.send(line("INCR x") * COUNT + line("WAIT 1 0;INCR y"))
        await until(lambda: running.node.value("x") == COUNT)
        await client.stream.aclose()
        await until(lambda: not running.redis.sessions)


async def test_the_waiting_answers_of_all_clients_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_ALL_UNSENT", 60_000)
    monkeypatch.setattr(outbox, "TAKES_WITHIN", 0.01)
    async with serving() as running:
        first, second = (await narrow(running))[0], (await narrow(running))[0]
        for client in (first, second):
            with trio.fail_after(PATIENCE):
                await client.send(line("INCR x") * COUNT)
        await until(lambda: all(session.outbox.refusing for session in running.redis.sessions.values()))
        assert running.redis.shared.unsent.used < 200_000
        assert await (await running.connect()).ask("INCR y;GET y") == [1, "1"]  # there is always room for that
        counted = 0
        for client in (first, second):
            found = await replies(client, COUNT)
            counted += sum(isinstance(each, int) for each in found)
            assert found[-1] == NOT_EXECUTED
        assert counted == running.node.value("x")
        assert running.redis.shared.unsent.used == 0


async def test_beyond_the_utmost_nothing_follows_an_answer_of_which_a_part_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if no answer of this client waited before: the others may have taken all the memory."""
    monkeypatch.setattr(outbox, "_UTMOST", 1000)
    async with serving() as running:
        client, _ = await narrow(running)
        await client.send(line("ECHO " + "x" * 60_000))
        received = b""
        with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
            while data := await client.stream.receive_some():
                if not received:
                    await client.send(line("PING"))
                received += data
        assert b"PONG" not in received
        await until(lambda: not running.redis.sessions)


async def test_beyond_the_limit_of_all_clients_one_that_takes_nothing_is_disconnected_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "_UTMOST", 200_000)
    async with serving() as running:
        client, _ = await narrow(running)
        with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
            await client.send(line("ECHO " + "x" * 60_000) * 10)
        await until(lambda: not running.redis.sessions)
        assert running.redis.shared.unsent.used == 0
