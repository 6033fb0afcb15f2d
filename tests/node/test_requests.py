"""Names, amounts, ids and timeouts of clients, in every protocol: which are allowed, and what a refusal says."""

from __future__ import annotations

from random import Random

import pytest

from gcount.core.limits import MAX_CELL
from gcount.errors import BadAmount, BadId, BadName, BadParameter
from gcount.node.requests import MAX_READ_TIMEOUT, parse_amount, parse_id, parse_name, parse_timeout
from tests.harness.made_ids import made_id


@pytest.mark.parametrize("name", ["a", "/", "a b", "%", "é", "x" * 255, "é" * 127, "\u2028"])
def test_a_name_is_what_its_bytes_say(name: str) -> None:
    assert parse_name(name.encode()) == name


@pytest.mark.parametrize("raw", [b"", b"\0", b"a\nb", b"\x7f", b"\xff", b"\xc3", b"\xed\xa0\x80", b"x" * 256])
def test_a_bad_name_is_refused_with_what_is_allowed(raw: bytes) -> None:
    with pytest.raises(BadName, match="not allowed: 1 to 255 bytes of UTF-8 and no control characters"):
        parse_name(raw)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        (b"0", 0),
        (b" 5\r\n", 5),
        (b"\t\v\f007 ", 7),
        (b"%d" % MAX_CELL, MAX_CELL),
        (b"0" * 100_000 + b"1", 1),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_amount_is_read_with_white_space_around_it(text: bytes, amount: int) -> None:
    assert parse_amount(text, "the body") == amount


@pytest.mark.parametrize(
    "text", [b"", b" ", b"-1", b"+1", b"1.0", b"1e3", b"1 1", b"0x1", b"1_0", b"\xd9\xa1", b"\xb2"]
)
def test_a_bad_amount_is_refused_under_the_name_that_the_client_knows(text: bytes) -> None:
    with pytest.raises(
        BadAmount, match=r"^the body must be a non-negative integer in ASCII digits, 0 to 2\^64-1, and nothing else$"
    ):
        parse_amount(text, "the body")


@pytest.mark.parametrize("text", [b"%d" % (MAX_CELL + 1), b"9" * 100_000], ids=["the next one", "a long one"])
def test_an_amount_has_a_limit(text: bytes) -> None:
    with pytest.raises(BadAmount, match="above 2"):
        parse_amount(text, "the body")


@pytest.mark.parametrize("form", range(30))
def test_an_id_is_what_its_text_says(form: int) -> None:
    id_ = made_id(Random(form), 1_700_000_000)
    assert parse_id(id_) == id_


@pytest.mark.parametrize("text", ["", "é", "1-\n", " 1-a", "1-a\0", "1-" + "x" * 63, "1_2-a b", "1-\u0661"])
def test_an_id_of_other_characters_or_another_length_is_refused(text: str) -> None:
    with pytest.raises(BadId, match=r"other characters, or too many or too few.*1 to 64 characters of A-Z a-z 0-9"):
        parse_id(text)


@pytest.mark.parametrize("text", ["a", "17", "1700000000", "-5", "a-5", "2cf24dba-5fb0-430e-a6e8-3b2ac5b9e29e"])
def test_an_id_without_a_time_is_refused_with_the_forms_that_have_one(text: str) -> None:
    with pytest.raises(BadId, match=r"not say when it was made.*UUIDv7, a ULID or UNIXSECONDS-anything"):
        parse_id(text)


@pytest.mark.parametrize(("text", "seconds"), [("1", 1.0), ("0.001", 0.001), ("60", MAX_READ_TIMEOUT), ("007.5", 7.5)])
def test_a_timeout_is_a_decimal_number_of_seconds(text: str, seconds: float) -> None:
    assert parse_timeout(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0.0", "60.1", "-1", "+1", "1.", ".5", "1e1", "inf", "nan", "\u0661", " 1", "9" * 99]
)
def test_a_bad_timeout_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match="a number of seconds above 0, 60 at most"):
        parse_timeout(text)
