"""One accepted connection, with a deadline on sending and a way to end it at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import trio

from gcount.net.connection_state import (
    PHASES,
    RECEPTION,
    SENDING,
    Inbound,
    Outbound,
    Phase,
    Reception,
    Sending,
    Use,
    after,
)
from gcount.net.options import ConnectionOptions
from gcount.net.reactor import Reactor, Watch
from gcount.net.stream import Bytes, Stream

# Looked up with each request.
_ON_REQUEST, _ON_RESPONSE = PHASES[Use.REQUEST], PHASES[Use.RESPONSE]
_IDLE_LINK, _BUSY, _BUSY_LINK, _CLOSING, _CLOSED = (
    Phase.IDLE_LINK,
    Phase.BUSY,
    Phase.BUSY_LINK,
    Phase.CLOSING,
    Phase.CLOSED,
)
_ENDED = Outbound.ENDED


class Registry(Protocol):
    """The registry of all connections, as one connection sees it."""

    @property
    def options(self) -> ConnectionOptions:
        """The limits of each connection."""

    @property
    def reactor(self) -> Reactor:
        """Receives for connections whose tasks sleep."""

    @property
    def stopping(self) -> bool:
        """Whether the server is stopping."""

    def place(self, connection: Connection, *, busy: bool) -> None:
        """Note that a request begins, or that its response is complete."""

    def promote(self, connection: Connection) -> bool:
        """Register a connection as a link; returns False if there are too many links, or if it is not registered."""

    def forget(self, connection: Connection) -> None:
        """Remove a connection that was closed."""


class Connection(trio.abc.HalfCloseableStream):
    """One accepted connection: a stream with a deadline on sending, and a way to end it at once.

    hypercorn sends under a shield, which no timeout or cancellation of ours can reach. So the deadline is inside
    `send_all`, and `abort` closes the stream itself, which wakes the task that waits on it.

    The tables of `connection_state` have its states, and what may happen in each of them. (It has more methods than
    other classes, because it is trio's stream for hypercorn, and Redis sessions and the fast path use it directly.)

    Args:
        stream: the accepted stream.
        registry: the registry of all connections.

    Attributes:
        stream: the accepted stream.
        opened: when it was accepted, in seconds of `trio.current_time()`.
        last_used: when it was accepted, or when its last response was complete; bytes of a request do not count.
        phase: what it is in use for.
        inbound: what receives its input.
        outbound: whether anything more is sent.
        scope: the cancel scope of the task that serves the connection; `abort` cancels it.
    """

    __slots__ = (
        "_drained",
        "_idle",
        "_options",
        "_registry",
        "_sending",
        "_served",
        "_watch",
        "inbound",
        "last_used",
        "opened",
        "outbound",
        "phase",
        "scope",
        "stream",
    )

    def __init__(self, stream: Stream, registry: Registry) -> None:
        self.stream = stream
        self.opened = self.last_used = trio.current_time()
        self.phase = Phase.IDLE
        self.inbound = Inbound.FREE
        self.outbound = Outbound.OPEN
        self.scope = trio.CancelScope()
        self._registry = registry
        self._options = registry.options
        self._sending = trio.Lock()
        self._served = trio.CancelScope()  # of the task that receives for the application server
        self._watch: Watch | None = None
        self._drained = trio.Event()
        self._idle: trio.Event | None = None  # set when no request is in progress any more, if a task waits for that

    @property
    def busy(self) -> bool:
        """Whether a request or a websocket is in progress."""
        return self.phase is _BUSY or self.phase is _BUSY_LINK

    @property
    def is_link(self) -> bool:
        """Whether it is a link of another node, see `become_link`."""
        return self.phase is _BUSY_LINK or self.phase is _IDLE_LINK

    @property
    def closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self.phase is _CLOSING or self.phase is _CLOSED

    @property
    def stopping(self) -> bool:
        """Whether the server is stopping, so that no response may follow the present one."""
        return self._registry.stopping

    @property
    def send_timeout(self) -> float:
        """Seconds that the peer may take to read what is sent to it."""
        return self._options.link_send_timeout if self.is_link else self._options.send_timeout

    def become_link(self) -> bool:
        """Make this a link, which is never displaced; returns False if there are too many, or if it is closed."""
        if self.is_link:
            return True
        if self.closing or not self._registry.promote(self):
            return False
        self.phase = after(PHASES, Use.PROMOTE, self.phase)
        return True

    def take_over(self) -> Stream:
        """Let only the caller receive from now on, from the stream: `receive_for_server` does not return any more."""
        self._receives(Reception.TAKE_OVER)
        self._served.cancel()
        if self.closing:
            self.abort()  # the application server is already draining it
        return self.stream

    async def receive_for_server(self) -> bytes:
        """Receive some bytes for the application server; see `receive_some`."""
        if self.inbound is not Inbound.TAKEN_OVER:
            with trio.CancelScope() as self._served:
                data = await self.receive_some()
                if not self._served.cancel_called:
                    return data
                self.abort()  # the peer sent data before the handshake was answered, which is not allowed
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    async def receive_unanswered(self, answer: Callable[[bytes], bool]) -> bytes | None:
        """Sleep while the reactor receives, until there is input that can't be answered at once.

        Args:
            answer: see `Reactor.watch`; an error that it raises is raised here.

        Returns:
            The input; no bytes if the peer has finished sending; None if `wake` was called.

        Raises:
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: the connection is closed.
        """
        self._check_open()
        self._receives(Reception.WATCH)
        try:
            watch = self._watch = self._registry.reactor.watch(self.stream, answer)
            if self.stream.pending:
                watch.receive()
            await watch.woken.wait()
        finally:
            self.wake()
        self._check_open()
        if watch.error is not None:
            raise watch.error
        if watch.data == b"":
            self._receives(Reception.END)
        return watch.data

    def wake(self) -> None:
        """End `receive_unanswered`, if the task is in it."""
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        self._receives(Reception.WAKE)

    def set_busy(self, busy: bool) -> None:
        """Note that a request begins (True) or that its response is complete (False)."""
        if busy:
            self.phase = _ON_REQUEST[self.phase]
        else:
            self.phase = _ON_RESPONSE[self.phase]
            self.last_used = trio.current_time()
            if self._idle is not None:
                self._idle.set()
                self._idle = None
        self._registry.place(self, busy=busy)

    async def wait_idle(self) -> None:
        """Return when no request is in progress. It never returns after `abort`, which cancels the task."""
        while self.busy or self.phase is _CLOSED:
            self._idle = self._idle or trio.Event()
            await self._idle.wait()

    def abort(self, *, reset: bool = False) -> None:
        """End the connection now: wake all tasks that wait on it, and cancel the task that serves it.

        A busy connection is reset, so that the kernel does not keep what could not be sent.

        Args:
            reset: whether to reset an idle connection too.
        """
        reset = reset or self.busy
        self.phase = after(PHASES, Use.ABORT, self.phase)
        self._registry.forget(self)
        self.wake()
        self.stream.close(reset=reset)
        self.scope.cancel()

    def send_now(self, data: Bytes) -> int:
        """Send as much as the kernel takes at once; returns how many bytes that is. The rest has to be sent next.

        Raises:
            OSError: the connection is broken or closed, or its end was sent.
        """
        if self.outbound is _ENDED:  # when nothing can be received any more, increments may still be under way
            raise BrokenPipeError("nothing is sent after the end")
        return self.stream.write_now(data)

    async def send_all(self, data: Bytes) -> None:
        """Send all the bytes, or abort the connection if the peer does not take them in time.

        It may be no checkpoint of trio.

        Raises:
            trio.BrokenResourceError: the peer is gone, or did not read.
            trio.ClosedResourceError: the connection was closed, perhaps while this call waited.
        """
        sent = 0
        if self.outbound is Outbound.OPEN and not self._sending.locked():
            try:
                sent = self.stream.write_now(data)
            except OSError:
                sent = 0  # the code below finds out what is wrong
            if sent == len(data):
                return
        try:
            with trio.move_on_after(self.send_timeout):
                async with self._sending:  # another task may still send an answer while this one sends a refusal
                    if self.outbound is _ENDED:
                        raise trio.ClosedResourceError("nothing is sent after the end")
                    await self.stream.send_all(memoryview(data)[sent:])
                return
        except trio.BrokenResourceError:
            self.abort()  # otherwise all its further requests would be answered, one after the other
            raise
        # Half a message may have been sent, so there is no way to go on.
        self.abort(reset=True)
        raise trio.BrokenResourceError("the peer does not read")

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream takes bytes."""
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive some bytes; no bytes mean that the peer has finished sending. Raises as `send_all` does."""
        self._check_open()
        self._receives(Reception.RECEIVE)
        try:
            data = await self.stream.receive_some(max_bytes)
            if not data:
                self._receives(Reception.END)
            if self.closing:
                await self._drain()
                raise trio.ClosedResourceError("the connection was closed")
            return data
        finally:
            self._receives(Reception.RECEIVED)
            if self.closing:
                self._drained.set()

    async def send_eof(self) -> None:
        """Tell the peer that nothing more will be sent."""
        self.outbound = after(SENDING, Sending.END, self.outbound)
        if self._sending.locked():
            raise trio.BusyResourceError("the last answer is still being sent")
        async with self._sending:
            with trio.move_on_after(self.send_timeout):  # an encrypted stream has to send a message for it
                await self.stream.send_eof()
            self.outbound = after(SENDING, Sending.ENDED, self.outbound)

    async def aclose(self) -> None:
        """Close the connection, and leave the peer a moment to read the last response.

        A socket that is closed with unread input resets the connection, and the reset overtakes the response: a client
        that is still sending its body would never see the 413. So input is thrown away, for a limited time and up to a
        limited size. If the reactor or a link receives, closing wakes it instead.
        """
        if not self.closing:
            self.phase = after(PHASES, Use.CLOSE, self.phase)
            self.wake()
            self.set_busy(False)
            if self.outbound is not Outbound.OPEN and self.inbound in (Inbound.FREE, Inbound.RECEIVING):
                with trio.move_on_after(0.0 if self.stopping else self._options.linger_seconds):
                    # Only one task may wait for input. If another one does, it drains the connection.
                    await (self._drained.wait() if self.inbound is Inbound.RECEIVING else self._drain())
        await self.stream.aclose()

    async def _drain(self) -> None:
        """Throw input away until the peer has finished sending, or `linger_bytes` have come."""
        most = self.stream.bytes_in + self._options.linger_bytes
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while self.inbound is not Inbound.FINISHED and self.stream.bytes_in < most:
                if not await self.stream.receive_some():
                    self._receives(Reception.END)

    def _check_open(self) -> None:
        if self.closing:
            raise trio.ClosedResourceError("the connection is being closed")

    def _receives(self, event: Reception) -> None:
        self.inbound = after(RECEPTION, event, self.inbound)
