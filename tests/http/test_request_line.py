"""The beginning of a request: input that can't become one, and requests that the application must not see."""

from __future__ import annotations

import pytest

from gcount.http.request_line import can_be_no_request, refused_as

HOST = (b"host", b"h")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"G",
        b"GET",
        b"GET ",
        b"GET /",
        b"GET / HTTP/1.1\r\nHost",
        b"\r\n",
        b"\r\nGET",
        b"!#$ * HTTP/9\n",
        b"a b HTTP/1",
    ],
)
def test_what_may_become_a_request_is_waited_for(data: bytes) -> None:
    assert not can_be_no_request(data)


@pytest.mark.parametrize(
    "data", [b"\0", b"GET\0", b"\x16\x03\x01", b"(", b"GET /\r\n", b"GET  / HTTP/1.1\r\n", b"*1\r\n", b"GET / HTTX\n"]
)
def test_input_that_can_not_become_a_request_is_recognized_at_once(data: bytes) -> None:
    assert can_be_no_request(data)


@pytest.mark.parametrize(
    ("method", "target", "version"),
    [(b"GET", b"/", b"1.1"), (b"GET", b"http://h/", b"1.0"), (b"OPTIONS", b"*", b"1.1"), (b"FOO", b"/%", b"1.9")],
)
def test_a_request_with_a_path_may_be_seen(method: bytes, target: bytes, version: bytes) -> None:
    assert refused_as(method, target, version, [HOST]) is None


@pytest.mark.parametrize(
    ("method", "target", "version", "status"),
    [
        (b"GET", b"/", b"2.0", 505),
        (b"GET", b"/", b"0.9", 505),
        (b"GET", b"*", b"1.1", 400),
        (b"GET", b"h:80", b"1.1", 400),
        (b"CONNECT", b"h:80", b"1.1", 400),
        (b"GET", b"ftp://h/", b"1.1", 400),
    ],
)
def test_other_versions_and_requests_without_a_path_are_refused(
    method: bytes, target: bytes, version: bytes, status: int
) -> None:
    assert refused_as(method, target, version, [HOST]) == status


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ([(b"content-length", b"1")], False),
        ([(b"transfer-encoding", b"chunked")], False),
        ([(b"content-length", b"1"), HOST, (b"transfer-encoding", b"chunked")], True),
        ([(b"connection", b"\xe9")], True),
        ([(b"sec-websocket-protocol", b"a\xff")], True),
        ([(b"accept", b"\xe9")], False),
    ],
)
def test_two_framings_and_tokens_that_are_not_ascii_are_refused(
    fields: list[tuple[bytes, bytes]], refused: bool
) -> None:
    assert refused_as(b"POST", b"/", b"1.1", iter(fields)) == (400 if refused else None)
