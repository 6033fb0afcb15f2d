"""Clients that retry with ids, through a balancer that retries, too: what they count is exact, whatever fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from tests.clients.servers import HOST, free_ports, listening, needs
from tests.harness.cluster import consistent_values_are, loopback_nodes, running, take_ids, values_are
from tests.harness.processes import Node
from tests.harness.waiting import eventually

PROGRAMS = Path(__file__).with_name("once")
CLIENTS = {
    "over-http": (sys.executable, "-B", PROGRAMS / "over_http.py"),
    "fetch": ("node", PROGRAMS / "fetch.js"),
    "redis-py": (sys.executable, "-B", PROGRAMS / "redis_py.py"),
}
PAUSE = 0.6  # seconds: longer than HAProxy waits for an answer
HAPROXY = """
global
    maxconn 500
defaults
    timeout connect 200ms
    timeout client 10s
    balance roundrobin
    retries 6
    option redispatch 1
frontend http
    mode http
    bind {host}:{http}
    default_backend http-nodes
backend http-nodes
    mode http
    timeout server 300ms
    retry-on all-retryable-errors
{servers}
frontend redis
    mode tcp
    bind {host}:{redis}
    default_backend redis-nodes
backend redis-nodes
    mode tcp
    timeout server 10s
{servers}
"""


@needs("node", "nodejs")
@needs("haproxy", "haproxy")
async def test_what_clients_retry_with_ids_counts_once(tmp_path: Path) -> None:
    """HAProxy sends to another node what one did not answer; a node that was paused counts it later all the same."""
    nodes = loopback_nodes(tmp_path, 3)
    http, redis = free_ports(2)
    servers = "\n".join(f"    server n{node.number} {node.host}:{node.port}" for node in nodes)
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(host=HOST, http=http, redis=redis, servers=servers))
    counted: dict[str, int] = {}
    stop = trio.Event()

    async def count(name: str, command: Sequence[str | Path]) -> None:
        port = redis if name == "redis-py" else http
        counted[name] = await _counted(stop, *command, port, name)

    async with (
        running(*nodes, configured=True),
        listening(tmp_path, http, ["haproxy", "-q", "-db", "-f", tmp_path / "haproxy.cfg"]),
    ):
        await take_ids(nodes)  # redis-py ends at an error reply
        async with trio.open_nursery() as nursery:
            for name, command in CLIENTS.items():
                nursery.start_soon(count, name, command)
            for paused, killed in ((nodes[0], nodes[1]), (nodes[2], nodes[0])):
                await _all_grow(paused)
                paused.pause()
                await trio.sleep(PAUSE)
                paused.resume()
                await _all_grow(killed)
                killed.kill9()
                await killed.start()
            stop.set()
        assert all(count > 10 for count in counted.values()), counted
        await consistent_values_are(nodes, counted, within=20)
        await values_are(nodes, counted, within=20)


async def _counted(stop: trio.Event, *command: object) -> int:
    """Run a client until `stop`; returns the number of increments that it printed."""
    words = list(map(str, command))
    process = await trio.lowlevel.open_process(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with trio.fail_after(60):
            await stop.wait()
            await process.stdin.aclose()
            printed = b"".join([piece async for piece in process.stdout])
            await process.wait()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
    return int(printed)


async def _all_grow(node: Node) -> None:
    """Wait until all clients count, as a node sees it."""
    before = {name: await node.value(name) for name in CLIENTS}

    async def check() -> str | None:
        still = [name for name, value in before.items() if await node.value(name) == value]
        return f"{node} sees no increments of {still}" if still else None

    await eventually(check, within=20)
