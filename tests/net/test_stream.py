"""The port for byte streams: the common promises of a plain stream and a stream of records, and their differences."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

import gcount
from gcount.net.connection import Connection
from gcount.net.connection_pool import ConnectionPool
from gcount.net.stream import PlainStream, Stream, Wrap
from tests.fakes.streams import RECORD_BYTES, RecordStream, narrow_buffers, record_stream
from tests.net.test_connection_pool import pair

PATIENCE = 20.0  # seconds
KINDS = pytest.mark.parametrize("wrap", [PlainStream, record_stream], ids=["plain", "records"])


def updating(connected: trio.SocketStream) -> Stream:
    """A stream of records that changes its keys all the time."""
    return RecordStream(PlainStream(connected), update_after=3)


@asynccontextmanager
async def both_ends(wrap: Wrap) -> AsyncIterator[tuple[Stream, Stream]]:
    """Two ends that have exchanged something already."""
    with trio.fail_after(PATIENCE):
        async with pair() as (accepted, dialled):
            here, there = wrap(accepted), wrap(dialled)
            async with trio.open_nursery() as nursery:
                for stream in (here, there):
                    nursery.start_soon(stream.send_all, b"x")
                    nursery.start_soon(stream.receive_some, 1)
            yield here, there


def fill(stream: Stream, count: int = 100_000_000) -> int:
    """Write until nothing more is taken; returns how many bytes were taken."""
    taken = 0
    while taken < count and (sent := stream.write_now(bytes(100_000))):
        taken += sent
    return taken


@KINDS
async def test_bytes_arrive_in_their_order_both_ways(wrap: Wrap) -> None:
    sent = os.urandom(3_000_000)

    async def receive(stream: Stream) -> None:
        received = b""
        while len(received) < len(sent):
            received += await stream.receive_some()
        assert received == sent

    async with both_ends(wrap) as both, trio.open_nursery() as nursery:
        for stream in both:
            nursery.start_soon(stream.send_all, sent)
            nursery.start_soon(receive, stream)
    assert {(stream.bytes_in, stream.bytes_out) for stream in both} == {(len(sent) + 1,) * 2}


@KINDS
async def test_without_input_nothing_is_read_and_the_end_is_no_bytes(wrap: Wrap) -> None:
    async with both_ends(wrap) as (here, there):
        assert here.read_now(10) is None
        await there.send_eof()
        assert await here.receive_some() == b""
        assert here.read_now(10) == b""
        await here.send_all(b"still open this way")
        assert await there.receive_some() == b"still open this way"


@KINDS
async def test_bytes_that_were_not_taken_are_taken_when_the_peer_has_read(wrap: Wrap) -> None:
    async with both_ends(wrap) as (here, there), trio.open_nursery() as nursery:
        taken = fill(here)
        assert here.write_now(bytes(100_000)) == 0
        sent = trio.Event()

        @nursery.start_soon
        async def wait() -> None:
            await here.wait_writable()
            sent.set()

        await trio.testing.wait_all_tasks_blocked()
        assert not sent.is_set()
        while taken > 0 or not sent.is_set():
            taken -= len(await there.receive_some())


@KINDS
@pytest.mark.parametrize("call", ["receive_some", "wait_readable", "wait_writable"])
async def test_closing_wakes_all_tasks_that_wait(wrap: Wrap, call: str) -> None:
    async with both_ends(wrap) as (here, _), trio.open_nursery() as nursery:
        fill(here)

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await getattr(here, call)()

        await trio.testing.wait_all_tasks_blocked()
        here.close()


@KINDS
async def test_a_closed_stream_touches_no_descriptor_of_another_stream(wrap: Wrap) -> None:
    async with both_ends(wrap) as (here, _):
        here.close()
        assert here.descriptor == -1
        async with both_ends(wrap):  # gets the number again
            for now in (lambda: here.read_now(1), lambda: here.write_now(b"x"), here.finish_now, here.remote):
                with pytest.raises(OSError, match="descriptor"):
                    now()
            calls: list[Callable[[], object]] = [here.receive_some, here.send_eof, lambda: here.send_all(b"x")]
            for wait in [*calls, here.wait_readable, here.wait_writable, here.wait_send_all_might_not_block]:
                with pytest.raises(trio.ClosedResourceError):
                    await wait()  # type: ignore[misc]
            here.close()


@KINDS
@pytest.mark.parametrize("reset", [False, True])
async def test_the_peer_of_a_closed_stream_sees_the_end_or_a_reset(wrap: Wrap, reset: bool) -> None:
    async with both_ends(wrap) as (here, there):
        here.close(reset=reset)
        if reset:
            with pytest.raises(trio.BrokenResourceError, match=os.strerror(errno.ECONNRESET)):
                await there.receive_some()
        else:
            assert await there.receive_some() == b""


@KINDS
async def test_both_ends_know_their_addresses(wrap: Wrap) -> None:
    async with both_ends(wrap) as (here, there):
        assert (here.local(), here.remote()) == (there.remote(), there.local())
        assert here.local()[0] == "127.0.0.1"


@KINDS
async def test_the_end_can_be_sent_again(wrap: Wrap) -> None:
    async with both_ends(wrap) as (here, there):
        for _ in range(2):
            await here.send_eof()
        assert await there.receive_some() == b""


# What an encrypted stream does


async def test_half_a_record_is_readable_and_gives_nothing() -> None:
    async with both_ends(record_stream) as (here, there):
        assert isinstance(here, RecordStream)
        here._add(1, b"whole")
        record, here._unsent = bytes(here._unsent), bytearray()
        here._inner.write_now(record[:-1])
        await there.wait_readable()
        assert there.read_now(100) is None
        here._inner.write_now(record[-1:])
        assert await there.receive_some() == b"whole"


async def test_records_that_came_together_are_read_without_a_readable_descriptor() -> None:
    async with both_ends(record_stream) as (here, there):
        for _ in range(5):
            here.write_now(b"word ")
        assert await there.receive_some(4) == b"word"
        assert there.pending
        await there.wait_readable()
        assert there.read_now(100) == b" word word word word "
        assert not there.pending


async def test_a_record_that_was_taken_in_part_is_continued_and_counted_once() -> None:
    async with both_ends(record_stream) as (here, there):
        narrow_buffers(here.descriptor, trio.socket.SO_SNDBUF)
        narrow_buffers(there.descriptor, trio.socket.SO_RCVBUF)
        data = os.urandom(50 * RECORD_BYTES)
        sent, received = 0, b""
        while len(received) < len(data):
            sent += here.write_now(data[sent:])
            received += there.read_now(100_000) or b""
        assert received == data
        sent += here.write_now(data[sent:])
        assert sent == len(data)


async def test_a_write_that_needs_a_read_waits_for_a_read_by_any_task() -> None:
    async with both_ends(updating) as (here, there), trio.open_nursery() as nursery:
        received = dict.fromkeys((here, there), 0)

        async def receive(stream: Stream) -> None:
            while received[stream] < 50 * RECORD_BYTES:
                received[stream] += len(await stream.receive_some())

        for stream in (here, there):
            nursery.start_soon(stream.send_all, bytes(50 * RECORD_BYTES))
        await trio.testing.wait_all_tasks_blocked(0.01)  # both need the other's confirmation, and have read it
        for stream in (here, there):
            nursery.start_soon(receive, stream)


# Under a connection


@asynccontextmanager
async def reacting() -> AsyncIterator[tuple[Connection, Stream, list[bytes]]]:
    """A connection over records whose task sleeps, the other end of it, and what was answered at once."""
    answered: list[bytes] = []

    def answer(data: bytes) -> bool:
        answered.append(data)
        return not data.startswith(b"?")

    pool = ConnectionPool(1)
    async with both_ends(record_stream) as (accepted, peer), trio.open_nursery() as nursery:
        connection = pool.admit(accepted)
        assert connection is not None
        nursery.start_soon(pool.reactor.run)
        nursery.start_soon(connection.receive_unanswered, answer)
        yield connection, peer, answered
        connection.wake()
        pool.reactor.stop()


async def test_the_reactor_answers_all_that_came_at_once_though_the_descriptor_shows_it_once() -> None:
    async with reacting() as (_, peer, answered):
        await peer.send_all(bytes(3 * 32 * 1024))  # more than is read at a time
        while sum(map(len, answered)) < 3 * 32 * 1024:
            await trio.lowlevel.checkpoint()
        assert len(answered) >= 3


async def test_input_that_came_before_a_task_sleeps_is_answered_when_it_does() -> None:
    pool, answered = ConnectionPool(1), list[bytes]()

    def answer(data: bytes) -> bool:
        answered.append(data)
        return data != b"?"

    async with both_ends(record_stream) as (accepted, peer), trio.open_nursery() as nursery:
        connection = pool.admit(accepted)
        assert connection is not None
        nursery.start_soon(pool.reactor.run)
        await peer.send_all(b"abcd")
        assert await connection.receive_some(2) == b"ab"
        assert accepted.pending
        await peer.send_all(b"?")
        assert await connection.receive_unanswered(answer) == b"?"
        assert b"".join(answered) == b"cd?"
        pool.reactor.stop()


# Nothing passes the port


def test_no_descriptor_of_a_connection_is_touched_above_the_port() -> None:
    package = Path(gcount.__file__).parent
    touched = re.compile(r"\bos\.(read|write)\b|\b(fileno|getpeername|setsockopt|shutdown|SO_LINGER)\(")
    parts = [package / part for part in ("net", "http", "redis", "cluster")]
    above = [*package.glob("*.py"), *(file for part in parts for file in part.rglob("*.py"))]
    found = {str(file.relative_to(package)) for file in above if touched.search(file.read_text())}
    assert found == {"net/stream.py"}
