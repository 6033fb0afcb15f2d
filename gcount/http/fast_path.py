"""The fast path: plain requests for counters, answered without the application server.

gcount itself needs some microseconds for a request for a counter. The layers of a general application server take a
hundred times as long. So the most frequent requests are answered here, if they come in their plain form. If anything
about a request is unusual, the fast path leaves the whole request to the application, on the same connection. It
answers a request only as the application would, so it can be switched off.
"""

from email.utils import formatdate
from functools import cache, partial
from http import HTTPStatus
from time import time
from typing import Final

import trio
from prometheus_client import Counter

from gcount.core.writes.increments import Add, Outcome, Raise, Repeat
from gcount.errors import BadRequest, Refusal
from gcount.http.answers import NO_STORE, REPLAYED
from gcount.http.fast_parser import PlainRequest, may_become_plain, parse
from gcount.http.parameters import id_in_path, idempotency_key, name_in_path
from gcount.http.problems import Problem, problem_of_error, problem_of_refusal
from gcount.http.routes import CONSISTENT_VALUE, INCREMENT, SOURCE, VALUE, Route
from gcount.net.connection import Connection
from gcount.net.responder import Responder
from gcount.node.node import Node
from gcount.node.requests import parse_amount
from gcount.node.view import NodeView

# The limits within which a request that begins like a plain one has to be whole. The application gets longer and
# slower ones, and has limits of its own.
_MOST_BYTES: Final = 8 * 1024
_WHOLE_WITHIN: Final = 1.0  # seconds
_FIELDS: Final = b"content-type: text/plain\r\n"
_FIELDS_REPLAYED: Final = _FIELDS + "{}: {}\r\n".format(*REPLAYED).encode()


class FastPath:
    """Answers plain requests for a node's counters.

    Args:
        node: may still be recovering; until it has recovered, the application answers.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._view = NodeView(node)
        self._counters: dict[tuple[Route, int], Counter] = {}
        self._date = (0, b"")

    async def answer(self, connection: Connection, data: bytes) -> bytes:
        """Answer plain requests, until something else comes.

        Args:
            connection: the client's connection; no request is in progress on it.
            data: the input that came last.

        Returns:
            The input from the first request on that is not a plain one; no bytes if the connection is to end.
        """
        start, deadline = 0, 0.0
        responder = Responder(connection)
        while self._node.recovered:
            request = parse(data, start)
            if request is not None and request.end <= len(data):
                if not await self._respond(connection, request):
                    break
                if connection.stopping or request.closes:
                    return b""
                start, deadline = request.end, 0.0
                if start < len(data):
                    await trio.lowlevel.checkpoint()  # many may have come together; other tasks get their turn between
                    continue
                data, start = await self._receive(connection, responder), 0
                if not data:
                    return b""
            elif request is not None or may_become_plain(data, start):
                deadline = deadline or trio.current_time() + _WHOLE_WITHIN
                more = await self._more(connection, len(data) - start, deadline)
                if not more:
                    break
                data, start = data[start:] + more, 0
            else:
                break
        return data[start:]

    async def _receive(self, connection: Connection, responder: Responder) -> bytes:
        """Receive the next input that can't be answered at once; no bytes if the connection is to end."""
        data = None
        while data is None and not connection.stopping:
            data = await responder.receive(partial(self._answer_at_once, connection, responder))
        return data or b""

    def _answer_at_once(self, connection: Connection, responder: Responder, data: bytes) -> bool:
        """Answer a plain request without waiting; returns False, and does nothing, if the input is anything else."""
        request = parse(data) if responder.free and self._node.recovered else None
        if request is None or request.end != len(data) or request.closes or request.route is CONSISTENT_VALUE:
            return False
        asked = _asked(request)
        if asked is None:
            return False
        name, amount, id_ = asked
        if amount is None:
            if id_ is not None:
                return False
            responder.answer(self._accepted(connection, request, self._node.value(name)))
            return True
        responder.expect()
        counting = Repeat([name], amount) if id_ is None else [_raise(request, name, id_, amount)]
        if self._node.submit(counting, partial(self._counted, connection, responder, request)):
            return True
        responder.withdraw()
        return False

    def _counted(self, connection: Connection, responder: Responder, request: PlainRequest, outcome: Outcome) -> None:
        """Answer an increment in the instant in which it is counted."""
        value = outcome.values[0]
        if isinstance(value, Refusal):
            responder.leave(partial(self._refused_later, connection, request, problem_of_refusal(value)))
        else:
            replayed = outcome.replayed and request.route is INCREMENT
            responder.answer(self._accepted(connection, request, value, replayed=replayed))

    @staticmethod
    async def _more(connection: Connection, size: int, deadline: float) -> bytes:
        with trio.move_on_at(deadline):
            if size <= _MOST_BYTES:
                return await connection.receive_some()
        return b""

    async def _respond(self, connection: Connection, request: PlainRequest) -> bool:
        """Answer a request; returns False, and does nothing, if the application has to say what is wrong with it."""
        node, asked = self._node, _asked(request)
        if asked is None:
            return False
        name, amount, id_ = asked
        if request.route is not VALUE:
            connection.set_busy(True)
        replayed = False
        try:
            value: int | Refusal
            if amount is not None:
                item = Add(name, amount) if id_ is None else _raise(request, name, id_, amount)
                outcome = await node.count([item])
                value, replayed = outcome.values[0], outcome.replayed and request.route is INCREMENT
            elif request.route is VALUE:
                value = node.value(name)
            elif id_ is not None:
                value = self._view.id_total(name, id_)
            else:
                value = await node.consistent_value(name)
            if isinstance(value, Refusal):
                answer = self._refused(connection, request, problem_of_refusal(value))
            else:
                answer = self._accepted(connection, request, value, replayed=replayed)
        except Refusal as refusal:
            answer = self._refused(connection, request, problem_of_refusal(refusal))
        except Exception as error:
            path = request.route.template.format(name=request.name.decode("ascii"), id=request.key.decode("ascii"))
            answer = self._refused(connection, request, problem_of_error(error, path))
        await connection.send_all(answer)
        connection.set_busy(False)
        return True

    def _accepted(self, connection: Connection, request: PlainRequest, value: int, *, replayed: bool = False) -> bytes:
        return self._render(connection, request, 200, _FIELDS_REPLAYED if replayed else _FIELDS, b"%d\n" % value)

    def _refused(self, connection: Connection, request: PlainRequest, problem: Problem) -> bytes:
        fields = "".join([f"{name}: {value}\r\n" for name, value in problem.fields.items()])
        return self._render(connection, request, problem.status, fields.encode("latin-1"), problem.body)

    async def _refused_later(self, connection: Connection, request: PlainRequest, problem: Problem) -> bytes:
        return self._refused(connection, request, problem)

    def _render(self, connection: Connection, request: PlainRequest, status: int, fields: bytes, body: bytes) -> bytes:
        self._count(request, status)
        closes = b"connection: close\r\n" if connection.stopping or request.closes else b""
        head = b"%b%bcontent-length: %d\r\ndate: %b\r\n%b\r\n%b"
        return head % (_begin(status), fields, len(body), self._now(), closes, body)

    def _now(self) -> bytes:
        """The time in the format of a Date field (RFC 9110, 5.6.7)."""
        seconds = int(time())
        if seconds != self._date[0]:
            self._date = (seconds, formatdate(seconds, usegmt=True).encode())
        return self._date[1]

    def _count(self, request: PlainRequest, status: int) -> None:
        route = request.route
        counter = self._counters.get((route, status))
        if counter is None:
            counter = self._node.metrics.requests.labels(route.template, route.method, str(status))
            self._counters[route, status] = counter
        counter.inc()


@cache  # one entry for each status
def _begin(status: int) -> bytes:
    """The beginning of an answer: its status line, and the field that all answers have."""
    return b"HTTP/1.1 %d %b\r\n%b: %b\r\n" % (status, HTTPStatus(status).phrase.encode(), *NO_STORE)


def _asked(request: PlainRequest) -> tuple[str, int | None, str | None] | None:
    """The counter's name, the amount of an increment or the total of a source (None for a read), and the id (None
    without one).

    Returns None if one of them is wrong: the application then says what.
    """
    route = request.route
    try:
        name = name_in_path(request.name.decode("ascii"))
        if route is INCREMENT:
            id_ = idempotency_key([request.key.decode("ascii")]) if request.key else None
            return name, parse_amount(request.body, "the body"), id_
        if not request.key:
            return name, None, None
        id_ = id_in_path(request.key.decode("ascii"))
        return name, None if route is SOURCE else parse_amount(request.body, "the body"), id_
    except BadRequest:
        return None


def _raise(request: PlainRequest, name: str, id_: str, total: int) -> Raise:
    """What a request with an id asks for: an increment counts once, a source as often as its total grows."""
    return Raise(name, id_, total, once=request.route is INCREMENT)
