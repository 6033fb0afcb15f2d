"""The HTTP that a connection speaks: hypercorn's HTTP/1, with the doors closed that it leaves open.

HTTP/2 is refused. Nothing in gcount needs it, and over hypercorn it multiplies what one connection may
cost: a hundred requests at a time, streams reset as fast as they are opened, a priority tree to grow.
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

# The most bytes that a request's body may take on the wire, whatever the application does with it.
MAX_BODY_BYTES: Final = 512 * 1024
# The headers by which an error that hypercorn makes itself is known: it has no body yet.
_EMPTY_ERROR: Final = [(b"content-length", b"0"), (b"connection", b"close")]
_UNKNOWN_METHOD: Final = b"UNKNOWN"


def http_config() -> Config:
    """Make hypercorn's configuration: its limits, and no logs but errors through the standard logging."""
    config = Config()
    config.accesslog = None
    # A logger rather than a name: hypercorn would give a name a handler of its own.
    config.errorlog = logging.Logger("hypercorn.error", logging.WARNING)
    config.errorlog.addHandler(ThrottledHandler("application server failed"))
    config.h11_max_incomplete_size = 16 * 1024
    config.include_server_header = False
    config.keep_alive_max_requests = sys.maxsize
    config.websocket_ping_interval = None
    return config


class _RefusedError(Exception):
    """A request that is answered with a problem and the end of its connection, before any stream is made."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


class _Connection(h11.Connection):
    """h11's, which takes two things for errors: input after the last request, and an empty line before a request.

    One such line is passed over, since some clients end the request before with it (RFC 9112, 2.2). And it waits for
    the end of a head that can be none: what can become no request is refused at once.

    Attributes:
        passed_line: whether one stood before the request that is to come.
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
    """hypercorn's HTTP/1 with what it lets through closed, and with problem+json bodies in its errors."""

    _method = b""
    _body_bytes = 0
    _refused = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connection = _Connection(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)

    @property
    def is_between_requests(self) -> bool:
        """Whether all input so far was answered, and the next byte begins a request."""
        return (
            self.stream is None
            and isinstance(self.connection, _Connection)
            and self.connection.our_state is self.connection.their_state is h11.IDLE
            and not self.connection.trailing_data[0]
            and not self.connection.passed_line
        )

    @property
    def has_whole_request(self) -> bool:
        """Whether a request that has all come is being answered."""
        return self.connection.their_state in (h11.DONE, h11.MUST_CLOSE)

    @property
    def _heard_enough(self) -> bool:
        """Whether what comes now means nothing: the last request is whole, or its upgrade is being refused."""
        connection = self.connection
        if not isinstance(connection, H11WSConnection):
            return connection.their_state is h11.MUST_CLOSE
        refusing = isinstance(self.stream, WSStream) and not self.stream.handshake.accepted
        return refusing and connection.h11_connection.our_state is not h11.SEND_RESPONSE

    async def handle(self, event: Event) -> None:
        """Take input from the connection, or its end."""
        if isinstance(event, RawData) and event.data and self._heard_enough:
            return  # nothing is to follow the last request
        try:
            await super().handle(event)
        except _RefusedError as refused:
            await self._refuse(refused.status)
        if isinstance(event, RawData):
            await self._limit_body(len(event.data))

    async def stream_send(self, event: StreamEvent) -> None:
        """Send an event of a response, with a problem as the body of an error that has none."""
        if self._refused:
            return  # the application does not know yet
        if isinstance(event, Response) and event.headers == _EMPTY_ERROR:
            if isinstance(self.stream, WSStream):
                self.stream.closed = True  # else the application could accept it while the refusal is sent
            await self._send_problem(event.status_code)
            return
        if isinstance(event, Response) and self._ends_with(event):
            event = Response(event.stream_id, [*event.headers, (b"connection", b"close")], event.status_code)
        await self._send_event(event)
        if isinstance(event, EndBody) and isinstance(self.connection, H11WSConnection):
            # The upgrade was refused. hypercorn would keep the connection, deaf and never idle.
            await self.send(Closed())

    def _ends_with(self, response: Response) -> bool:
        """Whether a response is the last one: the request before it has not all come, or is not worth reading.

        hypercorn closes the connection after the former without saying so, and the next request would be lost.
        """
        return (
            self.connection.their_state is h11.SEND_BODY or response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        )

    async def _limit_body(self, size: int) -> None:
        """Count the bytes of a body, since Quart (from 0.23 on) takes all of it before it looks at the size."""
        if self.connection.their_state is not h11.SEND_BODY:
            self._body_bytes = 0
            return
        self._body_bytes += size
        if self._body_bytes > MAX_BODY_BYTES:
            await self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    async def _refuse(self, status: HTTPStatus) -> None:
        """Answer in place of the application, unless it has begun to, and close."""
        if not self._refused:
            self._refused = True
            if self.connection.our_state is h11.SEND_RESPONSE:
                await self._send_error_response(status)
            await self.send(Closed())

    async def _send_error_response(self, status_code: int) -> None:
        self._refused = True  # what the application sends meanwhile would come between head and body
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
        """Send an event as hypercorn does, with what it leaves out of a head."""
        if isinstance(event, Response):
            await self._send_h11_event(_head(event.status_code, [*event.headers, *self.config.response_headers("h11")]))
        else:
            await super().stream_send(event)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if isinstance(event, h11.InformationalResponse) and not event.reason:  # 100, which hypercorn sends by itself
            event = _head(event.status_code, event.headers.raw_items())
        await super()._send_h11_event(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Refuse what no application is to see. An offered h2c upgrade is ignored."""
        self._method = event.method
        status = refused_as(event.method, event.target, event.http_version, event.headers)
        if status is not None:
            raise _RefusedError(status)

    async def _create_stream(self, request: h11.Request) -> None:
        """Start the application on a request, without the extensions that a websocket client offers.

        The only one that hypercorn knows is compression, and it inflates each piece of input, a thousandfold
        if made so, before it looks at the size. It also takes a method in small letters for the one in capitals,
        which is another one (RFC 9110, 9.1) and known to no route.
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
            self.connection.buffer.clear()  # it came with a request that the application refuses already


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> h11.Response | h11.InformationalResponse:
    """The head of an answer, with its reason phrase, and not to be stored."""
    kind = h11.Response if status >= HTTPStatus.OK else h11.InformationalResponse
    return kind(status_code=status, headers=[*headers, NO_STORE], reason=HTTPStatus(status).phrase.encode())


class HttpConnection(TCPServer):
    """Serves one connection with hypercorn, which knows all of HTTP/1, behind the fast path."""

    def __init__(self, service: HttpService, connection: Connection, first: bytes) -> None:
        # hypercorn hands a shallow copy of the state to each request: scope["state"]["connection"].
        state = {"connection": connection}
        super().__init__(service.app, service.config, service.context, state, cast(Any, connection))
        self.connection = connection
        self._fast_path = service.fast_path
        self._first = first  # what the peer sent first

    async def run(self) -> None:
        """Serve until either side closes. Like the parent's, without TLS and HTTP/2, with our `Http1Protocol`."""
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
        """Give what the peer sends to the fast path or, from the first request on that is not plain, to hypercorn.

        A peer that has finished sending may still wait for its answer: hypercorn, which takes the end of the input
        for the end of the peer, is told of it after that answer.
        """
        protocol = cast(Http1Protocol, self.protocol)
        data = self._first
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while data:
                if protocol.has_whole_request:
                    await self.connection.wait_idle()  # so that what follows may be plain again
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


class HttpService:
    """Answers the clients that speak HTTP.

    Args:
        app: the ASGI application; requests find their `Connection` in `scope["state"]["connection"]`. It gets no
            lifespan events.
        fast_path: answers the plain requests; without one the application answers all.
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
        """Close each connection after its response from now on."""
        await self.context.terminated.set()
