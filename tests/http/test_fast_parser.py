"""Plain requests, compared with the parser of the application server (h11): both read each request the same."""

from __future__ import annotations

from dataclasses import dataclass

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.http.fast_parser import PlainRequest, may_become_plain, parse
from gcount.http.hypercorn import _Connection, http_config
from gcount.http.routes import CONSISTENT_VALUE, INCREMENT, RAISE_SOURCE, SOURCE, VALUE

SOME = settings(max_examples=100, derandomize=True, deadline=None, database=None)
MANY = settings(SOME, max_examples=250)
POST = b"POST /counter/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n5"
GET = b"GET /counter/x/value HTTP/1.1\r\nHost: h\r\n\r\n"
READ = b"GET /counter/x/consistent_value HTTP/1.1\r\nHost: h\r\n\r\n"
PUT = b"PUT /counter/x/sources/y HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n5"
GET_SOURCE = b"GET /counter/x/sources/y HTTP/1.1\r\nHost: h\r\n\r\n"
PLAIN = [POST, GET, READ, PUT, GET_SOURCE]
# What RFC 3986 (3.3) allows in one segment of a path.
SEGMENT_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@%"
TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
HOSTILE_BYTES = 64 * 1024


@dataclass
class Seen:
    """What h11 makes of the first request of some input.

    Attributes:
        complete: whether the whole request was there.
        rest: what follows it.
        closes: whether the connection ends with its answer.
        expects: whether the client waits for 100 Continue.
        keys: the values of Idempotency-Key.
    """

    method: bytes
    target: bytes
    version: bytes
    body: bytes
    complete: bool
    rest: bytes
    closes: bool
    expects: bool
    keys: list[bytes]


def seen_by_h11(data: bytes) -> Seen | None:
    """What h11 reads; None if it refuses the request, or finds only a part of its head."""
    connection = _Connection(h11.SERVER, max_incomplete_event_size=http_config().h11_max_incomplete_size)
    connection.receive_data(data)
    body, complete = b"", False
    try:
        request = connection.next_event()
        if not isinstance(request, h11.Request):
            return None
        expects = connection.they_are_waiting_for_100_continue
        while not isinstance(event := connection.next_event(), type):
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                complete = True
                break
    except h11.RemoteProtocolError:
        return None
    rest = connection.trailing_data[0]
    if complete:
        connection.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
        connection.send(h11.EndOfMessage())
    closes = connection.our_state is h11.MUST_CLOSE
    keys = [value for name, value in request.headers if name == b"idempotency-key"]
    return Seen(
        request.method, request.target, request.http_version, bytes(body), complete, bytes(rest), closes, expects, keys
    )


def target_of(request: PlainRequest) -> bytes:
    """The target that the client wrote."""
    return request.route.template.format(name=request.name.decode(), id=request.key.decode()).encode()


def check_against_h11(data: bytes) -> PlainRequest | None:
    """Check that h11 finds the same request, and the same input after it, whenever a plain request is found."""
    request = parse(data)
    if request is None:
        return None
    seen = seen_by_h11(data)
    assert seen is not None, "h11 refuses it"
    assert seen.version == b"1.1"
    assert not seen.expects
    assert seen.method == request.route.method.encode()
    assert seen.target == target_of(request)
    assert seen.body == request.body
    if "{id}" not in request.route.template:  # else its target has the key
        assert request.key == b"".join(seen.keys if seen.method == b"POST" else [])
        assert seen.method != b"POST" or seen.keys in ([], [request.key])
    assert seen.complete == (request.end <= len(data))
    if seen.complete:
        assert seen.rest == data[request.end :]
        assert seen.closes == request.closes
    return request


def field_name(name: bytes) -> st.SearchStrategy[bytes]:
    """A field's name in any casing."""
    return st.tuples(*(st.sampled_from([letter.upper(), letter.lower()]) for letter in name.decode())).map(
        lambda letters: "".join(letters).encode()
    )


white = st.text(alphabet=" \t", max_size=3).map(str.encode)
number = st.one_of(
    st.integers(0, 30).map(lambda n: b"%d" % n),
    st.sampled_from([b"", b"007", b"+5", b"-1", b"5, 5", b"5,6", b"0x5", b"999", b"1000", b"9" * 25, b"1_0", b"1 1"]),
)
connection_value = st.lists(
    st.sampled_from([b"close", b"Keep-Alive", b"CLOSE", b"upgrade", b"te", b"x", b""]), max_size=3
).map(b",".join)
decisive = st.one_of(
    st.tuples(field_name(b"host"), st.sampled_from([b"h", b"", b"a:1", b"[::1]", b"a b", b"a,b"])),
    st.tuples(field_name(b"content-length"), number),
    st.tuples(field_name(b"connection"), connection_value),
    st.tuples(field_name(b"transfer-encoding"), st.sampled_from([b"chunked", b"identity", b"gzip, chunked", b""])),
    st.tuples(field_name(b"expect"), st.sampled_from([b"100-continue", b"x"])),
    st.tuples(field_name(b"upgrade"), st.sampled_from([b"websocket", b"h2c"])),
    st.tuples(field_name(b"te"), st.just(b"trailers")),
    st.tuples(field_name(b"keep-alive"), st.just(b"timeout=5")),
)
segment = st.lists(st.sampled_from(list(SEGMENT_BYTES)), min_size=1, max_size=8).map(bytes)
name_bytes = st.lists(st.sampled_from(list(TOKEN_BYTES)), min_size=1, max_size=8).map(bytes)
key_value = st.sampled_from([b"1700000000-a", b'"1700000000-a"', b"", b'"', b"Ab, c", b"x" * 65])
lookalike = st.sampled_from(
    [b"Idempotency-Keys", b"Hos", b"Hostt", b"X-Host", b"Content_Length", b"xconnection", b"Accept", b"A"]
)
plain_value = st.text(alphabet=[chr(code) for code in (9, *range(0x20, 0x7F))], max_size=20).map(str.encode)
harmless = st.tuples(lookalike | name_bytes, plain_value)
strange_value = st.sampled_from(
    [b"\xe9", b"a\x0bb", b"a\0b", b"\x7f", b"a\rb", b"a\nContent-Length: 1", b"a\r\n b", b"\x1f", b"a\r\n\tb"]
)
strange = st.tuples(
    lookalike | name_bytes | st.sampled_from([b"Host ", b"Content-Length\t", b"", b" A"]), strange_value
)
FLAWS = ("method", "line", "path", "version", "decisive", "strange", "end", "colon", "no host", "no length")


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A plain request, and as often one with a flaw or two."""
    flaws = draw(st.one_of(st.just(set()), st.sets(st.sampled_from(FLAWS), max_size=2)))
    method = draw(st.sampled_from([b"POST", b"GET", b"PUT"]))
    path = b"/counter/" + draw(segment)
    if method == b"GET":
        path += draw(st.sampled_from([b"/value", b"/consistent_value"]) | segment.map(b"/sources/".__add__))
    elif method == b"PUT":
        path += b"/sources/" + draw(segment)
    if "path" in flaws:
        path += draw(st.sampled_from([b"/value", b"/sources/", b"s", b"?a=b", b"#a", b"/", b"\xc3\xa9", b" "]))
    body = draw(st.binary(max_size=30)) if method != b"GET" else b""
    chosen = draw(st.lists(harmless, max_size=3))
    chosen += draw(st.lists(st.tuples(field_name(b"idempotency-key"), key_value), max_size=2))
    if "no host" not in flaws:
        chosen.append((draw(field_name(b"host")), draw(st.sampled_from([b"h", b"", b"a:1", b"[::1]", b"a b"]))))
    if (method != b"GET") != ("no length" in flaws):
        chosen.append((draw(field_name(b"content-length")), b"%0*d" % (draw(st.integers(1, 3)), len(body))))
    chosen += draw(st.lists(st.tuples(st.just(b"Connection"), st.sampled_from([b"close", b"Keep-Alive"])), max_size=2))
    if "decisive" in flaws:
        chosen += draw(st.lists(decisive, min_size=1, max_size=2))
    if "strange" in flaws:
        chosen.append(draw(strange))
    lines = [name + b":" + draw(white) + value + draw(white) for name, value in draw(st.permutations(chosen))]
    if "colon" in flaws and lines:
        lines[-1] = lines[-1].replace(b":", draw(st.sampled_from([b" :", b"\t:", b"", b"::"])), 1)
    if "method" in flaws:
        method = draw(st.sampled_from([b"HEAD", b"PUT", b"get", b"GET ", b" GET", b"\r\nGET"]))
    version = b"HTTP/1.1"
    if "version" in flaws:
        version = draw(
            st.sampled_from([b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"", b" HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.10"])
        )
    ends = [b"\r\n"] * (len(lines) + 2)
    if "end" in flaws:
        ends[draw(st.integers(0, len(ends) - 1))] = draw(st.sampled_from([b"\n", b"\r", b"\r\r\n", b"\r\n\r\n"]))
    lines = [method + b" " + path + b" " + version, *lines, b""]
    before = draw(st.sampled_from([b"\r\n", b"\n", b"\r\n\r\n", b"\r", b" \r\n"])) if "line" in flaws else b""
    return before + b"".join(line + end for line, end in zip(lines, ends, strict=True)) + body


@st.composite
def inputs(draw: st.DrawFn) -> bytes:
    """Requests one after the other, seldom damaged, sometimes cut anywhere."""
    data = bytearray(b"".join(draw(st.lists(requests(), min_size=1, max_size=3))))
    if not draw(st.integers(0, 3)):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 1))] = draw(st.binary(max_size=2))
    if not draw(st.integers(0, 3)):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


@MANY
@given(inputs())
def test_h11_reads_each_plain_request_the_same(data: bytes) -> None:
    check_against_h11(data)


@SOME
@given(inputs(), st.binary(max_size=40))
def test_where_a_request_begins_makes_no_difference(data: bytes, before: bytes) -> None:
    alone, within = parse(data), parse(before + data, len(before))
    assert (alone is None) == (within is None)
    if alone is not None and within is not None:
        assert within.end - len(before) == alone.end
        assert [within.route, within.name, within.key, within.body, within.closes] == [
            alone.route,
            alone.name,
            alone.key,
            alone.body,
            alone.closes,
        ]
    assert may_become_plain(data) == may_become_plain(before + data, len(before))


@SOME
@given(st.sampled_from(PLAIN), st.lists(harmless, max_size=5))
def test_requests_with_any_harmless_fields_are_taken(request: bytes, more: list[tuple[bytes, bytes]]) -> None:
    """Without this the comparison with h11 could pass by taking nothing."""
    decide = {b"te", b"host", b"content-length", b"connection", b"upgrade", b"expect", b"trailer", b"keep-alive"}
    lines = [name + b":" + value + b"\r\n" for name, value in more if name.lower() not in decide]
    head, rest = request.split(b"\r\n", 1)
    whole = head + b"\r\n" + b"".join(lines) + rest
    taken = check_against_h11(whole)
    assert taken is not None
    assert taken.end == len(whole)


@pytest.mark.parametrize("whole", PLAIN)
def test_any_first_part_of_a_request_is_either_taken_with_a_body_to_come_or_may_become_one(whole: bytes) -> None:
    for size in range(len(whole)):
        part = whole[:size]
        request = check_against_h11(part)
        if request is not None:
            assert request.end == len(whole)
        elif size >= len(b"POST /counter/"):
            assert may_become_plain(part)
    assert not may_become_plain(whole.replace(b" HTTP/1.1", b"?q HTTP/1.1"))


@pytest.mark.parametrize("byte", SEGMENT_BYTES, ids=lambda byte: f"{byte:02x}")
def test_every_byte_that_a_segment_may_have_is_taken_in_a_name(byte: int) -> None:
    name = bytes([byte]) * 3
    for whole in PLAIN:
        request = check_against_h11(whole.replace(b"/x", b"/" + name))
        assert request is not None
        assert request.name == name
    for whole in (PUT, GET_SOURCE):
        request = check_against_h11(whole.replace(b"/y", b"/" + name))
        assert request is not None
        assert (request.name, request.key) == (b"x", name)


@pytest.mark.parametrize("byte", sorted(set(range(256)) - set(SEGMENT_BYTES)), ids=lambda byte: f"{byte:02x}")
def test_no_other_byte_is_taken_in_a_name(byte: int) -> None:
    for name in (bytes([byte]), b"a" + bytes([byte]) + b"b"):
        assert parse(POST.replace(b"/x", b"/" + name)) is None
        assert parse(GET.replace(b"/x/", b"/" + name + b"/")) is None
        assert parse(PUT.replace(b"/y", b"/" + name)) is None
        assert parse(GET_SOURCE.replace(b"/y", b"/" + name)) is None


def test_the_routes_are_distinguished() -> None:
    routes = (INCREMENT, VALUE, CONSISTENT_VALUE, RAISE_SOURCE, SOURCE)
    for whole, route in zip(PLAIN, routes, strict=True):
        request = check_against_h11(whole)
        assert request is not None
        assert (request.route, request.name, request.closes) == (route, b"x", False)
        assert request.body == (b"" if route.method == "GET" else b"5")
        assert request.key == (b"y" if "{id}" in route.template else b"")


@pytest.mark.parametrize(
    ("field", "closes"),
    [
        (b"Connection: close", True),
        (b"connection:CLOSE", True),
        (b"Connection: keep-alive", False),
        (b"Connection: keep-alive\r\nConnection: close", True),
        (b"Connection: close\r\nConnection: keep-alive", True),
    ],
)
def test_the_connection_field_has_the_same_effect_on_both_paths(field: bytes, closes: bool) -> None:
    for whole in PLAIN:
        request = check_against_h11(whole.replace(b"Host: h", b"Host: h\r\n" + field))
        assert request is not None
        assert request.closes == closes


@pytest.mark.parametrize(
    "field",
    [
        b"Transfer-Encoding: chunked",
        b"TRANSFER-ENCODING:identity",
        b"Expect: 100-continue",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Connection: close, te",
        b"Connection:",
        b"TE: trailers",
        b"Trailer: a",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: close",
        b"Origin: http://h",
        b"origin: null",
        b"Sec-Fetch-Site: cross-site",
        b"Sec-Fetch-Site: same-origin",
        b"Host: h",
        b"Content-Length: 1",
        b"Content-Length: 2",
        b"A: b\r\n folded",
        b"A : b",
        b" A: b",
        b"A",
        b": b",
        b"A: \xe9",
        b"A: \0",
        b"A: b\nC: d",
        b"A: b\rC: d",
        b"Content-Length : 1",
    ],
)
def test_requests_with_fields_that_change_the_framing_are_left_to_the_application(field: bytes) -> None:
    for whole in (POST, PUT):
        assert parse(whole.replace(b"Host: h", b"Host: h\r\n" + field)) is None
        assert parse(whole.replace(b"Host: h", field + b"\r\nHost: h")) is None


@pytest.mark.parametrize(
    "length",
    [b"", b"-1", b"+1", b"1,1", b"1, 1", b"0x1", b"1_1", b"1000", b"9" * 20, b"9" * 5000, b"\xb2", b"1 1", b"1.0"],
)
def test_a_length_that_is_not_a_small_number_is_left_to_the_application(length: bytes) -> None:
    for whole in (POST, PUT):
        assert parse(whole.replace(b"Length: 1", b"Length: " + length)) is None


def test_a_body_where_none_belongs_and_none_where_one_belongs_are_left_to_the_application() -> None:
    for whole in (GET, GET_SOURCE):
        assert parse(whole.replace(b"Host: h", b"Host: h\r\nContent-Length: 0")) is None
    for whole in (POST, PUT):
        assert parse(whole.replace(b"\r\nContent-Length: 1", b"")) is None
    assert parse(GET.replace(b"Host: h\r\n", b"")) is None


def test_requests_in_a_row_end_where_the_next_one_begins() -> None:
    row = POST + PUT + GET + READ + GET_SOURCE + POST.replace(b"h\r\n", b"h\r\nConnection: close\r\n") + b"rest"
    found, start = [], 0
    while (request := parse(row, start)) is not None:
        found.append((request.route, request.closes))
        start = request.end
    routes = [INCREMENT, RAISE_SOURCE, VALUE, CONSISTENT_VALUE, SOURCE, INCREMENT]
    assert found == [(route, at == 5) for at, route in enumerate(routes)]
    assert row[start:] == b"rest"


def test_a_head_that_ends_in_bare_line_feeds_is_not_waited_for() -> None:
    """The application takes it, but would get it only after the fast path has waited in vain."""
    for whole in PLAIN:
        bare = whole.replace(b"\r\n", b"\n")
        assert seen_by_h11(bare) is not None
        assert parse(bare) is None
        assert not may_become_plain(bare)


LINE, END = b"GET /counter/x/value HTTP/1.1\r\n", b"\r\n\r\n"
HOST = LINE + b"Host: a"


@pytest.mark.parametrize("field", [b"Idempotency-Key: Ab", b"IDEMPOTENCY-KEY:\tAb  ", b"idempotency-key:Ab"])
def test_the_key_of_an_increment_is_read_as_it_was_written(field: bytes) -> None:
    request = check_against_h11(POST.replace(b"Host: h", field + b"\r\nHost: h"))
    assert request is not None
    assert request.key == b"Ab"
    for whole in (GET, READ):
        request = check_against_h11(whole.replace(b"Host: h", field + b"\r\nHost: h\r\n" + field))
        assert request is not None
        assert request.key == b""


@pytest.mark.parametrize("fields", [b"Idempotency-Key:", b"Idempotency-Key: a\r\nidempotency-key: a"])
def test_an_empty_key_and_two_keys_are_left_to_the_application(fields: bytes) -> None:
    assert parse(POST.replace(b"Host: h", fields + b"\r\nHost: h")) is None


@pytest.mark.parametrize(
    "fields", [b"Idempotency-Key:", b"Idempotency-Key: a", b"Idempotency-Key: a\r\nidempotency-key: a"]
)
def test_a_source_has_its_id_in_the_path_and_no_other(fields: bytes) -> None:
    for whole in (PUT, GET_SOURCE):
        request = check_against_h11(whole.replace(b"Host: h", fields + b"\r\nHost: h"))
        assert request is not None
        assert request.key == b"y"


HOSTILE = {  # how it begins, what is repeated, how it ends
    "long name": (b"POST /counter/", b"a", b""),
    "long name, wrong route": (b"GET /counter/", b"a", b"/x HTTP/1.1\r\nHost: h" + END),
    "long id": (b"PUT /counter/a/sources/", b"a", b""),
    "sources": (b"GET /counter/a", b"/sources/a", b" HTTP/1.1\r\nHost: h" + END),
    "slashes": (b"GET /counter/", b"a/value", b" HTTP/1.1\r\nHost: h" + END),
    "spaces within a value": (HOST, b" ", b"b" + END),
    "spaces and tabs within a value": (HOST, b" \t", b"b" + END),
    "words within a value": (HOST, b" a  ", b"b" + END),
    "spaces within a length": (HOST + b"\r\nContent-Length: 1", b" ", b"1" + END),
    "spaces within a connection": (HOST + b"\r\nConnection: a", b" ", b"b" + END),
    "spaces after a colon": (LINE + b"Host:", b" ", END),
    "spaces after a value": (HOST, b" ", END),
    "spaces without an end": (HOST, b" ", b""),
    "a value with a bad end": (HOST, b" ", b"\0" + END),
    "field names": (HOST + b"\r\n", b"a", END),
    "fields": (HOST + b"\r\n", b"a:b\r\n", b"\r\n"),
    "fields with a bad end": (HOST + b"\r\n", b"a:b\r\n", b"\0" + END),
    "empty fields": (LINE, b"a:\r\n", b"Host: a" + END),
    "hosts": (LINE, b"Host:\r\n", b"\r\n"),
    "keys": (LINE, b"Idempotency-Key: a\r\n", b"Host: h" + END),
    "almost hosts": (LINE, b"Hos:\r\n", b"Host: a" + END),
    "returns": (HOST, b"\r", END),
    "line feeds": (HOST, b"\n", END),
}


@pytest.mark.parametrize(("head", "unit", "tail"), HOSTILE.values(), ids=list(HOSTILE))
def test_64_kib_of_hostile_input_is_read_in_linear_time(head: bytes, unit: bytes, tail: bytes) -> None:
    """In quadratic time each of these takes many seconds; a thousand of them would take hours."""
    data = head + unit * ((HOSTILE_BYTES - len(head) - len(tail)) // len(unit)) + tail
    for _ in range(20):
        parse(data)
        may_become_plain(data)
    check_against_h11(data)
