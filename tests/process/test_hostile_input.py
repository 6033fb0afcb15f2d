"""Hostile requests to real nodes: amounts, names, methods, configs, and bytes that are not HTTP at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.harness.client import Client, NoAnswer, Response
from tests.harness.cluster import free_port, has_ipv6, is_entry, revive, running, serving, still_serves
from tests.harness.processes import Node

TOP = 2**64 - 1


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with serving(tmp_path_factory.mktemp("input"), 2) as nodes:
        yield nodes


def wrong_with_problem(answer: Response, status: int) -> str | None:
    """The parts of an answer that are not as promised for every error."""
    if answer.status != status:
        return f"status {answer.status}, not {status}: {answer.body[:200]!r}"
    if answer.headers.get("content-type") != "application/problem+json":
        return f"content type {answer.headers.get('content-type')}"
    problem = answer.json()
    if not {"type", "title", "status", "detail"} <= problem.keys() or problem["status"] != status:
        return f"not a whole problem: {problem}"
    if not problem["title"] or not problem["detail"] or b"Traceback" in answer.body:
        return f"nothing for a reader: {problem}"
    return None


GOOD_AMOUNTS = {
    b"0": 0,
    b"1": 1,
    b" 5\n": 5,
    b"\t7\r\n": 7,
    b"00012": 12,
    b"4294967296": 2**32,
    b"9223372036854775808": 2**63,
}
BAD_AMOUNTS = [
    b"",
    b" ",
    b"\n",
    b"+1",
    b"-1",
    b"-0",
    b"1_000",
    b"1,000",
    b"1 2",
    b"1.5",
    b"1.0",
    b"1e3",
    b"0x10",
    b"ten",
    b"nan",
    b"infinity",
    b"1;",
    b"\x00",
    b"1\x00",
    b"\xff",
    b"\xa05",
    b"5\xc2\xa0",
    "\u0661".encode(),  # an Arabic one
    "\uff11".encode(),  # a full-width one
    "\u00b2".encode(),  # a superscript two
    b"18446744073709551616",
    b"9" * 100,
    b"[1]",
    b'"1"',
    b'{"amount": 1}',
]


async def test_amounts(pair: list[Node]) -> None:
    """ASCII digits and white space around them, up to 2^64-1; everything else is 400 and changes nothing."""
    await revive(pair)
    wrong: list[str] = []
    total = 0
    for body, amount in GOOD_AMOUNTS.items():
        answer = await pair[0].post("/counter/amounts", body)
        total += amount
        if answer.status != 200 or answer.number() != total:
            wrong.append(f"{body!r}: {answer}")
    for body in BAD_AMOUNTS:
        if fault := wrong_with_problem(await pair[0].post("/counter/amounts", body), 400):
            wrong.append(f"{body!r}: {fault}")
    for body in (b"9" * 5000, b"\xd9\xa1" * 5000):
        answer = await pair[0].post("/counter/amounts", body)
        if fault := wrong_with_problem(answer, 413 if answer.status == 413 else 400):
            wrong.append(f"{len(body)} bytes: {fault}")
    assert await pair[0].value("amounts") == total
    assert not wrong, "\n".join(wrong)


async def test_a_node_own_part_stops_at_2_to_the_64(pair: list[Node]) -> None:
    """409 at the node that is full, and every other node goes on: a value has no upper limit."""
    await revive(pair)
    assert await pair[0].add("full", TOP) == TOP
    assert wrong_with_problem(await pair[0].post("/counter/full", b"1"), 409) is None
    assert wrong_with_problem(await pair[0].post("/counter/full", b"%d" % TOP), 409) is None
    assert (await pair[0].post("/counter/full", b"0")).status == 200
    await pair[1].add("full", TOP)
    for node in pair:
        assert (await node.consistent("full")).number() == 2 * TOP


GOOD_NAMES = [
    "plain",
    "a" * 255,
    "a%20b",
    "a+b",
    "%C3%A9",  # e acute
    "e%CC%81",  # the same to the eye, other bytes
    "%C3%A9" * 127 + "a",  # 255 bytes of UTF-8
    "%F0%9F%98%80",  # an emoji
    "..",
    ".",
    "value",
    "consistent_value",
    "config",
    "%25",
    "%2525",
    "%2F",
    "a%2Fb",
    "a%252Fb",
    "%2e%2e%2fetc",
    "%2Fvalue",
    "%3F",
    "%23",
    "a;b=c",
    "%22%3Cscript%3E",
    "-1",
    "'%20OR%201=1",
]
BAD_NAMES = [
    "a" * 256,
    "a" * 10_000,
    "%C3%A9" * 128,  # 256 bytes of UTF-8
    "%00",
    "a%00b",
    "%ff",
    "%C0%AF",  # an overlong slash
    "%ED%A0%80",  # a lone surrogate
    "%C3",  # half a character
    "%0A",
    "%0D%0AX:1",
    "%1B",
    "%7F",
    "%C2%85",  # a control character above ASCII
]


async def test_names(pair: list[Node]) -> None:
    """1 to 255 bytes of UTF-8 after decoding, no control characters; each its own counter."""
    await revive(pair)
    wrong: list[str] = []
    for number, name in enumerate(GOOD_NAMES, start=1):
        answer = await pair[0].post(f"/counter/{name}", b"%d" % number)
        if answer.status != 200 or answer.number() != number:
            wrong.append(f"{name}: {answer}")
    for number, name in enumerate(GOOD_NAMES, start=1):
        for node in pair:
            answer = await node.consistent(name)
            if answer.status != 200 or answer.number() != number:
                wrong.append(f"{name} at {node}: {answer}")
    if await pair[0].value("%2e%2E") != GOOD_NAMES.index("..") + 1:
        wrong.append("%2e%2E is not ..")
    for name in BAD_NAMES:
        for method, suffix, body in (
            ("POST", "", b"1"),
            ("GET", "/value", None),
            ("GET", "/consistent_value", None),
        ):
            client = Client(pair[0].address)
            answer = await client.request(method, f"/counter/{name}{suffix}", body)
            client.drop()
            if fault := wrong_with_problem(answer, 400):
                wrong.append(f"{method} {name[:40]}{suffix}: {fault}")
    for answer in (await pair[0].post("/counter/", b"1"), await pair[0].get("/counter//value")):
        if answer.status not in (400, 404) or wrong_with_problem(answer, answer.status):
            wrong.append(f"an empty name: {answer}")
    assert not wrong, "\n".join(wrong)
    await still_serves(pair)


async def test_unknown_routes_and_methods_are_refused(pair: list[Node]) -> None:
    """404 for no such route, 405 with what is allowed, HEAD wherever GET is, bad timeouts 400."""
    await revive(pair)
    node = pair[0]
    await node.add("x", 5)
    wrong: list[str] = []
    for target in (
        "/",
        "/nope",
        "/counter",
        "/counter/x/nope",
        "/counter/x/value/y",
        "/Config",
        "/admin.php",
    ):
        if fault := wrong_with_problem(await node.get(target), 404):
            wrong.append(f"{target}: {fault}")
    for method, target, allowed in (
        ("GET", "/counter/x", {"POST"}),
        ("DELETE", "/counter/x", {"POST"}),
        ("PUT", "/counter/x", {"POST"}),
        ("POST", "/counter/x/value", {"GET", "HEAD"}),
        ("POST", "/counter/x/consistent_value", {"GET", "HEAD"}),
        ("DELETE", "/config", {"GET", "HEAD", "POST"}),
        ("PATCH", "/config", {"GET", "HEAD", "POST"}),
        ("POST", "/ping", {"GET", "HEAD"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
        ("PUT", "/status", {"GET", "HEAD"}),
        ("BREW", "/counter/x", {"POST"}),
    ):
        client = node.client()
        answer = await client.request(method, target, b"1" if method in ("POST", "PUT") else None)
        client.drop()
        said = {each.strip() for each in answer.headers.get("allow", "").split(",")}
        if fault := wrong_with_problem(answer, 405):
            wrong.append(f"{method} {target}: {fault}")
        elif not allowed <= said <= allowed | {"OPTIONS"}:
            wrong.append(f"{method} {target}: Allow says {said}")
    for target in ("/counter/x/value", "/counter/x/consistent_value", "/config", "/ping", "/health/live",
                   "/health/ready", "/status", "/metrics"):  # fmt: skip
        client = node.client()
        answer = await client.request("HEAD", target)
        after = await client.request("GET", target)  # on the same connection: HEAD sent no body
        client.drop()
        if (answer.status, after.status) != (200, 200):
            wrong.append(f"HEAD {target}: {answer}")
        if answer.headers.get("content-type") != after.headers.get("content-type"):
            wrong.append(f"HEAD {target}: other headers than GET: {answer.headers} {after.headers}")
    for timeout in ("soon", "-1", "nan", "inf", "1_0", "", "1e400"):
        answer = await node.get(f"/counter/x/consistent_value?timeout={timeout}")
        if fault := wrong_with_problem(answer, 400):
            wrong.append(f"timeout={timeout}: {fault}")
    for timeout in ("0.5", "60", "2"):
        answer = await node.get(f"/counter/x/consistent_value?timeout={timeout}")
        if answer.status != 200:
            wrong.append(f"timeout={timeout}: {answer}")
    if fault := wrong_with_problem(await node.get("/link"), (await node.get("/link")).status):
        wrong.append(f"/link without an upgrade: {fault}")
    assert (await node.get("/ping")).body.strip() == b"pong"
    assert await node.value("x") == 5
    assert not wrong, "\n".join(wrong)


BAD_CONFIGS = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"3",
    b'"127.0.0.1"',
    b'["127.0.0.1"]',
    b"{}",
    b'{"actors": null}',
    b'{"actors": "127.0.0.1"}',
    b'{"actors": {"127.0.0.1": 1}}',
    b'{"actors": []}',
    b'{"actors": [1]}',
    b'{"actors": [null]}',
    b'{"actors": [["127.0.0.1"]]}',
    b'{"actors": [""]}',
    b'{"actors": [" "]}',
    b'{"actors": ["127.0.0.1", ""]}',
    b'{"actors": ["127.0.0.1:0"]}',
    b'{"actors": ["127.0.0.1:99999"]}',
    b'{"actors": ["127.0.0.1:port"]}',
    b'{"actors": ["127.0.0.1:-1"]}',
    b'{"actors": ["[::1"]}',
    b'{"actors": ["http://127.0.0.1"]}',
    b'{"actors": ["a b"]}',
    b'{"actors": ["127.0.0.1/8"]}',
    b'{"actors": ["127.0.0.1\\u0000"]}',
    b'{"actors": ["\\ud800"]}',
    b'{"actors": ["\xff"]}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"actors":' * 50_000,
    json.dumps({"actors": ["h" * 1000]}).encode(),
]


async def test_configs_that_cannot_be_change_nothing(pair: list[Node]) -> None:
    """400 each, 413 or 400 for 10 MB, whatever the content type; the membership stays."""
    await revive(pair)
    before = await pair[0].config()
    wrong: list[str] = []
    for body in BAD_CONFIGS:
        for headers in ({"Content-Type": "application/json"}, {"Content-Type": "text/plain"}):
            client = pair[0].client()
            answer = await client.request("POST", "/config", body, headers=headers)
            client.drop()
            if fault := wrong_with_problem(answer, 413 if answer.status == 413 else 400):
                wrong.append(f"{body[:60]!r}: {fault}")
    huge = json.dumps({"actors": [f"127.9.{n >> 8 & 255}.{n & 255}:{1 + n % 60000}" for n in range(450_000)]}).encode()
    assert len(huge) > 9_000_000
    try:
        answer = await pair[0].post("/config", huge)
        if fault := wrong_with_problem(answer, 400 if answer.status == 400 else 413):
            wrong.append(f"10 MB: {fault}")
    except NoAnswer:
        pass  # closed, which is as good
    after = await pair[0].config()
    assert (after["actors"], after["version"]) == (before["actors"], before["version"])
    assert not wrong, "\n".join(wrong)
    await still_serves(pair)


async def test_order_duplicates_ports_and_content_type_of_a_config_do_not_matter(pair: list[Node]) -> None:
    """The same set again, in any writing: the same membership, and the cluster goes on."""
    await revive(pair)
    before = await pair[0].config()
    one, other = pair
    for actors in (
        [other.host, one.host],
        [one.host, other.host, one.host],
        [f"{one.host}:{one.port}", other.host, f"{other.host}:{other.port}"],
    ):
        for content_type in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-8",
        ):
            client = one.client()
            body = json.dumps({"actors": actors}).encode()
            answer = await client.request("POST", "/config", body, headers={"Content-Type": content_type})
            client.drop()
            assert answer.status == 200, answer
            assert sorted(answer.json()["actors"]) == sorted(before["actors"])
            assert is_entry(answer.json()["self"], one)
    await still_serves(pair)


@pytest.mark.skipif(not has_ipv6(), reason="::1 cannot be used here")
async def test_ipv6_and_host_name_entries(tmp_path: Path) -> None:
    """Brackets for IPv6, names that resolve, with or without a port; and a node that finds itself nowhere."""
    port = free_port(["127.0.0.1"])
    node = Node(1, "::1", port, tmp_path / "data")
    async with running(node):
        for actors, is_me in (
            (["[::1]"], True),
            ([f"[::1]:{port}"], True),
            (["[0:0:0:0:0:0:0:1]"], True),
            (["127.0.0.9", "localhost:1"], False),
        ):
            answer = await node.post("/config", json.dumps({"actors": actors}).encode())
            assert answer.status == 200, answer
            assert len(answer.json()["actors"]) == len(actors)
            assert (answer.json()["self"] is not None) == is_me, answer
        assert await node.add("x", 3) == 3


JUNK = b"POST /counter/junk HTTP/1.1\r\nHost: x\r\n"
UPGRADE = b"/link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

NOT_HTTP: dict[str, bytes] = {
    "zeros": bytes(100),
    "noise": os.urandom(1000),
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200),
    "HTTP/0.9": b"GET /ping\r\n\r\n",
    "HTTP/9.9": b"GET /ping HTTP/9.9\r\nHost: x\r\n\r\n",
    "no host": b"GET /ping HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "an endless line": b"GET /" + b"a" * 2_000_000,
    "a header of 1 MB": b"GET /ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "10,000 headers": b"GET /ping HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "a negative length": JUNK + b"Content-Length: -1\r\n\r\n1",
    "two lengths": JUNK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n1x",
    "a length of letters": JUNK + b"Content-Length: abc\r\n\r\n1",
    "a length of 5,000 digits": JUNK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "a bad chunk": JUNK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n1\r\n0\r\n\r\n",
    "an odd encoding": JUNK + b"Transfer-Encoding: gzip\r\n\r\n1",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(300),
    "HTTP/2 with an empty frame": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "HTTP/2 by upgrade": (
        b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: !!!!\r\n\r\n" + os.urandom(50)
    ),
    "a NUL in the target": b"GET /counter/a\x00b/value HTTP/1.1\r\nHost: x\r\n\r\n",
    "raw bytes in the target": b"GET /counter/\xff\xfe/value HTTP/1.1\r\nHost: x\r\n\r\n",
    "another site": b"GET http://example.com/ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an upgrade without a key": b"GET " + UPGRADE + b"\r\n",
    "an upgrade of version 99": b"GET " + UPGRADE + KEY + b"Sec-WebSocket-Version: 99\r\n\r\n",
    "an upgrade with a bad key": (b"GET " + UPGRADE + b"Sec-WebSocket-Key: \xff\r\nSec-WebSocket-Version: 13\r\n\r\n"),
    "an upgrade by POST": (b"POST " + UPGRADE + KEY + b"Content-Length: 3\r\nSec-WebSocket-Version: 13\r\n\r\nabc"),
    "an upgrade to something else": UPGRADE.replace(b"/link", b"GET /ping").replace(b"websocket", b"foo") + b"\r\n",
    "an endless chunk extension": (JUNK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 1_000_000),
}


async def test_bytes_that_are_no_good_http(pair: list[Node]) -> None:
    """Answered with an error of the client's or closed; the server stays, and so does every counter."""
    await revive(pair)
    wrong: list[str] = []

    async def send(title: str, data: bytes) -> None:
        received = b""
        stream = await pair[0].address.connect()
        try:
            with trio.move_on_after(1.5):
                await stream.send_all(data)
                while more := await stream.receive_some(65536):
                    received += more
        except trio.BrokenResourceError:
            pass
        finally:
            stream.socket.close()
        if received.startswith((b"HTTP/1.1 500", b"HTTP/1.1 502")) or b"Traceback" in received:
            wrong.append(f"{title}: {received[:300]!r}")

    async with trio.open_nursery() as nursery:
        for title, data in NOT_HTTP.items():
            nursery.start_soon(send, title, data)
    assert await pair[0].value("junk") == 0
    assert not wrong, "\n".join(wrong)
    await still_serves(pair)


async def test_requests_sent_ahead_are_answered_in_turn(pair: list[Node]) -> None:
    """Pipelining: three increments in one piece, three answers."""
    await revive(pair)
    one = b"POST /counter/ahead HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"
    stream = await pair[0].address.connect()
    received = b""
    await stream.send_all(one * 3)
    with trio.move_on_after(5):
        while received.count(b"HTTP/1.1 200") < 3:
            more = await stream.receive_some(65536)
            assert more, received
            received += more
    stream.socket.close()
    assert received.count(b"HTTP/1.1 200") == 3, received
    assert await pair[0].value("ahead") == 3
