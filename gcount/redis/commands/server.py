"""The commands about the server: COMMAND, CONFIG, INFO, MEMORY, ROLE, SLOWLOG and TIME."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from time import time_ns
from typing import Final

from gcount.node.view import Overview
from gcount.redis import resp
from gcount.redis.command import Command, parse_name, shown
from gcount.redis.context import Call, Shared
from gcount.redis.resp import CommandError, Words
from gcount.redis.turn import Reply, Turn
from gcount.version import VERSION

# The version of Redis that gcount reports. Clients decide by it which commands and options they send.
REDIS_VERSION: Final = "7.0.0"
_MAX_CONFIG_NAMES: Final = 64
_COUNTER_BYTES: Final = 288  # bytes of memory of a counter in a cluster of three, without its name; bench/memory.py


def describing(commands: Mapping[bytes, Command]) -> Command:
    """Make COMMAND, which describes all commands.

    Args:
        commands: all commands, by their names in capitals. It may be filled later, also with COMMAND itself.
    """
    return Command("COMMAND", -1, run=partial(_command, commands))


def _command(commands: Mapping[bytes, Command], call: Call) -> bytes:
    words = call.words
    asked = words[1].upper() if len(words) > 1 else b""
    if not asked:
        return resp.array([_described(command) for command in commands.values()])
    if asked == b"COUNT" and len(words) == 2:
        return b":%d\r\n" % len(commands)
    if asked == b"LIST" and len(words) == 2:
        return resp.array([resp.bulk(name.lower()) for name in commands])
    if asked == b"DOCS":
        return resp.mapping([], call.turn.version)
    if asked == b"GETKEYS" and len(words) > 2:
        return resp.array(map(resp.bulk, _keys_of(commands.get(words[2].upper()), words[2:])))
    if asked == b"INFO":
        found = [commands.get(word.upper()) for word in words[2:]] if len(words) > 2 else list(commands.values())
        return resp.array([_described(command) if command else b"*-1\r\n" for command in found])
    raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{shown(words[1])}'.")


def _keys_of(command: Command | None, words: Words) -> list[bytes]:
    if command is None:
        raise CommandError("ERR Invalid command specified")
    if not command.takes(len(words)):
        raise CommandError("ERR Invalid number of arguments specified for command")
    first, last = command.keys
    if not first:
        raise CommandError("ERR The command has no key arguments")
    return words[first : last + 1 if last > 0 else len(words)]


@cache  # one entry for each command; a single COMMAND INFO may ask for thousands of descriptions
def _described(command: Command) -> bytes:
    first, last = command.keys
    flags = resp.array([b"+%b\r\n" % flag.encode() for flag in command.flags])
    numbers = b":%d\r\n:%d\r\n:%d\r\n" % (first, last, 1 if first else 0)
    head = b"*10\r\n" + resp.bulk(command.name.lower().encode()) + b":%d\r\n" % command.arity + flags + numbers
    return head + b"*0\r\n" * 4


def _config(call: Call) -> bytes:
    words = call.words
    if words[1].upper() != b"GET" or len(words) < 3:
        raise CommandError("ERR only CONFIG GET is possible: settings are given when the node starts")
    if len(words) > 2 + _MAX_CONFIG_NAMES:
        raise CommandError(f"ERR CONFIG GET takes {_MAX_CONFIG_NAMES} names at most")
    names = {word.lower() for word in words[2:]}  # `*` is the only pattern: it would take too long to compile others
    found = [
        (resp.bulk(key.encode()), resp.bulk(value.encode()))
        for key, value in _settings(call.node.overview())
        if key.encode() in names or b"*" in names
    ]
    return resp.mapping(found, call.turn.version)


def _settings(node: Overview) -> list[tuple[str, str]]:
    """The settings of Redis that clients read, with the values that describe gcount."""
    return [
        ("appendfsync", "always"),
        ("appendonly", "yes"),
        ("databases", "1"),
        ("maxclients", str(node.max_connections)),
        ("maxmemory", "0"),
        ("maxmemory-policy", "noeviction"),
        ("port", str(node.port)),
        ("save", ""),
        ("timeout", "0"),
    ]


def _role(_call: Call) -> bytes:
    """The role of a node is always master: all members take increments, and none is a replica of another."""
    return resp.array([resp.bulk(b"master"), b":0\r\n", resp.array([])])


def _time(_call: Call) -> bytes:
    seconds, microseconds = divmod(time_ns() // 1000, 1_000_000)
    return resp.array([resp.bulk(b"%d" % seconds), resp.bulk(b"%d" % microseconds)])


def _slowlog(call: Call) -> bytes:
    """The slow log is always empty: the metrics show what takes long."""
    words = call.words
    match words[1].upper(), len(words):
        case b"GET", 2 | 3:
            if len(words) == 3 and not re.fullmatch(rb"-1|[0-9]{1,18}", words[2]):
                raise CommandError("ERR count should be greater than or equal to -1")
            return resp.array([])
        case b"LEN", 2:
            return b":0\r\n"
        case b"RESET", 2:
            return resp.OK
    raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{shown(words[1])}'.")


def _memory(turn: Turn, words: Words) -> Reply:
    sampled = len(words) == 5 and words[3].upper() == b"SAMPLES" and words[4].isdigit()
    if words[1].upper() != b"USAGE" or not (len(words) == 3 or sampled):
        raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{shown(words[1])}'.")
    size, version = _COUNTER_BYTES + len(words[2]), turn.version
    return turn.read([parse_name(words[2])], lambda values: b":%d\r\n" % size if values[0] else resp.NULL[version])


def _info(call: Call) -> bytes:
    asked = {word.lower() for word in call.words[1:]}
    everything = not asked or asked & {b"default", b"all", b"everything"}
    node = call.node.overview()
    parts = [
        "\r\n".join([f"# {title.capitalize()}", *(f"{key}:{value}" for key, value in fields(node, call.shared))])
        + "\r\n"
        for title, fields in _SECTIONS.items()
        if everything or title.encode() in asked
    ]
    return resp.bulk("\r\n".join(parts).encode())


_Fields = Iterator[tuple[str, object]]


def _about_server(node: Overview, _shared: Shared) -> _Fields:
    yield "redis_version", REDIS_VERSION
    yield "gcount_version", VERSION
    yield "redis_mode", "standalone"
    yield "process_id", os.getpid()
    yield "tcp_port", node.port
    yield "uptime_in_seconds", int(node.uptime)
    yield "uptime_in_days", int(node.uptime) // 86_400


def _about_clients(node: Overview, shared: Shared) -> _Fields:
    yield "connected_clients", len(shared.clients)
    yield "maxclients", node.max_connections
    yield "blocked_clients", shared.blocked


def _about_memory(_node: Overview, _shared: Shared) -> _Fields:
    used = 0
    with suppress(OSError):
        used = int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    yield "used_memory", used
    yield "used_memory_human", f"{used / 2**20:.2f}M"
    yield "used_memory_rss", used
    yield "maxmemory", 0
    yield "maxmemory_policy", "noeviction"


def _about_persistence(node: Overview, _shared: Shared) -> _Fields:
    yield "loading", int(not node.recovered)
    yield "rdb_bgsave_in_progress", 0
    yield "aof_enabled", 1
    yield "aof_rewrite_in_progress", 0
    yield "aof_last_write_status", "err" if node.not_ready else "ok"
    yield "aof_current_size", node.log_bytes


def _about_stats(_node: Overview, shared: Shared) -> _Fields:
    yield "total_connections_received", shared.received
    yield "total_commands_processed", sum(shared.commands.values())
    yield "expired_keys", 0
    yield "evicted_keys", 0


def _about_replication(node: Overview, _shared: Shared) -> _Fields:
    yield "role", "master"
    yield "master_repl_offset", 0
    yield "connected_slaves", node.linked


def _about_cpu(_node: Overview, _shared: Shared) -> _Fields:
    used = os.times()
    yield "used_cpu_sys", used.system
    yield "used_cpu_user", used.user


def _about_cluster(_node: Overview, _shared: Shared) -> _Fields:
    yield "cluster_enabled", 0


def _about_keyspace(node: Overview, _shared: Shared) -> _Fields:
    if node.counters:
        yield "db0", f"keys={node.counters},expires=0,avg_ttl=0"


_SECTIONS: Final[dict[str, Callable[[Overview, Shared], _Fields]]] = {
    "server": _about_server,
    "clients": _about_clients,
    "memory": _about_memory,
    "persistence": _about_persistence,
    "stats": _about_stats,
    "replication": _about_replication,
    "cpu": _about_cpu,
    "cluster": _about_cluster,
    "keyspace": _about_keyspace,
}

SERVER: Final = [
    Command("CONFIG", -2, run=_config),
    Command("INFO", -1, run=_info),
    Command("MEMORY", -2, ask=_memory, waits=True, flags=("readonly",), keys=(2, 2)),
    Command("ROLE", 1, run=_role),
    Command("SLOWLOG", -2, run=_slowlog),
    Command("TIME", 1, run=_time),
]
