"""Balancers in front of nodes: HAProxy and nginx, as processes of the test."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.harness.cluster import free_port
from tests.harness.waiting import eventually

HOST = "127.0.0.1"

HAPROXY = """
global
    maxconn 500
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 3s
    balance roundrobin
    {retries}
frontend clients
    bind {host}:{port}
    default_backend nodes
backend nodes
{servers}
"""
NGINX = """
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 500; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream nodes {{
{servers}
    }}
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://nodes;
            proxy_connect_timeout 1s;
            proxy_read_timeout 3s;
            {retries}
        }}
    }}
}}
"""


def _haproxy(folder: Path, port: int, targets: Sequence[int], retries: bool) -> list[str]:
    servers = "\n".join(f"    server n{number} {HOST}:{target}" for number, target in enumerate(targets))
    wanted = "retry-on all-retryable-errors" if retries else ""
    (folder / "config").write_text(HAPROXY.format(host=HOST, port=port, servers=servers, retries=wanted))
    return ["haproxy", "-q", "-db", "-f", str(folder / "config")]


def _nginx(folder: Path, port: int, targets: Sequence[int], retries: bool) -> list[str]:
    # The node is listed twice: nginx tries another server, never the same one. max_fails=0 keeps a node that failed.
    both = [target for target in targets for _ in range(2)]
    servers = "\n".join(f"        server {HOST}:{target} max_fails=0;" for target in both)
    wanted = "proxy_next_upstream error timeout non_idempotent;" if retries else ""
    config = NGINX.format(folder=folder, host=HOST, port=port, servers=servers, retries=wanted)
    (folder / "config").write_text(config)
    return ["nginx", "-c", str(folder / "config"), "-p", str(folder), "-g", "daemon off; master_process off;"]


def _started(kind: str, folder: Path, port: int, targets: Sequence[int], retries: bool) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    command = (_haproxy if kind == "haproxy" else _nginx)(folder, port, targets, retries)
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)


def version(kind: str) -> str:
    """The version that is installed here."""
    said = subprocess.run([kind, "-v"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
    return found[0] if found else "unknown version"


@asynccontextmanager
async def front(kind: str, folder: Path, targets: Sequence[int], *, retries: bool = False) -> AsyncIterator[int]:
    """A balancer in front of ports of this machine, with its defaults or with retries; its own port."""
    port = free_port([HOST])
    process = _started(kind, folder, port, targets, retries)

    async def listens() -> str | None:
        assert process.poll() is None, (folder / "said").read_text()
        try:
            await (await trio.open_tcp_stream(HOST, port)).aclose()
        except OSError as error:
            return f"{kind}: {error}"
        return None

    try:
        await eventually(listens, within=20)
        yield port
    finally:
        process.kill()
        process.wait()
