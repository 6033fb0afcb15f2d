"""Names in paths, query parameters and JSON documents: what is read, and what is refused."""

from __future__ import annotations

import pytest

from gcount.errors import BadConfig, BadId, BadName, BadParameter, UnknownParameter
from gcount.http.parameters import (
    check_parameters,
    id_in_path,
    idempotency_key,
    name_in_path,
    parse_config,
    timeout_parameter,
)


@pytest.mark.parametrize(
    ("segment", "name"),
    [("a", "a"), ("a+b", "a+b"), ("%2Fblog%2f", "/blog/"), ("100%25", "100%"), ("%252F", "%2F"), ("%C3%A9", "é")],
)
def test_a_name_in_a_path_is_decoded_once(segment: str, name: str) -> None:
    assert name_in_path(segment) == name


@pytest.mark.parametrize(
    ("segment", "why"),
    [
        ("%", "two hexadecimal digits"),
        ("%zz", "two hexadecimal digits"),
        ("a%4", "two hexadecimal digits"),
        ("%ff", "not UTF-8 after percent-decoding"),
        ("%C3", "not UTF-8 after percent-decoding"),
        ("", "1 to 255 bytes"),
        ("%00", "no control characters"),
        ("%61" * 256, "1 to 255 bytes"),
    ],
)
def test_a_segment_that_names_nothing_is_refused_with_the_reason(segment: str, why: str) -> None:
    for _ in range(2):  # also when the answer is kept
        with pytest.raises(BadName, match=why):
            name_in_path(segment)


@pytest.mark.parametrize("segment", ["1700000000-a", "1700000000%2Da", "1700000000-%61"])
def test_an_id_in_a_path_is_decoded(segment: str) -> None:
    assert id_in_path(segment) == "1700000000-a"


@pytest.mark.parametrize(
    ("segment", "why"),
    [
        ("%", "two hexadecimal digits"),
        ("1700000000-%4", "two hexadecimal digits"),
        ("1700000000-%C3%A9", "A-Z a-z 0-9"),
        ("1700000000-%252D", "A-Z a-z 0-9"),
        ("", "1 to 64 characters"),
        ("a", "when it was made"),
    ],
)
def test_a_segment_that_is_no_id_is_refused_with_what_is_allowed(segment: str, why: str) -> None:
    with pytest.raises(BadId, match=why):
        id_in_path(segment)


@pytest.mark.parametrize("text", ["1700000000-a", '"1700000000-a"', " \t1700000000-a ", ' "1700000000-a"\t'])
def test_an_idempotency_key_is_the_id_bare_or_as_a_string(text: str) -> None:
    assert idempotency_key([text]) == "1700000000-a"
    assert idempotency_key([]) is None


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["1-a", "1-a"], "more than once"),
        ([""], "UUIDv7, a ULID or UNIXSECONDS-anything"),
        (['"'], "1 to 64 characters"),
        (['""'], "1 to 64 characters"),
        (['"1-a'], "other characters"),
        (['"1-a"; b'], "other characters"),
        (["1-a, 1-b"], "other characters"),
        (['"1-\\a"'], "other characters"),
        (["1-\xe9"], "other characters"),
        (["order-5"], "does not say when it was made"),
    ],
)
def test_an_idempotency_key_that_is_no_id_is_refused(given: list[str], why: str) -> None:
    with pytest.raises(BadId, match=why):
        idempotency_key(given)


def test_a_timeout_is_given_once_or_not_at_all() -> None:
    assert timeout_parameter([]) is None
    assert timeout_parameter(["2.5"]) == 2.5
    with pytest.raises(BadParameter, match="more than once"):
        timeout_parameter(["2", "2"])
    with pytest.raises(BadParameter, match="above 0"):
        timeout_parameter([""])


def test_parameters_that_the_route_knows_are_let_through() -> None:
    check_parameters([], ())
    check_parameters(["timeout", "timeout"], ("timeout",))


@pytest.mark.parametrize(
    ("allowed", "said"), [((), "'w'; none is allowed"), (("timeout",), "'w'; only timeout is allowed")]
)
def test_others_are_named(allowed: tuple[str, ...], said: str) -> None:
    with pytest.raises(UnknownParameter, match=said):
        check_parameters([*allowed, "w"], allowed)


def test_an_error_shows_no_more_than_a_line_of_what_is_unknown() -> None:
    with pytest.raises(UnknownParameter) as raised:
        check_parameters(["x" * 10_000 for _ in range(1000)], [])
    assert len(str(raised.value)) < 300


def test_a_config_is_a_document_of_json() -> None:
    assert parse_config(b' {"actors": ["a"]} ') == {"actors": ["a"]}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5000], ids=lambda body: repr(body[:10]))
def test_a_config_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadConfig, match="must be JSON like"):
        parse_config(body)


@pytest.mark.parametrize("body", [b'{"a": 1, "a": 1}', b'[{"b": {"a": 1, "a": 2}}]'])
def test_an_object_with_two_members_of_one_name_is_refused(body: bytes) -> None:
    with pytest.raises(BadConfig, match="two members of one name"):
        parse_config(body)
