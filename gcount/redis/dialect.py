r"""The protocol of a connection, HTTP or Redis, known by its first bytes.

*2\r\n$4\r\nINCR ...            RESP: no HTTP request begins with a star
INCR views\r\n                  an inline command of Redis: its first word is a command, and no HTTP/1.1 ends it
GET /ping HTTP/1.1\r\n          HTTP

Everything else is taken for HTTP too, which then answers what is wrong with it.
"""

from collections.abc import Container
from typing import Final

from gcount.redis import inline

_MOST_BYTES: Final = 16 * 1024  # of a first line: no request line of HTTP may be longer
_HTTP_ONLY: Final = b"GET /"  # GET is a method and a command. With a slash it is HTTP, as most requests are


def speaks_redis(data: bytes, commands: Container[bytes], prefixes: Container[bytes]) -> bool | None:
    """Decide whether a client speaks the Redis protocol.

    Args:
        data: the first bytes that the client sent.
        commands: the names of the commands of Redis, in capitals.
        prefixes: all prefixes of these names.

    Returns:
        Whether it does; None if more bytes are needed to decide.
    """
    if data[:1] == b"*":
        return True
    begun = data.lstrip(b"\r\n")  # empty lines are passed over; HTTP itself allows one before a request
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
