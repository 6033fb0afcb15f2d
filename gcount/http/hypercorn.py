"""The application server: hypercorn's HTTP/1, made stricter where it takes what it should refuse.

HTTP/2 is refused. gcount does not need it, and with hypercorn it multiplies the cost of one connection: a hundred
requests at a time, streams that are reset as fast as they are opened, and a priority tree that grows.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, cast

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState, H11SendableEvent

from gcount.http.answers import NO_STORE
from gcount.http.fast_path import FastPath
from gcount.http.problems import problem_of_server
from gcount.http.request_line import can_be_no_request, refused_as
from gcount.net.connection import Connection
from gcount.observe.throttle import ThrottledHandler

# The most bytes of a request's body on the wire. The application's own limit is lower, but it is checked late.
MAX_BODY_BYTES: Final = 512 * 1024
# An error that hypercorn makes itself has no body yet, and is known by these headers.
_EMPTY_ERROR: Final = [(b"content-length", b"0"), (b"connection", b"close")]
_UNKNOWN_METHOD: Final = b"UNKNOWN"


def http_config() -> Config:
    """Make hypercorn's configuration: its limits, and a log of errors only."""
    config = Config()
    config.accesslog = None
    # A logger, not its name: hypercorn would add a handler of its own to a logger that it finds by its name.
    config.errorlog = logging.Logger("hypercorn.error", logging.WARNING)
    config.errorlog.addHandler(ThrottledHandler("application server failed"))
    config.h11_max_incomplete_size = 16 * 1024
    config.include_server_header = False
    config.keep_alive_max_requests = sys.maxsize
    config.websocket_ping_interval = None
    return config


class _RefusedError(Exception):
    """The request is answered with a problem, and its connection closed, before hypercorn makes a stream of it."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


class _Connection(h11.Connection):
    """h11's connection, changed in three ways.

    * Input after the last request is ignored. h11 takes it for an error.
    * One empty line before a request is passed over: some clients end the previous request with it (RFC 9112, 2.2). h11
      takes it for an error.
    * Input that can't become a request is refused at once. h11 waits for the end of the head.

    Attributes:
        passed_line: whether an empty line before the next request was passed over.
    """

    passed_line = False

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self.their_state is h11.MUST_CLOSE:
            return h11.NEED_DATA
        if self.their_state is h11.IDLE and not self.passed_line:
            data = self._receive_buffer  # only h11 itself knows where a request begins in it
            begins = bytes(data)[:2]
            if begins == b"\r":
                return h11.NEED_DATA
            if begins[:1] == b"\n" or begins == b"\r\n":
                data.maybe_extract_at_most(1 if begins[:1] == b"\n" else 2)
                self.passed_line = True
        if self.their_state is h11.IDLE and can_be_no_request(bytes(self._receive_buffer)):
            self._receive_buffer += b"\r\n\r\n"
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.passed_line = False
        return event


class Http1Protocol(H11Protocol):
    """hypercorn's HTTP/1, made stricter, and with problem+json as the body of its errors."""

    _method = b""
    _body_bytes = 0
    _refused = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connection = _Connection(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)

    @property
    def is_between_requests(self) -> bool:
        """Whether all input so far was answered, so that the next byte begins a request."""
        return (
            self.stream is None
            and isinstance(self.connection, _Connection)
            and self.connection.our_state is self.connection.their_state is h11.IDLE
            and not self.connection.trailing_data[0]
            and not self.connection.passed_line
        )

    @property
    def has_whole_request(self) -> bool:
        """Whether the request that is being answered has all come."""
        return self.connection.their_state in (h11.DONE, h11.MUST_CLOSE)

    @property
    def _heard_enough(self) -> bool:
        """Whether further input is to be ignored: the last request is whole, or its upgrade is being refused."""
        connection = self.connection
        if not isinstance(connection, H11WSConnection):
            return connection.their_state is h11.MUST_CLOSE
        refusing = isinstance(self.stream, WSStream) and not self.stream.handshake.accepted
        return refusing and connection.h11_connection.our_state is not h11.SEND_RESPONSE

    async def handle(self, event: Event) -> None:
        """Take input from the connection, or its end."""
        if isinstance(event, RawData) and event.data and self._heard_enough:
            return  # input after the last request is ignored
        try:
            await super().handle(event)
        except _RefusedError as refused:
            await self._refuse(refused.status)
        if isinstance(event, RawData):
            await self._limit_body(len(event.data))

    async def stream_send(self, event: StreamEvent) -> None:
        """Send an event of a response. An error without a body gets a problem as its body."""
        if self._refused:
            return  # the application does not know yet that its request was refused
        if isinstance(event, Response) and event.headers == _EMPTY_ERROR:
            if isinstance(self.stream, WSStream):
                self.stream.closed = True  # else the application could accept the upgrade while the refusal is sent
            await self._send_problem(event.status_code)
            return
        if isinstance(event, Response) and self._ends_with(event):
            event = Response(event.stream_id, [*event.headers, (b"connection", b"close")], event.status_code)
        await self._send_event(event)
        if isinstance(event, EndBody) and isinstance(self.connection, H11WSConnection):
            # The upgrade was refused. hypercorn would keep the connection, ignore its input, and never call it idle.
            await self.send(Closed())

    def _ends_with(self, response: Response) -> bool:
        """Whether a response is the last one: its request has not all come, or the body of it is too large to read.

        If the request has not all come, hypercorn closes the connection after the response without a
        `connection: close`, and the client would lose its next request.
        """
        return (
            self.connection.their_state is h11.SEND_BODY or response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        )

    async def _limit_body(self, size: int) -> None:
        """Limit the size of a body. Quart (from 0.23 on) receives all of a body before it checks the size."""
        if self.connection.their_state is not h11.SEND_BODY:
            self._body_bytes = 0
            return
        self._body_bytes += size
        if self._body_bytes > MAX_BODY_BYTES:
            await self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    async def _refuse(self, status: HTTPStatus) -> None:
        """Answer in place of the application, unless it has begun its answer, and close the connection."""
        if not self._refused:
            self._refused = True
            if self.connection.our_state is h11.SEND_RESPONSE:
                await self._send_error_response(status)
            await self.send(Closed())

    async def _send_error_response(self, status_code: int) -> None:
        self._refused = True  # else what the application sends meanwhile would come between head and body
        await self._send_problem(status_code)
        await self._send_h11_event(h11.EndOfMessage())

    async def _send_problem(self, status_code: int) -> None:
        problem = problem_of_server(HTTPStatus(status_code))
        body = problem.body
        headers = [(name.encode(), value.encode()) for name, value in problem.fields.items()]
        headers += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        answers_head = self._method == b"HEAD" and self.connection.our_state is h11.SEND_RESPONSE
        await self._send_event(Response(stream_id=STREAM_ID, headers=headers, status_code=status_code))
        if not answers_head:
            await self._send_event(Body(stream_id=STREAM_ID, data=body))

    async def _send_event(self, event: StreamEvent) -> None:
        """Send an event as hypercorn does, with a complete head."""
        if isinstance(event, Response):
            await self._send_h11_event(_head(event.status_code, [*event.headers, *self.config.response_headers("h11")]))
        else:
            await super().stream_send(event)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if isinstance(event, h11.InformationalResponse) and not event.reason:  # hypercorn sends a 100 by itself
            event = _head(event.status_code, event.headers.raw_items())
        await super()._send_h11_event(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Refuse a request that the application must not see. An offer of an upgrade to h2c is ignored."""
        self._method = event.method
        status = refused_as(event.method, event.target, event.http_version, event.headers)
        if status is not None:
            raise _RefusedError(status)

    async def _create_stream(self, request: h11.Request) -> None:
        """Start the application on a request, changed in two ways.

        The websocket extensions that a client offers are left out. hypercorn knows only compression, and it inflates
        each piece of input, up to a thousandfold, before it checks the size.

        A method that is not in capitals is replaced by one that no route knows. Methods are case-sensitive (RFC 9110,
        9.1), but hypercorn takes `get` for GET.
        """
        method = request.method if request.method.isupper() else _UNKNOWN_METHOD
        if method != request.method or any(name == b"sec-websocket-extensions" for name, _ in request.headers):
            request = h11.Request(
                method=method,
                headers=[field for field in request.headers if field[0] != b"sec-websocket-extensions"],
                target=request.target,
                http_version=request.http_version,
            )
        await super()._create_stream(request)
        if isinstance(self.connection, H11WSConnection) and self._heard_enough:
            self.connection.buffer.clear()  # input behind an upgrade that the application has already refused


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> h11.Response | h11.InformationalResponse:
    """The head of an answer, with its reason phrase and the field `cache-control: no-store`."""
    kind = h11.Response if status >= HTTPStatus.OK else h11.InformationalResponse
    return kind(status_code=status, headers=[*headers, NO_STORE], reason=HTTPStatus(status).phrase.encode())


class HttpConnection(TCPServer):
    """Serves one connection: with the fast path, and behind it with hypercorn, which knows all of HTTP/1."""

    def __init__(self, service: HttpService, connection: Connection, first: bytes) -> None:
        # hypercorn gives each request a shallow copy of this: scope["state"]["connection"].
        state = {"connection": connection}
        super().__init__(service.app, service.config, service.context, state, cast(Any, connection))
        self.connection = connection
        self._fast_path = service.fast_path
        self._first = first  # what the peer sent first

    async def run(self) -> None:
        """Serve until either side closes. It is the parent's method without TLS and HTTP/2, with `Http1Protocol`."""
        stream = self.connection.stream
        try:
            client, server = stream.remote(), stream.local()
            async with TaskGroup() as tasks:
                self._task_group = tasks
                ours = self.app, self.config, self.context, tasks, ConnectionState(self.state)
                protocol = Http1Protocol(*ours, False, client, server, self.protocol_send)
                self.protocol = cast(ProtocolWrapper, protocol)
                await self._read_data()
        except OSError:
            pass  # the peer left before its address could be asked for
        finally:
            await self._close()

    async def _read_data(self) -> None:
        """Give the input to the fast path, or to hypercorn from the first request on that is not a plain one.

        A peer that has finished sending may still wait for its answer. hypercorn takes the end of the input for the end
        of the connection, so it gets the end of the input only after that answer.
        """
        protocol = cast(Http1Protocol, self.protocol)
        data = self._first
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while data:
                if protocol.has_whole_request:
                    await self.connection.wait_idle()  # the next request may be a plain one again
                if self._fast_path is not None and protocol.is_between_requests:
                    data = await self._fast_path.answer(self.connection, data)
                    if not data:
                        break
                await protocol.handle(RawData(data))
                data = await self.connection.receive_for_server()
            if protocol.has_whole_request:
                await self.connection.wait_idle()
            await protocol.handle(RawData(b""))
        await protocol.handle(Closed())

    async def protocol_send(self, event: Event) -> None:
        """Send to the peer, close the connection, or note that a request begins or ends.

        Only sending waits. The task of a request may call this after quart-trio has cancelled it, and closing and
        noting would then be cut short. (hypercorn's own timers of idle connections have that fault. They are not used:
        `ConnectionPool` knows the idle connections.)
        """
        if isinstance(event, Updated):
            self.connection.set_busy(not event.idle)
        elif isinstance(event, Closed):
            self._task_group.spawn(self._finish)
        else:
            await super().protocol_send(event)

    async def _finish(self) -> None:
        """Close the connection after its last response, then end the tasks that still run for it."""
        await self._close()
        self.connection.abort()


class HttpService:
    """Answers the clients that speak HTTP.

    Args:
        app: the ASGI application. It finds the `Connection` of a request in `scope["state"]["connection"]`, and gets
            no lifespan events.
        fast_path: answers the plain requests; without it the application answers all.
    """

    def __init__(self, app: ASGIFramework, fast_path: FastPath | None = None) -> None:
        self.app = ASGIWrapper(app)
        self.config = http_config()
        self.context = WorkerContext(None)
        self.fast_path = fast_path

    async def serve(self, connection: Connection, data: bytes) -> None:
        """Answer a client until either side ends the connection.

        Args:
            connection: the client's.
            data: what it sent first.
        """
        await HttpConnection(self, connection, data).run()

    async def finish(self) -> None:
        """From now on, close each connection after its response."""
        await self.context.terminated.set()
