"""An HTTP client that knows whether a request can have been counted.

`NotSent` means that the request cannot have been counted, `NoAnswer` that it may have been. It also opens sockets
inside a network namespace, and sends targets and bodies byte for byte, however malformed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import trio

from tests.harness.http_connection import Answer, Closed, HttpConnection
from tests.harness.namespaces import inside

TROUBLE = (OSError, trio.ClosedResourceError, trio.TooSlowError, ValueError, Closed)


class NotSent(Exception):
    """There was no connection: the request has certainly changed nothing."""


class NoAnswer(Exception):
    """The request was sent, at least in part, and not answered: it may have changed something."""


@dataclass(frozen=True)
class Response:
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed: float

    @classmethod
    def of(cls, answer: Answer, elapsed: float) -> Response:
        """Parse an answer, which took `elapsed` seconds."""
        rows = [row.partition(":") for row in answer.head.decode("latin-1").split("\r\n")[1:]]
        headers = {key.strip().lower(): value.strip() for key, _, value in rows}
        return cls(int(answer.status), headers, answer.content(), elapsed)

    def json(self) -> Any:
        return json.loads(self.body)

    def number(self) -> int:
        """The number in the body of a 200, which has to be digits and a newline."""
        assert self.status == 200, self
        digits = self.body.removesuffix(b"\n")
        assert digits.isdigit(), self
        assert self.body.endswith(b"\n"), self
        assert self.headers.get("content-type", "").startswith("text/plain"), self
        return int(digits)


@dataclass(frozen=True)
class Address:
    """The address of a node, and the namespace from which to reach it (None: that of the tests)."""

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
    """One keep-alive connection, which is made again after any error. For one task at a time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.stream: trio.SocketStream | None = None
        self._connection: HttpConnection | None = None

    def drop(self) -> None:
        """Close the connection. It may be called at any time, and never waits."""
        if self.stream is not None:
            self.stream.socket.close()
        self.stream = self._connection = None

    async def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> Response:
        """Send one request; the target is sent as it is."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.address.host}:{self.address.port}"]
        lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        began = time.monotonic()
        sent = False
        try:
            with trio.fail_after(timeout):
                connection = self._connection or await self._connect()
                sent = True
                with contextlib.suppress(ConnectionError):  # an early answer may still be readable
                    await connection.send(head + (body or b""))
                answer = Response.of(await connection.answer(head=method == "HEAD"), time.monotonic() - began)
        except TROUBLE as error:
            self.drop()
            raise (NoAnswer if sent else NotSent)(f"{method} {target[:80]}: {error!r}") from error
        except BaseException:
            self.drop()
            raise
        if connection.ended or answer.headers.get("connection", "").lower() == "close":
            self.drop()
        return answer

    async def _connect(self) -> HttpConnection:
        self.stream = await self.address.connect()
        self._connection = HttpConnection(self.stream.socket)
        return self._connection


async def once(
    address: Address,
    method: str,
    target: str,
    body: bytes | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> Response:
    """Send one request on a connection of its own."""
    client = Client(address)
    try:
        return await client.request(method, target, body, headers=headers, timeout=timeout)
    finally:
        client.drop()
