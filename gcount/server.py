"""The server: it accepts connections and serves them, and no single connection can take the node down.

Every connection is served in a task and a cancel scope of its own, so it can be ended at any instant, and an error ends
only that connection. Its first bytes decide its protocol. (hypercorn's own `serve` ends when an error escapes from a
single connection, and it can't end while one peer does not read.)
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from gcount.http.hypercorn import HttpService
from gcount.net.connection import Connection
from gcount.net.connection_pool import ConnectionPool
from gcount.net.stream import PlainStream, Wrap
from gcount.observe.throttle import Throttle
from gcount.redis.service import RedisService

GRACE_SECONDS: Final = 1.0
_ACCEPT_RETRY_SECONDS: Final = 0.1
# The errors of accept(2) when the process or the machine has run out of descriptors or memory.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class _Acceptor:
    """Accepts connections and serves each in a task of its own."""

    def __init__(
        self,
        http: HttpService,
        redis: RedisService | None,
        connections: ConnectionPool,
        nursery: trio.Nursery,
        wrap: Wrap,
    ) -> None:
        self._http = http
        self._redis = redis
        self._connections = connections
        self._nursery = nursery
        self._wrap = wrap
        self._failed = Throttle("connection failed")
        self._exhausted = Throttle("cannot accept connections")

    async def accept(self, listener: trio.SocketListener) -> None:
        """Accept connections until cancelled. If descriptors or memory run out, wait and try again."""
        burst = False
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _EXHAUSTED:
                        raise  # the listener is broken, and a node that can't be reached has to end with an error
                    if not burst:
                        self._exhausted.warn(reason=os.strerror(error.errno))
                    burst = True
                    # No client is displaced: on Linux accept() fails like this even if no connection is waiting.
                    await trio.sleep(_ACCEPT_RETRY_SECONDS)
                    continue
                burst = False
                connection = self._connections.admit(self._wrap(stream))
                if connection is not None:
                    self._nursery.start_soon(self._guard, connection)

    async def _guard(self, connection: Connection) -> None:
        """Serve a connection. Any error ends this connection and nothing else."""
        try:
            with connection.scope, suppress(trio.ClosedResourceError, trio.BrokenResourceError):
                first, redis = await self._receive_first(connection)
                if redis is not None:
                    await redis.serve(connection, first)
                elif first:
                    await self._http.serve(connection, first)
        except* Exception as group:
            if not connection.scope.cancel_called:  # errors in a connection that this node has ended are expected
                self._failed.warn(error=_first(group))
        finally:
            connection.abort()

    async def _receive_first(self, connection: Connection) -> tuple[bytes, RedisService | None]:
        """Receive until a client's protocol is known.

        Returns:
            What came, and the service that answers Redis clients; None if the client is to be answered over HTTP.
        """
        first, redis = await connection.receive_some(), self._redis
        if redis is None or not first:
            return first, None
        while (spoken := redis.is_spoken(first)) is None and (more := await connection.receive_some()):
            first += more
        return first, redis if spoken else None


def _first(group: BaseException) -> str:
    """Name the first error in a group of errors."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return type(group).__name__


async def _close_unused(connections: ConnectionPool, redis: RedisService | None) -> None:
    while True:
        if redis is not None:
            redis.refresh()
        connections.close_unused(connections.options.keep_alive)
        await trio.sleep(1.0)


async def serve(
    http: HttpService,
    listeners: Sequence[trio.SocketListener],
    connections: ConnectionPool,
    *,
    shutdown: trio.Event,
    redis: RedisService | None = None,
    grace: float = GRACE_SECONDS,
    wrap: Wrap = PlainStream,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve clients until `shutdown` is set, then return with every connection closed.

    Requests that are in progress then are answered if that takes no longer than the grace. The server does not wait for
    links. Cancelling this function ends everything at once.

    Args:
        http: answers the clients that speak HTTP, and those of which the protocol is unknown.
        listeners: listening sockets; they are closed when this function ends.
        connections: the pool in which connections are registered.
        shutdown: set by the caller to end the server.
        redis: answers the clients that speak the Redis protocol; None to answer HTTP only.
        grace: seconds that the requests in progress at the end may take.
        wrap: makes a stream of an accepted socket.
        task_status: started when connections are being accepted.

    Raises:
        OSError: a listener broke.
    """
    async with trio.open_nursery() as serving:
        acceptor = _Acceptor(http, redis, connections, serving, wrap)
        serving.start_soon(connections.reactor.run)
        try:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(acceptor.accept, listener)
                accepting.start_soon(_close_unused, connections, redis)
                task_status.started()
                await shutdown.wait()
                accepting.cancel_scope.cancel()
            await http.finish()
            connections.stopping = True
            connections.close_unused(0.0)
            with trio.move_on_after(grace):
                await connections.wait_no_clients()
        finally:
            connections.abort_all()  # also when cancelled: nothing else gets a task out of a shielded send
            connections.reactor.stop()
