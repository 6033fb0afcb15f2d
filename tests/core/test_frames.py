"""Frames: a record can be found again, and nothing that is not one passes for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.format.frames import FRAME_HEAD_BYTES, MARK, frame, read_frame
from gcount.core.limits import MAX_FRAME_BYTES

payloads = st.binary(max_size=200)


@given(st.lists(payloads, max_size=8), st.binary(max_size=20))
def test_frames_that_follow_each_other_are_read_one_after_the_other(written: list[bytes], before: bytes) -> None:
    data = before + b"".join(map(frame, written))
    at, found = len(before), []
    while at < len(data):
        payload, at = read_frame(data, at)
        found.append(payload)
    assert found == written
    assert len(data) - len(before) == sum(FRAME_HEAD_BYTES + len(payload) for payload in written)


@given(payloads, st.data())
def test_any_changed_bit_is_noticed(payload: bytes, data: st.DataObject) -> None:
    good = frame(payload)
    at, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    bad = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
    with pytest.raises(ValueError, match="record"):
        read_frame(bad + bytes(MAX_FRAME_BYTES if at in range(4, 8) else 0), 0)


@given(payloads, st.data())
def test_any_cut_is_noticed(payload: bytes, data: st.DataObject) -> None:
    good = frame(payload)
    size = data.draw(st.integers(0, len(good) - 1))
    with pytest.raises(ValueError, match="cut off"):
        read_frame(good[:size], 0)


@given(st.binary(max_size=100), st.integers(0, 120))
def test_bytes_that_are_no_frame_are_refused_wherever_one_looks(junk: bytes, at: int) -> None:
    if junk[at : at + len(MARK)] != MARK:
        with pytest.raises(ValueError, match="record"):
            read_frame(junk, at)


def test_a_frame_may_be_so_long_and_no_longer() -> None:
    longest = bytes(MAX_FRAME_BYTES)
    assert read_frame(frame(longest), 0) == (longest, FRAME_HEAD_BYTES + MAX_FRAME_BYTES)
    with pytest.raises(ValueError, match=f"a record of {MAX_FRAME_BYTES + 1} bytes"):
        frame(longest + b"x")
    claims = MARK + (MAX_FRAME_BYTES + 1).to_bytes(4, "little") + bytes(4)
    with pytest.raises(ValueError, match=f"claims {MAX_FRAME_BYTES + 1} bytes; at most {MAX_FRAME_BYTES}"):
        read_frame(claims + longest + b"x", 0)


@given(st.text())
def test_no_text_holds_a_mark(text: str) -> None:
    """So no name of a counter looks like the beginning of a record."""
    assert MARK not in text.encode(errors="ignore")
    assert not any(byte in text.encode(errors="ignore") for byte in (0xFE, 0xFF))
