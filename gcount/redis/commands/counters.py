"""The commands that count and read, those that scan and wait, and those that are refused.

A command gets its session and the words that the client wrote, of which there are as many as its `Command` allows.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

import trio

from gcount.core.limits import MAX_CELL
from gcount.errors import BadRequest
from gcount.node.requests import MAX_READ_TIMEOUT, parse_timeout
from gcount.redis import resp
from gcount.redis.command import Command, CommandError, Later, Turn, parse_name
from gcount.redis.session import Session

MAX_SCAN: Final = 1000  # names that one SCAN looks at
MAX_KEYS: Final = 100_000  # counters among which KEYS looks
_SCAN_SLICE: Final = 20  # names between two looks at the event loop: some may take 0.1 ms each to match
_MAX_PATTERN_BYTES: Final = 255
_INDEX_BITS: Final = 40  # of a cursor; the rest tells this start from others
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,19}")
_DECIMAL = re.compile(rb"-?[0-9]{1,19}")

_GROW = "counters only grow; nothing is ever subtracted, set or deleted"
_NO_INTEGER = "ERR value is not an integer or out of range"


def _incr(turn: Turn, words: list[bytes]) -> Later:
    return turn.count(1, parse_name(words[1]))


def _incrby(turn: Turn, words: list[bytes]) -> Later:
    if _NUMBER.fullmatch(words[2]) and (amount := int(words[2])) <= MAX_CELL:
        return turn.count(amount, parse_name(words[1]))
    if words[2][:1] == b"-" and _NUMBER.fullmatch(words[2], 1):
        raise CommandError(f"ERR a negative amount is not possible: {_GROW}")
    raise CommandError(f"{_NO_INTEGER}; amounts go from 0 to 2^64-1")


def _decimal(value: int, version: int) -> bytes:
    """A counter as a string; one that nobody ever incremented does not exist."""
    return resp.bulk(b"%d" % value) if value else resp.NULL[version]


def _get(turn: Turn, words: list[bytes]) -> bytes | Later:
    version = turn.version
    return turn.read([parse_name(words[1])], lambda values: _decimal(values[0], version))


def _mget(turn: Turn, words: list[bytes]) -> bytes | Later:
    names, version = list(map(parse_name, words[1:])), turn.version
    return turn.read(names, lambda values: resp.array([_decimal(value, version) for value in values]))


def _exists(turn: Turn, words: list[bytes]) -> bytes | Later:
    return turn.read(list(map(parse_name, words[1:])), lambda values: b":%d\r\n" % sum(map(bool, values)))


def _type(turn: Turn, words: list[bytes]) -> bytes | Later:
    return turn.read([parse_name(words[1])], lambda values: b"+string\r\n" if values[0] else b"+none\r\n")


def _strlen(turn: Turn, words: list[bytes]) -> bytes | Later:
    def length(values: Sequence[int]) -> bytes:
        return b":%d\r\n" % (len(b"%d" % values[0]) if values[0] else 0)

    return turn.read([parse_name(words[1])], length)


def _ttl(turn: Turn, words: list[bytes]) -> bytes | Later:
    """Counters do not expire."""
    return turn.read([parse_name(words[1])], lambda values: b":-1\r\n" if values[0] else b":-2\r\n")


async def _dbsize(session: Session, _words: list[bytes]) -> bytes:
    session.node.require_ready()
    return b":%d\r\n" % len(session.node.replica.counters)


async def _scan(session: Session, words: list[bytes]) -> bytes:
    """Names in the order in which this node got to know them; none ever goes, so that a cursor is a place in it."""
    session.node.require_ready()
    epoch = int.from_bytes(session.node.parts.context.boot[:2])
    at = _cursor(words[1], epoch)
    most, matches = _scan_options(words[2:])
    counters = session.node.replica.counters
    found: list[bytes] = []
    end = min(at + most, len(counters))
    while at < end:
        names = counters.names(at, min(at + _SCAN_SLICE, end))
        at += len(names)
        found += [resp.bulk(raw) for name in names if matches(raw := name.encode())]
        await trio.lowlevel.checkpoint()
    following = 0 if at >= len(counters) else epoch << _INDEX_BITS | at
    return resp.array([resp.bulk(b"%d" % following), resp.array(found)])


async def _keys(session: Session, words: list[bytes]) -> bytes:
    """All names that match, or an error: an answer that is not complete would look as if it were.

    One client at a time: some 40 MB wait here, of which nothing is counted before it is an answer.
    """
    session.node.require_ready()
    counters = session.node.replica.counters
    matches, end = glob(words[1]).fullmatch, len(counters)
    if end > MAX_KEYS:
        raise CommandError(f"ERR KEYS is for up to {MAX_KEYS} counters, and there are {end}; use SCAN")
    async with session.redis.listing:
        found: list[bytes] = []
        for at in range(0, end, _SCAN_SLICE):
            found += [raw for name in counters.names(at, min(at + _SCAN_SLICE, end)) if matches(raw := name.encode())]
            await trio.lowlevel.checkpoint()
        return resp.array(map(resp.bulk, found))


def _cursor(word: bytes, epoch: int) -> int:
    if word == b"0":
        return 0
    cursor = int(word) if _NUMBER.fullmatch(word) else -1
    if cursor < 0:
        raise CommandError("ERR invalid cursor")
    if cursor >> _INDEX_BITS != epoch:
        raise CommandError("ERR the cursor is not of this node's present start; begin again with 0")
    return cursor & (1 << _INDEX_BITS) - 1


def _scan_options(words: list[bytes]) -> tuple[int, Callable[[bytes], object]]:
    """How many names to look at, and which to return."""
    most = 10
    matches: Callable[[bytes], object] = bool
    if len(words) % 2:
        raise CommandError("ERR syntax error")
    for option, value in zip(words[::2], words[1::2], strict=True):
        match option.upper():
            case b"COUNT":
                most = min(_whole(value, 1), MAX_SCAN)
            case b"MATCH":
                matches = glob(value).fullmatch
            case b"TYPE":
                if value.lower() != b"string":
                    return most, lambda _raw: False
            case _:
                raise CommandError("ERR syntax error")
    return most, matches


def glob(pattern: bytes) -> re.Pattern[bytes]:
    r"""Compile a pattern of Redis: `*`, `?`, `[a-z]`, `[^a]`, and a backslash before what stands for itself.

    Raises:
        CommandError: it is longer than a name can be.
    """
    if len(pattern) > _MAX_PATTERN_BYTES:
        raise CommandError(f"ERR the pattern is longer than {_MAX_PATTERN_BYTES} bytes")
    parts: list[bytes] = []
    at, open_star = 0, False
    while at < len(pattern):
        if pattern[at : at + 1] == b"*":
            # Atomic: the first place at which the rest up to the next star fits is as good as any, so that a pattern
            # of many stars takes no more than quadratic time.
            parts.append(b"" if parts and parts[-1] == b"(?>.*?" else (b")" if open_star else b"") + b"(?>.*?")
            open_star = True
            at += 1
            continue
        part, at = _glob_part(pattern, at)
        parts.append(part)
    if open_star:
        last = max(n for n, part in enumerate(parts) if part.endswith(b"(?>.*?"))
        parts[last] = parts[last].removesuffix(b"(?>.*?") + b".*"
    return re.compile(b"".join(parts), re.DOTALL)


def _glob_part(pattern: bytes, at: int) -> tuple[bytes, int]:
    """What one element that is no star means, and where the next one begins."""
    byte = pattern[at : at + 1]
    if byte == b"?":
        return b".", at + 1
    if byte == b"\\" and at + 1 < len(pattern):
        return re.escape(pattern[at + 1 : at + 2]), at + 2
    if byte != b"[":
        return re.escape(byte), at + 1
    at += 1
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: list[bytes] = []
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            at += 1
        low = pattern[at : at + 1]
        at += 1
        if pattern[at : at + 1] == b"-" and at + 1 < len(pattern):
            low, high = sorted([low, pattern[at + 1 : at + 2]])
            at += 2
            members.append(b"\\x%02x-\\x%02x" % (low[0], high[0]))
        else:
            members.append(b"\\x%02x" % low[0])
    if not members:
        return (b"." if negated else b"(?!)"), at + 1
    return b"[" + b"^" * negated + b"".join(members) + b"]", at + 1


def _whole(word: bytes, least: int) -> int:
    if not _DECIMAL.fullmatch(word):
        raise CommandError(_NO_INTEGER)
    if int(word) < least:
        raise CommandError("ERR syntax error")
    return int(word)


async def _wait(session: Session, words: list[bytes]) -> bytes:
    """How many other members have on their disks all increments that this session was told of."""
    session.node.require_ready()
    if not _DECIMAL.fullmatch(words[1]) or not _DECIMAL.fullmatch(words[2]):
        raise CommandError("ERR value is not an integer or out of range")
    members, timeout = int(words[1]), int(words[2]) / 1000
    if timeout < 0:
        raise CommandError("ERR timeout is negative")
    peers, versions = session.node.peers, session.acknowledged
    if peers.holders(versions) < members:
        with trio.move_on_after(min(timeout or MAX_READ_TIMEOUT, MAX_READ_TIMEOUT)):
            await session.while_connected(lambda: peers.wait_held(versions, members))
    return b":%d\r\n" % peers.holders(versions)


async def _consistent(session: Session, words: list[bytes]) -> bytes:
    name = parse_name(words[1])
    if len(words) > 3:
        raise CommandError("ERR wrong number of arguments for 'gcount.consistent' command")
    try:
        timeout = parse_timeout([word.decode("latin-1") for word in words[2:]])
    except BadRequest as error:
        raise CommandError(f"ERR {error}") from None
    return resp.integer(await session.node.consistent_value(name, timeout), session.version)


_READ: Final = ("readonly", "fast")

COUNTING: Final = [
    Command("INCR", 2, ask=_incr, waits=True, flags=("write", "denyoom", "fast"), keys=(1, 1)),
    Command("INCRBY", 3, ask=_incrby, waits=True, flags=("write", "denyoom", "fast"), keys=(1, 1)),
    Command("GET", 2, ask=_get, waits=True, flags=_READ, keys=(1, 1)),
    Command("MGET", -2, ask=_mget, waits=True, flags=_READ, keys=(1, -1)),
    Command("EXISTS", -2, ask=_exists, waits=True, flags=_READ, keys=(1, -1)),
    Command("TYPE", 2, ask=_type, waits=True, flags=_READ, keys=(1, 1)),
    Command("STRLEN", 2, ask=_strlen, waits=True, flags=_READ, keys=(1, 1)),
    *(
        Command(name, 2, ask=_ttl, waits=True, flags=_READ, keys=(1, 1))
        for name in ("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME")
    ),
    Command("DBSIZE", 1, later=_dbsize, waits=True, flags=_READ),
    Command("SCAN", -2, later=_scan, waits=True, flags=("readonly",)),
    Command("KEYS", 2, later=_keys, waits=True, flags=("readonly",)),
    Command("WAIT", 3, later=_wait, waits=True, flags=("blocking",)),
    Command("GCOUNT.CONSISTENT", -2, later=_consistent, waits=True, flags=("readonly", "blocking"), keys=(1, 1)),
]

_REASONS: Final = {
    _GROW: "DECR DECRBY SET SETNX SETEX PSETEX MSET MSETNX GETSET GETDEL GETEX SETRANGE APPEND SETBIT DEL UNLINK "
    "FLUSHALL FLUSHDB RENAME RENAMENX RESTORE MOVE COPY",
    "counters count in whole numbers": "INCRBYFLOAT",
    "counters do not expire": "EXPIRE EXPIREAT PEXPIRE PEXPIREAT PERSIST",
    "there are no scripts": "EVAL EVAL_RO EVALSHA EVALSHA_RO SCRIPT FUNCTION FCALL FCALL_RO",
    "there are no messages": "SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE PUBLISH SPUBLISH PUBSUB MONITOR",
    "all there is are counters": "HINCRBY HINCRBYFLOAT HSET HGET HGETALL LPUSH RPUSH LRANGE SADD SMEMBERS ZADD ZINCRBY "
    "ZRANGE XADD PFADD",
    "every increment is on disk before it is answered": "SAVE BGSAVE BGREWRITEAOF",
    "members are told in POST /config": "CLUSTER REPLICAOF SLAVEOF",
    "the node ends at SIGTERM": "SHUTDOWN",
}
REFUSED: Final = {name.encode(): reason for reason, names in _REASONS.items() for name in names.split()}
