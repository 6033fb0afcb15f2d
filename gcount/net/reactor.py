"""A reactor: one task waits for the input of many connections, and answers what can be answered at once.

If each connection waits in a task of its own, each request costs a visit to the scheduler. That is half of what a small
request costs. So the task of a connection sleeps while the reactor receives for it. The reactor answers the usual
requests itself, where it reads them. Any other input wakes the task, which gets that input and goes on as if it had
received it itself. (Schmidt, Reactor, 1995.)
"""

from __future__ import annotations

from collections.abc import Callable
from selectors import EVENT_READ, DefaultSelector
from typing import Final

import trio

from gcount.net.stream import RECEIVE_BYTES, Stream

_A_VISIT: Final = 512  # what a look at one connection costs, expressed in bytes of input


class Reactor:
    """Receives for connections whose tasks sleep."""

    def __init__(self) -> None:
        self._selector = DefaultSelector()
        self._scope = trio.CancelScope()
        self._stopped = False

    def stop(self) -> None:
        """End `run`, and wake all tasks that sleep."""
        self._stopped = True
        self._scope.cancel()
        for watch in [key.data for key in (self._selector.get_map() or {}).values()]:
            watch.end()
        self._selector.close()

    async def run(self) -> None:
        """Receive until `stop` is called."""
        with self._scope:
            # The flag is needed beside the scope: input may already have woken this task when `stop` cancels it, and it
            # would then look at a closed selector before the cancellation reaches it.
            while not self._stopped:
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
            stream: an open stream. Nothing else may receive from it. Nothing may wait to write to it either: a write
                may have to read, and the reactor would not see what was read.
            answer: called with any input; returns whether it has answered all of it. It may not wait for anything. An
                error that it raises wakes the task, which finds the error in the watch.

        Returns:
            The watch that the task waits for, and has to end.
        """
        return Watch(self._selector, stream, answer)


class Watch:
    """The reactor's watch on one stream, for as long as the stream's task sleeps.

    Attributes:
        woken: set when the task has to go on.
        data: the input that was not answered; empty if the peer has finished sending, None if nothing came.
        error: the error that broke the connection, or that `answer` raised; None without one.
    """

    __slots__ = ("_answer", "_descriptor", "_selector", "_stream", "data", "error", "woken")

    def __init__(self, selector: DefaultSelector, stream: Stream, answer: Callable[[bytes], bool]) -> None:
        self.woken = trio.Event()
        self.data: bytes | None = None
        self.error: Exception | None = None
        self._stream = stream
        self._answer = answer
        self._descriptor = stream.descriptor
        selector.register(self._descriptor, EVENT_READ, self)  # raises an error if the stream has a receiver already
        self._selector: DefaultSelector | None = selector

    def end(self) -> None:
        """Wake the task, and receive nothing more.

        It has to be called before the stream is closed: the kernel may give the descriptor's number to another stream.
        """
        if self._selector is not None:
            self._selector.unregister(self._descriptor)
            self._selector = None
            self.woken.set()

    def receive(self) -> int:
        """Receive what has come, and answer it or leave it to the task.

        Returns:
            How many bytes came.
        """
        size, stream = 0, self._stream
        while self._selector is not None:  # it may have ended after the selector had found it readable
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
                    if stream.pending:  # there is more, and the selector would not report it
                        continue
                    break
            except Exception as error:
                self.error = error  # it ends this connection only
            self.data = data
            self.end()
        return size
