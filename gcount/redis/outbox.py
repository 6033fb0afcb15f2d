"""Answers that their client has not taken yet, while it goes on sending.

Many clients write a whole pipeline before they read its first answer. If the node stopped reading while an answer
waits, both would wait for ever. So the node reads on, up to a limit of unsent answers. Beyond that limit the node waits
for a client that still takes some of its answers. A client that takes none gets no more commands executed: each is
answered with an error in its place, so that the client knows what was counted.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio

from gcount.errors import GcountError
from gcount.net.connection import Connection
from gcount.redis import resp

# Limits of unsent answers, in bytes.
MAX_UNSENT: Final = 16 * 1024 * 1024  # of one client
MAX_ALL_UNSENT: Final = 128 * 1024 * 1024  # of all clients; a client that has more than `_OWN_BYTES` waits beyond it
_OWN_BYTES: Final = 4 * 1024  # of one client, whatever the others have
_UTMOST: Final = 2 * MAX_ALL_UNSENT  # of all clients, in any case
MAX_REFUSED_BYTES: Final = 64 * 1024 * 1024  # bytes of commands that are refused while their client takes nothing
TAKES_WITHIN: Final = 1.0  # seconds; a client that has taken nothing for so long does not read
assert _OWN_BYTES < MAX_UNSENT < MAX_ALL_UNSENT < _UTMOST, "one client can't take the memory of all"
_AT_ONCE: Final = 256 * 1024
_REFUSALS_AT_ONCE: Final = 1024
REFUSAL: Final = resp.error("ERR not executed: too many answers wait; read them while you send commands")


class Pool:
    """Memory that all clients share.

    Attributes:
        used: bytes that are in use.
    """

    def __init__(self) -> None:
        self.used = 0


class Outbox:
    """The answers of one client.

    Args:
        connection: the client's connection.
        pool: counts the memory of all clients' answers.

    Attributes:
        refusing: whether the client's commands are refused, until it has taken all answers.
        broken: whether an answer was dropped. Nothing may be sent after it, and the connection has to end.
    """

    def __init__(self, connection: Connection, pool: Pool) -> None:
        self.refusing = False
        self.broken = False
        self._connection = connection
        self._pool = pool
        self._unsent = bytearray()
        self._refusals = 0  # how many refusals are to be sent after `_unsent`
        self._refused_bytes = 0  # bytes that the client has sent since its commands are refused
        self._last = b""  # answers to be sent after the refusals
        self._taken = 0.0  # when the client last took something, in seconds of trio's clock

    @property
    def waiting(self) -> bool:
        """Whether the client has to take something, or its connection has to end."""
        return self.broken or bool(self._unsent or self._refusals or self._last)

    @property
    def size(self) -> int:
        """How many bytes of answers wait."""
        return len(self._unsent)

    @property
    def full(self) -> bool:
        """Whether no further command of this client is to be executed now."""
        size = len(self._unsent)
        return size > MAX_UNSENT or (size > _OWN_BYTES and self._pool.used > MAX_ALL_UNSENT)

    def put(self, data: bytes) -> bool:
        """Send as much of an answer as the kernel takes at once, and keep the rest; returns whether nothing waits."""
        connection = self._connection
        if self._refusals or self._last:
            self._last += data
            return False
        if not self.waiting:
            try:
                sent = connection.send_now(data)
            except OSError:
                sent = 0  # `drain` finds out what is wrong
            if sent == len(data):
                return True
            data = data[sent:]
            self._taken = trio.current_time()
            connection.set_busy(True)
        if self.broken or self._pool.used + len(data) > _UTMOST:
            self.broken = True
        else:
            self._unsent += data
            self._pool.used += len(data)
        return False

    def refuse(self, size: int, commands: int) -> None:
        """Answer commands with an error instead of executing them.

        Args:
            size: how many bytes of input they came in.
            commands: how many they are.
        """
        self._refusals += commands
        self._refused_bytes += size

    async def wait_drained(self) -> None:
        """Return when more commands may be executed, or refuse the client's commands if it takes nothing."""
        while self.full and not self.refusing:
            with trio.move_on_after(TAKES_WITHIN) as waiting:
                await self._connection.stream.wait_writable()
            if waiting.cancelled_caught:
                self.refusing = True
            else:
                self._push()

    async def drain(self) -> None:
        """Send all answers that wait, to a client that takes some of them now and then, or has just sent something.

        Raises:
            trio.BrokenResourceError: the client is gone, or took nothing for too long.
            trio.ClosedResourceError: the connection was closed.
        """
        since = self._taken if self._refused_bytes > MAX_REFUSED_BYTES else trio.current_time()
        while self.waiting:
            since = max(since, self._taken)
            with trio.move_on_at(since + self._connection.send_timeout):
                if not self.broken:
                    await self._connection.stream.wait_writable()
                self._push()
                continue
            self._connection.abort(reset=True)
            raise trio.BrokenResourceError("the peer does not read")
        self.refusing, self._refused_bytes = False, 0

    async def receive(self) -> bytes | None:
        """Receive input while the answers that wait are sent.

        Returns:
            What came; no bytes if the peer has finished sending or is gone; None if all answers were sent before
            anything came.
        """
        received: bytes | None = None
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                nonlocal received
                try:
                    received = await self._connection.receive_some()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    received = b""
                nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self.drain()
            nursery.cancel_scope.cancel()
        if not self.waiting:
            self._connection.set_busy(False)
        return received

    async def beside(self, work: Callable[[], Awaitable[bytes]]) -> bytes:
        """Wait for the answer to a slow command while the answers that wait are sent.

        Raises:
            trio.BrokenResourceError: the client is gone, and needs no answer.
        """
        answer: bytes | GcountError = b""
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                try:
                    await self.drain()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    nursery.cancel_scope.cancel()

            nursery.start_soon(send)
            try:
                answer = await work()
            except GcountError as error:
                answer = error
            nursery.cancel_scope.cancel()
        if isinstance(answer, GcountError):
            raise answer
        if not answer:
            raise trio.BrokenResourceError("the client is gone")
        return answer

    async def finish(self) -> None:
        """Send all answers that wait, and throw away the input that comes meanwhile. Raises as `drain` does."""
        self._refused_bytes = MAX_REFUSED_BYTES + 1  # so that input is no reason to wait longer
        while self.waiting and await self.receive():
            pass
        await self.drain()

    def close(self) -> None:
        """Drop all answers, and give back their memory.

        Later answers are dropped too: an increment may still be committed after its client has left.
        """
        self._pool.used -= len(self._unsent)
        assert self._pool.used >= 0, "memory is given back once"
        self._unsent, self._refusals, self._last = bytearray(), 0, b""
        self.broken = True

    def _push(self) -> None:
        connection = self._connection
        if not self._unsent:
            self._fill()
        try:
            if self.broken:
                raise OSError
            with memoryview(self._unsent)[:_AT_ONCE] as piece:
                sent = connection.send_now(piece)
        except OSError as error:
            connection.abort(reset=True)
            raise trio.BrokenResourceError from error
        del self._unsent[:sent]
        self._pool.used -= sent
        assert self._pool.used >= len(self._unsent), "the answers that wait are counted"
        if sent:
            self._taken = trio.current_time()

    def _fill(self) -> None:
        some = min(self._refusals, _REFUSALS_AT_ONCE)
        self._refusals -= some
        self._unsent += REFUSAL * some
        if not self._refusals:
            self._unsent += self._last
            self._last = b""
        self._pool.used += len(self._unsent)
