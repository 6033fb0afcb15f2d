"""The works that are measured: which rivals do each of them, and by which tool."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

from bench.comparison.resp import name
from bench.comparison.rivals import COUNTERS
from bench.comparison.tools import CompareAndSwap, IncrementAndWait, Pgbench, RedisBenchmark, Tool, Wrk

SOME = range(1000)  # counters
MANY = range(COUNTERS)


@dataclass(frozen=True)
class Entry:
    """One rival at a piece of work.

    Attributes:
        label: its name in tables and goals.
        rival: its name in RIVALS.
        tool: the tool that loads it.
    """

    label: str
    rival: str
    tool: Tool


@dataclass(frozen=True)
class Work:
    """A piece of work that all its entries do."""

    name: str
    title: str
    entries: tuple[Entry, ...]
    connections: tuple[int, ...] = (32,)


def _posts(numbers: range) -> Wrk:
    return Wrk(f"POST /counter/{name(number)} 1" for number in numbers)


def _puts(numbers: range) -> Wrk:
    return Wrk(f'POST /v3/kv/put {{"key":"{_base64(name(number))}","value":"{_base64("1")}"}}' for number in numbers)


def _ranges(numbers: range) -> Wrk:
    return Wrk(f'POST /v3/kv/range {{"key":"{_base64(name(number))}","serializable":true}}' for number in numbers)


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _redis(keys: int, pipeline: int) -> tuple[Entry, ...]:
    return (
        Entry("gcount", "gcount", RedisBenchmark(keys, pipeline)),
        Entry("gcount, 3 nodes", "gcount-3", RedisBenchmark(keys, pipeline)),
        Entry("Redis", "redis", RedisBenchmark(keys, pipeline)),
        Entry("Redis and a replica", "redis-replica", RedisBenchmark(keys, pipeline)),
    )


WORKS = (
    Work("resp-hot", "Redis protocol: INCR of one key, 32 connections, 32 pipelined", _redis(1, 32)),
    Work(
        "resp-many",
        "Redis protocol: INCR over 100,000 keys, 32 connections, 16 pipelined",
        (
            *_redis(COUNTERS, 16),
            Entry("gcount, were syncs free", "gcount-unsynced", RedisBenchmark(COUNTERS, 16)),
        ),
    ),
    Work("resp-plain", "Redis protocol: INCR of one key, 32 connections, not pipelined", _redis(1, 1)),
    Work(
        "resp-wait",
        "Redis protocol: INCR and WAIT 1, 32 connections",
        (
            Entry("gcount, 3 nodes", "gcount-3", IncrementAndWait()),
            Entry("Redis and a replica", "redis-replica", IncrementAndWait()),
        ),
    ),
    Work(
        "http-post",
        "HTTP: increments over 1,000 counters, 32 connections",
        (
            Entry("gcount", "gcount", _posts(SOME)),
            Entry("gcount, Quart path", "gcount-quart", _posts(SOME)),
            Entry("gcount, 3 nodes", "gcount-3", _posts(SOME)),
            Entry("gcount, 3 nodes, Quart path", "gcount-3-quart", _posts(SOME)),
            Entry("etcd, put", "etcd", _puts(SOME)),
        ),
    ),
    Work(
        "http-get",
        "HTTP: reads of what one node knows, over 1,000 counters, 32 connections",
        (
            Entry("gcount", "gcount", Wrk(f"GET /counter/{name(number)}/value" for number in SOME)),
            Entry("gcount, Quart path", "gcount-quart", Wrk(f"GET /counter/{name(number)}/value" for number in SOME)),
            Entry("etcd, serializable range", "etcd", _ranges(SOME)),
        ),
    ),
    Work(
        "hot",
        "One hot counter, 32 connections",
        (
            Entry("gcount, HTTP", "gcount", Wrk(["POST /counter/hot 1"])),
            Entry("gcount, Redis protocol", "gcount", RedisBenchmark()),
            Entry("PostgreSQL, one row", "postgresql", Pgbench("'hot'")),
            Entry("etcd, compare and swap", "etcd", CompareAndSwap()),
        ),
    ),
    Work(
        "many",
        "100,000 counters, 32 connections",
        (
            Entry("gcount, HTTP", "gcount", _posts(MANY)),
            Entry("gcount, Redis protocol", "gcount", RedisBenchmark(COUNTERS)),
            Entry(
                "PostgreSQL, 100,000 rows",
                "postgresql",
                Pgbench("'bench-' || lpad(:n::text, 12, '0')", f"\\set n random(0, {COUNTERS - 1})\n"),
            ),
        ),
    ),
    Work(
        "connections",
        "Increments over the number of connections",
        (
            Entry("gcount, HTTP", "gcount", _posts(SOME)),
            Entry("gcount, Quart path", "gcount-quart", _posts(SOME)),
            Entry("gcount, Redis protocol", "gcount", RedisBenchmark(len(SOME))),
            Entry("Redis", "redis", RedisBenchmark(len(SOME))),
            Entry("etcd, put", "etcd", _puts(SOME)),
            Entry(
                "PostgreSQL",
                "postgresql",
                Pgbench("'bench-' || lpad(:n::text, 12, '0')", f"\\set n random(0, {len(SOME) - 1})\n"),
            ),
        ),
        (1, 4, 16, 64, 128),
    ),
)
