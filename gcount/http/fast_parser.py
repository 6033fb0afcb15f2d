"""A parser for plain requests: the most frequent ones, in the form in which most clients write them.

A plain request is a request of HTTP/1.1 for a route that the table calls fast. It has exactly one Host. It has a
Content-Length if and only if it is a POST. It has no field that changes how a message is framed, that asks for more
than an answer, or that a browser adds for a page (RFC 9112, 3 to 7; RFC 6454). One empty line may come before it. One
strict regular expression describes it. Requests that do not match are left to the application, which knows all of HTTP.
"""

import re
from typing import Final

from gcount.http.routes import ROUTES, Route

_FAST: Final = [route for route in ROUTES if route.fast]
_SEGMENT: Final = r"([A-Za-z0-9._~!$&'()*+,;=:@%-]++)"


def _beginning(route: Route) -> str:
    """A regular expression for the beginning of a request for a route, up to the name in its path."""
    return re.escape(f"{route.method} {route.template.partition('{name}')[0]}")


def _line(route: Route) -> str:
    """A regular expression for a route's method and target; its one group is the name."""
    return _beginning(route) + _SEGMENT + re.escape(route.template.partition("{name}")[2])


_BEGINNING = re.compile(rf"(?:\r\n)?(?:{'|'.join(map(_beginning, _FAST))})".encode())
# There is one group for each route, and none after them. So the number of the last group that matched is the route's.
_HEAD = re.compile(
    rf"(?:\r\n)?+(?:{'|'.join(map(_line, _FAST))}) HTTP/1\.1\r\n"
    r"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e]*+\r\n)*+\r\n".encode()
)
# The fields that decide how a request is framed, ask for more than an answer, or show that a page in a browser made it.
# All other fields mean nothing to the routes of counters.
_DECISIVE = re.compile(
    rb"\n(?:(host)|(content-length)|(connection)|(idempotency-key)|transfer-encoding|expect|upgrade|te|trailer|keep-alive|proxy-connection|origin"
    rb"|sec-fetch-site)"
    rb":([^\r]*)",
    re.IGNORECASE,
)
_END = re.compile(rb"\n\r?\n")  # the end of a head; the application takes line feeds without carriage returns, too
_LENGTH = re.compile(rb"[0-9]{1,3}")


class PlainRequest:
    """A plain request, as the client wrote it.

    Attributes:
        route: the route that it is for.
        name: the counter's name, percent-encoded.
        key: the Idempotency-Key of a POST, as the client wrote it; empty if it has none.
        body: the body of a POST; only its beginning if it has not all come.
        end: the position in the input at which the request ends; beyond the input if its body has not all come.
        closes: whether the connection is to be closed after the answer.
    """

    __slots__ = ("body", "closes", "end", "key", "name", "route")

    def __init__(self, route: Route, name: bytes, key: bytes, body: bytes, end: int, closes: bool) -> None:
        self.route, self.name, self.key, self.body, self.end, self.closes = route, name, key, body, end, closes


def parse(data: bytes, start: int = 0) -> PlainRequest | None:
    """Read a plain request.

    Args:
        data: what the client sent.
        start: the position at which the request begins.

    Returns:
        The request. None if something else begins there, or if the head of the request has not all come.
    """
    head = _HEAD.match(data, start)
    if head is None:
        return None
    group, end = head.lastindex or 0, head.end()
    hosts, length, closes, keys = 0, -1, False, []
    for host, content_length, connection, idempotency_key, value in _DECISIVE.findall(data, head.end(group), end):
        value = value.strip(b"\t ")
        if host:
            hosts += 1
        elif content_length and length < 0 and _LENGTH.fullmatch(value):
            length = int(value)
        elif connection and (option := value.lower()) in (b"keep-alive", b"close"):
            closes = closes or option == b"close"
        elif idempotency_key:
            keys.append(value)
        else:
            return None
    route = _FAST[group - 1]
    if hosts != 1 or (length < 0) != (route.method == "GET"):
        return None
    if length < 0:  # a key means nothing here
        return PlainRequest(route, head[group], b"", b"", end, closes)
    if keys and not (len(keys) == 1 and keys[0]):
        return None
    return PlainRequest(route, head[group], keys[0] if keys else b"", data[end : end + length], end + length, closes)


def may_become_plain(data: bytes, start: int = 0) -> bool:
    """Whether input that `parse` does not take may be the beginning of a plain request whose head has not all come."""
    return _BEGINNING.match(data, start) is not None and _END.search(data, start) is None
