"""CLIENT: what Redis clients tell and ask about themselves and each other."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import trio

from gcount.redis import resp
from gcount.redis.command import Command, CommandError, shown
from gcount.redis.session import Session

_MAX_NAME: Final = 255
_MAX_IDS: Final = 1024


def client_name(name: bytes) -> bytes:
    """What a client may call itself."""
    if len(name) > _MAX_NAME or any(not 0x21 <= byte <= 0x7E for byte in name):
        raise CommandError("ERR Client names cannot contain spaces, newlines or special characters.")
    return name


def _client(session: Session, words: list[bytes]) -> bytes:
    asked, given = words[1].upper(), words[2:]
    match asked, len(given):
        case b"SETNAME", 1:
            session.name = client_name(given[0])
            return resp.OK
        case b"GETNAME", 0:
            return resp.bulk(session.name) if session.name else resp.NULL[session.version]
        case b"ID", 0:
            return b":%d\r\n" % session.id
        case b"INFO", 0:
            return resp.bulk(_line(session))
        case b"LIST", _:
            return resp.bulk(b"".join(map(_line, _listed(session, given))))
        case b"GETREDIR", 0:
            return b":-1\r\n"
        case b"SETINFO", 2:
            return _setinfo(session, given)
        case ((b"NO-EVICT" | b"NO-TOUCH"), 1) if given[0].upper() in (b"ON", b"OFF"):
            return resp.OK
        case b"REPLY", 1 if given[0].upper() == b"ON":
            return resp.OK
        case b"REPLY", _:
            raise CommandError("ERR CLIENT REPLY is not possible: an increment that is not answered may not be counted")
    raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{shown(words[1])}'.")


def _setinfo(session: Session, given: list[bytes]) -> bytes:
    names = {b"LIB-NAME": 0, b"LIB-VER": 1}
    if given[0].upper() not in names:
        raise CommandError(f"ERR Unrecognized option '{shown(given[0])}'")
    library = list(session.library)
    library[names[given[0].upper()]] = client_name(given[1])
    session.library = (library[0], library[1])
    return resp.OK


def _listed(session: Session, given: list[bytes]) -> Iterable[Session]:
    """Those that CLIENT LIST is to tell of."""
    sessions = session.redis.sessions
    match [word.upper() for word in given[:2]]:
        case []:
            return sessions.values()
        case [b"TYPE", kind] if len(given) == 2:
            if kind not in (b"NORMAL", b"MASTER", b"REPLICA", b"SLAVE", b"PUBSUB"):
                raise CommandError(f"ERR Unknown client type '{shown(given[1])}'")
            return sessions.values() if kind == b"NORMAL" else []
        case [b"ID", _]:
            if len(given) > 1 + _MAX_IDS or not all(word.isdigit() and len(word) < 19 for word in given[1:]):
                raise CommandError("ERR Invalid client ID")
            return [sessions[number] for number in map(int, given[1:]) if number in sessions]
    raise CommandError("ERR syntax error")


def _line(session: Session) -> bytes:
    """One client as CLIENT LIST shows it; what gcount has nothing of is 0, as in a Redis without it."""
    connection, transaction, now = session.connection, session.transaction, trio.current_time()
    here = there = ""
    with suppress(OSError):  # it is gone already
        here, there = _address(connection.stream.local()), _address(connection.stream.remote())
    fields = {
        "id": session.id,
        "addr": there,
        "laddr": here,
        "fd": connection.stream.descriptor,
        "name": session.name.decode("ascii"),
        "age": int(now - connection.opened),
        "idle": int(now - connection.last_used),
        "flags": "N" if transaction is None else "x",
        **dict.fromkeys(("db", "sub", "psub", "ssub"), 0),
        "multi": -1 if transaction is None else len(transaction),
        "qbuf": session.kept,
        **dict.fromkeys(("qbuf-free", "argv-mem"), 0),
        "multi-mem": 0 if transaction is None else transaction.size,
        **dict.fromkeys(("rbs", "rbp", "obl", "oll"), 0),
        "omem": session.outbox.size,
        "tot-mem": session.kept + session.outbox.size,
        "events": "r",
        "cmd": session.last.lower(),
        "user": "default",
        "redir": -1,
        "resp": session.version,
        "lib-name": session.library[0].decode("ascii"),
        "lib-ver": session.library[1].decode("ascii"),
    }
    return " ".join([f"{key}={value}" for key, value in fields.items()]).encode() + b"\n"


def _address(name: tuple[str, int]) -> str:
    host, port = name
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


CLIENT: Final = Command("CLIENT", -2, run=_client)
