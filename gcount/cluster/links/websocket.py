"""A link over a websocket whose handshake is over, the same at both ends.

The handshake is done by trio-websocket at the end that dials, and by the application's websocket route at the end that
accepts. From then on a message takes one system call to send, and one turn of the scheduler to receive. This matters
because a consistent read waits for two messages of each member.
"""

import os
from typing import Final

import trio

from gcount.cluster.links.transport import Link
from gcount.core.protocol.websocket_frames import BINARY, CLOSE, MASK_BYTES, NORMAL_CLOSURE, PING, PONG, Frames, frame
from gcount.errors import LinkClosed
from gcount.net.stream import Stream

RECEIVE_BYTES: Final = 64 * 1024


class WebsocketLink(Link):
    """One end of a websocket.

    Args:
        stream: the connection. From now on only this object reads and writes it.
        dialled: whether this end dialled. Then RFC 6455 requires it to mask its frames.
        remote: the address of the other end; only the end that dialled needs it.
    """

    remote: str = ""

    def __init__(self, stream: Stream, *, dialled: bool, remote: str = "") -> None:
        self._stream = stream
        self._dialled = dialled
        self.remote = remote
        self._frames = Frames(masked=not dialled)
        self._found: tuple[int, bytes] | None = None  # the next frame, which was read and not returned yet
        self._unsent = bytearray()

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    def post(self, data: bytes) -> None:
        self._post(BINARY, data)

    async def flush(self) -> None:
        left = len(self._unsent)  # bytes that are posted from here on are left to the next call
        try:
            while left > 0:
                await self._stream.wait_writable()
                sent = self._stream.write_now(self._unsent)
                del self._unsent[:sent]
                left -= sent
        except (OSError, trio.ClosedResourceError):
            raise LinkClosed("the connection was lost") from None

    async def receive(self) -> bytes:
        received = False
        while True:
            self._found = self._found or self._frames.next()
            if self._found is None:
                self._frames.feed(await self._read())
                received = True
                continue
            if not received:  # many messages may have come at once; other tasks run between two of them
                await trio.lowlevel.checkpoint()
            received = False
            (opcode, payload), self._found = self._found, None
            if opcode == BINARY:
                return payload
            if opcode == PING and not self._unsent:  # a peer that pings and does not read can't fill the memory
                self._post(PONG, payload)
            elif opcode == CLOSE:
                raise LinkClosed("the other end hung up")

    def close(self) -> None:
        """Send a close frame. The stream itself is closed by its owner."""
        self._post(CLOSE, NORMAL_CLOSURE)

    def _post(self, opcode: int, payload: bytes) -> None:
        data = frame(opcode, payload, os.urandom(MASK_BYTES) if self._dialled else b"")
        sent = 0
        if not self._unsent:
            try:
                sent = self._stream.write_now(data)
            except OSError:
                return  # `receive` raises then
        self._unsent += data[sent:]

    async def _read(self) -> bytes:
        try:
            if data := await self._stream.receive_some(RECEIVE_BYTES):
                return data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        raise LinkClosed("the connection was lost")
