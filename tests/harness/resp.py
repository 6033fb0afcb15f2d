"""The Redis protocol as bytes: commands are encoded beforehand and sent as they are; hiredis parses the replies.

All Redis clients in the tests and in bench/ are made of it, except the libraries that are tested themselves. redis-py
could not replace it: it does not run on trio, sends nothing malformed, and takes longer for a command than a node does.
"""

from __future__ import annotations

import hiredis

from tests.harness.socket import Socket


def encoded(*words: bytes | str | int) -> bytes:
    """One command."""
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in raw)


def line(text: str) -> bytes:
    """A pipeline written as text, with semicolons between the commands."""
    return b"".join(encoded(*command.split()) for command in text.split(";"))


class RespConnection:
    """One connection, for one task at a time."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._reader = hiredis.Reader(encoding="utf-8")

    async def send(self, data: bytes) -> None:
        """Send bytes, however malformed."""
        while data:
            data = data[await self._socket.send(data) :]

    async def reply(self) -> object:
        """The next reply. An error is returned, as a `hiredis.ReplyError`.

        Raises:
            EOFError: the server closed the connection.
        """
        while (reply := self._reader.gets()) is False:
            data = await self._socket.recv(65536)
            if not data:
                raise EOFError("the server closed the connection")
            self._reader.feed(data)
        return reply

    async def exchange(self, commands: bytes, replies: int) -> list[object]:
        """Send commands in one piece, and return their replies."""
        await self.send(commands)
        return [await self.reply() for _ in range(replies)]
