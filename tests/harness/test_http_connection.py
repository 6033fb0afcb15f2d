"""The tests' own HTTP: input is cut into answers in the right places, in whatever pieces it comes."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.harness.http_connection import Answer, Closed, HttpConnection

OK = b"HTTP/1.1 200 OK\r\n"
FIVE = OK + b"Content-Length: 5\r\n\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
CHUNKS = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[HttpConnection, trio.SocketStream]]:
    """A client's connection, and the server's end of it."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(20), trio.socket.socket() as socket:
        await socket.connect(listener.socket.getsockname())
        async with listener, await listener.accept() as server:
            yield HttpConnection(socket), server


async def test_answers_that_come_together_and_in_pieces_are_parted() -> None:
    unchanged = b"HTTP/1.1 304 \r\n\r\n"
    sent = FIVE + b"first" + CHUNKED + CHUNKS + unchanged + FIVE + b"third"
    async with pair() as (client, server), trio.open_nursery() as nursery:

        async def send() -> None:
            for place in range(len(sent)):
                await server.send_all(sent[place : place + 1])
                await trio.lowlevel.checkpoint()

        nursery.start_soon(send)
        assert await client.answer() == Answer(b"", FIVE, b"first")
        chunked = await client.answer()
        assert (chunked.body, chunked.content()) == (CHUNKS, b"abcde")
        assert await client.answer() == Answer(b"", unchanged, b"")
        assert (await client.answer()).content() == b"third"
        assert not client.unread


async def test_an_answer_without_a_body_ends_with_its_head() -> None:
    async with pair() as (client, server):
        proceed = b"HTTP/1.1 100 \r\n\r\n"
        await server.send_all(FIVE + proceed + FIVE + b"after")
        assert await client.answer(head=True) == Answer(b"", FIVE, b"")
        assert await client.answer() == Answer(proceed, FIVE, b"after")


async def test_an_answer_of_unknown_length_ends_with_the_connection() -> None:
    async with pair() as (client, server):
        await server.send_all(OK + b"\r\nall of it")
        await server.send_eof()
        assert (await client.answer()).content() == b"all of it"
        assert client.ended


@pytest.mark.parametrize("sent", [b"", OK, FIVE + b"less", CHUNKED + CHUNKS[:-2], b"HTTP/1.1 101 \r\n\r\nbytes"])
async def test_an_answer_that_does_not_end_is_shown(sent: bytes) -> None:
    async with pair() as (client, server):
        await server.send_all(sent)
        await server.send_eof()
        with pytest.raises(Closed) as found:
            await client.answer()
        assert (found.value.received, found.value.reset) == (sent, False)


async def test_a_reset_ends_no_answer() -> None:
    async with pair() as (client, server):
        await server.send_all(OK + b"\r\npart")
        server.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.socket.close()
        with pytest.raises(Closed) as found:
            await client.answer()
        assert found.value.reset
