"""Patterns of KEYS and SCAN: they match as in Redis, and none takes very long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.redis.glob import MAX_PATTERN_BYTES, compile_glob


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        (b"*", [b"", b"a\nb"], []),
        (b"a*b*c", [b"abc", b"axbxbxc", b"abbcc"], [b"ab", b"acb"]),
        (b"**a", [b"a", b"ba"], [b"ab"]),
        (b"h?llo", [b"hello"], [b"hllo", b"heello"]),
        (b"h[ae]llo", [b"hello", b"hallo"], [b"hillo"]),
        (b"h[^e]llo", [b"hallo"], [b"hello"]),
        (b"h[a-cz]", [b"hb", b"hz"], [b"hd"]),
        (b"h[c-a]", [b"hb"], [b"hd"]),
        (b"h[]", [], [b"h", b"h]"]),
        (rb"a\*b", [b"a*b"], [b"axb"]),
        (rb"[\]]", [b"]"], [b"\\"]),
        (b"a.b", [b"a.b"], [b"axb"]),
        (b"[ab", [b"a"], [b"[ab"]),
        (b"\\", [b"\\"], [b""]),
    ],
)
def test_patterns_are_those_of_redis(pattern: bytes, matching: list[bytes], other: list[bytes]) -> None:
    compiled = compile_glob(pattern)
    assert [name for name in matching if not compiled.fullmatch(name)] == []
    assert [name for name in other if compiled.fullmatch(name)] == []


@settings(max_examples=500, derandomize=True, deadline=None, database=None)
@given(st.text("ab*?[]^-", max_size=10).map(str.encode), st.text("ab[]^-", max_size=6).map(str.encode))
def test_a_pattern_matches_what_it_matches_when_it_is_tried_in_every_way(pattern: bytes, name: bytes) -> None:
    assert (compile_glob(pattern).fullmatch(name) is not None) == matches(pattern, name)


def matches(pattern: bytes, name: bytes) -> bool:
    """Match as Redis' stringmatchlen does, with each star tried at every length; without backslashes."""
    if pattern[:1] == b"*":
        return any(matches(pattern[1:], name[at:]) for at in range(len(name) + 1))
    if not pattern or not name:
        return not pattern and not name
    kind, rest = pattern[:1], pattern[1:]
    if kind != b"[":
        return kind in (b"?", name[:1]) and matches(rest, name[1:])
    negated = rest[:1] == b"^"
    rest = rest[negated:]
    found = False
    while rest and rest[:1] != b"]":
        size = 3 if len(rest) >= 3 and rest[1:2] == b"-" else 1
        low, high = sorted([rest[0], rest[size - 1]])
        found, rest = found or low <= name[0] <= high, rest[size:]
    return found != negated and matches(rest[1:], name[1:])


def test_the_longest_pattern_of_stars_is_tried_in_one_way_only() -> None:
    """If each star tried every length, this would take far too long."""
    pattern = b"*a" * (MAX_PATTERN_BYTES // 2)
    assert compile_glob(pattern).fullmatch(b"a" * 254 + b"b") is None
    assert compile_glob(pattern).fullmatch(b"a" * 255) is not None
