"""The routes of a real node over loopback: their refusals, the words of these, and the metrics of requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from werkzeug.routing import MapAdapter

from gcount.http.app import make_app
from gcount.http.hypercorn import HttpService
from gcount.net.connection_pool import ConnectionPool
from gcount.server import serve
from gcount.storage.disk import RealDisk
from tests.fakes.cluster import open_alone
from tests.harness.client import Address, Client, Response

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
CONFIGS = {
    "two lists": '{"actors": ["127.0.0.1"], "actors": ["127.0.0.1"]}',
    "two members in an inner object": '{"actors": ["127.0.0.1"], "note": {"a": 1, "a": 1}}',
    "0.0.0.0": '{"actors": ["0.0.0.0"]}',
    "multicast": '{"actors": ["127.0.0.1", "[ff02::1]"]}',
}


@asynccontextmanager
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a node without peers, which still has to answer when the test is over."""
    disk = RealDisk(tmp_path / "data")
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with (
        open_alone(disk) as node,
        trio.open_nursery() as nursery,
    ):
        run = partial(serve, HttpService(make_app(node)), listeners, ConnectionPool(100), shutdown=trio.Event())
        await nursery.start(run)
        made = Client(Address("127.0.0.1", listeners[0].socket.getsockname()[1]))
        yield made
        assert (await made.request("GET", "/ping")).body == b"pong"
        made.drop()
        nursery.cancel_scope.cancel()
    disk.close()


def detail(answer: Response, status: int) -> str:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    return str(problem["detail"])


@pytest.mark.parametrize("name", ["%", "%f", "%zz", "a%2", "%%41", "%C3%A", "100%"])
async def test_a_percent_sign_that_escapes_nothing_is_400(tmp_path: Path, name: str) -> None:
    async with client(tmp_path) as http:
        assert "%25" in detail(await http.request("POST", f"/counter/{name}", b"1"), 400)
        assert "%25" in detail(await http.request("GET", f"/counter/{name}/value"), 400)
        assert "%25" in detail(await http.request("GET", f"/counter/{name}/consistent_value"), 400)


async def test_escapes_of_a_percent_sign_and_of_utf_8_name_counters_and_others_are_400(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        for number, name in enumerate(["100%25", "%C3%A9", "%e2%82%ac"], start=1):
            assert (await http.request("POST", f"/counter/{name}", b"%d" % number)).number() == number
        assert (await http.request("GET", "/counter/%c3%a9/value")).number() == 2
        for name in ["%ff", "%C3", "%ED%A0%80"]:
            assert "UTF-8" in detail(await http.request("GET", f"/counter/{name}/value"), 400)


async def test_two_timeouts_are_400(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        answer = await http.request("GET", "/counter/x/consistent_value?timeout=2&timeout=2")
        assert "more than once" in detail(answer, 400)
        assert (await http.request("GET", "/counter/x/consistent_value?timeout=2")).number() == 0


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
async def test_a_config_that_is_ambiguous_or_empty_is_400_and_changes_nothing(tmp_path: Path, config: str) -> None:
    async with client(tmp_path) as http:
        detail(await http.request("POST", "/config", config.encode()), 400)
        assert (await http.request("GET", "/config")).json()["version"] == 0


async def test_problems_say_in_our_words_what_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gcount.http.app.BODY_TIMEOUT", 0.05)
    async with client(tmp_path) as http:
        assert "Upgrade: websocket" in detail(await http.request("GET", "/link"), 400)
        for path, status, word in [("/ping", 400, "/link"), ("/nope", 404, "README")]:
            assert word in detail(await http.request("GET", path, headers=UPGRADE), status)
            http.drop()  # a refused upgrade ends its connection
        assert "README" in detail(await http.request("GET", "/nope"), 404)
        assert "65536 bytes" in detail(await http.request("POST", "/counter/x", b"1" * 65537), 413)
        late = await http.request("POST", "/counter/x", headers={"Content-Length": "5"})
        assert "did not arrive within" in detail(late, 408)
        assert late.headers["connection"] == "close"  # what comes of the body could be taken for the next request
        assert "GET, HEAD, OPTIONS" in detail(await http.request("DELETE", "/counter/x/value"), 405)


@pytest.mark.parametrize("host", ["", "a..b", "a b", "xn--a", "[", "a:b:c", "%", "é"])
async def test_a_host_means_nothing(tmp_path: Path, host: str) -> None:
    async with client(tmp_path) as http:
        for fields, word in [({}, b"200"), (UPGRADE, b"400")]:
            head = {"Host": host, "Connection": "close"} | fields
            async with await http.address.connect() as stream:
                lines = ["GET /ping HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
                await stream.send_all("\r\n".join(lines).encode())
                with trio.fail_after(20):
                    answer = b"".join([data async for data in stream])
            assert answer.split()[1] == word
            assert (b"other nodes open one at /link" in answer) == bool(fields)


async def test_allowed_methods_are_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MapAdapter, "allowed_methods", lambda _self: ["POST", "OPTIONS", "HEAD", "GET"])
    async with client(tmp_path) as http:
        answer = await http.request("OPTIONS", "/config")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_requests_are_counted_by_templates_of_routes_and_unknown_ones_together(tmp_path: Path) -> None:
    async with client(tmp_path) as http:
        await http.request("POST", "/counter/a", b"1")
        await http.request("GET", "/counter/a/value")
        await http.request("GET", "/counter/a/consistent_value")
        for path in ("/a", "/b/c", "/counter/a/b", "/counter/a/b/value"):
            await http.request("GET", path)
        text = (await http.request("GET", "/metrics")).body.decode()
    counted = [line.removeprefix("gcount_http_requests_total") for line in text.splitlines() if "_requests_" in line]
    assert '{method="POST",route="/counter/{name}",status="200"} 1.0' in counted
    assert '{method="GET",route="/counter/{name}/value",status="200"} 1.0' in counted
    assert '{method="GET",route="/counter/{name}/consistent_value",status="200"} 1.0' in counted
    assert '{method="GET",route="none",status="404"} 4.0' in counted
    assert "segment" not in text
