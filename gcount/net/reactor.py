"""A reactor: one task waits for the input of many connections, and answers what can be answered at once.

A task of its own for each connection costs a visit to the scheduler for each request, half of what a small request
costs. So a connection's task sleeps here while its input is of the usual kind, which is answered where it is read. It
is woken by anything else, with that, and goes on as if it had received it itself. (Schmidt, Reactor, 1995.)
"""

from __future__ import annotations

from collections.abc import Callable
from selectors import EVENT_READ, DefaultSelector
from typing import Final

import trio

from gcount.net.stream import RECEIVE_BYTES, Stream

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

    def watch(self, stream: Stream, answer: Callable[[bytes], bool]) -> Watch:
        """Receive from a stream until something comes that can't be answered at once.

        Args:
            stream: open; nobody else receives from it, nor waits to write, which may take a read that the reactor would
                not see.
            answer: called with any input; returns whether that was all it takes. It may not wait for anything. What it
                raises wakes the task, which finds it in the watch.

        Returns:
            What the task has to wait for, and to end.
        """
        return Watch(self._selector, stream, answer)


class Watch:
    """One stream whose task sleeps.

    Attributes:
        woken: set when the task has to go on.
        data: what came that was not answered, nothing when the peer has finished sending; None when nothing came.
        error: why nothing can come any more, or what `answer` raised.
    """

    __slots__ = ("_answer", "_descriptor", "_selector", "_stream", "data", "error", "woken")

    def __init__(self, selector: DefaultSelector, stream: Stream, answer: Callable[[bytes], bool]) -> None:
        self.woken = trio.Event()
        self.data: bytes | None = None
        self.error: Exception | None = None
        self._stream = stream
        self._answer = answer
        self._descriptor = stream.descriptor
        selector.register(self._descriptor, EVENT_READ, self)  # which refuses a second receiver
        self._selector: DefaultSelector | None = selector

    def end(self) -> None:
        """Wake the task; receive nothing more. To be called before the stream is closed: its number may come again."""
        if self._selector is not None:
            self._selector.unregister(self._descriptor)
            self._selector = None
            self.woken.set()

    def receive(self) -> int:
        """Receive what has come, and answer that or leave it to the task; returns how many bytes came."""
        size, stream = 0, self._stream
        while self._selector is not None:  # else it ended, perhaps after it was found readable
            try:
                data = stream.read_now(RECEIVE_BYTES)
            except OSError as error:
                self.error = trio.BrokenResourceError(error.strerror)
                self.end()
                break
            if data is None:
                break
            size += len(data)
            try:
                if data and self._answer(data):
                    if stream.pending:  # the descriptor does not show that
                        continue
                    break
            except Exception as error:
                self.error = error  # of one connection, not of all
            self.data = data
            self.end()
        return size
