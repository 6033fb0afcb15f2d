"""The commands about counters: those that count and read, those that scan, and those that wait for other members."""

import re
from collections.abc import Callable, Sequence
from typing import Final

import trio

from gcount.core.limits import MAX_CELL
from gcount.errors import BadRequest
from gcount.node.requests import MAX_READ_TIMEOUT, parse_timeout
from gcount.redis import resp
from gcount.redis.command import Command, parse_id, parse_name
from gcount.redis.commands.refused import GROW
from gcount.redis.context import Call
from gcount.redis.glob import MAX_PATTERN_BYTES, compile_glob
from gcount.redis.resp import CommandError, Words
from gcount.redis.turn import Later, Reply, Turn

MAX_SCAN: Final = 1000  # names that one SCAN examines
MAX_KEYS: Final = 100_000  # counters; with more, KEYS is refused
_SCAN_SLICE: Final = 20  # names between two checkpoints of the event loop: a name may take 0.1 ms to match
_INDEX_BITS: Final = 40  # the low bits of a cursor, a position among the names; the high bits identify the node's start
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,19}")
_DECIMAL = re.compile(rb"-?[0-9]{1,19}")

_NO_INTEGER = "ERR value is not an integer or out of range"


def _incr(turn: Turn, words: Words) -> Later:
    return turn.count(1, parse_name(words[1]))


def _incrby(turn: Turn, words: Words) -> Later:
    return turn.count(_amount(words[2]), parse_name(words[1]))


def _incrby_once(turn: Turn, words: Words) -> Later:
    """An increment that counts once, however often it is sent. Options follow the amount, each a name and a value."""
    if len(words) != 5 or words[3].upper() != b"ID":
        raise CommandError("ERR syntax error; it is GCOUNT.INCRBY name amount ID id")
    return turn.raise_to(_amount(words[2]), parse_name(words[1]), parse_id(words[4]), once=True)


def _source(turn: Turn, words: Words) -> Later:
    return turn.raise_to(_amount(words[3]), parse_name(words[1]), parse_id(words[2]), once=False)


def _amount(word: bytes) -> int:
    if _NUMBER.fullmatch(word) and (amount := int(word)) <= MAX_CELL:
        return amount
    if word[:1] == b"-" and _NUMBER.fullmatch(word, 1):
        raise CommandError(f"ERR a negative amount is not possible: {GROW}")
    raise CommandError(f"{_NO_INTEGER}; amounts go from 0 to 2^64-1")


def _decimal(value: int, version: int) -> bytes:
    """A counter's value as a string; null if it was never incremented, as such a key does not exist."""
    return resp.bulk(b"%d" % value) if value else resp.NULL[version]


def _get(turn: Turn, words: Words) -> Reply:
    version = turn.version
    return turn.read([parse_name(words[1])], lambda values: _decimal(values[0], version))


def _mget(turn: Turn, words: Words) -> Reply:
    names, version = list(map(parse_name, words[1:])), turn.version
    return turn.read(names, lambda values: resp.array([_decimal(value, version) for value in values]))


def _exists(turn: Turn, words: Words) -> Reply:
    return turn.read(list(map(parse_name, words[1:])), lambda values: b":%d\r\n" % sum(map(bool, values)))


def _type(turn: Turn, words: Words) -> Reply:
    return turn.read([parse_name(words[1])], lambda values: b"+string\r\n" if values[0] else b"+none\r\n")


def _strlen(turn: Turn, words: Words) -> Reply:
    def length(values: Sequence[int]) -> bytes:
        return b":%d\r\n" % (len(b"%d" % values[0]) if values[0] else 0)

    return turn.read([parse_name(words[1])], length)


def _ttl(turn: Turn, words: Words) -> Reply:
    """The time to live of a counter: -1, as counters do not expire, or -2 if it was never incremented."""
    return turn.read([parse_name(words[1])], lambda values: b":-1\r\n" if values[0] else b":-2\r\n")


async def _dbsize(call: Call) -> bytes:
    call.node.require_ready()
    return b":%d\r\n" % call.node.counters


async def _scan(call: Call) -> bytes:
    """Names in the order in which this node learned them. No name is ever removed, so a cursor is a position in it."""
    node = call.node
    node.require_ready()
    epoch = int.from_bytes(node.start_id[:2])
    at = _cursor(call.words[1], epoch)
    most, matches = _scan_options(call.words[2:])
    found: list[bytes] = []
    end = min(at + most, node.counters)
    while at < end:
        names = node.names(at, min(at + _SCAN_SLICE, end))
        at += len(names)
        found += [resp.bulk(raw) for name in names if matches(raw := name.encode())]
        await trio.lowlevel.checkpoint()
    following = 0 if at >= node.counters else epoch << _INDEX_BITS | at
    return resp.array([resp.bulk(b"%d" % following), resp.array(found)])


async def _keys(call: Call) -> bytes:
    """All names that match, or an error: nothing would show that an answer is incomplete.

    It serves one client at a time: an answer may take some 40 MB, which no limit counts before the answer is made.
    """
    node = call.node
    node.require_ready()
    matches, end = _matcher(call.words[1]), node.counters
    if end > MAX_KEYS:
        raise CommandError(f"ERR KEYS is for up to {MAX_KEYS} counters, and there are {end}; use SCAN")
    async with call.shared.listing:
        found: list[bytes] = []
        for at in range(0, end, _SCAN_SLICE):
            found += [raw for name in node.names(at, min(at + _SCAN_SLICE, end)) if matches(raw := name.encode())]
            await trio.lowlevel.checkpoint()
        return resp.array(map(resp.bulk, found))


def _cursor(word: bytes, epoch: int) -> int:
    if word == b"0":
        return 0
    cursor = int(word) if _NUMBER.fullmatch(word) else -1
    if cursor < 0:
        raise CommandError("ERR invalid cursor")
    if cursor >> _INDEX_BITS != epoch:
        raise CommandError("ERR the cursor is of another node, or of an earlier start of this one; begin again with 0")
    return cursor & (1 << _INDEX_BITS) - 1


def _scan_options(words: Words) -> tuple[int, Callable[[bytes], object]]:
    """How many names to examine, and which of them to return."""
    most = 10
    matches: Callable[[bytes], object] = bool
    if len(words) % 2:
        raise CommandError("ERR syntax error")
    for option, value in zip(words[::2], words[1::2], strict=True):
        match option.upper():
            case b"COUNT":
                most = min(_whole(value, 1), MAX_SCAN)
            case b"MATCH":
                matches = _matcher(value)
            case b"TYPE":
                if value.lower() != b"string":
                    return most, lambda _raw: False
            case _:
                raise CommandError("ERR syntax error")
    return most, matches


def _matcher(pattern: bytes) -> Callable[[bytes], object]:
    """A function that says whether a name matches a pattern."""
    if len(pattern) > MAX_PATTERN_BYTES:
        raise CommandError(f"ERR the pattern is longer than {MAX_PATTERN_BYTES} bytes")
    return compile_glob(pattern).fullmatch


def _whole(word: bytes, least: int) -> int:
    if not _DECIMAL.fullmatch(word):
        raise CommandError(_NO_INTEGER)
    if int(word) < least:
        raise CommandError("ERR syntax error")
    return int(word)


async def _wait(call: Call) -> bytes:
    """How many other members have on disk all increments that were acknowledged to this client."""
    node, words, position = call.node, call.words, call.client.acknowledged
    node.require_ready()
    if not _DECIMAL.fullmatch(words[1]) or not _DECIMAL.fullmatch(words[2]):
        raise CommandError(_NO_INTEGER)
    members, timeout = int(words[1]), int(words[2]) / 1000
    if timeout < 0:
        raise CommandError("ERR timeout is negative")
    if node.holders(position) < members:
        within = min(timeout or MAX_READ_TIMEOUT, MAX_READ_TIMEOUT)
        await call.while_connected(lambda: node.wait_for_holders(position, members, within))
    return b":%d\r\n" % node.holders(position)


async def _consistent(call: Call) -> bytes:
    name, given = parse_name(call.words[1]), call.words[2:]
    if len(given) > 1:
        raise CommandError("ERR wrong number of arguments for 'gcount.consistent' command")
    try:
        timeout = parse_timeout(given[0].decode("latin-1")) if given else None
    except BadRequest as error:
        raise CommandError(f"ERR {error}") from None
    return resp.integer(await call.node.consistent_value(name, timeout), call.turn.version)


_READ: Final = ("readonly", "fast")

COUNTERS: Final = [
    Command("INCR", 2, ask=_incr, waits=True, flags=("write", "denyoom", "fast"), keys=(1, 1)),
    Command("INCRBY", 3, ask=_incrby, waits=True, flags=("write", "denyoom", "fast"), keys=(1, 1)),
    Command("GCOUNT.INCRBY", -5, ask=_incrby_once, waits=True, flags=("write", "denyoom", "fast"), keys=(1, 1)),
    Command("GCOUNT.SOURCE", 4, ask=_source, waits=True, flags=("write", "denyoom", "fast"), keys=(1, 1)),
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
