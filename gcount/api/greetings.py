"""What Redis clients say when they connect, and ask about the server: answered so that they go on."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

import trio

from gcount import __version__
from gcount.api import resp
from gcount.api.commands import COUNTING, REFUSED
from gcount.api.redis import Redis
from gcount.api.session import Session
from gcount.api.verbs import CommandError, Verb
from gcount.node import Node

# Clients choose by it what they may send.
REDIS_VERSION: Final = "7.0.0"
_MAX_CLIENT_NAME: Final = 255
_MAX_CONFIG_NAMES: Final = 64
_WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."
_NO_PASSWORD = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)


def make_redis(node: Node) -> Redis:
    """What answers the Redis clients of a node."""
    return Redis(node, {verb.name.encode(): verb for verb in (*COUNTING, *_GREETING)}, REFUSED)


def _ping(_session: Session, words: list[bytes]) -> bytes:
    if len(words) > 2:
        raise CommandError("ERR wrong number of arguments for 'ping' command")
    return resp.bulk(words[1]) if len(words) == 2 else b"+PONG\r\n"


def _echo(_session: Session, words: list[bytes]) -> bytes:
    return resp.bulk(words[1])


def _quit(session: Session, _words: list[bytes]) -> bytes:
    session.closing = True
    return resp.OK


def _reset(session: Session, _words: list[bytes]) -> bytes:
    session.version, session.name = 2, b""
    return b"+RESET\r\n"


def _select(_session: Session, words: list[bytes]) -> bytes:
    if not words[1].isdigit() or len(words[1]) > 9:
        raise CommandError("ERR value is not an integer or out of range")
    if int(words[1]) != 0:
        raise CommandError("ERR DB index is out of range; there is only 0")
    return resp.OK


def _check_password(user: bytes) -> None:
    """There is one user, who needs no password: any will do, as in a Redis without one."""
    if user != b"default":
        raise CommandError(_WRONG_PASSWORD)


def _auth(_session: Session, words: list[bytes]) -> bytes:
    if len(words) == 2:
        raise CommandError(_NO_PASSWORD)
    if len(words) > 3:
        raise CommandError("ERR syntax error")
    _check_password(words[1])
    return resp.OK


def _hello(session: Session, words: list[bytes]) -> bytes:
    version, name = session.version, session.name
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
            name = _client_name(words[at + 1])
            at += 2
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{_shown(words[at])}'")
    session.version, session.name = version, name
    fields = [
        ("server", resp.bulk(b"gcount")),
        ("version", resp.bulk(REDIS_VERSION.encode())),
        ("proto", b":%d\r\n" % version),
        ("id", b":%d\r\n" % session.id),
        ("mode", resp.bulk(b"standalone")),
        ("role", resp.bulk(b"master")),
        ("modules", resp.array([])),
    ]
    return resp.mapping([(resp.bulk(key.encode()), value) for key, value in fields], version)


def _client_name(name: bytes) -> bytes:
    if len(name) > _MAX_CLIENT_NAME or any(not 0x21 <= byte <= 0x7E for byte in name):
        raise CommandError("ERR Client names cannot contain spaces, newlines or special characters.")
    return name


def _client(session: Session, words: list[bytes]) -> bytes:
    asked, given = words[1].upper(), words[2:]
    match asked, len(given):
        case b"SETNAME", 1:
            session.name = _client_name(given[0])
            return resp.OK
        case b"GETNAME", 0:
            return resp.bulk(session.name) if session.name else resp.NULL[session.version]
        case b"ID", 0:
            return b":%d\r\n" % session.id
        case b"INFO", 0:
            return resp.bulk(_client_line(session))
        case b"SETINFO", 2:
            return _client_setinfo(given)
        case ((b"NO-EVICT" | b"NO-TOUCH"), 1) if given[0].upper() in (b"ON", b"OFF"):
            return resp.OK
        case b"REPLY", 1 if given[0].upper() == b"ON":
            return resp.OK
        case b"REPLY", _:
            raise CommandError("ERR CLIENT REPLY is not possible: an increment that is not answered may not be counted")
    raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{_shown(words[1])}'.")


def _client_setinfo(given: list[bytes]) -> bytes:
    """Nobody is told of it, so nothing is kept."""
    if given[0].upper() not in (b"LIB-NAME", b"LIB-VER"):
        raise CommandError(f"ERR Unrecognized option '{_shown(given[0])}'")
    return resp.OK


def _client_line(session: Session) -> bytes:
    age = int(trio.current_time() - session.connection.opened)
    name = session.name.decode("ascii")
    return f"id={session.id} name={name} age={age} db=0 resp={session.version} user=default\n".encode()


def _command(session: Session, words: list[bytes]) -> bytes:
    verbs = session.redis.verbs
    asked = words[1].upper() if len(words) > 1 else b""
    if not asked:
        return resp.array([_described(verb) for verb in verbs.values()])
    if asked == b"COUNT" and len(words) == 2:
        return b":%d\r\n" % len(verbs)
    if asked == b"LIST" and len(words) == 2:
        return resp.array([resp.bulk(name.lower()) for name in verbs])
    if asked == b"DOCS":
        return resp.mapping([], session.version)
    if asked == b"INFO":
        found = [verbs.get(word.upper()) for word in words[2:]] if len(words) > 2 else list(verbs.values())
        return resp.array([_described(verb) if verb else b"*-1\r\n" for verb in found])
    raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{_shown(words[1])}'.")


@cache  # there are as many as commands; one COMMAND INFO may ask for thousands
def _described(verb: Verb) -> bytes:
    first, last = verb.keys
    flags = resp.array([b"+%b\r\n" % flag.encode() for flag in verb.flags])
    numbers = b":%d\r\n:%d\r\n:%d\r\n" % (first, last, 1 if first else 0)
    head = b"*10\r\n" + resp.bulk(verb.name.lower().encode()) + b":%d\r\n" % verb.arity + flags + numbers
    return head + b"*0\r\n" * 4


def _config(session: Session, words: list[bytes]) -> bytes:
    asked = words[1].upper()
    if asked != b"GET" or len(words) < 3:
        raise CommandError("ERR only CONFIG GET is possible: settings are given when the node starts")
    if len(words) > 2 + _MAX_CONFIG_NAMES:
        raise CommandError(f"ERR CONFIG GET takes {_MAX_CONFIG_NAMES} names at most")
    names = {word.lower() for word in words[2:]}  # `*` is the only pattern: to compile others takes too long
    shown = [
        (resp.bulk(key.encode()), resp.bulk(value.encode()))
        for key, value in _settings(session.node)
        if key.encode() in names or b"*" in names
    ]
    return resp.mapping(shown, session.version)


def _settings(node: Node) -> list[tuple[str, str]]:
    """What Redis calls what gcount is."""
    return [
        ("appendfsync", "always"),
        ("appendonly", "yes"),
        ("databases", "1"),
        ("maxclients", str(node.settings.max_connections)),
        ("maxmemory", "0"),
        ("maxmemory-policy", "noeviction"),
        ("port", str(node.settings.port)),
        ("save", ""),
        ("timeout", "0"),
    ]


def _info(session: Session, words: list[bytes]) -> bytes:
    asked = {word.lower() for word in words[1:]}
    everything = not asked or asked & {b"default", b"all", b"everything"}
    parts = [
        "\r\n".join([f"# {title.capitalize()}", *(f"{key}:{value}" for key, value in fields(session))]) + "\r\n"
        for title, fields in _SECTIONS.items()
        if everything or title.encode() in asked
    ]
    return resp.bulk("\r\n".join(parts).encode())


_Fields = Iterator[tuple[str, object]]


def _about_server(session: Session) -> _Fields:
    node = session.node
    yield "redis_version", REDIS_VERSION
    yield "gcount_version", __version__
    yield "redis_mode", "standalone"
    yield "tcp_port", node.settings.port
    yield "uptime_in_seconds", int(trio.current_time() - node.started)


def _about_clients(session: Session) -> _Fields:
    yield "connected_clients", len(session.redis.sessions)
    yield "maxclients", session.node.settings.max_connections


def _about_persistence(session: Session) -> _Fields:
    yield "loading", int(not session.node.recovered)
    yield "aof_enabled", 1
    yield "aof_last_write_status", "err" if session.node.not_ready else "ok"
    yield "aof_current_size", session.node.log.size


def _about_stats(session: Session) -> _Fields:
    yield "total_commands_processed", sum(session.redis.commands.values())


def _about_replication(session: Session) -> _Fields:
    yield "role", "master"
    yield "connected_slaves", sum(peer.pusher is not None for peer in session.node.peers) if _ready(session) else 0


def _about_keyspace(session: Session) -> _Fields:
    if _ready(session) and (counters := len(session.node.local.replica.counters)):
        yield "db0", f"keys={counters},expires=0,avg_ttl=0"


def _ready(session: Session) -> bool:
    return session.node.recovered


_SECTIONS: Final[dict[str, Callable[[Session], _Fields]]] = {
    "server": _about_server,
    "clients": _about_clients,
    "persistence": _about_persistence,
    "stats": _about_stats,
    "replication": _about_replication,
    "keyspace": _about_keyspace,
}


def _shown(word: bytes) -> str:
    return word[:128].decode("utf-8", "replace")


_GREETING: Final = [
    Verb("PING", -1, run=_ping),
    Verb("ECHO", 2, run=_echo),
    Verb("HELLO", -1, run=_hello),
    Verb("AUTH", -2, run=_auth),
    Verb("SELECT", 2, run=_select),
    Verb("CLIENT", -2, run=_client),
    Verb("COMMAND", -1, run=_command),
    Verb("CONFIG", -2, run=_config),
    Verb("INFO", -1, run=_info),
    Verb("QUIT", -1, run=_quit),
    Verb("RESET", 1, run=_reset),
]
