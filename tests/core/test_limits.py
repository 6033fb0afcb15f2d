"""What a counter may be called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.limits import (
    MAX_CLUSTER_BYTES,
    MAX_FRAME_BYTES,
    MAX_HOST_BYTES,
    MAX_INCARNATIONS,
    MAX_MEMBERS,
    MAX_MESSAGE_BYTES,
    MAX_VERSION,
    valid_name,
)
from gcount.core.options import DEFAULTS
from gcount.core.protocol.messages import Hello, Push, encode
from gcount.core.state.counters import Delta
from gcount.core.state.membership import Membership

GOOD = [
    "a",
    "x" * 255,
    "é" * 127,
    "😀" * 63,
    " ",
    "a b",
    "%2F",
    "..",
    "\u00a0",
    "\u2028",
    "\\",
    '"',
    "ÿ",
    "/",
    "a/b",
    "/blog/2026/",
    "//",
]
BAD = [
    "",
    "x" * 256,
    "é" * 128,
    "😀" * 64,
    "a\x00",
    "\n",
    "\x1f",
    "\x7f",
    "\x80",
    "\x9f",
    "\ud800",
    "a\udfff",
]


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_good_names(name: str) -> None:
    assert valid_name(name)


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_bad_names(name: str) -> None:
    assert not valid_name(name)


@given(st.text(max_size=300))
def test_a_name_is_valid_exactly_by_the_rule(name: str) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    clean = not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in name)
    assert valid_name(name) == (1 <= size <= 255 and clean)


def test_the_biggest_push_and_hello_that_a_node_makes_fit_in_a_message() -> None:
    full = Push(MAX_VERSION, True, [Delta(bytes(16), 0, MAX_VERSION, {"x" * 255: 2**64 - 1})])
    assert DEFAULTS.push_bytes + len(encode(full)) < MAX_MESSAGE_BYTES
    ids = [number.to_bytes(16, "big") for number in range(MAX_INCARNATIONS)]
    actor = "x" * MAX_HOST_BYTES + ":65535"
    hello = Hello(
        1,
        "x" * MAX_CLUSTER_BYTES,
        ids[0],
        ids[1],
        ids[2],
        ids[:1024],
        Membership(MAX_VERSION, (actor,) * MAX_MEMBERS),
        dict.fromkeys(ids, MAX_VERSION),
    )
    assert len(encode(hello)) < MAX_MESSAGE_BYTES


def test_a_frame_of_the_log_is_never_bigger_than_a_reader_takes() -> None:
    assert 2 * DEFAULTS.frame_bytes < MAX_FRAME_BYTES
