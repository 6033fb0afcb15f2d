"""How an HTTP request begins (RFC 9112, 3 to 6), so that what can become none is refused at once."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from gcount.http.targets import split_target

_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_REQUEST_LINE: Final = re.compile(_METHOD.pattern + rb" [^ ]+ HTTP/[0-9.]+\r?\Z")
_FRAMING: Final = {b"content-length", b"transfer-encoding"}
# The fields that the application server decodes as ASCII in websocket upgrades.
_TOKENS: Final = {b"connection", b"sec-websocket-protocol"}


def can_be_no_request(data: bytes) -> bool:
    """Whether what a client sent begins no HTTP request, whatever follows.

    Args:
        data: where a request is to begin, or an empty line before it.
    """
    line, ended, _ = data.lstrip(b"\r\n").partition(b"\n")
    if ended:
        return _REQUEST_LINE.match(line) is None
    word = line.partition(b" ")[0]
    method = _METHOD.match(word)
    return method is None or method.end() < len(word)


def refused_as(
    method: bytes, target: bytes, version: bytes, fields: Iterable[tuple[bytes, bytes]]
) -> HTTPStatus | None:
    """What a request is answered that no application is to see; None when it may.

    That is what is not HTTP/1, what is framed in two ways (RFC 9112, 6.1), and what nobody behind can read.

    Args:
        method: of the request.
        target: as the client wrote it.
        version: of HTTP, such as 1.1.
        fields: of the header, their names in lower case.
    """
    if not version.startswith(b"1."):
        return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    fields = list(fields)
    framed_twice = {name for name, _ in fields} >= _FRAMING
    tokens = b"".join([value for name, value in fields if name in _TOKENS])
    found = split_target(target)  # it has a path, or asks about the whole server
    answered = found is not None and (found[1] != b"*" or method == b"OPTIONS")
    return None if answered and tokens.isascii() and not framed_twice else HTTPStatus.BAD_REQUEST
