"""A road between a client and a node that is cut during a stream of increments."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial

import trio

COUNTS = (b"incr", b"post ")  # an increment contains one of these, over Redis or HTTP
OVER = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Cut(Enum):
    """What happens to the next increment."""

    BEFORE = "the connection is reset, the node gets nothing"
    RESET = "the node counts, the connection is reset before the answer"
    END = "the node counts, the connection is closed before the answer"
    SILENCE = "the node counts, the connection stays and nothing comes over it any more"


class Connection:
    """One client's way to the node and back."""

    def __init__(self, road: Road, client: trio.SocketStream, node: trio.SocketStream) -> None:
        self._road, self._client, self._node = road, client, node
        self._cut: Cut | None = None

    async def run(self) -> None:
        """Pass on all bytes, until the connection ends or is cut."""
        async with trio.open_nursery() as nursery:
            for way in (self._there, self._back):
                nursery.start_soon(self._until_over, way, nursery.cancel_scope)

    async def _until_over(self, way: Callable[[], Awaitable[None]], both: trio.CancelScope) -> None:
        with contextlib.suppress(*OVER):
            await way()
        both.cancel()

    async def _there(self) -> None:
        async for data in self._client:
            if self._cut is None and any(word in data.lower() for word in COUNTS):
                self._cut = self._road.take()
            if self._cut is Cut.BEFORE:
                reset(self._client)
                return
            await self._node.send_all(data)

    async def _back(self) -> None:
        async for data in self._node:
            if self._cut is Cut.RESET:
                reset(self._client)
                return
            if self._cut is Cut.END:
                return
            if self._cut is None:
                await self._client.send_all(data)
        if self._cut is Cut.SILENCE:
            await trio.sleep_forever()


class Road:
    """A TCP proxy in front of a node.

    Attributes:
        port: the port for clients.
        next: what happens to the next increment; then it is None again.
        cuts: how many cuts it has made.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.next: Cut | None = None
        self.cuts = 0
        self._target = target

    def take(self) -> Cut | None:
        """What happens to the increment that passes now."""
        cut, self.next = self.next, None
        self.cuts += cut is not None
        return cut

    async def lead(self, client: trio.SocketStream) -> None:
        """Serve one connection."""
        with contextlib.suppress(*OVER):
            async with client, await trio.open_tcp_stream("127.0.0.1", self._target) as node:
                await Connection(self, client, node).run()


def reset(stream: trio.SocketStream) -> None:
    """Close a connection at once, with a reset."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@asynccontextmanager
async def opened(target: int, port: int = 0) -> AsyncIterator[Road]:
    """A road to a port of this machine, listening on a given port or any free one."""
    road = Road(target)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, road.lead, port, host="127.0.0.1"))
        road.port = listeners[0].socket.getsockname()[1]
        yield road
        nursery.cancel_scope.cancel()
