"""The messages of a link, taken from the bytes of its two directions by hand: no code of gcount is in between."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import trio

from tests.harness.websocket import BINARY, frame

ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455


class Frames:
    """Cuts what one end sends into the payloads of its binary frames; an HTTP head may come first."""

    def __init__(self, *, head: bool) -> None:
        self._head = head
        self._data = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that are whole now."""
        self._data += data
        if self._head:
            _, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            self._head, self._data = False, rest
        while (found_frame := self._next()) is not None:
            opcode, payload = found_frame
            if opcode == BINARY:
                yield payload

    def _next(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        masked, length, at = data[1] >> 7, data[1] & 0x7F, 2
        if length >= 126:
            more = 2 if length == 126 else 8
            length, at = int.from_bytes(data[at : at + more], "big"), at + more
        mask, at = (data[at : at + 4], at + 4) if masked else (bytes(4), at)
        if len(data) < at + length:
            return None
        payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data[at : at + length]))
        self._data = data[at + length :]
        return data[0] & 0x0F, payload


class HungUp(Exception):
    """The other end closed the connection."""


class Talk:
    """One end of a link over a stream whose websocket handshake is over."""

    def __init__(self, stream: trio.SocketStream, *, dialled: bool) -> None:
        self._stream = stream
        self._dialled = dialled
        self._frames = Frames(head=False)
        self._waiting: list[bytes] = []
        self._sending = trio.Lock()

    async def send(self, payload: bytes) -> None:
        async with self._sending:
            await self._stream.send_all(frame(BINARY, payload, masked=self._dialled))

    async def receive(self) -> bytes:
        with trio.fail_after(10):
            while not self._waiting:
                data = await self._stream.receive_some(65_536)
                if not data:
                    raise HungUp
                self._waiting += self._frames.feed(data)
        return self._waiting.pop(0)


async def accept(stream: trio.SocketStream) -> Talk:
    """Answer the websocket handshake of a node that dialled."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = await stream.receive_some(1)
        if not data:
            raise HungUp
        head += data
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    fields = {name.strip().lower(): value.strip() for name, _, value in lines}
    key = base64.b64encode(hashlib.sha1(fields[b"sec-websocket-key"] + ACCEPT_SUFFIX).digest())
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + key + b"\r\n\r\n"
    )
    return Talk(stream, dialled=False)
