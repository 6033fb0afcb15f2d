"""The HTTP client of the load generators: requests are prepared as bytes, answers parsed no more than needed."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.harness.http_connection import Closed, HttpConnection


class Failed(Exception):
    """Something that was measured did not work. The text is for the user."""


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()


def post(target: str, body: bytes) -> bytes:
    return f"POST {target} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class Connection(HttpConnection):
    """One keep-alive connection; one request at a time."""

    async def ask(self, request: bytes) -> bytes:
        """Send a request; returns the body of the answer, which has to be a 200."""
        await self.send(request)
        try:
            answer = await self.answer()
        except Closed as closed:
            raise Failed(str(closed)) from None
        if self.unread or answer.status != b"200":
            raise Failed(f"unexpected answer: {b''.join(answer)[:300]!r}")
        return answer.body


@asynccontextmanager
async def connection(host: str, port: int) -> AsyncIterator[Connection]:
    """A connection for as long as the context lasts."""
    with trio.socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await sock.connect((host, port))
        yield Connection(sock)


async def once(host: str, port: int, request: bytes) -> bytes:
    """Send one request on a connection of its own; returns the body of the answer."""
    async with connection(host, port) as conn:
        return await conn.ask(request)
