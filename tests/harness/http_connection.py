"""HTTP/1.1 as bytes: requests are sent as they are, and the input is only cut into answers.

All clients of HTTP in the tests and in bench/ are made of it, except the libraries that are tested themselves. No
library could replace it. The tests send what no library sends, compare answers byte for byte, and open their sockets in
network namespaces. A load generator that parsed heads would be slower than the node that it loads.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.harness.socket import Socket

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
_BODYLESS = (b"204", b"304")


class Closed(Exception):
    """The server closed the connection during an answer, or before it.

    Attributes:
        received: the part of the answer that had come.
        reset: whether the connection was reset.
    """

    def __init__(self, received: bytes, reset: bool) -> None:
        super().__init__(f"the server {'reset' if reset else 'closed'} the connection after {received[:200]!r}")
        self.received = received
        self.reset = reset


class Answer(NamedTuple):
    """One answer, with all its bytes.

    Attributes:
        interim: the heads of status 1xx before it.
        head: the head, with the empty line at its end.
        body: the body, as it came; a chunked one has the sizes of its chunks.
    """

    interim: bytes
    head: bytes
    body: bytes

    @property
    def status(self) -> bytes:
        """The status: three digits."""
        return self.head[9:12]

    def content(self) -> bytes:
        """The body without the sizes of its chunks."""
        if not _CHUNKED.search(self.head):
            return self.body
        content, begin = b"", 0
        while size := int(self.body[begin : (end := self.body.index(b"\r\n", begin))], 16):
            content += self.body[end + 2 : end + 2 + size]
            begin = end + 2 + size + 2
        return content


class HttpConnection:
    """One connection, for one task at a time.

    Attributes:
        unread: input that belongs to no answer yet.
        ended: whether the server has closed the connection.
    """

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self.unread = b""
        self.ended = False

    async def send(self, data: bytes) -> None:
        """Send bytes, however malformed."""
        while data:
            data = data[await self._socket.send(data) :]

    async def answer(self, *, head: bool = False) -> Answer:
        """The next answer.

        Args:
            head: whether it is an answer to HEAD, which has no body.

        Raises:
            Closed: the connection ended before the answer did.
        """
        if not self.unread:
            await self._more()
        begin, end = 0, self.unread.find(b"\r\n\r\n") + 4  # the usual case: all of it has come, and it has a length
        if end < 4 or self.unread[9:10] == b"1":
            begin, end = await self._final_head()
        length = None if head else _LENGTH.search(self.unread, begin, end)
        whole = end + int(length[1]) if length else end if head else await self._end_of_body(begin, end)
        while len(self.unread) < whole:
            await self._more()
        data, self.unread = self.unread, self.unread[whole:]
        return Answer(data[:begin], data[begin:end], data[end:whole])

    async def rest(self, *, reset: bool = True) -> bytes:
        """All input until the server closes the connection; `reset` says whether a reset is allowed too."""
        try:
            while True:
                await self._more()
        except Closed as closed:
            if closed.reset and not reset:
                raise
            return closed.received

    async def _final_head(self) -> tuple[int, int]:
        """The positions at which the head that is not interim begins and ends."""
        begin, end = 0, await self._find(b"\r\n\r\n", 0)
        while self.unread[begin + 9 : begin + 10] == b"1":
            begin, end = end, await self._find(b"\r\n\r\n", end)
        return begin, end

    async def _end_of_body(self, begin: int, end: int) -> int:
        """The position at which an answer without a length ends; its head is from `begin` to `end`."""
        if self.unread[begin + 9 : begin + 12] in _BODYLESS:
            return end
        if _CHUNKED.search(self.unread, begin, end):
            return await self._end_of_chunks(end)
        self.unread = await self.rest(reset=False)
        return len(self.unread)

    async def _end_of_chunks(self, begin: int) -> int:
        while True:
            end = await self._find(b"\r\n", begin)
            size = int(self.unread[begin : end - 2], 16)
            begin = end + size + 2
            if not size:
                return begin

    async def _find(self, mark: bytes, begin: int) -> int:
        """The position at which the next mark ends; waits until it has come."""
        while (found := self.unread.find(mark, begin)) < 0:
            await self._more()
        return found + len(mark)

    async def _more(self) -> None:
        reset = False
        try:
            data = await self._socket.recv(65536)
        except ConnectionResetError:
            data, reset = b"", True
        if not data:
            self.ended = True
            received, self.unread = self.unread, b""
            raise Closed(received, reset)
        self.unread += data
