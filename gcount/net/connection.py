"""One accepted connection, with a deadline on sending and a way to end it at once."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from gcount.net import sockets
from gcount.net.reactor import RECEIVE_BYTES, Reactor

if TYPE_CHECKING:
    from gcount.net.connection_pool import ConnectionPool

# How long, and for how many bytes, input is thrown away after the last answer of a connection.
LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 1024 * 1024
# l_onoff = 1, l_linger = 0: close() resets the connection and frees what the kernel still had to send.
_RESET: Final = struct.pack("ii", 1, 0)


class Connection(trio.abc.HalfCloseableStream):
    """One accepted connection: a stream with a deadline on sending, and a way to end it at once.

    hypercorn sends under a shield, out of reach of any timeout or cancellation of ours. So the deadline lives
    inside `send_all`, and `abort` closes the socket itself, which wakes the task that waits on it.

    Attributes:
        socket: the socket (hypercorn asks it for the addresses of both ends).
        opened: when it was accepted, in seconds of `trio.current_time()`.
        last_used: when it was accepted or last completed a response; dribbling bytes is no use.
        busy: whether a request or a websocket is in progress.
        is_link: whether it is a link of another node, see `become_link`.
        bytes_in, bytes_out: bytes received from the peer, and sent to it.
        scope: what the task that serves the connection runs in; `abort` cancels it.
        wake: ends what waits for input outside that task; see `Reactor.receive`.
    """

    def __init__(self, stream: trio.SocketStream, owner: ConnectionPool) -> None:
        self.socket = stream.socket
        self.opened = self.last_used = trio.current_time()
        self.busy = False
        self.is_link = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.scope = trio.CancelScope()
        self.wake: Callable[[], None] = lambda: None
        self._stream = stream
        self._sending = trio.Lock()
        self._owner = owner
        self._receiving = False
        self._served = trio.CancelScope()
        self._taken_over = trio.Event()
        self._half_closed = False
        self._peer_finished = False
        self._closing = trio.Event()
        self._drained = trio.Event()
        self._idle: trio.Event | None = None  # set when no request is in progress any more, should somebody wait

    @property
    def closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing.is_set()

    @property
    def reactor(self) -> Reactor:
        """What may receive for it."""
        return self._owner.reactor

    @property
    def stopping(self) -> bool:
        """Whether the server ends: nothing is to follow the response that is under way."""
        return self._owner.stopping

    @property
    def send_timeout(self) -> float:
        """Seconds that the peer may take to read what is sent to it."""
        return self._owner.link_send_timeout if self.is_link else self._owner.send_timeout

    def become_link(self) -> bool:
        """Make this a link, never closed to make room; False if there are too many or it is closed."""
        return self._owner._promote(self)

    def take_over(self) -> None:
        """Whoever calls this is the only one to receive from now on: `receive_for_server` does not return any more."""
        self._taken_over.set()
        self._served.cancel()
        if self._closing.is_set():
            self.abort()  # the application server drains it already

    async def receive_for_server(self) -> bytes:
        """Receive some bytes for the application server; see `receive_some`."""
        if not self._taken_over.is_set():
            with trio.CancelScope() as self._served:
                data = await self.receive_some()
                if not self._taken_over.is_set():
                    return data
                self.abort()  # it was sent before the handshake was answered, when nothing may be
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    def set_busy(self, busy: bool) -> None:
        """Note that a request begins (True) or that its response is complete (False)."""
        self.busy = busy
        if not busy:
            self.last_used = trio.current_time()
            if self._idle is not None:
                self._idle.set()
                self._idle = None
        self._owner._place(self)

    async def wait_idle(self) -> None:
        """Return when no request is in progress."""
        while self.busy:
            self._idle = self._idle or trio.Event()
            await self._idle.wait()

    def abort(self, *, reset: bool = False) -> None:
        """End the connection now: wake whoever waits on it, cancel the task that serves it.

        The peer of a busy one sees a reset, so that the kernel does not keep what could not be sent.

        Args:
            reset: whether the peer of an idle one does, too.
        """
        self._closing.set()
        self._owner._forget(self)
        self.wake()
        with contextlib.suppress(OSError):
            if self.busy or reset:
                self.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, _RESET)
        self.socket.close()
        self.scope.cancel()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all the bytes, or abort the connection when the peer does not take them in time; maybe no checkpoint.

        Raises:
            trio.BrokenResourceError: the peer is gone, or did not read.
            trio.ClosedResourceError: the connection was closed, perhaps while this call waited.
        """
        sent = 0
        if not self._sending.locked() and not self._half_closed:
            with contextlib.suppress(OSError):  # the stream finds out what is wrong
                sent = sockets.send_now(self.socket, data)
        self.bytes_out += sent
        if sent == len(data):
            return
        try:
            with trio.move_on_after(self.send_timeout):
                async with self._sending:  # a refusal of what follows may meet an answer under way
                    await self._stream.send_all(memoryview(data)[sent:])
                self.bytes_out += len(data) - sent
                return
        except trio.BrokenResourceError:
            self.abort()  # or what it asked for before it left would still be answered, one after the other
            raise
        # Half a message may have been sent, so there is no way to go on.
        self.abort(reset=True)
        raise trio.BrokenResourceError("the peer does not read")

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket takes bytes."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some bytes; none means that the peer has finished sending. Raises as `send_all` does."""
        if self._closing.is_set():
            raise trio.ClosedResourceError("the connection is being closed")
        self._receiving = True
        try:
            data = await sockets.receive(self.socket, max_bytes or RECEIVE_BYTES)
            self.bytes_in += len(data)
            self._peer_finished = not data
            if self._closing.is_set():
                await self._drain()
                raise trio.ClosedResourceError("the connection was closed")
            return data
        finally:
            self._receiving = False
            if self._closing.is_set():
                self._drained.set()

    async def send_eof(self) -> None:
        """Tell the peer that nothing more will be sent."""
        self._half_closed = True
        if self._sending.locked():
            raise trio.BusyResourceError("the last answer is still being sent")
        async with self._sending:
            await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the connection, leaving the peer a moment to read the last response.

        A socket that is closed with input unread resets the connection, and the reset overtakes the response:
        a client that is still sending its body would never see the 413. So input is thrown away for a while,
        but only for a while and only so much of it. Not when somebody else receives: who closes wakes him.
        """
        if not self._closing.is_set():
            self._closing.set()
            self.wake()
            self.set_busy(False)
            if self._half_closed and not self._peer_finished and not self._taken_over.is_set():
                with trio.move_on_after(0.0 if self.stopping else LINGER_SECONDS):
                    # Only one task may wait for input; if one does already, it drains.
                    await (self._drained.wait() if self._receiving else self._drain())
        await self._stream.aclose()

    async def _drain(self) -> None:
        """Throw input away until the peer finishes or `LINGER_BYTES` have come."""
        most = self.bytes_in + LINGER_BYTES
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while not self._peer_finished and self.bytes_in < most:
                data = await self._stream.receive_some()
                self.bytes_in += len(data)
                self._peer_finished = not data
