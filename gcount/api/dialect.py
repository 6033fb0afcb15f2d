r"""Which protocol a connection speaks: told from its first bytes, as soon as they can be nothing else.

*2\r\n$4\r\nINCR ...            RESP: no HTTP request begins with a star
INCR views\r\n                  a command of Redis as one types it: its first word is one, and it ends without HTTP/1.1
GET /ping HTTP/1.1\r\n          HTTP, and so is everything else; it says what is wrong with that
"""

import re
from collections.abc import Container
from typing import Final

from gcount.api import inline

_MOST_BYTES: Final = 16 * 1024  # of a first line, as long as it may be one of HTTP
_TARGET: Final = re.compile(rb"[A-Z]+ /")
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_END: Final = b"\r\n\r\n"


def speaks_redis(data: bytes, commands: Container[bytes], prefixes: Container[bytes]) -> bool | None:
    """Tell whether a client speaks Redis' protocol.

    Args:
        data: what it sent first.
        commands: the names of Redis' commands, in capitals.
        prefixes: all beginnings of these names.

    Returns:
        None when it has to send more before that can be told.
    """
    if data[:1] == b"*":
        return True
    begun = data.lstrip(b"\r\n")  # empty lines are passed over, before HTTP one of them
    if begun[:1] == b"*":
        return True
    if _TARGET.match(begun):
        return False
    line, ended, _ = begun.partition(b"\n")
    word, more, _ = line.replace(b"\r", b" ").lstrip(b" \t\"'").partition(b" ")
    name = word.rstrip(b"\"'").upper()
    if name not in (commands if ended or more else prefixes):
        return False
    if ended:
        return not inline.is_http(line.rstrip(b"\r"))
    return False if len(data) > _MOST_BYTES else None


def made_whole(data: bytes) -> bytes:
    """What HTTP is given of what no HTTP request begins with: more than came, so that it refuses it without waiting.

    Args:
        data: what a client sent first that speaks no Redis.
    """
    line, ended, _ = data.lstrip(b"\r\n").partition(b"\n")
    if ended:
        hopeless = not inline.is_http(line.rstrip(b"\r"))
    else:
        word = line.partition(b" ")[0]
        method = _METHOD.match(word)
        hopeless = method is None or method.end() < len(word)
    return data + _END if hopeless and _END not in data else data
