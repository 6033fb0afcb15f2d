"""The parser of RESP: what it takes, what it refuses, and how much it keeps."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.redis import resp
from gcount.redis.resp import MAX_ARGUMENTS, Parser, columns
from tests.harness.resp import encoded

SOME = settings(max_examples=300, derandomize=True, deadline=None, database=None)

word = st.one_of(
    st.binary(max_size=8),
    st.text(alphabet="\r\n*$1ab", max_size=6).map(str.encode),
    st.sampled_from([b"INCR", b"x" * 600, b"\r\n", b"*1000000\r\n"]),
)
command = st.lists(word, min_size=1, max_size=5)
pipeline = st.lists(command, min_size=1, max_size=6)

FAULTS = {
    b"+PONG\r\n": "expected '*', got '+'",
    b" 5\r\n": "expected '*', got ' '",
    b'PING "x\r\n': "unbalanced quotes in request",
    b"PING 'x'y\r\n": "unbalanced quotes in request",
    b"GET /ping HTTP/1.1\r\n": "an HTTP request on a connection that speaks Redis' protocol",
    b"%1\r\n": "expected '*', got '%'",
    b"*\r\n": "invalid multibulk length",
    b"*+1\r\n": "invalid multibulk length",
    b"*1000000000\r\n": "invalid multibulk length",
    b"*16386\r\n": "invalid multibulk length",
    b"*" + b"1" * 40: "too big mbulk count string",
    b"*1\r\n*1\r\n": "expected '$', got '*'",
    b"*1\r\n+PING\r\n": "expected '$', got '+'",
    b"*1\r\n:1": "expected '$', got ':'",
    b"*1\r\n$-1\r\n": "invalid bulk length",
    b"*1\r\n$536870912\r\n": "invalid bulk length",
    b"*1\r\n$" + b"1" * 40: "too big bulk count string",
    b"*1\r\n$4\r\nPINGPING\r\n": "a string is not followed by a line end",
    b"*1\r\n$4\r\nPING\n\n": "a string is not followed by a line end",
    b"*1\r\n$4\r\nP\r\nPING\r\n": "a string is not followed by a line end",
}


def fed(parser: Parser, data: bytes, cuts: list[int]) -> list[list[bytes]]:
    """The commands that a parser reads if the data comes in pieces."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [read for start, end in pairwise(places) for read in parser.feed(data[start:end])]


@SOME
@given(pipeline, st.lists(st.integers(0, 10_000), max_size=20))
def test_any_cut_of_any_pipeline_gives_the_same_commands(sent: list[list[bytes]], cuts: list[int]) -> None:
    data = b"".join(encoded(*words) for words in sent)
    parser = Parser()
    assert fed(parser, data, cuts) == sent
    assert parser.between_commands


@SOME
@given(pipeline)
def test_the_parser_reads_the_same_as_hiredis(sent: list[list[bytes]]) -> None:
    data = b"".join(encoded(*words) for words in sent)
    reader = hiredis.Reader()
    reader.feed(data)
    assert Parser().feed(data) == [reader.gets() for _ in sent]


@SOME
@given(st.binary(max_size=60), st.lists(st.integers(0, 100), max_size=5))
def test_any_cut_of_any_bytes_gives_the_same_commands_and_the_same_fault(data: bytes, cuts: list[int]) -> None:
    whole, cut = Parser(), Parser()
    assert whole.feed(b"*1\r\n" + data) == fed(cut, b"*1\r\n" + data, cuts)
    assert str(whole.fault) == str(cut.fault)


@SOME
@given(
    st.lists(
        st.one_of(
            st.text(alphabet="AB \"'\\\r\n*1$:x", max_size=12).map(str.encode),
            st.sampled_from([b"PING\r\n", b"PING\n", b"\r\n", encoded(b"a\nb\r\n"), b"GET / HTTP/1.1\r\n"]),
        ),
        max_size=8,
    ),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_any_cut_of_any_lines_gives_the_same_commands_and_the_same_fault(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    whole, cut = Parser(), Parser()
    assert whole.feed(data) == fed(cut, data, cuts)
    assert str(whole.fault) == str(cut.fault)
    assert whole.between_commands == cut.between_commands


@pytest.mark.parametrize("data", FAULTS)
@pytest.mark.parametrize("step", [1, 1000])
def test_a_fault_ends_the_reading_behind_the_commands_before_it(data: bytes, step: int) -> None:
    parser = Parser()
    read = fed(parser, encoded(b"PING") + data, list(range(0, len(data) + 20, step)))
    assert read == [[b"PING"]]
    assert str(parser.fault) == FAULTS[data]
    assert parser.feed(encoded(b"PING")) == []


def test_empty_commands_and_lines_are_passed_over() -> None:
    parser = Parser()
    assert parser.feed(b"\r\n*0\r\n\n \r\n*-1\r\n\r\n" + encoded(b"PING")) == [[b"PING"]]
    assert parser.between_commands


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"PING\r\n", [b"PING"]),
        (b"PING\n", [b"PING"]),
        (b"  incrby\tpage:1   5 \r\n", [b"incrby", b"page:1", b"5"]),
        (b'"INCR" "page views"\r\n', [b"INCR", b"page views"]),
        (rb"""ECHO "a\x41\n\"\\\q" 'it\'s \n'""" + b"\r\n", [b"ECHO", b'aA\n"\\q', rb"it's \n"]),
        (b"ECHO pre\"fix\" ''\r\n", [b"ECHO", b"prefix", b""]),
        ("INCR über\r\n".encode(), [b"INCR", "über".encode()]),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_a_line_of_words_is_a_command(line: bytes, words: list[bytes], step: int) -> None:
    parser = Parser()
    data = line + encoded(b"GET", b"x") + line * 2 + encoded(b"PING")
    assert fed(parser, data, list(range(0, len(data), step))) == [words, [b"GET", b"x"], words, words, [b"PING"]]
    assert parser.between_commands


def test_a_line_without_an_end_is_refused_when_it_is_too_long() -> None:
    parser = Parser()
    for _ in range(17):
        assert parser.feed(b"ECHO" + b"x" * 4092) == []
    assert str(parser.fault) == "too big inline request"
    assert parser.held == 0
    whole = Parser()
    assert whole.feed(b"ECHO " + b"x" * 70_000 + b"\r\n") == []
    assert str(whole.fault) == "too big inline request"


def test_a_line_has_as_many_words_as_any_command() -> None:
    parser = Parser()
    assert parser.feed(b"MGET" + b" a" * (MAX_ARGUMENTS - 1) + b"\r\n") == [[b"MGET"] + [b"a"] * (MAX_ARGUMENTS - 1)]
    assert parser.feed(b"MGET" + b" a" * MAX_ARGUMENTS + b"\r\n") == []
    assert str(parser.fault) == "too many words in a line"


def test_empty_commands_may_be_as_many_as_the_client_likes() -> None:
    parser = Parser()
    for _ in range(20):
        assert parser.feed(b"*0\r\n" * 8_000 + b"*") == []
        assert parser.feed(b"0\r\n") == []
    assert parser.fault is None
    assert parser.held == 0


def test_all_words_of_a_command_count_also_those_that_came_with_the_command_before_it() -> None:
    word = encoded(b"x" * 10_000)[4:]
    claim = encoded(b"PING") + b"*600\r\n"
    parser = Parser()
    assert parser.feed(claim + word * 3) == [[b"PING"]]
    while parser.held < resp.MAX_COMMAND_BYTES and parser.fault is None:
        parser.feed(word)
    words = parser.held // (len(word) + 56)
    assert len(word) * words <= resp.MAX_COMMAND_BYTES
    parser = Parser()
    parser.feed(claim + word * 3)
    for _ in range(resp.MAX_COMMAND_BYTES // len(word) - 3):
        assert parser.feed(word) == []
    assert parser.fault is None
    parser.feed(word)
    assert str(parser.fault) == "too big a command"
    assert parser.held == 0


def test_a_command_of_the_greatest_size_is_read_and_a_greater_one_is_not() -> None:
    most = [b"MGET", *[b"x" * 255] * (resp.MAX_ARGUMENTS - 1)]
    assert Parser().feed(encoded(*most)) == [most]
    parser = Parser()
    big = encoded(*[b"x" * resp.MAX_BULK_BYTES] * 70)
    assert fed(parser, big, list(range(0, len(big), 32_768))) == []
    assert str(parser.fault) == "too big a command"


@pytest.mark.parametrize("argument", [b"", b"ab", b"\r\n" * 16_000, b"x" * resp.MAX_BULK_BYTES])
def test_an_unfinished_command_costs_less_than_six_mebibytes(argument: bytes) -> None:
    claim = b"*%d\r\n" % resp.MAX_ARGUMENTS
    data = claim + encoded(argument)[4:] * (resp.MAX_ARGUMENTS - 1)
    pieces = [data[start : start + 32_768] for start in range(0, min(len(data), 5 * 2**20), 32_768)]
    parser = Parser()
    tracemalloc.start()
    try:
        for piece in pieces:
            parser.feed(piece)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 6 * 2**20
    assert peak < 12 * 2**20


def test_a_string_that_comes_byte_by_byte_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    read = Parser._read

    def counted(self: Parser, lines: list[bytes], commands: list[resp.Words]) -> None:
        nonlocal looks
        looks += 1
        read(self, lines, commands)

    monkeypatch.setattr(Parser, "_read", counted)
    parser, payload = Parser(), b"\r\n" * 5000
    parser.feed(b"*1\r\n$10000\r\n")
    for byte in payload + b"\r":
        assert parser.feed(bytes([byte])) == []
    assert parser.feed(b"\n") == [[payload]]
    assert looks == 2


@SOME
@given(
    st.sampled_from([b"INCR", b"get"]),
    st.lists(st.one_of(st.binary(min_size=1, max_size=6), st.sampled_from([b"a", b"bb", b"c\nd"])), min_size=1),
)
def test_columns_are_found_in_pipelines_of_one_command_and_are_what_is_read(verb: bytes, names: list[bytes]) -> None:
    data = b"".join(encoded(verb, name) for name in names)
    found = columns(data)
    if any(b"\r" in name or b"\n" in name for name in names):
        assert found is None or found == (verb, names)
    else:
        assert found == (verb, names)


@SOME
@given(pipeline, st.binary(max_size=3))
def test_columns_of_anything_else_are_none(sent: list[list[bytes]], more: bytes) -> None:
    data = b"".join(encoded(*words) for words in sent) + more
    found = columns(data)
    if found is not None:
        parser = Parser()
        assert parser.feed(data) == [[found[0], name] for name in found[1]]
        assert parser.between_commands


@pytest.mark.parametrize("changed", [b"$3\r\nabc\r\n", b"$1\r\nab\r\n", b"$01\r\na\r\n", b"$2\r\na\r\n"])
def test_columns_look_at_every_length(changed: bytes) -> None:
    good = encoded(b"INCR", b"a")
    assert columns(good * 3) == (b"INCR", [b"a"] * 3)
    bad = good[: -len(b"$1\r\na\r\n")] + changed
    assert columns(good + bad + good) in (None, (b"INCR", [b"a", b"abc", b"a"]))
    assert columns(good + good.replace(b"*2", b"*3") + good) is None
    assert columns(good + good.replace(b"$4", b"$5") + good) is None


def test_numbers_beyond_64_bits_are_big_numbers_or_strings() -> None:
    assert resp.integer(2**63 - 1, 2) == b":9223372036854775807\r\n"
    assert resp.integer(2**63, 2) == b"$19\r\n9223372036854775808\r\n"
    assert resp.integer(2**63, 3) == b"(9223372036854775808\r\n"
    numbers = range(2**63 - 1, 2**63 + 1)
    assert resp.integers(numbers, 2**63, 3) == resp.integer(2**63 - 1, 3) + resp.integer(2**63, 3)
    assert resp.integers(range(3), 2, 3) == b":0\r\n:1\r\n:2\r\n"
