"""CLIENT: Redis clients name themselves, and ask about themselves and each other."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from gcount.redis import resp
from gcount.redis.command import Command, shown
from gcount.redis.context import Call, Client, ClientStatistics, Connected
from gcount.redis.resp import CommandError, Words
from gcount.redis.turn import Pieces

_MAX_NAME: Final = 255
_MAX_IDS: Final = 1024


def client_name(name: bytes) -> bytes:
    """Check the name that a client gives itself.

    Raises:
        CommandError: the name is not allowed.
    """
    if len(name) > _MAX_NAME or any(not 0x21 <= byte <= 0x7E for byte in name):
        raise CommandError("ERR Client names cannot contain spaces, newlines or special characters.")
    return name


def _client(call: Call) -> bytes | Pieces:
    client, asked, given = call.client, call.words[1].upper(), call.words[2:]
    match asked, len(given):
        case b"SETNAME", 1:
            client.name = client_name(given[0])
            return resp.OK
        case b"GETNAME", 0:
            return resp.bulk(client.name) if client.name else resp.NULL[call.turn.version]
        case b"ID", 0:
            return b":%d\r\n" % client.id
        case b"INFO", 0:
            return resp.bulk(_line(call.shared.clients[client.id].statistics()))
        case b"LIST", _:
            clients = call.shared.clients
            return Pieces(_lines(_listed(clients, given), clients), resp.bulk)
        case b"GETREDIR", 0:
            return b":-1\r\n"
        case b"SETINFO", 2:
            return _setinfo(client, given)
        case ((b"NO-EVICT" | b"NO-TOUCH"), 1) if given[0].upper() in (b"ON", b"OFF"):
            return resp.OK
        case b"REPLY", 1 if given[0].upper() == b"ON":
            return resp.OK
        case b"REPLY", _:
            raise CommandError("ERR CLIENT REPLY is not possible: an increment that is not answered may not be counted")
    raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{shown(call.words[1])}'.")


def _setinfo(client: Client, given: Words) -> bytes:
    names = {b"LIB-NAME": 0, b"LIB-VER": 1}
    if given[0].upper() not in names:
        raise CommandError(f"ERR Unrecognized option '{shown(given[0])}'")
    library = list(client.library)
    library[names[given[0].upper()]] = client_name(given[1])
    client.library = (library[0], library[1])
    return resp.OK


def _listed(clients: Collection[int], given: Words) -> list[int]:
    """The ids of the clients that CLIENT LIST has to show."""
    match [word.upper() for word in given[:2]]:
        case []:
            return [*clients]
        case [b"TYPE", kind] if len(given) == 2:
            if kind not in (b"NORMAL", b"MASTER", b"REPLICA", b"SLAVE", b"PUBSUB"):
                raise CommandError(f"ERR Unknown client type '{shown(given[1])}'")
            return [*clients] if kind == b"NORMAL" else []
        case [b"ID", _]:
            if len(given) > 1 + _MAX_IDS or not all(word.isdigit() and len(word) < 19 for word in given[1:]):
                raise CommandError("ERR Invalid client ID")
            return [*map(int, given[1:])]
    raise CommandError("ERR syntax error")


def _lines(ids: list[int], clients: Mapping[int, Connected]) -> Iterator[bytes]:
    """A line for each of these clients; those that have left when their line is made are left out."""
    return (_line(clients[number].statistics()) for number in ids if number in clients)


_LINE: Final = (
    "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db=0 sub=0 psub=0 ssub=0 multi={} qbuf={} "
    "qbuf-free=0 argv-mem=0 multi-mem={} rbs=0 rbp=0 obl=0 oll=0 omem={} tot-mem={} events=r cmd={} user=default "
    "redir=-1 resp={} lib-name={} lib-ver={}\n"
).format


def _line(client: ClientStatistics) -> bytes:
    """One client, as CLIENT LIST shows it. Fields for features that gcount lacks are 0, as in a Redis without them."""
    library, version = client.library
    return _LINE(
        client.id,
        client.address,
        client.local_address,
        client.descriptor,
        client.name.decode("ascii"),
        int(client.age),
        int(client.idle),
        "N" if client.queued is None else "x",
        -1 if client.queued is None else client.queued,
        client.kept,
        client.queued_bytes,
        client.unsent,
        client.kept + client.unsent,
        client.last.lower(),
        client.version,
        library.decode("ascii"),
        version.decode("ascii"),
    ).encode()


CLIENT: Final = Command("CLIENT", -2, run=_client)
