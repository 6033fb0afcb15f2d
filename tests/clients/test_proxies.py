"""Proxies, caches and balancers in front of real nodes: their health checks, what they pass on, what they cache."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.clients.servers import HOST, PATIENCE, free_ports, listening, needs
from tests.harness.client import Address, Client, once
from tests.harness.cluster import configure, loopback_nodes, running
from tests.harness.processes import Node
from tests.harness.waiting import eventually

HTTP_CHECKS = {
    "httpchk": "option httpchk",
    "ready": "option httpchk\n  http-check send meth GET uri /health/ready\n  http-check expect status 200",
}
# From HAProxy's own documentation.
REDIS_CHECK = r"""option tcp-check
  tcp-check connect
  tcp-check send PING\r\n
  tcp-check expect string +PONG
  tcp-check send info\ replication\r\n
  tcp-check expect string role:master
  tcp-check send QUIT\r\n
  tcp-check expect string +OK"""
HAPROXY = """
defaults
  timeout connect 1s
  timeout client 30s
  timeout server 30s

listen counters
  mode {mode}
  bind {host}:{port}
  {check}
{servers}

listen figures
  mode http
  bind {host}:{figures}
  stats enable
  stats uri /
"""
NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  upstream gcount {{
    server {host}:{node};
    keepalive 4;
  }}
  server {{
    listen {host}:{port};
    location / {{
      proxy_pass http://gcount;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""


async def add(proxy: Address, name: str, amount: int = 1) -> int:
    return (await once(proxy, "POST", f"/counter/{name}", b"%d" % amount)).number()


class Balanced:
    """Nodes behind HAProxy.

    Attributes:
        address: where clients reach them.
    """

    def __init__(self, address: Address, figures: Address) -> None:
        self.address = address
        self._figures = figures

    async def checked(self) -> dict[str, tuple[str, str]]:
        """The state of each server in HAProxy, and the result of the last check."""
        text = (await once(self._figures, "GET", "/;csv")).body.decode()
        rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
        return {
            row["svname"]: (row["status"], row["check_status"].removeprefix("* "))
            for row in rows
            if row["pxname"] == "counters" and row["svname"].startswith("node")
        }

    async def wait(self, *wanted: tuple[str, str]) -> None:
        async def check() -> str | None:
            found = list((await self.checked()).values())
            return None if found == list(wanted) else f"{found} instead of {wanted}"

        await eventually(check, PATIENCE)


@asynccontextmanager
async def haproxy(base: Path, nodes: Sequence[Node], check: str, mode: str = "http") -> AsyncIterator[Balanced]:
    folder = base / "haproxy"
    folder.mkdir()
    port, figures = free_ports(2)
    servers = "\n".join(
        f"  server node{node.number} {node.host}:{node.port} check inter 100ms fall 2 rise 2" for node in nodes
    )
    text = HAPROXY.format(host=HOST, port=port, figures=figures, mode=mode, check=check, servers=servers)
    (folder / "haproxy.cfg").write_text(text)
    async with listening(folder, port, ["haproxy", "-db", "-f", "haproxy.cfg"]) as address:
        yield Balanced(address, Address(HOST, figures))


async def balanced(base: Path, check: str, passed: str) -> None:
    """Check that a health check finds live nodes up and a killed one down, and that requests go to the others."""
    nodes = loopback_nodes(base, 2)
    async with running(*nodes, configured=True), haproxy(base, nodes, check) as balancer:
        await balancer.wait(("UP", passed), ("UP", passed))
        for _ in range(10):
            await add(balancer.address, "a%2Fb")
        nodes[0].kill9()
        await balancer.wait(("DOWN", "L4CON"), ("UP", passed))
        for count in range(1, 11):
            assert await add(balancer.address, "c") == count
        await nodes[0].start()
        await balancer.wait(("UP", passed), ("UP", passed))
        assert (await nodes[0].consistent("a%2Fb")).number() == 10
        assert (await nodes[1].consistent("c")).number() == 10


@needs("haproxy", "haproxy")
async def test_haproxy_with_its_http_check(tmp_path: Path) -> None:
    """The check is `OPTIONS /` with HTTP/1.0 and without a Host."""
    await balanced(tmp_path, HTTP_CHECKS["httpchk"], "L7OK")


@needs("haproxy", "haproxy")
async def test_haproxy_with_a_check_of_the_readiness(tmp_path: Path) -> None:
    await balanced(tmp_path, HTTP_CHECKS["ready"], "L7OK")


@needs("haproxy", "haproxy")
async def test_haproxy_with_its_check_of_redis(tmp_path: Path) -> None:
    [node] = loopback_nodes(tmp_path, 1)
    async with running(node), haproxy(tmp_path, [node], REDIS_CHECK, "tcp") as balancer:
        await balancer.wait(("UP", "L7OK"))
        assert await add(balancer.address, "x") == 1


@asynccontextmanager
async def nginx(base: Path, node: Node) -> AsyncIterator[Address]:
    folder = base / "nginx"
    folder.mkdir()
    [port] = free_ports(1)
    (folder / "nginx.conf").write_text(NGINX.format(host=HOST, node=node.port, port=port))
    async with listening(folder, port, ["nginx", "-p", folder, "-c", "nginx.conf"]) as address:
        yield address


@needs("nginx", "nginx")
async def test_nginx_passes_everything_on_over_few_connections(tmp_path: Path) -> None:
    node = Node(1, HOST, 0, tmp_path / "data")
    async with running(node), nginx(tmp_path, node) as proxy:
        await configure(node, [node])
        client = Client(proxy)
        for count in range(1, 201):
            assert (await client.request("POST", "/counter/%2Fblog%2Fhello", b"1")).number() == count
            assert (await client.request("GET", "/counter/%2Fblog%2Fhello/value")).number() == count
            if count % 20 == 0:
                assert (await client.request("GET", "/counter/%2Fblog%2Fhello/consistent_value")).number() == count
                assert (await client.request("HEAD", "/ping")).status == 200
                assert (await client.request("POST", "/counter/x", b"no")).json()["code"] == "bad_amount"
                assert (await client.request("GET", "/nowhere")).headers["cache-control"] == "no-store"
        client.drop()
        assert await node.metric('gcount_connections{kind="client"}') <= 3  # one of nginx, one of this test
        assert await node.value("%2Fblog%2Fhello") == 200


@asynccontextmanager
async def varnish(base: Path, node: Node) -> AsyncIterator[Address]:
    """Varnish with its defaults: it caches an answer for two minutes unless the answer forbids it."""
    folder = base / "varnish"
    folder.mkdir()
    [port] = free_ports(1)
    command: list[str | Path] = ["varnishd", "-F", "-j", "none", "-s", "malloc,16M"]
    command += ["-a", f"{HOST}:{port}", "-b", f"{HOST}:{node.port}", "-n", folder / "work"]
    async with listening(folder, port, command) as address:
        yield address


@needs("varnishd", "varnish")
async def test_varnish_serves_no_old_value(tmp_path: Path) -> None:
    node = Node(1, HOST, 0, tmp_path / "data")
    async with running(node), varnish(tmp_path, node) as proxy:
        await configure(node, [node])
        for count in range(1, 6):
            assert await add(proxy, "views") == count
            for target in ("/counter/views/value", "/counter/views/consistent_value"):
                for _ in range(2):
                    answer = await once(proxy, "GET", target)
                    assert answer.number() == count
                    assert answer.headers["age"] == "0"
            health = await once(proxy, "GET", "/health/ready")
            assert (health.status, health.headers["age"]) == (200, "0")
            lost = await once(proxy, "GET", f"/nowhere/{count % 2}")
            assert (lost.status, lost.headers["age"]) == (404, "0")
        assert await add(proxy, "a%2Fb") == 1
        before = await node.config()
        assert before["version"] == (await once(proxy, "GET", "/config")).json()["version"]
        await configure(node, [node, Node(2, "127.0.0.2", node.port, tmp_path / "other")])
        assert len((await once(proxy, "GET", "/config")).json()["actors"]) == 2
