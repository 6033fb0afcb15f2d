"""Redis' protocol as bytes: commands are encoded beforehand and go out as they are; hiredis takes the replies apart.

All clients of it in the tests and in bench/ are made of it, but for the libraries that are themselves tested. redis-py
would not do in its place: it does not run on trio, sends nothing that is malformed, and takes longer for a command
than a node does.
"""

from __future__ import annotations

import hiredis

from tests.harness.socket import Socket


def encoded(*words: bytes | str | int) -> bytes:
    """One command."""
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in raw)


def line(text: str) -> bytes:
    """A pipeline as one writes it: commands parted by semicolons."""
    return b"".join(encoded(*command.split()) for command in text.split(";"))


class RespConnection:
    """One connection, of one task at a time."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._reader = hiredis.Reader(encoding="utf-8")

    async def send(self, data: bytes) -> None:
        """Send bytes, however malformed."""
        while data:
            data = data[await self._socket.send(data) :]

    async def reply(self) -> object:
        """The next reply; an error is a `hiredis.ReplyError`, returned.

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
        """Send commands in one piece, and return so many replies."""
        await self.send(commands)
        return [await self.reply() for _ in range(replies)]
