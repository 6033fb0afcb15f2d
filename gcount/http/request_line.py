"""The beginning of an HTTP request (RFC 9112, 3 to 6), so that input that can't become a request is refused at once."""

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
    """Whether the input of a client can't be the beginning of an HTTP request, no matter what follows.

    Args:
        data: the input at which a request has to begin, perhaps with empty lines before it.
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
    """Decide whether a request must be refused before the application sees it.

    That is a request which is not HTTP/1, which is framed in two ways (RFC 9112, 6.1), or which the application server
    or the framework can't read.

    Args:
        method: the request's method.
        target: the target, as the client wrote it.
        version: the version of HTTP, such as 1.1.
        fields: the header fields, their names in lower case.

    Returns:
        The status of the refusal; None if the application may see the request.
    """
    if not version.startswith(b"1."):
        return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    fields = list(fields)
    framed_twice = {name for name, _ in fields} >= _FRAMING
    tokens = b"".join([value for name, value in fields if name in _TOKENS])
    found = split_target(target)  # it has a path, or asks about the whole server
    answered = found is not None and (found[1] != b"*" or method == b"OPTIONS")
    return None if answered and tokens.isascii() and not framed_twice else HTTPStatus.BAD_REQUEST
