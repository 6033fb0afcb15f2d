"""Frames: whatever is sent arrives, however it is cut, wsproto sees it alike, and what no link sends is refused."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import pytest
import wsproto.events
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType

from gcount.core.limits import MAX_MESSAGE_BYTES
from gcount.core.protocol.websocket_frames import BINARY, CLOSE, PART, PING, PONG, Frames, frame
from gcount.errors import ProtocolError
from tests.harness.websocket import TEXT
from tests.harness.websocket import frame as raw

KIB = 1024
EDGES = [0, 1, 125, 126, 127, 65_535, 65_536, MAX_MESSAGE_BYTES - 1, MAX_MESSAGE_BYTES]
MASK = b"\x12\x00\xff\x80"

sizes = st.sampled_from(EDGES) | st.integers(0, 300) | st.integers(0, MAX_MESSAGE_BYTES)
sides = st.booleans()
"""Whether the sender dialled, and so masks."""


def filled(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


payloads = sizes.map(filled)
small = st.binary(max_size=125)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(places)]


def messages(frames: Frames, fed: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """All that the pieces are cut into, but for the parts, which say nothing yet."""
    found = []
    for piece in fed:
        frames.feed(piece)
        while (one := frames.next()) is not None:
            if one[0] == PART:
                assert one[1] == b""
            else:
                found.append(one)
    return found


def refusal(data: bytes, *, masked: bool = True) -> str:
    with pytest.raises(ProtocolError) as refused:
        messages(Frames(masked=masked), [data])
    return str(refused.value)


# What arrives


@given(st.lists(payloads, max_size=3), sides, st.binary(min_size=4, max_size=4), st.lists(st.integers(0), max_size=6))
def test_messages_arrive_whole_and_in_order_however_they_are_cut(
    sent: list[bytes], masked: bool, mask: bytes, cuts: list[int]
) -> None:
    data = b"".join(frame(BINARY, payload, mask if masked else b"") for payload in sent)
    assert messages(Frames(masked=masked), pieces(data, cuts)) == [(BINARY, payload) for payload in sent]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_a_frame_that_comes_byte_by_byte_is_none_before_its_last_one(size: int, masked: bool) -> None:
    data, frames = frame(BINARY, filled(size), MASK if masked else b""), Frames(masked=masked)
    for place in range(len(data) - 1) if size < 200 else (1, 2, 3, 9, 13, len(data) - 2):
        frames = Frames(masked=masked)
        frames.feed(data[:place])
        assert frames.next() is None
        frames.feed(data[place:])
        assert frames.next() == (BINARY, filled(size))
        assert frames.next() is None


@pytest.mark.parametrize("masked", [False, True])
def test_what_is_fed_in_one_piece_comes_out_one_by_one(masked: bool) -> None:
    mask = MASK if masked else b""
    sent = [(BINARY, b"a"), (PING, b"b"), (BINARY, b""), (PONG, b"c"), (BINARY, filled(70_000)), (CLOSE, b"")]
    data = b"".join(frame(opcode, payload, mask) for opcode, payload in sent)
    assert messages(Frames(masked=masked), [data]) == sent


@given(st.lists(payloads, max_size=5), st.lists(st.integers(0), max_size=5), sides, st.data())
def test_fragments_are_joined_with_control_frames_in_between(
    parts: list[bytes], cuts: list[int], masked: bool, data: st.DataObject
) -> None:
    parts = [b"", *parts, b""]
    while sum(map(len, parts)) > MAX_MESSAGE_BYTES:
        parts.remove(max(parts, key=len))
    sent, controls = b"", []
    for number, part in enumerate(parts):
        sent += raw(PART if number else BINARY, part, final=number == len(parts) - 1, masked=masked)
        if number < len(parts) - 1 and data.draw(st.booleans()):
            controls.append((data.draw(st.sampled_from([PING, PONG, CLOSE])), data.draw(small)))
            sent += raw(*controls[-1], masked=masked)
    sent += frame(BINARY, b"next", MASK if masked else b"")
    whole = (BINARY, b"".join(parts))
    assert messages(Frames(masked=masked), pieces(sent, cuts)) == [*controls, whole, (BINARY, b"next")]


def test_a_control_frame_does_not_count_to_the_message_that_it_interrupts() -> None:
    most = filled(MAX_MESSAGE_BYTES)
    sent = raw(BINARY, most, final=False) + raw(PING, b"x" * 125) + raw(PART, b"")
    assert messages(Frames(masked=True), [sent]) == [(PING, b"x" * 125), (BINARY, most)]


def test_a_length_may_be_written_longer_than_it_has_to_be() -> None:
    for head in (b"\x82\x7e\x00\x02", b"\x82\x7f" + bytes(7) + b"\x02"):
        assert messages(Frames(masked=False), [head + b"hi"]) == [(BINARY, b"hi")]


# A second opinion


@given(st.lists(st.tuples(st.sampled_from([BINARY, PING, PONG]), small), max_size=4), st.lists(payloads, max_size=2))
def test_wsproto_reads_what_either_end_writes(controls: list[tuple[int, bytes]], sent: list[bytes]) -> None:
    for dialled in (False, True):
        said = [*controls, *((BINARY, payload) for payload in sent), (CLOSE, b"\x03\xe8")]
        oracle = Connection(ConnectionType.SERVER if dialled else ConnectionType.CLIENT)
        oracle.receive_data(b"".join(frame(*each, MASK if dialled else b"") for each in said))
        assert heard(oracle) == said


def heard(oracle: Connection) -> list[tuple[int, bytes]]:
    found, message = [], b""
    for event in oracle.events():
        match event:
            case wsproto.events.BytesMessage():
                message += event.data
                if event.message_finished:
                    found.append((BINARY, message))
                    message = b""
            case wsproto.events.Ping():
                found.append((PING, bytes(event.payload)))
            case wsproto.events.Pong():
                found.append((PONG, bytes(event.payload)))
            case wsproto.events.CloseConnection():
                found.append((CLOSE, event.code.to_bytes(2)))
    return found


@given(st.lists(st.tuples(payloads, st.booleans()), max_size=4), small, st.lists(st.integers(0), max_size=4), sides)
def test_what_wsproto_writes_is_read(
    parts: list[tuple[bytes, bool]], ping: bytes, cuts: list[int], masked: bool
) -> None:
    oracle = Connection(ConnectionType.CLIENT if masked else ConnectionType.SERVER)
    data, expected, message = b"", [], b""
    for payload, last in [*parts, (b"", True)]:
        if len(message) + len(payload) > MAX_MESSAGE_BYTES:
            payload = b""
        data += oracle.send(wsproto.events.BytesMessage(payload, message_finished=last))
        data += oracle.send(wsproto.events.Ping(ping))
        message += payload
        if last:
            expected.append((BINARY, message))
            message = b""
        expected.append((PING, ping))
    data += oracle.send(wsproto.events.CloseConnection(1001, "going"))
    expected.append((CLOSE, b"\x03\xe9going"))
    assert messages(Frames(masked=masked), pieces(data, cuts)) == expected


# What is refused


@pytest.mark.parametrize("opcode", [TEXT, 0x3, 0x7, 0xB, 0xF])
def test_text_and_opcodes_without_a_meaning_are_refused(opcode: int) -> None:
    assert "opcode" in refusal(raw(opcode, b"x"))
    assert "opcode" in refusal(raw(BINARY, b"x", final=False) + raw(opcode, b"x"))


@pytest.mark.parametrize("bit", [0x40, 0x20, 0x10])
def test_bits_of_extensions_are_refused(bit: int) -> None:
    assert "extension" in refusal(bytes([0x80 | bit | BINARY, 0x80]) + MASK)


def test_the_dialling_end_has_to_mask_and_the_accepting_end_must_not() -> None:
    for opcode in (BINARY, PING, CLOSE):
        assert "masked" in refusal(raw(opcode, b"x", masked=False), masked=True)
        assert "masked" in refusal(raw(opcode, b"x", masked=True), masked=False)


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_long_and_fragmented_control_frames_are_refused(opcode: int) -> None:
    assert "control frame" in refusal(raw(opcode, bytes(126)))
    assert "control frame" in refusal(raw(opcode, b"", claim=1 << 20))
    assert "control frame" in refusal(raw(opcode, b"x", final=False))


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES + 1, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("masked", [False, True])
def test_a_message_that_is_too_long_is_refused_before_it_comes(size: int, masked: bool) -> None:
    assert "262144" in refusal(raw(BINARY, b"", masked=masked, claim=size)[:10], masked=masked)


def test_fragments_are_no_way_around_the_limit() -> None:
    frames = Frames(masked=True)
    begun = raw(BINARY, bytes(200 * KIB), final=False) + raw(PART, bytes(56 * KIB), final=False)
    assert messages(frames, [begun]) == []
    frames.feed(raw(PART, b"", claim=1)[:2])
    with pytest.raises(ProtocolError, match="262144"):
        frames.next()


def test_a_continuation_of_nothing_and_a_message_inside_another_are_refused() -> None:
    for final in (False, True):
        assert "goes on" in refusal(raw(PART, b"x", final=final))
        assert "goes on" in refusal(raw(BINARY, b"x") + raw(PART, b"x", final=final))
        begun = raw(BINARY, b"x", final=False)
        assert "inside" in refusal(begun + raw(BINARY, b"x", final=final))
        assert "inside" in refusal(begun + raw(PART, b"x", final=False) + raw(BINARY, b"x", final=final))


def test_what_came_before_something_refused_is_not_lost() -> None:
    frames = Frames(masked=True)
    frames.feed(raw(BINARY, b"first") + raw(TEXT, b"second"))
    assert frames.next() == (BINARY, b"first")
    for _ in range(2):
        with pytest.raises(ProtocolError):
            frames.next()


# Any bytes whatever

heads = st.builds(
    lambda first, second, size: bytes([first, second]) + size,
    st.sampled_from([0x00, 0x02, 0x80, 0x82, 0x88, 0x89, 0x8A, 0x81, 0xC2]) | st.integers(0, 255),
    st.sampled_from([0x80, 0x81, 0x85, 0xFE, 0xFF, 0x01, 0x7E]) | st.integers(0, 255),
    st.binary(max_size=14),
)
well_formed = st.builds(
    raw,
    st.sampled_from([PART, BINARY, PING, CLOSE]),
    st.binary(max_size=20) | st.just(bytes(200 * KIB)),
    final=st.booleans(),
    masked=st.booleans(),
)


@settings(max_examples=400)
@given(st.lists(st.binary(max_size=40) | heads | well_formed, max_size=8), sides, st.booleans())
def test_any_bytes_are_messages_or_refused_and_little_is_kept(data: list[bytes], masked: bool, joined: bool) -> None:
    frames = Frames(masked=masked)
    with contextlib.suppress(ProtocolError):
        for piece in [b"".join(data)] if joined else data:
            for opcode, payload in messages(frames, [piece]):
                assert opcode in (BINARY, CLOSE, PING, PONG)
                assert len(payload) <= (MAX_MESSAGE_BYTES if opcode == BINARY else 125)
            assert len(frames._message) <= MAX_MESSAGE_BYTES
            assert len(frames._data) - frames._start + len(frames._message) <= MAX_MESSAGE_BYTES + 14


def test_empty_fragments_without_end_take_no_memory() -> None:
    frames = Frames(masked=True)
    frames.feed(raw(BINARY, b"", final=False))
    piece = raw(PART, b"", final=False) * 10_000
    tracemalloc.start()
    try:
        for _ in range(10):
            assert messages(frames, [piece]) == []
        frames.feed(b"")
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()
    assert messages(frames, [raw(PART, b"end")]) == [(BINARY, b"end")]


def test_what_is_kept_is_never_more_than_one_message_and_what_was_fed_last() -> None:
    frames, fed = Frames(masked=True), 64 * KIB
    stream = frame(BINARY, filled(MAX_MESSAGE_BYTES), MASK) * 4
    tracemalloc.start()
    try:
        kept = 0
        for begin in range(0, len(stream), fed):
            frames.feed(stream[begin : begin + fed])
            kept = max(kept, len(frames._data))
            while frames.next() is not None:
                pass
        assert kept <= MAX_MESSAGE_BYTES + 14 + fed
        frames.feed(b"")
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
