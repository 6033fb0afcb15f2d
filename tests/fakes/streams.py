"""Streams for tests: one that keeps bytes back in records, as an encrypted one does, and small buffers of the kernel.

What it promises: the bytes that come out at one end are those that went in at the other end, in their order. Between
the ends, a record is of no use before it is whole, and a readable descriptor does not mean that there is data. Both
are so with TLS.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import trio

from gcount.net.stream import Bytes, PlainStream, Stream, Wrap

HELLO, DATA, KEY_UPDATE, KEY_UPDATED, END = range(5)
_KEY = 0x5A
_HEAD = 4  # bytes: the kind, and the length of what follows
RECORD_BYTES = 8000
_READ_BYTES = 64 * 1024
_SCRAMBLED = bytes(byte ^ _KEY for byte in range(256))


def narrow_buffers(descriptor: int, *options: int) -> None:
    """Make the kernel's buffers of a socket small.

    Args:
        descriptor: the socket's descriptor.
        options: SO_SNDBUF for the buffer of what is sent, SO_RCVBUF for that of what is received.
    """
    with socket.socket(fileno=os.dup(descriptor)) as same:
        for option in options:
            same.setsockopt(socket.SOL_SOCKET, option, 4096)


class RecordStream(Stream):
    """Scrambles bytes in records over an unencrypted stream, and behaves in all the ways in which TLS may behave.

    Half a record makes the descriptor readable and gives no data. One read takes all the records that have come. A
    record that the kernel took in part can't be taken back. Writes may need a read: both ends have to exchange a hello
    before anything is written, and after some records the keys are changed, which the peer has to confirm.

    Args:
        inner: carries the records. The other end has to be a `RecordStream` too.
        update_after: the number of records after which the keys are changed.
    """

    def __init__(self, inner: Stream, update_after: int = 1_000_000) -> None:
        self.descriptor = inner.descriptor
        self.bytes_in = self.bytes_out = 0
        self._inner = inner
        self._greeted = False  # whether the hello was sent
        self._heard = False  # whether the peer's hello has come
        self._update = update_after
        self._records = 0  # since the keys were changed; more than `update_after` while that is not confirmed
        self._came = bytearray()
        self._decoded = bytearray()
        self._ended = False  # whether the peer has finished sending
        self._unsent = bytearray()  # of records that were begun
        self._begun = b""  # bytes of the application in the record that was begun
        self._finished = False
        self._reading = trio.CancelScope()  # of a task that waits for bytes of the application
        self._read = trio.CancelScope()  # of a task that waits for a read that its write needs

    @property
    def pending(self) -> bool:
        return bool(self._decoded)

    def read_now(self, most: int) -> bytes | None:
        if not self._decoded:
            self._pull()
        if not self._decoded:
            return b"" if self._ended else None
        data = bytes(self._decoded[:most])
        del self._decoded[:most]
        self.bytes_in += len(data)
        return data

    def write_now(self, data: Bytes) -> int:
        assert not self._finished or self.descriptor < 0, "nothing is sent after the end"
        self._greet()
        sent, begun = 0, self._begun
        assert data[: len(begun)] == begun, "after a partial write, the next one begins with the rest"
        while self._push():
            sent, self._begun = sent + len(self._begun), b""
            part = bytes(data[sent : sent + RECORD_BYTES])
            if not part or self._waits:
                break
            self._begun = part
            self._add(DATA, part)
            self._records += 1
            if self._records == self._update:
                self._add(KEY_UPDATE)
                self._records += 1
        self.bytes_out += sent
        return sent

    async def wait_readable(self) -> None:
        if self._decoded:
            await trio.lowlevel.checkpoint()
            return
        with trio.CancelScope() as self._reading:  # another task's write may read, and the descriptor would not show it
            await self._inner.wait_readable()
        self._check_open()

    async def wait_writable(self) -> None:
        if self._unsent or not self._waits:
            await self._inner.wait_writable()
            return
        with trio.CancelScope() as self._read:
            # Another task may wait for this descriptor, and trio allows only one. So this task waits for a copy of it.
            copy = os.dup(self.descriptor)
            try:
                await trio.lowlevel.wait_readable(copy)
            finally:
                os.close(copy)
            self._pull()
        self._check_open()

    def finish_now(self) -> bool:
        if not self._finished:
            self._finished = True
            self._add(END)
        if self._unsent and not self._push():
            return False
        return self._inner.finish_now()

    def close(self, *, reset: bool = False) -> None:
        self.descriptor = -1
        self._read.cancel()
        self._inner.close(reset=reset)

    def local(self) -> tuple[str, int]:
        return self._inner.local()

    def remote(self) -> tuple[str, int]:
        return self._inner.remote()

    @property
    def _waits(self) -> bool:
        """Whether a write needs a read."""
        return not self._heard or self._records > self._update

    def _greet(self) -> None:
        if not self._greeted:
            self._greeted = True
            self._add(HELLO)

    def _add(self, kind: int, data: bytes = b"") -> None:
        self._unsent += (kind << 24 | len(data)).to_bytes(_HEAD) + data.translate(_SCRAMBLED)

    def _push(self) -> bool:
        """Send the records that were begun; returns whether the kernel took all of them."""
        sent = self._inner.write_now(self._unsent)
        del self._unsent[:sent]
        return not self._unsent

    def _pull(self) -> None:
        """Read what has come, and take all records that are whole."""
        came = self._inner.read_now(_READ_BYTES)
        if came is None:
            return
        self._ended = self._ended or not came
        self._came += came
        while len(self._came) >= _HEAD:
            head = int.from_bytes(self._came[:_HEAD])
            end = _HEAD + (head & 0xFFFFFF)
            if len(self._came) < end:
                break
            self._take(head >> 24, bytes(self._came[_HEAD:end]))
            del self._came[:end]

    def _take(self, kind: int, data: bytes) -> None:
        if kind == HELLO:
            self._greet()
            self._push()
            self._heard = True
            self._read.cancel()
        elif kind == DATA:
            self._decoded += data.translate(_SCRAMBLED)
            self._reading.cancel()
        elif kind == KEY_UPDATE:
            self._add(KEY_UPDATED)
            self._push()
        elif kind == KEY_UPDATED:
            self._records = 0
            self._read.cancel()
        else:
            self._ended = True
            self._reading.cancel()

    def _check_open(self) -> None:
        if self.descriptor < 0:
            raise trio.ClosedResourceError


def record_stream(connected: trio.SocketStream) -> Stream:
    """A stream of records over a socket that was accepted or dialled."""
    return RecordStream(PlainStream(connected))


@dataclass
class Chosen:
    """The kind of stream for tests with a real server. `tests/net/test_records.py` changes it for some tests.

    Attributes:
        wrap: makes the stream of a socket that was accepted or dialled, at both ends.
    """

    wrap: Wrap = PlainStream


chosen = Chosen()


async def open_stream(port: int) -> Stream:
    """A client's stream to a server on this machine."""
    return chosen.wrap(await trio.open_tcp_stream("127.0.0.1", port))


class StreamSocket:
    """The part of trio's socket that the clients of the tests need, over any stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def send(self, data: bytes, /) -> int:
        await self._stream.send_all(data)
        return len(data)

    async def recv(self, most: int, /) -> bytes:
        try:
            return await self._stream.receive_some(most)
        except trio.BrokenResourceError as error:
            raise ConnectionResetError from error
