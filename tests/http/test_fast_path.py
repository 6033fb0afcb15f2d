"""The fast path and the application: the same node, the same requests, and the same bytes in answer."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.fakes.cluster import WALL_CLOCK
from tests.http.served_node import (
    ADDRESS,
    CHUNKED,
    LAST,
    PATHS,
    Client,
    both,
    consistent,
    get,
    once,
    one_by_one,
    post,
    put,
    served,
    source,
    statuses,
    value,
)

SILENT = "10.0.0.2:7777"
NOW = int(WALL_CLOCK)
ID, OTHER = b"%d-a" % NOW, b"%d-b" % NOW
MOST = 2**64 - 1


async def at_once(client: Client, requests: Sequence[bytes]) -> bytes:
    """Send all requests in one segment."""
    await client.send(b"".join(requests))
    return await client.rest()


async def head_then_body(client: Client, requests: Sequence[bytes]) -> bytes:
    """Send each body after its head has arrived."""
    answers = b""
    for request in requests:
        head, end, body = request.partition(b"\r\n\r\n")
        await client.send_alone(head + end)
        await client.send(body)
        answers += await client.answer(head=request.startswith(b"HEAD"))
    return answers + await client.rest()


async def after_another(client: Client, requests: Sequence[bytes]) -> bytes:
    """Send each request when the connection's task sleeps: only then the reactor answers it."""
    await client.send(value(b"another"))
    await client.answer()
    return await one_by_one(client, requests)


Way = Callable[[Client, Sequence[bytes]], Awaitable[bytes]]
WAYS: tuple[Way, ...] = (one_by_one, at_once, head_then_body, after_another)
ALONE: tuple[Way, ...] = (one_by_one, after_another)


@dataclass
class Case:
    """Requests on one connection, after which `LAST` ends it.

    Attributes:
        requests: one after the other.
        statuses: what is answered; fewer than there are requests when the connection ends before.
        plain: how many requests the fast path answers itself when each comes alone; the last one not counted.
        ways: in which the requests may be sent.
        options: of the node.
    """

    requests: list[bytes]
    statuses: list[int]
    plain: int
    ways: tuple[Way, ...]
    options: dict[str, Any]


def case(
    requests: list[bytes], statuses: list[int], plain: int = 0, *, ways: tuple[Way, ...] = WAYS, **options: Any
) -> Case:
    return Case(requests, statuses, plain, ways, options)


def good(*requests: bytes, **options: Any) -> Case:
    return case(list(requests), [200] * len(requests), len(requests), **options)


def odd(*requests: bytes, status: int = 200, **options: Any) -> Case:
    return case(list(requests), [status] * len(requests), **options)


BIG = b"%d" % MOST
BAD_IDS = (
    *(b"", b'""', b'"', b"a", b"%d" % NOW, b"%d-" % NOW, b"-a", b"%d-a b" % NOW, ID + b", " + ID, ID + b";a=1"),
    *(b"'%b'" % ID, b'"%b' % ID, b'"%b\\""' % ID, b'""%b""' % ID, b'"\t%b"' % ID, b"?1", b":%b:" % ID, b"1e9-a"),
    *(b"%d-%b" % (NOW, b"x" * 54), b"018bcfe5-6800-4000-8000-000000000001", b"1700000000000-a", b"%d-%%41" % NOW),
)
CASES = {
    "increments": good(post(b"a", b"1"), post(b"a", b"0"), post(b"b", b"7"), post(b"a", BIG[:-1]), value(b"a")),
    "an increment by nothing": good(post(b"a", b"0"), value(b"a")),
    "the most": good(post(b"a", BIG), value(b"a"), consistent(b"a")),
    "white space": good(
        post(b"a", b" 5\r\n"), post(b"a", b"\t\v\f 5 \n\n"), post(b"a", b"0005"), post(b"a", b"5" + b" " * 900)
    ),
    "values": good(value(b"a"), post(b"a", b"3"), value(b"a"), value(b"b")),
    "consistent values": good(consistent(b"a"), post(b"a", b"3"), consistent(b"a"), consistent(b"b")),
    "names": good(
        *(
            post(name, b"1")
            for name in (b"-._~!$&'()*+,;=:@", b"%20", b"%25", b"%C3%A9", b"value", b"%41", b"A", b"%2F")
        )
    ),
    "slashes": good(
        post(b"%2Fblog%2F", b"1"),
        value(b"%2fblog%2F"),
        consistent(b"%2Fblog%2f"),
        post(b"a%2Fvalue", b"2"),
        value(b"a"),
    ),
    "dots": good(post(b".", b"1"), post(b"..", b"1"), value(b"."), value(b".."), value(b"%2e%2E"), post(b"...", b"1")),
    "255 bytes": good(post(b"a" * 255, b"1"), post(b"%C3%A9" * 127 + b"a", b"1"), consistent(b"a" * 255)),
    "keep-alive": good(value(b"a", b"Connection: keep-alive"), post(b"a", b"1", b"connection:Keep-Alive")),
    "harmless fields": good(post(b"a", b"1", b"Content-Type: application/x-www-form-urlencoded", b"Cookie: a=b;c")),
    "forms": good(post(b"a", b"1", b"Content-Type: multipart/form-data; boundary=x", b"Content-Encoding: gzip")),
    "many fields": good(value(b"a", *(b"X-%d: %s" % (n, b"y" * 50) for n in range(100)))),
    "a condition": good(value(b"a", b"If-None-Match: *", b"Range: bytes=0-0", b"If-Modified-Since: x")),
    "another scheme": good(value(b"a", b"X-Forwarded-Proto: https", b"X-HTTP-Method-Override: POST", b"Forwarded: x")),
    "closing": case([value(b"a", b"Connection: close")], [200], 1),
    "closing after an increment": case([post(b"a", b"2", b"Connection: Close")], [200], 1),
    "bad amounts": odd(
        *(
            post(b"a", body)
            for body in (b"", b" ", b"+1", b"-1", b"1.0", b"1_0", b"1 1", b"0x1", b"\xb2", b"x", b"1\0")
        ),
        *(post(b"a", body) for body in (b"%d" % (MOST + 1), b"9" * 400, b"9" * 999, b"\xd9\xa1", b"1e3")),
        status=400,
    ),
    "4,301 digits": odd(post(b"a", b"9" * 4301), post(b"a", b"0" * 4301 + b"x"), status=400),
    "long but right": odd(post(b"a", b"0" * 4301 + b"7"), post(b"a", b" " * 1000 + b"7")),
    "too long": odd(post(b"a", b"1" * 65_537), status=413),
    "bad names of counters to increment": odd(
        *(post(name, b"1") for name in (b"%00", b"%zz", b"%", b"%4", b"%ff", b"%C3", b"%0A", b"%7f")),
        status=400,
        ways=(one_by_one, at_once),  # else the name is refused before the body comes, and the connection is closed
    ),
    "bad names": odd(
        *(value(name) for name in (b"%00", b"%zz", b"%ff", b"a" * 256, b"%C3%A9" * 128, b"%C2%80")),
        *(consistent(name) for name in (b"%00", b"%zz", b"%ff", b"a" * 256)),
        status=400,
    ),
    "no name": odd(value(b""), consistent(b""), post(b"", b"1"), status=400, ways=(one_by_one, at_once)),
    "bad bytes in a name": case([value(b"\xc3\xa9")], [400]),
    "other routes": odd(get(b"/counter/a/b/value"), get(b"/counter"), get(b"/counter/a/valu"), get(b"/"), status=404),
    "a slash at the end": odd(get(b"/counter/a/value/"), post(b"a/", b""), get(b"/counter/a/"), status=404),
    "wrong methods": odd(
        get(b"/counter/a"),
        post(b"a/value", b""),
        post(b"a/consistent_value", b""),
        get(b"/counter/a/value", b"Content-Length: 0", method=b"PUT"),
        get(b"/counter/a", method=b"DELETE"),
        get(b"/counter/a/value", method=b"BREW"),
        status=405,
    ),
    "queries": odd(get(b"/counter/a/consistent_value?timeout=0.2"), get(b"/counter/a/value?"), get(b"/ping?&")),
    "bad queries": odd(
        get(b"/counter/a/consistent_value?timeout=x"),
        get(b"/counter/a/value?x=1"),
        get(b"/counter/a/value?timeout=1"),
        get(b"/ping?x"),
        status=400,
    ),
    "a bad query of an increment": odd(post(b"a?5", b"1"), status=400, ways=(one_by_one, at_once)),
    "pages of other origins": odd(
        post(b"a", b"1", b"Origin: http://other"),
        post(b"a", b"1", b"Sec-Fetch-Site: cross-site"),
        post(b"a", b"x", b"origin:null"),
        status=403,
        ways=(one_by_one, at_once, after_another),  # a refusal that overtakes the body ends the connection
    ),
    "a page of the node's own": odd(
        *(
            post(b"a", b"1", b"Origin: http://" + own).replace(b"t: h", b"t: " + own)
            for own in (b"[::1]", b"10.0.0.1:80")
        )
    ),
    "what a page reads": odd(
        value(b"a", b"Origin: http://other", b"Sec-Fetch-Site: cross-site"), consistent(b"a", b"Origin: null")
    ),
    "methods in small letters": odd(
        get(b"/counter/a/value", method=b"get"),
        get(b"/ping", method=b"Head"),
        post(b"a", b"1").replace(b"POST", b"Post"),
        status=405,
        ways=(one_by_one, at_once, after_another),
    ),
    "slashes too many": odd(get(b"//counter/a/value"), get(b"///ping"), get(b"http://h//ping"), status=404),
    "an empty line before": good(b"\r\n" + value(b"a"), b"\r\n" + post(b"a", b"1"), b"\r\n" + consistent(b"a")),
    "other empty lines before": odd(b"\n" + value(b"a"), b"\r\n" + get(b"/ping"), b"\r\n" + CHUNKED),
    "two empty lines before": case([value(b"a"), b"\r\n\r\n" + value(b"a")], [200, 400], 1),
    "what the server can": odd(get(b"/", method=b"OPTIONS"), get(b"*", method=b"OPTIONS")),
    "no path": case([get(b"*")], [400]),
    "absolute": odd(get(b"http://h/counter/a/value")),
    "a body of a GET": odd(
        get(b"/counter/a/value", b"Content-Length: 1") + b"1",
        value(b"a", b"Content-Length: 0"),
        ways=(one_by_one, at_once),  # an answer that overtakes the body ends the connection
    ),
    "no length": odd(b"POST /counter/a HTTP/1.1\r\nHost: h\r\n\r\n", status=400),
    "chunks": odd(CHUNKED, CHUNKED),
    "expecting": odd(post(b"a", b"5", b"Expect: 100-continue")),
    "an offered upgrade": odd(value(b"a", b"Connection: Upgrade", b"Upgrade: h2c")),
    "a list of options": odd(value(b"a", b"Connection: keep-alive, x"), post(b"a", b"1", b"TE: trailers")),
    "bare line feeds": odd(value(b"a").replace(b"\r\n", b"\n"), post(b"a", b"1").replace(b"\r\n", b"\n")),
    "folded": odd(value(b"a", b"A: b\r\n c")),
    "HTTP/1.0": case([get(b"/counter/a/value", version=b"HTTP/1.0")], [200]),
    "HTTP/1.0 kept alive": case([get(b"/counter/a/value", b"Connection: keep-alive", version=b"HTTP/1.0")], [200]),
    "an increment by HTTP/1.0": case([post(b"a", b"4").replace(b"HTTP/1.1", b"HTTP/1.0")], [200]),
    "HTTP/2": case([value(b"a").replace(b"HTTP/1.1", b"HTTP/2.0")], [505]),
    "two hosts": case([value(b"a", b"Host: h")], [400]),
    "no host": case([b"GET /counter/a/value HTTP/1.1\r\n\r\n"], [400]),
    "strange hosts": good(
        *(
            value(b"a").replace(b" h\r", b" " + host + b"\r")
            for host in (b"", b"[::1]:80", b"h:80", b"_", b"a..b", b"a b", b":x")
        )
    ),
    "two lengths": case([post(b"a", b"1", b"Content-Length: 2")], [400]),
    "two ways to frame": case([post(b"a", b"1", b"Transfer-Encoding: chunked")], [400], ways=(at_once,)),
    "white space before a colon": case([post(b"a", b"1", b"Content-Length : 0")], [400]),
    "a bad field": case([value(b"a", b"A: \0")], [400]),
    "garbage": case([b"\x16\x03\x01\x02\x00\x01\r\n\r\n"], [400]),
    "garbage after plain requests": case([value(b"a"), post(b"a", b"1"), b"\0\0\r\n\r\n"], [200, 200, 400], 2),
    "garbage that begins well": case([value(b"a"), b"GET /counter/\0\r\n\r\n"], [200, 400], 1),
    "plain and not": case(
        [
            post(b"a", b"1"),
            get(b"/ping"),
            value(b"a"),
            post(b"a", b"x"),
            CHUNKED,
            value(b"a"),
            get(b"/x"),
            consistent(b"a"),
        ],
        [200, 200, 200, 400, 200, 200, 404, 200],
        4,
    ),
    "ids": good(
        once(b"a", b"5", ID),
        once(b"a", b"5", ID),
        once(b"a", b"7", OTHER),
        once(b"b", b"5", ID),
        post(b"a", b"1"),
        once(b"a", b" 5\n", ID, b"Connection: keep-alive"),
        value(b"a"),
    ),
    "forms of ids": good(
        once(b"a", b"1", b'"%b"' % ID),
        once(b"a", b"1", b"\t%b " % ID),
        once(b"a", b"1", b"018bcfe5-6800-7000-8000-000000000001"),
        once(b"a", b"1", b"018BCFE5-6800-7000-8000-00000000000F"),
        once(b"a", b"1", b'"01HF7YAT000000000000000005"'),
        once(b"a", b"1", b"%d-%b" % (NOW, b"~._-" * 13)),
        value(b"a"),
        ways=ALONE,
    ),
    "an id with nothing to add": case(
        [once(b"a", b"0", ID), once(b"a", b"0", ID), once(b"a", b"3", ID), once(b"a", b"0", ID), once(b"a", b"3", ID)],
        [200, 200, 200, 422, 200],
        5,
    ),
    "nothing to add by ids of other times": case(
        [once(b"a", b"0", b"%d-a" % (NOW - 3600)), once(b"a", b"0", b"%d-a" % (NOW + 301)), once(b"a", b"0", b"x")],
        [410, 422, 400],
        2,
        ways=(one_by_one, at_once),
    ),
    "a source with nothing to add": good(
        put(b"a", ID, b"0"), put(b"a", ID, b"3"), put(b"a", ID, b"0"), put(b"a", b"1-a", b"0"), ways=ALONE
    ),
    "an id with another amount": case(
        [once(b"a", b"5", ID), once(b"a", b"6", ID), once(b"a", b"4", ID), once(b"a", b"5", ID)],
        [200, 422, 422, 200],
        4,
        ways=(at_once, after_another),
    ),
    "an id of long ago": case(
        [once(b"a", b"5", b"%d-a" % (NOW - 3600)), once(b"a", b"5", b"%d-a" % (NOW - 3599)), value(b"a")],
        [410, 200, 200],
        3,
        ways=ALONE,
    ),
    "an id of a time to come": case(
        [once(b"a", b"5", b"%d-a" % (NOW + 301)), once(b"a", b"5", b"%d-a" % (NOW + 300)), value(b"a")],
        [422, 200, 200],
        3,
        ways=ALONE,
    ),
    "bad ids": odd(
        *(once(b"a", b"5", id_) for id_ in BAD_IDS),
        once(b"a", b"5", ID, b"idempotency-key: " + ID),
        once(b"a", b"5", ID, b"IDEMPOTENCY-KEY:"),
        status=400,
        ways=(one_by_one, at_once),  # an id is refused before the body comes, as a name is
    ),
    "an id and a bad amount": odd(once(b"a", b"-1", ID), once(b"a", b"", ID), status=400, ways=ALONE),
    "ids where they mean nothing": good(
        value(b"a", b"Idempotency-Key: x", b"Idempotency-Key:"), consistent(b"a", b"Idempotency-Key: " + ID), ways=ALONE
    ),
    "an id for a page of another origin": odd(
        once(b"a", b"1", ID, b"Origin: http://other"), status=403, ways=(one_by_one, at_once)
    ),
    "ids before all members were seen": case(
        [once(b"a", b"1", ID), put(b"a", ID, b"1"), post(b"a", b"1")],
        [503, 503, 200],
        3,
        ways=ALONE,
        actors=(ADDRESS, SILENT),
    ),
    "ids at the limits": case(
        [
            once(b"a", BIG, ID),
            once(b"a", b"1", OTHER),
            put(b"a", OTHER, b"1"),
            once(b"b", b"1", ID),
            put(b"b", ID, b"1"),
        ],
        [200, 409, 409, 503, 503],
        5,
        ways=ALONE,
        max_counters=1,
    ),
    "sources": good(
        put(b"a", ID, b"5"),
        put(b"a", ID, b" 3\n"),
        source(b"a", ID),
        put(b"a", ID, b"0007"),
        put(b"a", OTHER, b"0"),
        source(b"a", ID),
        put(b"b", ID, BIG, b"Connection: keep-alive"),
        put(b"b", ID, BIG),
        source(b"b", ID),
        value(b"a"),
        post(b"a", b"1"),
    ),
    "forms of sources": good(
        put(b"%2Fa%2fb%C3%A9", ID, b"1"),
        put(b"a", ID.replace(b"-", b"%2D"), b"2"),
        source(b"a", b"%31" + ID[1:]),
        put(b"a", b"018bcfe5-6800-7000-8000-000000000001", b"3"),
        put(b"a", b"01HF7YAT000000000000000005", b"4"),
        put(b"..", b"%d-%b" % (NOW, b"~._-" * 13), b"5"),
        source(b"%2e%2E", b"%d-%b" % (NOW, b"~%2E_-" * 13)),
        put(b"sources", ID, b"6"),
        source(b"sources", ID),
        put(b"a" * 255, ID, b"7"),
        ways=ALONE,
    ),
    "fields that mean nothing to sources": good(
        put(b"a", ID, b"7", b"Idempotency-Key: x"),
        put(b"a", ID, b"7", b"Idempotency-Key:", b"Idempotency-Key: " + OTHER),
        put(b"a", ID, b"7", b"Content-Type: application/json", b"If-Match: x", b"Content-Encoding: gzip"),
        put(b"a", ID, b"7", b"Content-Type: multipart/form-data; boundary=x", b"Cookie: a=b"),
        source(b"a", ID, b"Idempotency-Key: " + OTHER, b"Accept: application/json"),
        source(b"a", ID, b"Idempotency-Key:", b"If-None-Match: *", b"Range: bytes=0-0"),
        ways=ALONE,
    ),
    "sources after their window": case(
        [put(b"a", b"%d-a" % (NOW - 3600), b"5"), put(b"a", b"%d-a" % (NOW - 3599), b"5"), source(b"a", ID)],
        [410, 200, 404],
        3,
        ways=ALONE,
    ),
    "sources of a time to come": case(
        [put(b"a", b"%d-a" % (NOW + 301), b"5"), put(b"a", b"%d-a" % (NOW + 300), b"5"), value(b"a")],
        [422, 200, 200],
        3,
        ways=ALONE,
    ),
    "sources and increments have the same ids": case(
        [
            once(b"a", b"5", ID),
            put(b"a", ID, b"7"),
            once(b"a", b"5", ID),
            source(b"a", ID),
            once(b"a", b"7", ID),
            put(b"a", ID, b"5"),
        ],
        [200, 200, 422, 200, 200, 200],
        6,
        ways=(at_once, after_another),
    ),
    "sources that are not known": case([source(b"a", ID), put(b"a", ID, b"0"), source(b"a", ID)], [404, 200, 404], 3),
    "HEAD of sources": case(
        [source(b"a", ID).replace(b"GET", b"HEAD"), put(b"a", ID, b"5"), source(b"a", ID).replace(b"GET", b"HEAD")],
        [404, 200, 200],
        1,
        ways=ALONE,
    ),
    "what a page reads of sources": odd(
        *(source(b"a", ID, b) for b in (b"Origin: http://other", b"Sec-Fetch-Site: cross-site", b"Origin: null")),
        status=404,
        ways=ALONE,
    ),
    "sources of the node's own page": odd(
        put(b"a", ID, b"1", b"Origin: http://10.0.0.1").replace(b"t: h", b"t: 10.0.0.1"), ways=ALONE
    ),
    "sources of pages of other origins": odd(
        put(b"a", ID, b"1", b"Origin: http://other"),
        put(b"a", ID, b"1", b"Sec-Fetch-Site: cross-site"),
        put(b"a", b"x", b"1", b"origin: null"),
        status=403,
        ways=(one_by_one, at_once),
    ),
    "options of sources": odd(get(b"/counter/a/sources/" + ID, method=b"OPTIONS"), ways=ALONE),
    "bad ids of sources that are read": odd(
        *(
            source(b"a", id_)
            for id_ in (b"", b"x", b"%zz", b"%20", b"%ff", b"%2F", b"1-" + b"x" * 63, b"%221-a%22", b"%d-" % NOW)
        ),
        source(b"%00", ID),
        source(b"", ID),
        source(b"a", ID + b"?x"),
        source(b"a", ID + b"?timeout=1"),
        status=400,
        ways=ALONE,
    ),
    "bad totals of sources": odd(
        *(put(b"a", ID, body) for body in (b"", b" ", b"x", b"1.5", b"-1", b"+1", b"\xd9\xa1", b"%d" % (MOST + 1))),
        put(b"a", ID, b"9" * 999),
        status=400,
        ways=ALONE,
    ),
    "long but right totals of sources": odd(put(b"a", ID, b"0" * 4301 + b"7"), put(b"a", ID, b" " * 1000 + b"7")),
    "too long totals of sources": odd(put(b"a", ID, b"1" * 65_537), status=413),
    "bad sources": odd(
        *(put(b"a", id_, b"1") for id_ in (b"", b"x", b"%zz", b"%ff", b"%2F", b"018bcfe5-6800-4000-8000-000000000001")),
        *(put(name, ID, b"1") for name in (b"", b"%00", b"%zz", b"%ff", b"a" * 256)),
        put(b"a", ID + b"?x", b"1"),
        status=400,
        ways=(one_by_one, at_once),  # an id is refused before the body comes, as a name is
    ),
    "other methods for sources": odd(
        get(b"/counter/a/sources/" + ID, method=b"DELETE"),
        get(b"/counter/a/sources/" + ID, method=b"put"),
        get(b"/counter/a/sources/" + ID, method=b"PATCH"),
        post(b"a/sources/" + ID, b"1"),
        status=405,
        ways=(one_by_one, at_once),
    ),
    "no sources": odd(
        get(b"/counter/a/sources"),
        get(b"/counter/a/sources/" + ID + b"/"),
        get(b"/counter/a/b/sources/" + ID),
        put(b"a/b", ID, b""),
        put(b"a", ID + b"/", b""),
        get(b"/counter/a/Sources/" + ID),
        status=404,
        ways=(one_by_one, at_once),
    ),
    "sources in other ways of HTTP": odd(
        CHUNKED.replace(b"POST /counter/a", b"PUT /counter/a/sources/" + ID),
        put(b"a", ID, b"6", b"Expect: 100-continue"),
        put(b"a", ID, b"7", b"TE: trailers"),
        put(b"a", ID, b"8").replace(b"\r\n", b"\n"),
        source(b"a", ID, b"Connection: Upgrade", b"Upgrade: h2c"),
        source(b"a", ID).replace(b"/counter", b"http://h/counter"),
    ),
    "a source by HTTP/1.0": case([put(b"a", ID, b"4").replace(b"HTTP/1.1", b"HTTP/1.0")], [200]),
    "a source read by HTTP/1.0": case([get(b"/counter/a/sources/" + ID, version=b"HTTP/1.0")], [404]),
    "a source without a length": odd(put(b"a", ID, b"").replace(b"Content-Length: 0\r\n", b""), status=400),
    "a source with two lengths": case([put(b"a", ID, b"1", b"Content-Length: 2")], [400]),
    "the last request for a source": case([put(b"a", ID, b"1", b"Connection: close")], [200], 1),
    "the last read of a source": case([source(b"a", ID, b"Connection: close")], [404], 1),
    "an id with the last request": case([once(b"a", b"5", ID, b"Connection: close")], [200], 1),
    "ids by HTTP/1.0 and in chunks": case(
        [
            CHUNKED.replace(b"Host", b"Idempotency-Key: %b\r\nHost" % ID),
            once(b"a", b"5", ID, b"Expect: 100-continue"),
            once(b"a", b"5", ID).replace(b"HTTP/1.1", b"HTTP/1.0"),
        ],
        [200, 200, 200],
        ways=ALONE,
    ),
    "the node's own part is full": case([post(b"a", BIG), post(b"a", b"1"), value(b"a")], [200, 409, 200], 3),
    "the limit of counters": case(
        [post(b"a", b"1"), post(b"b", b"1"), post(b"c", b"1"), post(b"a", b"1"), value(b"c")],
        [200, 200, 503, 200, 200],
        5,
        max_counters=2,
    ),
    "a member that does not answer": case(
        [post(b"a", b"3"), consistent(b"a"), value(b"a")], [200, 503, 200], 3, actors=(ADDRESS, SILENT)
    ),
}


@pytest.mark.parametrize(
    ("tried", "way"),
    [pytest.param(tried, way, id=f"{name}, {way.__name__}") for name, tried in CASES.items() for way in tried.ways],
)
async def test_the_same_requests_have_the_same_answers(tried: Case, way: Way) -> None:
    found = []
    async with both(**tried.options) as (fast, application):
        for server in (fast, application):
            client = await server.dial()
            found.append(await way(client, [*tried.requests, LAST]))
            await client.stream.aclose()
    assert found[0] == found[1]
    lasts = statuses(found[0]) == [*tried.statuses, 200]
    assert lasts or statuses(found[0]) == tried.statuses
    assert fast.counts() == application.counts()
    if way is one_by_one:
        assert application.asked - fast.asked == tried.plain + lasts
    if tried.plain == len(tried.requests):
        assert fast.asked == 0


async def test_an_unexpected_error_is_answered_500(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> int:
        raise RuntimeError(name)

    found = []
    async with both() as (fast, application):
        for server in (fast, application):
            monkeypatch.setattr(server.node, "value", fail)
            with capture_logs() as logs:
                client = await server.dial()
                found.append(await one_by_one(client, [value(b"a"), value(b"b", b"Connection: close")]))
            assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["request failed"] * 2
    assert found[0] == found[1]
    assert statuses(found[0]) == [500, 500]
    assert fast.counts() == application.counts()


async def test_the_metrics_count_what_the_fast_path_answers() -> None:
    async with served() as server:
        await server.exchange(b"".join([post(b"a", b"1"), post(b"a", b"2"), value(b"a"), consistent(b"a"), LAST]))
        assert server.asked == 0
        assert server.counts() == [
            'gcount_http_requests_total{method="GET",route="/counter/{name}/consistent_value",status="200"} 1.0',
            'gcount_http_requests_total{method="GET",route="/counter/{name}/value",status="200"} 2.0',
            'gcount_http_requests_total{method="POST",route="/counter/{name}",status="200"} 2.0',
        ]


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_says_when_it_was_given(path: str) -> None:
    async with served(path) as server:
        client = await server.dial()
        before = int(time.time())
        await client.send(value(b"a", b"Connection: close"))
        raw = b"".join([chunk async for chunk in client.stream])
        given = re.search(rb"\r\n[Dd]ate: ([^\r]+)\r\n", raw)
        assert given is not None
        assert before <= parsedate_to_datetime(given[1].decode()).timestamp() <= time.time()
        assert given[1].endswith(b" GMT")
        await client.stream.aclose()
