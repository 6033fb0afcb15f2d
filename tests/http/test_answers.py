"""What every answer has, whichever code made it; and the answers to requests that are written in unusual ways."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

import pytest
import trio

from gcount.http.hypercorn import MAX_BODY_BYTES
from tests.harness.websocket import upgrade
from tests.http.served_node import ADDRESS, CHUNKED, PATHS, consistent, get, post, served, statuses, value

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ([^\r]*)\r\n")
MOST = b"%d" % (2**64 - 1)
SILENT = "10.0.0.2:7777"

# What is sent, the status, the code.
REFUSED: dict[str, tuple[bytes, int, str]] = {
    "no HTTP": (b"\0\0\r\n\r\n", 400, "bad_request"),
    "no host": (b"GET /ping HTTP/1.1\r\n\r\n", 400, "bad_request"),
    "no path": (get(b"*"), 400, "bad_request"),
    "a bad name": (value(b"%"), 400, "bad_name"),
    "a bad amount": (post(b"a", b"x"), 400, "bad_amount"),
    "a bad config": (post(b"a", b"{}").replace(b"/counter/a", b"/config"), 400, "bad_config"),
    "a config that is no JSON": (post(b"a", b"{").replace(b"/counter/a", b"/config"), 400, "bad_config"),
    "a config of nobody": (
        post(b"a", b'{"actors": ["0.0.0.0"]}').replace(b"/counter/a", b"/config"),
        400,
        "bad_config",
    ),
    "a bad parameter": (get(b"/counter/a/consistent_value?timeout=0"), 400, "bad_parameter"),
    "an unknown parameter": (get(b"/ping?a"), 400, "unknown_parameter"),
    "no websocket": (get(b"/link"), 400, "websocket_only"),
    "a websocket": (upgrade("/ping", "h"), 400, "no_websocket"),
    "a page": (post(b"a", b"1", b"Origin: null"), 403, "foreign_origin"),
    "no route": (get(b"/nowhere"), 404, "no_such_route"),
    "no such websocket": (upgrade("/nowhere", "h"), 404, "no_such_route"),
    "a method": (get(b"/ping", method=b"DELETE"), 405, "method_not_allowed"),
    "a body that does not come": (post(b"a", b"1")[:-1], 408, "body_timeout"),
    "a long body": (post(b"a", b"1" * 70_000), 413, "body_too_large"),
    "a long head": (get(b"/ping", b"A: " + b"a" * 70_000), 431, "head_too_large"),
    "a coding": (get(b"/ping", b"Transfer-Encoding: gzip"), 501, "unknown_transfer_coding"),
    "HTTP/2": (get(b"/ping", version=b"HTTP/2.0"), 505, "unknown_http_version"),
    "too much": (post(b"full", b"1"), 409, "part_limit"),
    "too many": (post(b"b", b"1"), 503, "counter_limit"),
    "a silent member": (consistent(b"a"), 503, "read_unavailable"),
}


def check(answer: bytes, *, status: int) -> None:
    """Check what every answer has."""
    line = STATUS_LINE.match(answer)
    assert line is not None, answer
    assert (int(line[1]), line[2].decode()) == (status, HTTPStatus(status).phrase)
    assert answer.count(b"\r\ncache-control: no-store\r\n") == 1, answer


def code(answer: bytes, status: int) -> str:
    """The code of a refusal, which has everything that a problem has."""
    check(answer, status=status)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json" in head
    assert (b"\r\nretry-after: " in head) == (status == 503)
    problem = json.loads(body)
    assert {"type", "title", "status", "detail", "code"} <= problem.keys()
    assert problem["status"] == status
    return str(problem["code"])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("title", REFUSED)
async def test_every_refusal_has_a_code_and_is_not_to_be_stored(
    title: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcount.http.app.BODY_TIMEOUT", 0.05)
    request, status, expected = REFUSED[title]
    async with served(path, actors=(ADDRESS, SILENT), max_counters=1) as server:
        client = await server.dial()
        await client.send(post(b"full", MOST))
        check(await client.answer(), status=200)
        await client.send(request)
        assert code(await client.answer(), status) == expected
        await client.stream.aclose()


@pytest.mark.parametrize("path", PATHS)
async def test_before_the_start_is_over_refusals_say_so(path: str) -> None:
    async with served(path, recovered=False) as server:
        client = await server.dial()
        for request in (value(b"a"), post(b"a", b"1"), get(b"/health/ready"), get(b"/config"), upgrade("/link", "h")):
            await client.send(request)
            assert code(await client.answer(), 503) == "recovering"


@pytest.mark.parametrize("path", PATHS)
async def test_a_full_disk_has_a_code(path: str) -> None:
    async with served(path) as server:
        capacity, server.disk.capacity = server.disk.capacity, 0
        client = await server.dial()
        for request in (post(b"a", b"1"), post(b"a", b"1"), get(b"/health/ready")):
            await client.send(request)
            assert code(await client.answer(), 503) == "disk_full"
        server.disk.capacity = capacity


@pytest.mark.parametrize("path", PATHS)
async def test_an_unexpected_error_has_a_code(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> int:
        raise RuntimeError(name)

    async with served(path) as server:
        monkeypatch.setattr(server.node, "value", fail)
        client = await server.dial()
        await client.send(value(b"a"))
        assert code(await client.answer(), 500) == "unexpected"


@pytest.mark.parametrize("path", PATHS)
async def test_successful_answers_must_not_be_stored_either(path: str) -> None:
    targets = [b"/ping", b"/health/live", b"/health/ready", b"/config", b"/status", b"/metrics"]
    targets += [b"/counter/a/value", b"/counter/a/consistent_value"]
    async with served(path) as server:
        client = await server.dial()
        good = [get(target, method=method) for target in targets for method in (b"GET", b"HEAD", b"OPTIONS")]
        good += [post(b"a", b"1"), post(b"a", b"0"), CHUNKED, get(b"/", method=b"OPTIONS")]
        for request in good:
            await client.send(request)
            check(await client.answer(head=request.startswith(b"HEAD")), status=200)
        await client.send(upgrade("/link", "h"))
        check(await client.answer(head=True), status=101)
        await client.stream.aclose()


@pytest.mark.parametrize("path", PATHS)
async def test_an_endless_body_is_refused_on_both_paths(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        await client.send(b"POST /config HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send((b"10000\r\n" + b"x" * 65536 + b"\r\n") * (MAX_BODY_BYTES // 65536 + 1))
        assert code(await client.answer(), 413) == "body_too_large"


@pytest.mark.parametrize("path", PATHS)
async def test_methods_are_case_sensitive(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        for request, allowed in [
            (get(b"/ping", method=b"get"), b"GET, HEAD, OPTIONS"),
            (get(b"/ping", method=b"head"), b"GET, HEAD, OPTIONS"),
            (get(b"/ping", method=b"options"), b"GET, HEAD, OPTIONS"),
            (get(b"/", method=b"options"), None),
            (post(b"a", b"1").replace(b"POST", b"post"), b"OPTIONS, POST"),
            (post(b"a", b"1").replace(b"POST", b"POSt"), b"OPTIONS, POST"),
            (get(b"/config", method=b"!"), b"GET, HEAD, OPTIONS, POST"),
        ]:
            await client.send(request)
            answer = await client.answer()
            assert statuses(answer) == [405 if allowed else 404], request
            assert allowed is None or b"\r\nallow: " + allowed + b"\r\n" in answer
        await client.send(upgrade("/link", "h").replace(b"GET", b"get"))
        assert code(await client.answer(), 405) == "method_not_allowed"
        await client.stream.aclose()
        assert server.node.value("a") == 0


@pytest.mark.parametrize("path", PATHS)
async def test_slashes_too_many_lead_nowhere(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        two = post(b"a", b'{"actors": ["10.0.0.2"]}')
        for target in (b"//config", b"///config", b"http://h//config", b"/config/", b"/%2Fconfig", b"//%2Fconfig"):
            for request in (get(target), two.replace(b"/counter/a", target)):
                await client.send(request)
                assert code(await client.answer(), 404) == "no_such_route"
        await client.send(get(b"http://h/config"))
        assert statuses(await client.answer()) == [200]
        await client.send(upgrade("//link", "h"))
        assert code(await client.answer(), 404) == "no_such_route"
        await client.stream.aclose()
        assert server.node.config()["actors"] == [ADDRESS]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("line", [b"\r\n", b"\n"])
@pytest.mark.parametrize("request_", [value(b"a"), post(b"a", b"1"), get(b"/ping"), CHUNKED], ids=repr)
async def test_one_empty_line_before_a_request_is_passed_over(path: str, line: bytes, request_: bytes) -> None:
    async with served(path) as server:
        client = await server.dial()
        for _ in range(3):
            for part in (line[:1], line[1:], request_):
                await client.send_alone(part)  # as it comes after the body that it was to end
            assert statuses(await client.answer()) == [200]
        await client.send((line + request_) * 3)
        assert [statuses(await client.answer()) for _ in range(3)] == [[200]] * 3
        await client.send(line + line + request_)
        assert statuses(await client.rest()) == [400]


@pytest.mark.parametrize("path", PATHS)
async def test_two_empty_lines_are_refused_in_whatever_pieces_they_come(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        await client.send(value(b"a"))
        assert statuses(await client.answer()) == [200]
        for _ in range(2):
            await client.send_alone(b"\r\n")
        await client.send(value(b"a"))
        assert statuses(await client.rest()) == [400]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("line", [b"\r\n", b"\n", b"\r"])
async def test_a_client_that_ends_with_an_empty_line_is_disconnected(path: str, line: bytes) -> None:
    async with served(path) as server:
        client = await server.dial()
        await client.send(value(b"a") + line)
        assert statuses(await client.answer()) == [200]
        await client.stream.send_eof()
        with trio.fail_after(10):
            assert await client.rest() == b""


@pytest.mark.parametrize("path", PATHS)
async def test_options_shows_what_is_allowed_here_and_on_the_whole_server(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        for target, allowed in [
            (b"/", b"GET, HEAD, OPTIONS, POST, PUT"),
            (b"*", b"GET, HEAD, OPTIONS, POST, PUT"),
            (b"/config", b"GET, HEAD, OPTIONS, POST"),
            (b"/counter/a%2Fb", b"OPTIONS, POST"),
            (b"/ping", b"GET, HEAD, OPTIONS"),
            (b"/link", b"GET, HEAD, OPTIONS"),
        ]:
            await client.send(get(target, method=b"OPTIONS"))
            answer = await client.answer()
            check(answer, status=200)
            assert b"\r\nallow: " + allowed + b"\r\n" in answer
        await client.send(get(b"/", method=b"OPTIONS", version=b"HTTP/1.0").replace(b"Host: h\r\n", b""))
        check(await client.rest(), status=200)


UNKNOWN: list[tuple[bytes, str]] = [
    (b"/counter/a/value?timeout=1", "unknown query parameter 'timeout'; none is allowed here"),
    (b"/counter/a/consistent_value?timeut=1", "unknown query parameter 'timeut'; only timeout is allowed here"),
    (b"/counter/a/consistent_value?timeout=1&w=1&w=2&%C3%A9", "'w', 'é'; only timeout is allowed here"),
    (b"/counter/a/consistent_value?TIMEOUT=1", "'TIMEOUT'"),
    (b"/ping?=", "''"),
    (b"/status?%00%0a", "'\\x00\\n'"),
    (b"/health/ready?verbose", "'verbose'"),
    (b"/metrics?name[]=x", "'name[]'"),
]


@pytest.mark.parametrize("path", PATHS)
async def test_unknown_parameters_are_named(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        for target, said in UNKNOWN:
            await client.send(get(target))
            answer = await client.answer()
            assert code(answer, 400) == "unknown_parameter"
            detail: Any = json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]
            assert said in detail
        await client.send(post(b"a?w=2", b"1"))
        assert code(await client.answer(), 400) == "unknown_parameter"
        assert server.node.value("a") == 0
        for target, status in ((b"/nowhere?a=1", 404), (b"/ping?", 200), (b"/ping?&&", 200)):
            await client.send(get(target))
            assert statuses(await client.answer()) == [status]
        await client.send(upgrade("/link?a=1", "h"))
        assert code(await client.answer(), 400) == "unknown_parameter"
        await client.stream.aclose()
