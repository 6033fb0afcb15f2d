"""A real node, fuzzed: no bytes make it answer 500, write a traceback, grow or end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gcount.core.protocol import messages
from gcount.core.state.counters import Delta
from gcount.core.state.membership import Membership
from tests.fakes.caller import HELLO
from tests.harness.cluster import loopback_nodes, revive, running, serving, still_serves
from tests.harness.processes import Node
from tests.harness.websocket import BINARY, frame, open_link

FUZZ = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
MEGABYTE = 1 << 20
STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3})[^\r\n]*\r\n(.*?)\r\n\r\n", re.DOTALL)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with serving(tmp_path_factory.mktemp("fuzz"), 2) as nodes:
        yield nodes


def either(*some: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from(some)


junk = st.binary(max_size=40)
names = st.text(max_size=8).map(lambda text: text.encode("utf-8", "surrogatepass")) | junk | st.just(b"n" * 256)
escaped = names.map(lambda name: b"".join(b"%%%02X" % byte for byte in name))
counters = st.builds(
    lambda name, rest: b"/counter/" + name + rest,
    escaped | names | either(b"x", b"%", b"%zz", b"..", b"%2f"),
    either(b"", b"/value", b"/consistent_value", b"/consistent_value?timeout=0.01", b"/value?timeout=nan", b"/"),
)
routes = either(
    b"/config", b"/ping", b"/status", b"/metrics", b"/link", b"/health/ready", b"*", b"http://x/ping", b"/?" * 99
)
targets = counters | routes | routes
odd_lines = st.tuples(
    junk | either(b"CONNECT", b"PRI", b"get"), targets | junk, either(b"HTTP/2.0", b"HTTP/9.9", b"", b"HTTP/1.1") | junk
)
methods = either(b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT")
lines = st.tuples(methods, targets, either(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"))
bodies = (
    either(b"1", b" 7 ", b"", b"-1", b"9" * 5000, b'{"actors": []}', b"[" * 9000, b"\xff", b"18446744073709551616")
    | junk
)
known_fields = either(
    b"Content-Length: 1",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 1, 1",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Expect: 100-continue",
    b"Expect: nothing",
    b"Connection: upgrade, close, keep-alive",
    b"Upgrade: websocket",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Version: 99",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Key: no",
    b"Sec-WebSocket-Extensions: permessage-deflate; x=\xff",
    b"Sec-WebSocket-Protocol: \xff",
    b"Host: \xff",
    b"Host:",
    b"Cookie: \xe9=\xff; =;",
    b"Content-Type: multipart/form-data; boundary=\x80",
    b"Content-Type: application/json; charset=nothing",
    b"Content-Encoding: gzip",
    b"Range: bytes=0-,9-1",
    b'Forwarded: for="[',
    b"X-Forwarded-For: " + b"1," * 500,
    b" folded: yes",
    b"no colon",
    b": no name",
    b"Long: " + b"a" * 20_000,
)
fields = known_fields | st.builds(lambda name, value: name + b": " + value, junk, junk)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Something like a request, or several; a part of it may be anything."""
    line = b" ".join(draw(st.one_of(lines, lines, lines, odd_lines)))
    head = [line, *draw(st.just([]) | st.lists(fields, max_size=3))]
    body = draw(bodies)
    if draw(st.integers(0, 2)):
        head += [b"Host: x", b"Content-Length: %d" % len(body)]
    elif draw(st.booleans()):
        head += [b"Host: x", b"Transfer-Encoding: chunked"]
        body = draw(
            either(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), b"ffffffffffffffffff\r\n", b"1\r\n1", b"-1\r\n")
        )
    data = b"\r\n".join(head) + b"\r\n\r\n" + body
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(junk) + data[draw(st.integers(at, len(data))) :]
    return data * draw(st.sampled_from([1, 1, 1, 2, 20]))


async def answers(node: Node, data: bytes) -> bytes:
    """All that comes back until the node closes, or has had time enough."""
    stream = await node.address.connect()
    received = b""
    try:
        with trio.move_on_after(1.0):
            await stream.send_all(data)
            await stream.send_eof()
            while more := await stream.receive_some(65536):
                received += more
    except trio.BrokenResourceError:
        pass
    finally:
        stream.socket.close()
    return received


def check_answers(received: bytes) -> set[bytes]:
    """Check that 5xx answers are documented ones (503 with Retry-After, 505 for HTTP/2); returns all statuses."""
    found = STATUS.findall(received)
    for status, head in found:
        documented = status == b"505" or (status == b"503" and b"retry-after" in head.lower())
        assert status < b"500" or documented, received[:400]
    assert b"Traceback" not in received
    return {status for status, _ in found}


async def test_a_pair_to_fuzz_serves(pair: list[Node]) -> None:
    await revive(pair)
    await still_serves(pair)


def test_no_bytes_are_answered_with_a_server_error(pair: list[Node]) -> None:
    seen: set[bytes] = set()

    @given(data=st.one_of(requests(), requests(), requests(), st.binary(max_size=300)))
    @example(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
    @example(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
    @example(b"POST /ping HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    @example(b"GET /ping HTTP/1.1\r\n\r\n")
    @FUZZ
    def send(data: bytes) -> None:
        seen.update(trio.run(check, data))

    async def check(data: bytes) -> set[bytes]:
        pair[0].mark()
        statuses = check_answers(await answers(pair[0], data))
        assert (await pair[0].get("/ping")).body == b"pong"
        assert "Traceback" not in pair[0].since_mark()
        return statuses

    send()
    assert seen >= {b"200", b"400", b"404", b"405"}


@given(
    tail=st.lists(
        st.builds(frame, st.integers(0, 15), junk, final=st.booleans(), masked=st.booleans()) | junk, max_size=6
    )
)
@FUZZ
def test_no_frames_after_a_hello_are_worth_a_traceback(pair: list[Node], tail: list[bytes]) -> None:
    async def run() -> None:
        pair[0].mark()
        stream = await open_link(pair[0].address)
        try:
            await stream.send_all(frame(BINARY, messages.encode(HELLO)) + b"".join(tail))
            with trio.move_on_after(0.05):
                await stream.receive_some(65536)
        except trio.BrokenResourceError:
            pass
        finally:
            stream.socket.close()
        assert (await pair[0].get("/ping")).body == b"pong"
        assert "Traceback" not in pair[0].since_mark()

    trio.run(run)


async def test_the_pair_serves_after_all_that(pair: list[Node]) -> None:
    for node in pair:
        assert node.starts == 1
    await still_serves(pair)


addresses = st.sampled_from(
    [
        "127.0.0.1",
        "127.0.0.9",
        "127.0.0.9:1",
        "[::1]",
        "[::ffff:127.0.0.9]:2",
        "LOCALHOST:3",
        "[fe80::1%lo]:4",
        "127.0.0.1:0",
    ]
) | st.text(max_size=6)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.just("actors") | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
good = st.lists(st.sampled_from(["127.0.0.1", "127.0.0.9:1", "[::1]", "LOCALHOST:3"]), min_size=1, max_size=4)
configs = json_values | st.fixed_dictionaries({"actors": good | good | st.lists(addresses, max_size=4) | json_values})


async def test_any_json_as_a_config_is_200_or_400_and_leaves_a_membership_that_survives(tmp_path: Path) -> None:
    (node,) = loopback_nodes(tmp_path, 1)
    seen = {200: 0, 400: 0}

    @given(config=configs)
    @settings(FUZZ, max_examples=60)
    def post(config: Any) -> None:
        trio.from_thread.run(tried, config)

    async def tried(config: Any) -> None:
        before = await node.config()
        answer = await node.post("/config", json.dumps(config).encode())
        assert answer.status in seen, (config, answer)
        seen[answer.status] += 1
        after = await node.config()
        assert Membership(after["version"], tuple(after["actors"])).valid()
        assert after == before if answer.status == 400 else after["actors"]
        assert await node.add("x", 1) == sum(seen.values())

    async with running(node):
        await trio.to_thread.run_sync(post)
        assert min(seen.values()) > 3, seen
        config = await node.config()
        node.kill9()
        await node.start()
        again = await node.config()
        assert (again["actors"], again["version"]) == (config["actors"], config["version"])
        assert await node.value("x") == sum(seen.values())
        assert "Traceback" not in node.stderr(whole=True)


FLOODS = {
    "questions": [messages.ReadCells(1, "x" * 200, True)] * 200,
    "heartbeats": [messages.Heartbeat()] * 2000,
    "releases": [messages.Release("y" * 200)] * 200,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_a_link_that_asks_without_end_and_never_reads_costs_bounded_memory(
    pair: list[Node], flood: list[messages.Message]
) -> None:
    """The node stops reading, or closes the link. It does not collect what it is sent."""
    await revive(pair)
    before, highest = pair[0].resident_bytes(), 0
    data = b"".join(frame(BINARY, messages.encode(message)) for message in flood)
    stream = await open_link(pair[0].address)
    cells = [Delta(HELLO.incarnation, 0, 1, {"x" * 200: 1})]
    try:
        await stream.send_all(
            frame(BINARY, messages.encode(HELLO)) + frame(BINARY, messages.encode(messages.Push(1, True, cells)))
        )
        with trio.move_on_after(4):
            while True:
                await stream.send_all(data)
                highest = max(highest, pair[0].resident_bytes())
                await trio.lowlevel.checkpoint()
    except trio.BrokenResourceError:
        pass
    finally:
        stream.socket.close()
    print(f"grew by {(highest - before) / MEGABYTE:.1f} MB")
    assert highest - before < 64 * MEGABYTE
    await still_serves(pair)
