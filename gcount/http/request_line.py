"""How an HTTP request begins (RFC 9112, 3), so that what can become none is refused at once."""

import re
from typing import Final

_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_REQUEST_LINE: Final = re.compile(_METHOD.pattern + rb" [^ ]+ HTTP/[0-9.]+\r?\Z")


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
