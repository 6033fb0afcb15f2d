"""A reactor: one task waits for the input of many connections, and answers what can be answered at once.

A task of its own for each connection costs a visit to the scheduler for each request, half of what a small request
costs. So a connection's task sleeps here while its input is of the usual kind, which is answered where it is read. It
is woken by anything else, with that, and goes on as if it had received it itself. (Schmidt, Reactor, 1995.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from gcount.net.connection import Connection

RECEIVE_BYTES: Final = 32 * 1024  # at once: some 1,000 pipelined commands, a few milliseconds of work
_A_VISIT: Final = 512  # what looking at a connection costs, in bytes of input


class Reactor:
    """Receives for the tasks of connections."""

    def __init__(self) -> None:
        self._selector = DefaultSelector()
        self._scope = trio.CancelScope()
        self._stopped = False

    def stop(self) -> None:
        """End `run`, and wake all who sleep."""
        self._stopped = True
        self._scope.cancel()
        for watch in [key.data for key in (self._selector.get_map() or {}).values()]:
            watch.end()
        self._selector.close()

    async def run(self) -> None:
        """Receive until told to stop."""
        with self._scope:
            while not self._stopped:  # a task that input has already woken is not cancelled before it waits again
                work = 0
                for key, _ in self._selector.select(0):
                    work += _A_VISIT + key.data.receive()
                    if work >= RECEIVE_BYTES:
                        work = 0
                        await trio.lowlevel.checkpoint()
                await trio.lowlevel.wait_readable(self._selector)

    async def receive(self, connection: Connection, answer: Callable[[bytes], bool]) -> bytes | None:
        """Receive what can't be answered at once.

        Args:
            connection: whose task this is; nobody else receives.
            answer: called with any input; returns whether that was all it takes. It may not wait for anything. What it
                raises is raised here.

        Returns:
            What came, nothing when the peer has finished sending; None when `connection.wake` was called.

        Raises:
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: the connection is closed.
        """
        watch = _Watch(self._selector, connection, answer)
        try:
            await watch.woken.wait()
        finally:
            watch.end()
        if connection.closing:
            raise trio.ClosedResourceError
        if watch.error is not None:
            raise watch.error
        return watch.data


class _Watch:
    """One connection whose task sleeps."""

    def __init__(self, selector: DefaultSelector, connection: Connection, answer: Callable[[bytes], bool]) -> None:
        self.woken = trio.Event()
        self.data: bytes | None = None
        self.error: Exception | None = None
        self._selector: DefaultSelector | None = selector
        self._connection = connection
        self._answer = answer
        self._descriptor = connection.socket.fileno()
        if connection.closing:
            raise trio.ClosedResourceError
        selector.register(self._descriptor, EVENT_READ, self)
        connection.wake = self.end

    def end(self) -> None:
        """Wake the task; receive nothing more. To be called before the socket is closed: its number may come again."""
        if self._selector is not None:
            self._selector.unregister(self._descriptor)
            self._selector = None
            self.woken.set()

    def receive(self) -> int:
        """Receive once, and answer that or leave it to the task; returns how many bytes came."""
        if self._selector is None:
            return 0  # it ended after it was found readable
        data = None
        try:
            data = os.read(self._descriptor, RECEIVE_BYTES)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.error = trio.BrokenResourceError(error.strerror)
        size = len(data or b"")
        self._connection.bytes_in += size
        try:
            if data and self._answer(data):
                return size
        except Exception as error:
            self.error = error  # of one connection, not of all
        self.data = data
        self.end()
        return size
