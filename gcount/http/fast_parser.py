"""A parser for plain requests: the most frequent ones, in the form in which most clients write them.

A plain request is a request of HTTP/1.1 for a route that the table calls fast. It has exactly one Host. It has a
Content-Length if and only if it is not a GET. It has no field that changes how a message is framed, that asks for more
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
    """A regular expression for a route's method and target; its groups are the name and, in some routes, the id."""
    return _SEGMENT.join(map(re.escape, re.split(r"\{\w+\}", f"{route.method} {route.template}")))


def _by_last_group() -> list[tuple[Route, int]]:
    """For the number of the last group of a route: the route, and the number of the group with the name."""
    found: list[tuple[Route, int]] = [(_FAST[0], 0)]  # no route has group 0
    for route in _FAST:
        first = len(found)
        found += [(route, first)] * route.template.count("{")
    return found


_BEGINNING = re.compile(rf"(?:\r\n)?(?:{'|'.join(map(_beginning, _FAST))})".encode())
_BY_LAST_GROUP = _by_last_group()
# All groups are those of routes. So the number of the last group that matched tells the route.
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
        key: the id, as the client wrote it: of a source in the path, percent-encoded; of an increment in
            Idempotency-Key, empty if it has none. Empty if the route knows no ids.
        body: the body; only its beginning if it has not all come. Empty if it is a GET.
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
    route, first = _BY_LAST_GROUP[group]
    if hosts != 1 or (length < 0) != (route.method == "GET"):
        return None
    if length < 0:  # a key means nothing here
        return PlainRequest(route, head[first], b"" if group == first else head[group], b"", end, closes)
    if group != first:  # the id is in the path, so a key means nothing
        keys = [head[group]]
    elif keys and not (len(keys) == 1 and keys[0]):
        return None
    return PlainRequest(route, head[first], keys[0] if keys else b"", data[end : end + length], end + length, closes)


def may_become_plain(data: bytes, start: int = 0) -> bool:
    """Whether input that `parse` does not take may be the beginning of a plain request whose head has not all come."""
    return _BEGINNING.match(data, start) is not None and _END.search(data, start) is None
