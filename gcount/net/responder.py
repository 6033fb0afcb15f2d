"""What stands between a connection, its task, and those who bring answers to what it asked."""

from collections.abc import Awaitable, Callable

import trio

from gcount.net.connection import Connection


class Responder:
    """Answers one connection: at once what can be, by its own task the rest.

    The answer to what waits for the disk is sent in the instant in which it is known, by whoever brings it: the task
    does not have to wake for it. Nothing that comes later is answered before it.

    Args:
        connection: whose task uses this; nobody else receives.
        put: sends answers in place of this, and returns whether nothing waits to be sent.
    """

    def __init__(self, connection: Connection, put: Callable[[bytes], bool] | None = None) -> None:
        self._connection = connection
        self._put = put or self._send
        self._expected = False  # something waits for the disk
        self._answered: trio.Event | None = None  # set when it is answered, should the task wait for it
        self._unsent = b""
        self._left: Callable[[], Awaitable[bytes]] | None = None

    @property
    def free(self) -> bool:
        """Whether something can be answered at once."""
        return not self._expected and not self._connection.stopping

    def expect(self) -> None:
        """A request was taken; `answer` or `leave` will follow."""
        self._expected = True
        self._connection.set_busy(True)

    def withdraw(self) -> None:
        """What was expected was not taken after all: nothing will follow."""
        self._expected = False
        self._connection.set_busy(False)

    def answer(self, data: bytes) -> None:
        """Send the answer to a request; what the kernel does not take is sent by the task, which wakes for it."""
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
        self._left = make
        self._end(done=False)

    async def receive(self, answer: Callable[[bytes], bool]) -> bytes | None:
        """Receive what can't be answered at once; when this returns, all that came before is answered.

        Args, returns, raises: as `Connection.receive_unanswered`.
        """
        data = await self._connection.receive_unanswered(answer)
        await self.settle()
        return data

    async def settle(self) -> None:
        """Return when all that was taken is answered and sent."""
        if self._expected:
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
