"""Plain requests: the form in which clients write what a node is asked most, found without a general parser.

A plain request is HTTP/1.1 for a route that the table calls fast, with a Host, with a Content-Length exactly if it is
a POST, and with no field that changes how a message is framed, asks for more than an answer or tells of a browser's
page (RFC 9112, 3 to 7; RFC 6454). One empty line may stand before it. One expression describes it, strictly: what it
does not match is left to the application, which knows all of HTTP.
"""

import re
from typing import Final

from gcount.http.routes import ROUTES, Route

_FAST: Final = [route for route in ROUTES if route.fast]
_SEGMENT: Final = r"([A-Za-z0-9._~!$&'()*+,;=:@%-]++)"


def _beginning(route: Route) -> str:
    """How a request for a route begins, up to the name in its path."""
    return re.escape(f"{route.method} {route.template.partition('{name}')[0]}")


def _line(route: Route) -> str:
    """A route's method and target, as an expression whose one group is the name."""
    return _beginning(route) + _SEGMENT + re.escape(route.template.partition("{name}")[2])


_BEGINNING = re.compile(rf"(?:\r\n)?(?:{'|'.join(map(_beginning, _FAST))})".encode())
# One group for each route, and none after them: the last group that matched tells which route it is.
_HEAD = re.compile(
    rf"(?:\r\n)?+(?:{'|'.join(map(_line, _FAST))}) HTTP/1\.1\r\n"
    r"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e]*+\r\n)*+\r\n".encode()
)
# What decides how a request is framed, asks for more than an answer, or says that a page of a browser asks. No other
# field means anything to a counter.
_DECISIVE = re.compile(
    rb"\n(?:(host)|(content-length)|(connection)|transfer-encoding|expect|upgrade|te|trailer|keep-alive|proxy-connection|origin"
    rb"|sec-fetch-site)"
    rb":([^\r]*)",
    re.IGNORECASE,
)
_END = re.compile(rb"\n\r?\n")  # of a head; the application takes line feeds alone, too
_LENGTH = re.compile(rb"[0-9]{1,3}")


class PlainRequest:
    """A plain request, as the client wrote it.

    Attributes:
        route: which one it is for.
        name: the counter's, percent-encoded.
        body: of a POST, maybe only its beginning so far.
        end: where the request ends; beyond the input when its body has not all come.
        closes: whether the connection is to end with its answer.
    """

    __slots__ = ("body", "closes", "end", "name", "route")

    def __init__(self, route: Route, name: bytes, body: bytes, end: int, closes: bool) -> None:
        self.route, self.name, self.body, self.end, self.closes = route, name, body, end, closes


def parse(data: bytes, start: int = 0) -> PlainRequest | None:
    """The plain request that some input begins with.

    Args:
        data: what the client sent.
        start: where the request begins.

    Returns:
        None when anything else stands there, or only a part of a request's head.
    """
    head = _HEAD.match(data, start)
    if head is None:
        return None
    group, end = head.lastindex or 0, head.end()
    hosts, length, closes = 0, -1, False
    for host, content_length, connection, value in _DECISIVE.findall(data, head.end(group), end):
        value = value.strip(b"\t ").lower()
        if host:
            hosts += 1
        elif content_length and length < 0 and _LENGTH.fullmatch(value):
            length = int(value)
        elif connection and value in (b"keep-alive", b"close"):
            closes = closes or value == b"close"
        else:
            return None
    route = _FAST[group - 1]
    if hosts != 1 or (length < 0) != (route.method == "GET"):
        return None
    if length < 0:
        return PlainRequest(route, head[group], b"", end, closes)
    return PlainRequest(route, head[group], data[end : end + length], end + length, closes)


def may_become_plain(data: bytes, start: int = 0) -> bool:
    """Whether input that is not a plain request may begin one whose head has not all come."""
    return _BEGINNING.match(data, start) is not None and _END.search(data, start) is None
