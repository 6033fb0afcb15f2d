"""A load generator's HTTP: requests are made of bytes beforehand, answers are looked at only as far as needed."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.harness.http_connection import Closed, HttpConnection


class Failed(Exception):
    """What was measured did not work; the text is for the user."""


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()


def post(target: str, body: bytes) -> bytes:
    return f"POST {target} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class Connection(HttpConnection):
    """One keep-alive connection; one request at a time."""

    async def ask(self, request: bytes) -> bytes:
        """Send a request; the body of its answer, which must be a 200."""
        await self.send(request)
        try:
            answer = await self.answer()
        except Closed as closed:
            raise Failed(str(closed)) from None
        if self.unread or answer.status != b"200":
            raise Failed(f"not the answer that was wanted: {b''.join(answer)[:300]!r}")
        return answer.body


@asynccontextmanager
async def connection(host: str, port: int) -> AsyncIterator[Connection]:
    """A connection for as long as the context lasts."""
    with trio.socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await sock.connect((host, port))
        yield Connection(sock)


async def once(host: str, port: int, request: bytes) -> bytes:
    """One request on a connection of its own."""
    async with connection(host, port) as conn:
        return await conn.ask(request)
