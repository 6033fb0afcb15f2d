"""The HTTP tools of the command line: curl, and tools that make load."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.clients.servers import HOST, needs
from tests.clients.tools import find
from tests.harness.cluster import configure, running
from tests.harness.processes import Node

LOAD = 'wrk.method = "POST"\nwrk.body = "1"\n'


@asynccontextmanager
async def node(base: Path) -> AsyncIterator[tuple[Node, str]]:
    """A node, and the beginning of its addresses."""
    made = Node(1, HOST, 0, base / "data")
    async with running(made):
        await configure(made, [made])
        yield made, f"http://{HOST}:{made.port}"


async def run(program: str, *words: object) -> str:
    """Run a program, which has to succeed; returns its output."""
    command = [find(program) or program, *map(str, words)]
    with trio.fail_after(60):
        ended = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT)
    return ended.stdout.decode()


async def curl(*words: object) -> str:
    return await run("curl", "--silent", "--show-error", "--noproxy", "*", *words)


@needs("curl", "curl")
async def test_curl(tmp_path: Path) -> None:
    async with node(tmp_path) as (_, url):
        assert await curl("-d", 5, f"{url}/counter/%2Fblog%2F..%2F2026") == "5\n"
        assert await curl("-d", "2 ", "-H", "Expect: 100-continue", f"{url}/counter/%2fblog%2f..%2f2026") == "7\n"
        assert await curl(f"{url}/counter/%2Fblog%2F..%2F2026/consistent_value") == "7\n"
        assert await curl("--http2", f"{url}/counter/%2Fblog%2F..%2F2026/value") == "7\n"
        assert await curl("--http1.0", f"{url}/counter/%2Fblog%2F..%2F2026/value") == "7\n"
        head = await curl("-I", f"{url}/counter/x/value")
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert "\r\ncache-control: no-store\r\n" in head
        for target in ("/", "*"):
            allowed = await curl("-i", "-X", "OPTIONS", "--request-target", target, url)
            assert allowed.startswith("HTTP/1.1 200 OK\r\n")
            assert "\r\nallow: GET, HEAD, OPTIONS, POST, PUT\r\n" in allowed


@needs("curl", "curl")
async def test_curl_shows_what_was_wrong(tmp_path: Path) -> None:
    async with node(tmp_path) as (made, url):
        two = '{"actors": ["127.0.0.9"]}'
        wrong: list[tuple[str, str, list[object]]] = [
            ("405 Method Not Allowed", "method_not_allowed", ["-X", "get", f"{url}/counter/x/value"]),
            ("404 Not Found", "no_such_route", ["--path-as-is", "-d", two, f"{url}//config"]),
            ("404 Not Found", "no_such_route", ["-d", 1, f"{url}/counter/blog/2026"]),
            ("400 Bad Request", "unknown_parameter", ["-d", 1, f"{url}/counter/x?amount=2"]),
            ("400 Bad Request", "bad_amount", ["--data-raw", "", f"{url}/counter/x"]),
            ("403 Forbidden", "foreign_origin", ["-H", "Origin: http://evil.example", "-d", two, f"{url}/config"]),
            ("403 Forbidden", "foreign_origin", ["-H", "Sec-Fetch-Site: cross-site", "-d", 1, f"{url}/counter/x"]),
            ("413 ", "body_too_large", ["-d", "1" * 100_000, f"{url}/counter/x"]),
            ("431 Request Header Fields Too Large", "head_too_large", ["-H", f"A: {'a' * 60_000}", f"{url}/ping"]),
        ]
        for status, code, words in wrong:
            answer = await curl("-i", *words)
            assert f"HTTP/1.1 {status}" in answer
            assert "\r\ncache-control: no-store\r\n" in answer
            assert f'"code": "{code}"' in answer
        assert await made.value("x") == 0
        assert (await made.config())["actors"] == [f"{HOST}:{made.port}"]


@needs("h2load", "nghttp2-client")
async def test_h2load_counts_as_often_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    async with node(tmp_path) as (made, url):
        for pipelined in (1, 8):
            said = await run(
                "h2load", "--h1", "-n", 2000, "-c", 8, "-m", pipelined, "-d", tmp_path / "one", f"{url}/counter/%2Fx"
            )
            assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in said, said
            assert "status codes: 2000 2xx" in said
        assert await made.value("%2Fx") == 4000


@needs("wrk", "wrk")
async def test_wrk_counts_at_least_what_it_was_answered(tmp_path: Path) -> None:
    (tmp_path / "load.lua").write_text(LOAD)
    connections = 8
    async with node(tmp_path) as (made, url):
        said = await run(
            "wrk", "-t", 1, "-c", connections, "-d", "1s", "-s", tmp_path / "load.lua", f"{url}/counter/%2Fx"
        )
        assert "Non-2xx" not in said
        assert "Socket errors" not in said
        answered = re.search(r"([0-9]+) requests in", said)
        assert answered is not None
        assert int(answered[1]) <= await made.value("%2Fx") <= int(answered[1]) + connections
