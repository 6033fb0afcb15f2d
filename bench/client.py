"""A load generator's HTTP: requests are made of bytes beforehand, answers are parsed only as far as needed."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)


class Failed(Exception):
    """What was measured did not work; the text is for the user."""


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()


def post(target: str, body: bytes) -> bytes:
    return f"POST {target} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """One keep-alive connection; one request at a time."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock

    async def ask(self, request: bytes) -> bytes:
        """Send a request; the body of its answer, which must be a 200."""
        rest = request
        while rest:
            rest = rest[await self._sock.send(rest) :]
        data = await self._more()
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += await self._more()
        length = _LENGTH.search(data, 0, end + 4)
        if length is None:
            raise Failed(f"an answer without content-length: {data[:200]!r}")
        whole = end + 4 + int(length[1])
        while len(data) < whole:
            data += await self._more()
        if len(data) > whole or data[9:12] != b"200":
            raise Failed(f"not the answer that was wanted: {data[:300]!r}")
        return data[end + 4 :]

    async def _more(self) -> bytes:
        data = await self._sock.recv(65536)
        if not data:
            raise Failed("a node closed the connection")
        return data


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
