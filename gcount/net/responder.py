"""Answers to the requests of one connection, in their order: at once if possible, else by the connection's task."""

from collections.abc import Awaitable, Callable

import trio

from gcount.net.connection import Connection


class Responder:
    """Answers one connection: at once if possible, else by the connection's task.

    A request may wait for the disk. Its answer is sent in the instant in which it is known, by the task that made the
    commit; the connection's own task does not have to wake for it. No later request is answered before it.

    Args:
        connection: the connection. Only its task uses this responder, and nothing else receives from it.
        put: sends answers instead of the responder, and returns whether nothing is left to be sent.
    """

    def __init__(self, connection: Connection, put: Callable[[bytes], bool] | None = None) -> None:
        self._connection = connection
        self._put = put or self._send
        self._expected = False  # whether a request waits for the disk
        self._answered: trio.Event | None = None  # set when that request is answered, if the task waits for it
        self._unsent = b""
        self._left: Callable[[], Awaitable[bytes]] | None = None

    @property
    def free(self) -> bool:
        """Whether something can be answered at once."""
        return not self._expected and not self._connection.stopping

    def expect(self) -> None:
        """Note that a request was taken: `answer` or `leave` will follow."""
        assert not self._expected, "one request at a time waits for its answer"
        self._expected = True
        self._connection.set_busy(True)

    def withdraw(self) -> None:
        """Note that the request was not taken after all: nothing will follow."""
        self._expected = False
        self._connection.set_busy(False)

    def answer(self, data: bytes) -> None:
        """Send the answer to a request. If the kernel does not take all of it, the task wakes and sends the rest."""
        done = self._put(data)
        self._end(done=done and not self._connection.stopping)

    def _send(self, data: bytes) -> bool:
        try:
            sent = self._connection.send_now(data)
        except OSError:
            sent = 0  # the task finds out what is wrong
        self._unsent = data[sent:]
        return sent == len(data)

    def leave(self, make: Callable[[], Awaitable[bytes]]) -> None:
        """Let the task make and send the answer to a request."""
        assert self._left is None, "one answer at a time is left to the task"
        self._left = make
        self._end(done=False)

    async def receive(self, answer: Callable[[bytes], bool]) -> bytes | None:
        """Receive the next input that can't be answered at once; when this returns, all earlier requests are answered.

        Args, returns and raises as `Connection.receive_unanswered` does.
        """
        data = await self._connection.receive_unanswered(answer)
        await self.settle()
        return data

    async def settle(self) -> None:
        """Return when all requests that were taken are answered, and the answers are sent."""
        if self._expected:
            assert self._answered is None, "one task waits for the answers"
            self._answered = trio.Event()
            await self._answered.wait()
        if self._left is not None:
            make, self._left = self._left, None
            self._unsent += await make()
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            await self._connection.send_all(unsent)
            self._connection.set_busy(False)

    def _end(self, *, done: bool) -> None:
        self._expected = False
        if self._answered is not None:
            self._answered.set()
            self._answered = None
        self._connection.set_busy(not done)
        if not done:
            self._connection.wake()
