"""A small HTTP/1.1 client on trio sockets.

It exists because the tests must know exactly what left the machine: `NotSent` means that the request
cannot have been counted, `NoAnswer` that it may have been. It also opens sockets inside a network namespace
and sends targets and bodies byte for byte, however malformed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import trio

from tests.harness.namespaces import inside

TROUBLE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, ValueError)


class NotSent(Exception):
    """No connection: the request certainly changed nothing."""


class NoAnswer(Exception):
    """Sent, at least in part, and never answered: the request changed something or nothing."""


@dataclass(frozen=True)
class Response:
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed: float

    def json(self) -> Any:
        return json.loads(self.body)

    def number(self) -> int:
        """The body of a 200, which must be digits and a newline."""
        assert self.status == 200, self
        digits = self.body.removesuffix(b"\n")
        assert digits.isdigit(), self
        assert self.body.endswith(b"\n"), self
        assert self.headers.get("content-type", "").startswith("text/plain"), self
        return int(digits)


@dataclass(frozen=True)
class Address:
    """Where a node is reached, and from which namespace (None: the one the tests run in)."""

    host: str
    port: int
    namespace: str | None = None

    async def connect(self, source: str | None = None) -> trio.SocketStream:
        family = trio.socket.AF_INET6 if ":" in self.host else trio.socket.AF_INET
        with inside(self.namespace):
            sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
        try:
            if source is not None:
                await sock.bind((source, 0))
            await sock.connect((self.host, self.port))
        except BaseException:
            sock.close()
            raise
        return trio.SocketStream(sock)


class Client:
    """One keep-alive connection, made anew after any trouble. For one task at a time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.stream: trio.SocketStream | None = None
        self._buffer = bytearray()

    def drop(self) -> None:
        """Forget the connection; safe at any time, never waits."""
        if self.stream is not None:
            self.stream.socket.close()
        self.stream = None
        self._buffer.clear()

    async def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> Response:
        """Send one request; `target` goes out as it is."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.address.host}:{self.address.port}"]
        lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        began = time.monotonic()
        sent = False
        try:
            with trio.fail_after(timeout):
                if self.stream is None:
                    self.stream = await self.address.connect()
                sent = True
                with contextlib.suppress(trio.BrokenResourceError):  # an early answer may still be readable
                    await self.stream.send_all(head + (body or b""))
                status, fields, content = await self._answer(method)
        except TROUBLE as error:
            self.drop()
            raise (NoAnswer if sent else NotSent)(f"{method} {target[:80]}: {error!r}") from error
        except BaseException:
            self.drop()
            raise
        if fields.get("connection", "").lower() == "close":
            self.drop()
        return Response(status, fields, content, time.monotonic() - began)

    async def _answer(self, method: str) -> tuple[int, dict[str, str], bytes]:
        while True:
            head = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            status = int(head[0].split(" ")[1])
            fields = {key.strip().lower(): value.strip() for key, _, value in (row.partition(":") for row in head[1:])}
            if status >= 200:
                break
        if method == "HEAD" or status in (204, 304):
            return status, fields, b""
        if "content-length" in fields:
            return status, fields, await self._exactly(int(fields["content-length"]))
        if fields.get("transfer-encoding", "").lower() == "chunked":
            content = b""
            while size := int(await self._until(b"\r\n"), 16):
                content += await self._exactly(size)
                await self._exactly(2)
            await self._exactly(2)
            return status, fields, content
        with contextlib.suppress(ValueError):
            while True:
                await self._more()
        content = bytes(self._buffer)
        self.drop()
        return status, fields, content

    async def _more(self) -> None:
        assert self.stream is not None
        data = await self.stream.receive_some(65536)
        if not data:
            raise ValueError("the server closed the connection")
        self._buffer += data

    async def _until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            await self._more()
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return found

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found


async def once(
    address: Address,
    method: str,
    target: str,
    body: bytes | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> Response:
    """One request on a connection of its own."""
    client = Client(address)
    try:
        return await client.request(method, target, body, headers=headers, timeout=timeout)
    finally:
        client.drop()
