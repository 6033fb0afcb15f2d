"""Input that was received and is not executed yet: bounded for each client, and for all of them together."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio

from gcount.net.connection import Connection
from gcount.net.stream import RECEIVE_BYTES
from gcount.redis import resp
from gcount.redis.context import Client, Shared

_MAX_AHEAD: Final = 64 * 1024  # bytes of input that are kept while a command waits
# Memory for input that can't be executed yet, in bytes: what each client may always take, and what all clients together
# may take beyond that.
_OWN_BYTES: Final = 4 * 1024
_SHARED_BYTES: Final = 64 * 1024 * 1024
assert _OWN_BYTES < _MAX_AHEAD < _SHARED_BYTES, "one client can't take the memory of all"


class Inbox:
    """The input of one client.

    Args:
        connection: the client's connection.
        client: the client; its queued transaction counts as input.
        shared: counts the memory of all clients' input.

    Attributes:
        parser: the parser of the input.
        ended: whether the client has finished sending, or is treated as if it had.
        kept: the bytes of memory that the input takes, beyond what each client may always take.
    """

    def __init__(self, connection: Connection, client: Client, shared: Shared) -> None:
        self.parser = resp.Parser()
        self.ended = False
        self.kept = 0
        self._connection = connection
        self._client = client
        self._shared = shared
        self._ahead = bytearray()

    def feed(self, data: bytes) -> list[resp.Words]:
        """Read some input; returns the commands that are complete now."""
        commands = self.parser.feed(data)
        if not self.may_keep():
            self.parser.refuse(resp.ProtocolFault("no memory is left for more unfinished commands"))
            self.may_keep()
        return commands

    def may_keep(self) -> bool:
        """Count the memory that this input takes; returns whether it is within the limit of all clients together."""
        transaction = self._client.transaction
        queued = 0 if transaction is None else transaction.size
        kept = max(0, self.parser.held + len(self._ahead) + queued - _OWN_BYTES)
        self._shared.kept += kept - self.kept
        self.kept = kept
        return not kept or self._shared.kept <= _SHARED_BYTES

    def take(self) -> bytes:
        """Take some of the input that came while a command waited; no bytes if there is none."""
        if not self._ahead:
            return b""
        ahead = bytes(self._ahead[:RECEIVE_BYTES])
        del self._ahead[:RECEIVE_BYTES]
        self.may_keep()
        return ahead

    async def while_connected(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait for something, until the client leaves. Its input is kept meanwhile, up to a limit."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            await wait()
            nursery.cancel_scope.cancel()

    async def _listen(self, waiting: trio.CancelScope) -> None:
        """Keep what the client sends, until it leaves or sends too much.

        A client that sends too much is treated as one that has left. Nothing more is received from it, so nothing would
        show when it leaves.
        """
        while not self.ended and len(self._ahead) < _MAX_AHEAD and self.may_keep():
            data = b""
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                data = await self._connection.receive_some()
            if not data:
                break
            self._ahead += data
        self.ended = True
        waiting.cancel()

    def close(self) -> None:
        """Give back the memory."""
        self._shared.kept -= self.kept
        assert self._shared.kept >= 0, "memory is given back once"
        self.kept = 0
