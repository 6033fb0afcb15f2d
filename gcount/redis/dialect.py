r"""Which protocol a connection speaks: told from its first bytes, as soon as they can be nothing else.

*2\r\n$4\r\nINCR ...            RESP: no HTTP request begins with a star
INCR views\r\n                  a command of Redis as one types it: its first word is one, and it ends without HTTP/1.1
GET /ping HTTP/1.1\r\n          HTTP, and so is everything else; it says what is wrong with that
"""

from collections.abc import Container
from typing import Final

from gcount.redis import inline

_MOST_BYTES: Final = 16 * 1024  # of a first line, as long as it may be one of HTTP
_HTTP_ONLY: Final = b"GET /"  # the one method that is a command, too, with what most requests ask for


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
    if begun.startswith(_HTTP_ONLY):
        return False
    line, ended, _ = begun.partition(b"\n")
    word, more, _ = line.replace(b"\r", b" ").lstrip(b" \t\"'").partition(b" ")
    name = word.rstrip(b"\"'").upper()
    if name not in (commands if ended or more else prefixes):
        return False
    if ended:
        return not inline.is_http(line.rstrip(b"\r"))
    return False if len(data) > _MOST_BYTES else None
