"""The port for byte streams: HTTP, the Redis protocol and the links send and receive all their bytes through it.

The code above works on a `Stream` and on nothing else: no descriptor is read, written or closed elsewhere. The port
allows what an encrypted stream needs, so that an encrypted stream can wrap an unencrypted one without a change above:

* A descriptor may be readable although no bytes of the application have come: half a record, or a handshake.
  `read_now` then returns None.
* Bytes of the application may have come although the descriptor is not readable: one read may bring many records.
  `pending` is then true, and `wait_readable` does not wait.
* A write may need a read first: `write_now` then takes nothing, and `wait_writable` waits for what is needed.
* Bytes that were encrypted can't be taken back. So after a partial write, the next `write_now` has to begin with the
  bytes that the last one did not take. An implementation may therefore count bytes as taken only when the kernel has
  all of their record, and nothing has to be flushed.

Calls that do not wait are synchronous, and an answer costs one system call. A request is so small that an unnecessary
wait would be half of what it costs.
"""

from __future__ import annotations

import os
import struct
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

Bytes = bytes | bytearray | memoryview
RECEIVE_BYTES: Final = 32 * 1024  # the most at once: some 1,000 pipelined commands, a few milliseconds of work
# l_onoff = 1, l_linger = 0: close() resets the connection and frees what the kernel still had to send.
_RESET: Final = struct.pack("ii", 1, 0)


class Stream(trio.abc.HalfCloseableStream):
    """A stream of bytes in both directions, over a socket.

    The methods that wait are trio's interface of a stream, for other libraries. They are made of the abstract ones.

    Attributes:
        descriptor: readable when something may have come; -1 once the stream is closed.
        bytes_in: bytes of the application that were received.
        bytes_out: bytes of the application that were sent.
    """

    __slots__ = ("bytes_in", "bytes_out", "descriptor")

    descriptor: int
    bytes_in: int
    bytes_out: int

    @property
    def pending(self) -> bool:
        """Whether `read_now` has bytes to return although the descriptor may not be readable.

        Only `read_now` ends that. It reads nothing from the descriptor before that, so a caller can call it in a loop.
        """
        return False

    @abstractmethod
    def read_now(self, most: int) -> bytes | None:
        """Receive what has come.

        Args:
            most: the most bytes to return.

        Returns:
            Some bytes; no bytes if the peer has finished sending; None if nothing has come.

        Raises:
            OSError: the connection is broken, or the stream is closed.
        """

    @abstractmethod
    def write_now(self, data: Bytes) -> int:
        """Send as many bytes as the kernel takes at once.

        Args:
            data: what to send. It has to begin with the bytes that the last call did not take, if there are any.

        Returns:
            How many of the first bytes are sent. If that is not all, wait for `wait_writable` and go on.

        Raises:
            OSError: the connection is broken, or the stream is closed.
        """

    @abstractmethod
    async def wait_readable(self) -> None:
        """Return when `read_now` may return something. It is always a checkpoint of trio.

        Raises:
            OSError: the kernel can't watch the stream.
            trio.ClosedResourceError: the stream is closed, perhaps while this call waited.
        """

    @abstractmethod
    async def wait_writable(self) -> None:
        """Return when `write_now` may send something. Raises as `wait_readable` does."""

    @abstractmethod
    def finish_now(self) -> bool:
        """Tell the peer that nothing more will be sent.

        Returns:
            Whether that is done. If not, wait for `wait_writable` and call this again.

        Raises:
            OSError: the connection is broken, or the stream is closed.
        """

    @abstractmethod
    def close(self, *, reset: bool = False) -> None:
        """Close the stream now. Tasks that wait on it are woken with `trio.ClosedResourceError`.

        Args:
            reset: whether to reset the connection, so that the kernel does not keep what could not be sent.
        """

    @abstractmethod
    def local(self) -> tuple[str, int]:
        """The address and the port of this end.

        Raises:
            OSError: the connection is gone.
        """

    @abstractmethod
    def remote(self) -> tuple[str, int]:
        """The address and the port of the other end. Raises as `local` does."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some bytes as soon as there are any; no bytes mean that the peer has finished sending.

        Raises:
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: the stream is closed, perhaps while this call waited.
        """
        data = None
        try:
            while data is None:
                await self.wait_readable()  # inside the try: the kernel may have no memory to watch the stream
                data = self.read_now(max_bytes or RECEIVE_BYTES)
        except OSError as error:
            raise self._translated(error) from error
        return data

    async def send_all(self, data: Bytes) -> None:
        """Send all the bytes. Raises as `receive_some` does."""
        await trio.lowlevel.checkpoint()
        sent = 0
        try:
            with memoryview(data) as whole:
                while (sent := sent + self.write_now(whole[sent:])) < len(whole):
                    await self.wait_writable()
        except OSError as error:
            raise self._translated(error) from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream takes bytes. Raises as `receive_some` does."""
        try:
            await self.wait_writable()
        except OSError as error:
            raise self._translated(error) from error

    async def send_eof(self) -> None:
        """Tell the peer that nothing more will be sent. Raises as `receive_some` does."""
        await trio.lowlevel.checkpoint()
        try:
            while not self.finish_now():
                await self.wait_writable()
        except OSError as error:
            raise self._translated(error) from error

    async def aclose(self) -> None:
        """Close the stream now."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _translated(self, error: OSError) -> trio.BrokenResourceError | trio.ClosedResourceError:
        if self.descriptor < 0:
            return trio.ClosedResourceError("the stream is closed")
        return trio.BrokenResourceError(f"the connection broke: {error}")


# Makes a stream of a socket that was accepted or dialled. An encrypted stream would come in here.
Wrap = Callable[[trio.SocketStream], Stream]


class PlainStream(Stream):
    """An unencrypted stream: the bytes of a socket.

    Args:
        connected: trio's stream, which has set TCP_NODELAY already. Nothing else may use it any more.
    """

    __slots__ = ("_finished", "_socket")

    pending = False

    def __init__(self, connected: trio.SocketStream) -> None:
        self._socket = connected.socket
        self.descriptor = self._socket.fileno()
        self.bytes_in = self.bytes_out = 0
        self._finished = False

    def read_now(self, most: int) -> bytes | None:
        try:
            data = os.read(self.descriptor, most)
        except BlockingIOError:
            return None
        self.bytes_in += len(data)
        return data

    def write_now(self, data: Bytes) -> int:
        try:
            sent = os.write(self.descriptor, data)
        except BlockingIOError:
            return 0
        self.bytes_out += sent
        return sent

    async def wait_readable(self) -> None:
        if self.descriptor < 0:
            raise trio.ClosedResourceError("the stream is closed")
        await trio.lowlevel.wait_readable(self.descriptor)

    async def wait_writable(self) -> None:
        if self.descriptor < 0:
            raise trio.ClosedResourceError("the stream is closed")
        await trio.lowlevel.wait_writable(self.descriptor)

    def finish_now(self) -> bool:
        if not self._finished:
            self._socket.shutdown(trio.socket.SHUT_WR)
            self._finished = True
        return True

    def close(self, *, reset: bool = False) -> None:
        self.descriptor = -1  # first: the kernel may give its number to another connection
        if reset:
            with suppress(OSError):
                self._socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, _RESET)
        self._socket.close()

    def local(self) -> tuple[str, int]:
        return _address(self._socket.getsockname())

    def remote(self) -> tuple[str, int]:
        return _address(self._socket.getpeername())


def _address(name: tuple[object, ...]) -> tuple[str, int]:
    host, port = name[:2]  # an address of IPv6 has two more fields
    assert isinstance(host, str)
    assert isinstance(port, int)
    return host, port
