"""The rivals, and how each is started: so that it answers an increment only when it is synced to the disk."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import Popen

import trio

from bench import node_that_syncs
from bench.client import Failed, get, once
from bench.comparison.programs import output, path
from bench.comparison.resp import connection, fill
from bench.nodes import PRODUCT, START_WITHIN, cluster, running
from bench.processes import free_port, process
from tests.harness.resp import encoded

HOST = "127.0.0.1"
COUNTERS = 100_000  # counters that exist before anything is measured
OWNER = "bench"  # the owner of PostgreSQL's cluster, which needs no password on loopback
SCHEMA = (
    "CREATE TABLE counters (name text PRIMARY KEY, value bigint NOT NULL)",
    "INSERT INTO counters VALUES ('hot', 0)",
    f"INSERT INTO counters SELECT 'bench-' || lpad(n::text, 12, '0'), 0 FROM generate_series(0, {COUNTERS - 1}) n",
    "VACUUM ANALYZE counters",
    "CHECKPOINT",
)


@dataclass(frozen=True)
class Server:
    """The address of a server, and its process."""

    host: str
    port: int
    pid: int


@dataclass(frozen=True)
class Rival:
    """A store, or a way of running one.

    Attributes:
        about: a description for the page.
        needs: its programs.
        start: runs it with its data in a folder, for as long as the context lasts.
    """

    about: str
    needs: tuple[str, ...]
    start: Callable[[Path], AbstractAsyncContextManager[Server]]


@asynccontextmanager
async def _node(fast_path: str, folder: Path, program: tuple[str, ...] = PRODUCT) -> AsyncIterator[Server]:
    async with running(1, HOST, 0, folder, fast_path, program) as node:
        await fill(node.host, node.port, COUNTERS)
        yield Server(node.host, node.port, node.pid)


@asynccontextmanager
async def _three_nodes(fast_path: str, folder: Path) -> AsyncIterator[Server]:
    """Run three nodes; the first of them gets the load."""
    async with cluster(folder, fast_path) as nodes:
        await fill(nodes[0].host, nodes[0].port, COUNTERS)
        yield Server(nodes[0].host, nodes[0].port, nodes[0].pid)


@asynccontextmanager
async def redis(folder: Path, *more: str) -> AsyncIterator[Server]:
    """Run a Redis that syncs its log before it answers. It never rewrites the log: that would disturb other rivals."""
    port = await free_port()
    settings = {
        "bind": HOST,
        "port": str(port),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
        "auto-aof-rewrite-percentage": "0",
    }
    flags = [word for name, text in settings.items() for word in (f"--{name}", text)]
    with process([path("redis-server"), *flags, *more], folder / "log") as started:

        async def ping() -> None:
            async with connection(HOST, port) as conn:
                await conn.ask(encoded("PING"), 1)

        await _ready("Redis", ping, folder / "log", started)
        yield Server(HOST, port, started.pid)


@asynccontextmanager
async def _redis(folder: Path) -> AsyncIterator[Server]:
    async with redis(folder) as server:
        await fill(server.host, server.port, COUNTERS)
        yield server


@asynccontextmanager
async def _redis_and_replica(folder: Path) -> AsyncIterator[Server]:
    """Run two of them: the second is a replica that has caught up with the first."""
    folders = [folder / "primary", folder / "replica"]
    for each in folders:
        each.mkdir()
    async with redis(folders[0]) as primary:
        await fill(primary.host, primary.port, COUNTERS)
        async with redis(folders[1], "--replicaof", primary.host, str(primary.port)):

            async def copied() -> None:
                async with connection(primary.host, primary.port) as conn:
                    both = encoded("INCR", "hot") + encoded("WAIT", "1", "1000")
                    if (await conn.ask(both, 2))[1] != 1:
                        raise Failed("the replica has not caught up")

            await _ready("Redis' replica", copied, folders[1] / "log")
            yield primary


@asynccontextmanager
async def _etcd(folder: Path) -> AsyncIterator[Server]:
    port, peers = await free_port(), await free_port()
    flags = [
        f"--data-dir={folder / 'data'}",
        f"--listen-client-urls=http://{HOST}:{port}",
        f"--advertise-client-urls=http://{HOST}:{port}",
        f"--listen-peer-urls=http://{HOST}:{peers}",
        f"--initial-advertise-peer-urls=http://{HOST}:{peers}",
        f"--initial-cluster=default=http://{HOST}:{peers}",
        "--log-level=error",
        "--quota-backend-bytes=8589934592",
    ]
    with process([path("etcd"), *flags], folder / "log") as started:

        async def healthy() -> None:
            await once(HOST, port, get("/health"))

        await _ready("etcd", healthy, folder / "log", started)
        yield Server(HOST, port, started.pid)


@asynccontextmanager
async def _postgresql(folder: Path) -> AsyncIterator[Server]:
    """Run PostgreSQL with a database cluster of its own. PostgreSQL refuses to run as root, so another user runs it."""
    user = _ordinary_user()
    data, port = folder / "data", await free_port()
    data.mkdir(mode=0o700)
    if user:
        folder.parent.chmod(0o711)
        shutil.chown(data, user)
    flags = ["--auth=trust", "--no-locale", "--encoding=UTF8", f"--username={OWNER}", f"--pgdata={data}"]
    await output(0, "initdb", *flags, user=user)
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "fsync": "on",
        "synchronous_commit": "on",
    }
    flags = [f"--{name}={text}" for name, text in settings.items()]
    command = [path("postgres"), "-D", str(data), *flags]
    with process(command, folder / "log", user=user, stop=signal.SIGINT) as started:
        ask = partial(output, 0, "psql", "-X", "-q", f"--host={HOST}", f"--port={port}", f"--username={OWNER}")

        async def answers() -> None:
            await ask("-c", "SELECT 1", "postgres")

        await _ready("PostgreSQL", answers, folder / "log", started)
        await ask(*(word for statement in SCHEMA for word in ("-c", statement)), "postgres")
        yield Server(HOST, port, started.pid)


async def _ready(
    what: str, attempt: Callable[[], Awaitable[None]], log: Path, started: Popen[bytes] | None = None
) -> None:
    """Try until it works."""
    deadline = trio.current_time() + START_WITHIN
    while True:
        try:
            return await attempt()
        except (Failed, OSError) as error:
            ended = started is not None and started.poll() is not None
            if ended or trio.current_time() > deadline:
                raise Failed(f"{what} did not start: {error}\n{_text(log)}") from None
        await trio.sleep(0.02)


def _text(log: Path) -> str:
    return log.read_text(errors="replace")


def _ordinary_user() -> str | None:
    """The user for programs that refuse to run as root; None if this process does not run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


RIVALS = {
    "gcount": Rival("one node", (), partial(_node, "on")),
    "gcount-quart": Rival("one node, --fast-path off", (), partial(_node, "off")),
    "gcount-unsynced": Rival(
        "one node that syncs nothing", (), partial(_node, "on", program=node_that_syncs.command("never"))
    ),
    "gcount-3": Rival("three nodes, load on the first", (), partial(_three_nodes, "on")),
    "gcount-3-quart": Rival("three nodes, --fast-path off", (), partial(_three_nodes, "off")),
    "redis": Rival("appendfsync always", ("redis-server",), _redis),
    "redis-replica": Rival("appendfsync always, and a replica of the same kind", ("redis-server",), _redis_and_replica),
    "etcd": Rival("one member", ("etcd",), _etcd),
    "postgresql": Rival("fsync and synchronous_commit on", ("initdb", "postgres", "psql"), _postgresql),
}
