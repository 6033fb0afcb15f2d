"""The commands that Redis clients send when they connect, and when they check or end a connection."""

from typing import Final

from gcount.redis import resp
from gcount.redis.command import Command, shown
from gcount.redis.commands.clients import client_name
from gcount.redis.commands.server import REDIS_VERSION
from gcount.redis.context import Call
from gcount.redis.resp import CommandError

_WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."
_NO_PASSWORD = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)


def _ping(call: Call) -> bytes:
    if len(call.words) > 2:
        raise CommandError("ERR wrong number of arguments for 'ping' command")
    return resp.bulk(call.words[1]) if len(call.words) == 2 else b"+PONG\r\n"


def _echo(call: Call) -> bytes:
    return resp.bulk(call.words[1])


def _quit(call: Call) -> bytes:
    call.client.closing = True
    return resp.OK


def _reset(call: Call) -> bytes:
    call.turn.version, call.client.name = 2, b""
    call.client.end_transaction()
    return b"+RESET\r\n"


def _select(call: Call) -> bytes:
    index = call.words[1]
    if not index.isdigit() or len(index) > 9:
        raise CommandError("ERR value is not an integer or out of range")
    if int(index) != 0:
        raise CommandError("ERR DB index is out of range; there is only 0")
    return resp.OK


def _check_password(user: bytes) -> None:
    """Accept any password of the one user, `default`, as a Redis does that has no password.

    Raises:
        CommandError: it is another user.
    """
    if user != b"default":
        raise CommandError(_WRONG_PASSWORD)


def _auth(call: Call) -> bytes:
    if len(call.words) == 2:
        raise CommandError(_NO_PASSWORD)
    if len(call.words) > 3:
        raise CommandError("ERR syntax error")
    _check_password(call.words[1])
    return resp.OK


def _hello(call: Call) -> bytes:
    words, client = call.words, call.client
    version, name = call.turn.version, client.name
    if len(words) > 1:
        if words[1] not in (b"2", b"3"):
            raise CommandError("NOPROTO unsupported protocol version")
        version = int(words[1])
    at = 2
    while at < len(words):
        option = words[at].upper()
        if option == b"AUTH" and at + 2 < len(words):
            _check_password(words[at + 1])
            at += 3
        elif option == b"SETNAME" and at + 1 < len(words):
            name = client_name(words[at + 1])
            at += 2
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{shown(words[at])}'")
    call.turn.version, client.name = version, name
    fields = [
        ("server", resp.bulk(b"gcount")),
        ("version", resp.bulk(REDIS_VERSION.encode())),
        ("proto", b":%d\r\n" % version),
        ("id", b":%d\r\n" % client.id),
        ("mode", resp.bulk(b"standalone")),
        ("role", resp.bulk(b"master")),
        ("modules", resp.array([])),
    ]
    return resp.mapping([(resp.bulk(key.encode()), value) for key, value in fields], version)


CONNECTION: Final = [
    Command("PING", -1, run=_ping),
    Command("ECHO", 2, run=_echo),
    Command("HELLO", -1, run=_hello),
    Command("AUTH", -2, run=_auth),
    Command("SELECT", 2, run=_select),
    Command("QUIT", -1, run=_quit, queued=False),
    Command("RESET", 1, run=_reset, queued=False),
]
