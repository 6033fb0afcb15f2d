"""The server: an accept loop around hypercorn in which one connection can never take the node down.

hypercorn's own `serve` ends when an error escapes from a single connection, and never ends while one peer
does not read. Here every connection runs under a guard, in a scope of its own, and can be ended at any
instant.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIFramework,
    ConnectionState,
)

from gcount.http.fast_path import FastPath
from gcount.http.hypercorn import Http1Protocol, http_config
from gcount.net.connection import Connection
from gcount.net.connection_pool import ConnectionPool
from gcount.net.stream import PlainStream, Wrap
from gcount.observe.throttle import Throttle
from gcount.redis.service import RedisService

GRACE_SECONDS: Final = 1.0
# How long a connection may be without a request, also one that sends its headers byte by byte.
KEEP_ALIVE_SECONDS: Final = 75.0
_ACCEPT_RETRY_SECONDS: Final = 0.1
# What accept(2) fails with when the process or the machine has run out of something.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class HttpConnection(TCPServer):
    """Serves one connection."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        connection: Connection,
        lane: FastPath | None,
        first: bytes,
    ) -> None:
        # hypercorn hands a shallow copy of the state to each request: scope["state"]["connection"].
        super().__init__(app, config, context, {"connection": connection}, cast(Any, connection))
        self.connection = connection
        self._lane = lane
        self._first = first  # what the peer sent first

    async def run(self) -> None:
        """Serve until either side closes. Like the parent's, without TLS and HTTP/2, with our `Protocol`."""
        stream = self.connection.stream
        try:
            client, server = stream.remote(), stream.local()
            async with TaskGroup() as task_group:
                self._task_group = task_group
                protocol = Http1Protocol(
                    self.app,
                    self.config,
                    self.context,
                    task_group,
                    ConnectionState(self.state),
                    False,
                    client,
                    server,
                    self.protocol_send,
                )
                self.protocol = cast(ProtocolWrapper, protocol)
                await self._read_data()
        except OSError:
            pass  # the peer left before its address could be asked for
        finally:
            await self._close()

    async def _read_data(self) -> None:
        """Give what the peer sends to the lane or, from the first request on that is not plain, to hypercorn.

        A peer that has finished sending may still wait for its answer: hypercorn, which takes the end of the input
        for the end of the peer, is told of it after that answer.
        """
        protocol = cast(Http1Protocol, self.protocol)
        data = self._first
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while data:
                if protocol.has_whole_request:
                    await self.connection.wait_idle()  # so that what follows may be plain again
                if self._lane is not None and protocol.is_between_requests:
                    data = await self._lane.answer(self.connection, data)
                    if not data:
                        break
                await protocol.handle(RawData(data))
                data = await self.connection.receive_for_server()
            if protocol.has_whole_request:
                await self.connection.wait_idle()
            await protocol.handle(RawData(b""))
        await protocol.handle(Closed())

    async def protocol_send(self, event: Event) -> None:
        """Send to the peer, close, or note when a request begins and ends.

        The last two do not wait for anything: they may be called by a request's own task after quart-trio
        has cancelled it, and would be cut short. (hypercorn's timers of idle connections are; `ConnectionPool`
        knows the idle ones better anyway.)
        """
        if isinstance(event, Updated):
            self.connection.set_busy(not event.idle)
        elif isinstance(event, Closed):
            self._task_group.spawn(self._finish)
        else:
            await super().protocol_send(event)

    async def _finish(self) -> None:
        """Close the connection after its last response, then end what still runs for it."""
        await self._close()
        self.connection.abort()


class _Acceptor:
    """Accepts connections and serves each in a task of its own."""

    def __init__(
        self,
        app: ASGIFramework,
        lane: FastPath | None,
        redis: RedisService | None,
        connections: ConnectionPool,
        context: WorkerContext,
        nursery: trio.Nursery,
        wrap: Wrap,
    ) -> None:
        self._app = ASGIWrapper(app)
        self._lane = lane
        self._redis = redis
        self._config = http_config()
        self._connections = connections
        self._context = context
        self._nursery = nursery
        self._wrap = wrap
        self._failed = Throttle("connection failed")
        self._exhausted = Throttle("cannot accept connections")

    async def accept(self, listener: trio.SocketListener) -> None:
        """Accept connections until cancelled; running out of descriptors or memory is survived."""
        burst = False
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _EXHAUSTED:
                        raise  # the listener is broken, and a node that cannot be reached is to say so
                    if not burst:
                        self._exhausted.warn(reason=os.strerror(error.errno))
                    burst = True
                    # Nobody is displaced: on Linux accept() fails like this even when nobody is waiting.
                    await trio.sleep(_ACCEPT_RETRY_SECONDS)
                    continue
                burst = False
                connection = self._connections.admit(self._wrap(stream))
                if connection is not None:
                    self._nursery.start_soon(self._guard, connection)

    async def _guard(self, connection: Connection) -> None:
        """Serve a connection; whatever goes wrong ends this connection and nothing else."""
        try:
            with connection.scope, suppress(trio.ClosedResourceError, trio.BrokenResourceError):
                first, redis = await self._receive_first(connection)
                if redis is not None:
                    await redis.serve(connection, first)
                elif first:
                    await HttpConnection(self._app, self._config, self._context, connection, self._lane, first)
        except* Exception as group:
            if not connection.scope.cancel_called:  # what breaks in a connection that we ended is no news
                self._failed.warn(error=_first(group))
        finally:
            connection.abort()

    async def _receive_first(self, connection: Connection) -> tuple[bytes, RedisService | None]:
        """Receive until a client's protocol is known; returns what came, and who answers if it is Redis'."""
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
        connections.close_unused(KEEP_ALIVE_SECONDS)
        await trio.sleep(1.0)


async def serve(
    app: ASGIFramework,
    listeners: Sequence[trio.SocketListener],
    connections: ConnectionPool,
    *,
    shutdown: trio.Event,
    lane: FastPath | None = None,
    redis: RedisService | None = None,
    grace: float = GRACE_SECONDS,
    wrap: Wrap = PlainStream,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the application until `shutdown` is set, then return with every connection closed.

    Requests in flight at that moment are finished if they can be within the grace. Links are not waited for.
    Cancelling this function ends everything at once.

    Args:
        app: the ASGI application; requests find their `Connection` in `scope["state"]["connection"]`.
            It gets no lifespan events.
        listeners: listening sockets; they are closed when this function ends.
        connections: where connections are registered.
        shutdown: set by the caller to end the server.
        lane: answers the plain requests; without one the application answers all.
        redis: answers those whose first byte tells that they speak Redis' protocol.
        grace: seconds for the requests in flight at the end.
        wrap: makes the stream of what was accepted.
        task_status: told when connections are being accepted.

    Raises:
        OSError: a listener broke.
    """
    context = WorkerContext(None)
    async with trio.open_nursery() as serving:
        acceptor = _Acceptor(app, lane, redis, connections, context, serving, wrap)
        serving.start_soon(connections.reactor.run)
        try:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(acceptor.accept, listener)
                accepting.start_soon(_close_unused, connections, redis)
                task_status.started()
                await shutdown.wait()
                accepting.cancel_scope.cancel()
            await context.terminated.set()  # hypercorn closes connections after their response from now on
            connections.stopping = True
            connections.close_unused(0.0)
            with trio.move_on_after(grace):
                await connections.wait_no_clients()
        finally:
            connections.abort_all()  # also when cancelled: nothing else gets a task out of a shielded send
            connections.reactor.stop()
