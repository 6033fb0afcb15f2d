"""The HTTP that a connection speaks: hypercorn's HTTP/1, with the doors closed that it leaves open.

HTTP/2 is refused. Nothing in gcount needs it, and over hypercorn it multiplies what one connection may
cost: a hundred requests at a time, streams reset as fast as they are opened, a priority tree to grow.
"""

from __future__ import annotations

import logging
import sys
from http import HTTPStatus
from typing import Any, Final

import h11
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.typing import H11SendableEvent

from gcount.http.problems import code_of, problem_body
from gcount.http.request_line import can_be_no_request
from gcount.http.targets import split_target
from gcount.observe.throttle import Throttle

# The most bytes that a request's body may take on the wire, whatever the application does with it.
MAX_BODY_BYTES: Final = 512 * 1024
# The headers by which an error that hypercorn makes itself is known: it has no body yet.
_EMPTY_ERROR: Final = [(b"content-length", b"0"), (b"connection", b"close")]
# No answer is worth keeping: values change, and a cache in between would serve an old one for an exact one.
NO_STORE: Final = (b"cache-control", b"no-store")
_UNKNOWN_METHOD: Final = b"UNKNOWN"
_FRAMING: Final = {b"content-length", b"transfer-encoding"}
# The headers that hypercorn decodes as ASCII in websocket upgrades.
_TOKENS: Final = {b"connection", b"sec-websocket-protocol"}
_DETAILS: Final = {
    HTTPStatus.BAD_REQUEST: "The request is not well-formed HTTP/1, or not a websocket upgrade of version 13.",
    HTTPStatus.NOT_IMPLEMENTED: "The only transfer coding that this server knows is chunked.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is longer than this server takes.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request line and headers are longer than 16 KiB.",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "This server speaks HTTP/1.1 and HTTP/1.0.",
}


def http_config() -> Config:
    """Make hypercorn's configuration: its limits, and no logs but errors through the standard logging."""
    config = Config()
    config.accesslog = None
    # A logger rather than a name: hypercorn would give a name a handler of its own.
    config.errorlog = logging.Logger("hypercorn.error", logging.WARNING)
    config.errorlog.addHandler(_Throttled())
    config.h11_max_incomplete_size = 16 * 1024
    config.include_server_header = False
    config.keep_alive_max_requests = sys.maxsize
    config.websocket_ping_interval = None
    return config


class _Throttled(logging.Handler):
    """Logs errors of the application server, which clients may know how to cause, at most one a second."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle("application server failed")

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record, unless another one was logged a moment ago."""
        self._throttle.warn(reason=record.getMessage(), exc_info=record.exc_info)


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
        status = HTTPStatus(status_code)
        detail = _DETAILS.get(status, status.description or status.phrase)
        body = problem_body(status, code_of(status), detail)
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
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
        """Refuse what is not HTTP/1, what is framed in two ways (RFC 9112, 6.1) and what nobody behind can read.

        An offered h2c upgrade is ignored.
        """
        self._method = event.method
        if not event.http_version.startswith(b"1."):
            raise _RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        framed_twice = {name for name, _ in event.headers} >= _FRAMING
        tokens = b"".join([value for name, value in event.headers if name in _TOKENS])
        if framed_twice or not tokens.isascii() or not _is_answered(event.method, event.target):
            raise _RefusedError(HTTPStatus.BAD_REQUEST)

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


def _is_answered(method: bytes, target: bytes) -> bool:
    """Whether a request has a path, or asks about the whole server."""
    found = split_target(target)
    return found is not None and (found[1] != b"*" or method == b"OPTIONS")
