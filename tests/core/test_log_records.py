"""The log's bytes: whatever happens to them, no batch appears that was not written, and none without those before."""

from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.format import frames as framing
from gcount.core.format import log_records as room
from gcount.core.format.frames import MARK
from gcount.core.format.log_records import HEADER_BYTES, Header, Scan, decode_header, encode_batch, find_batches
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.membership import Membership
from tests.core.histories import incarnation

HEAD = Header(incarnation(1), incarnation(2), 3, 1)

ids = st.binary(min_size=16, max_size=16)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
cells = st.dictionaries(names, st.integers(1, 2**64 - 1), min_size=1, max_size=8)
identities = st.builds(Identity, ids, ids, st.lists(ids, max_size=3).map(tuple))
totals = st.integers(1, 2**64 - 1)
keys = st.builds("{}-x {}".format, st.integers(0, 2**31), names)
settlements = st.builds(
    Settlement, st.integers(0, 2**40), st.integers(0, 2**62), st.dictionaries(names, totals, max_size=4)
)
keyed = st.builds(
    Keyed,
    st.dictionaries(keys, st.tuples(totals, st.integers(1, 2**62)), max_size=6),
    st.dictionaries(ids, settlements, max_size=3),
).filter(len)
memberships = st.builds(Membership, st.integers(0, 2**62), st.lists(names, max_size=3).map(tuple))


@st.composite
def batches(draw: st.DrawFn, number: int = 1) -> Batch:
    made = []
    for who in range(draw(st.integers(0, 3))):
        after = draw(st.integers(0, 2**61))
        made.append(Delta(incarnation(who), after, after + 1, draw(cells | st.just({})), draw(st.none() | keyed)))
    floor = draw(st.none() | st.integers(0, 2**40))
    return Batch(number, made, draw(st.none() | identities), draw(st.none() | memberships), floor)


@st.composite
def logs(draw: st.DrawFn) -> list[Batch]:
    return [draw(batches(number)) for number in range(1, draw(st.integers(1, 4)) + 1)]


def written(made: list[Batch], frame: int = DEFAULTS.frame_bytes) -> tuple[bytes, list[int]]:
    """A whole segment, and the offsets at which its batches begin and end."""
    data, offsets = HEAD.encode(), [HEADER_BYTES]
    for batch in made:
        data += encode_batch(batch, Options(frame_bytes=frame))
        offsets.append(len(data))
    return data, offsets


def scanned(data: bytes) -> tuple[list[Batch], Scan]:
    scan = Scan(data, 1)
    return list(scan), scan


SMALL = [
    Batch(1, [Delta(incarnation(7), 0, 1, {"a": 5})]),
    Batch(2, [], Identity(incarnation(1), incarnation(9), (incarnation(7),))),
    Batch(3, [Delta(incarnation(9), 0, 1, {"a": 1, "b": 2**64 - 1}), Delta(incarnation(8), 3, 9, {"é": 3})]),
    Batch(4, [], None, Membership(1, ("a:1", "b:2"))),
    Batch(
        5, [Delta(incarnation(9), 1, 2, {}, Keyed({"60-x a": (3, 2)}, {incarnation(8): Settlement(59, 9, {"é": 4})}))]
    ),
    Batch(6, [], floor=119),
]
FORMER = b"gcount\r\n\x01\x00"  # how a segment of the former format begins


@given(ids, ids, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_header_round_trips(node: bytes, incarnation_: bytes, sequence: int, first: int) -> None:
    header = Header(node, incarnation_, sequence, first)
    assert len(header.encode()) == HEADER_BYTES
    assert decode_header(header.encode() + b"more") == header


def test_a_header_with_any_flipped_bit_or_cut_off_is_refused() -> None:
    data = HEAD.encode()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="segment"):
            decode_header(bytes(flipped))
    for size in range(len(data)):
        with pytest.raises(ValueError, match="cut off"):
            decode_header(data[:size])


def in_format(version: int) -> bytes:
    with patch.object(room, "FORMAT", version):
        return HEAD.encode()


def test_a_header_of_another_format_says_so() -> None:
    with pytest.raises(ValueError, match="format 3, this gcount reads formats 1 and 2"):
        decode_header(in_format(3))


def test_a_header_of_the_former_format_is_read_and_told_apart() -> None:
    former = in_format(1)
    assert former.startswith(FORMER)
    assert decode_header(former) == decode_header(HEAD.encode()) == HEAD
    assert room.is_former_format(former)
    assert not room.is_former_format(HEAD.encode())
    assert not room.is_newer_format(former)
    with pytest.raises(ValueError, match="checksum"):
        decode_header(former[:8] + HEAD.encode()[8:10] + former[10:])


class FormerDelta(msgspec.Struct, array_like=True):
    """As former versions know it."""

    incarnation: bytes
    after: int
    upto: int
    cells: dict[str, int]


class FormerPart(msgspec.Struct, array_like=True):
    """As former versions know it."""

    number: int
    part: int
    parts: int
    deltas: list[FormerDelta]
    identity: Identity | None
    membership: Membership | None


def test_a_batch_of_a_former_version_is_read() -> None:
    deltas = [FormerDelta(incarnation(7), 0, 1, {"a": 5})]
    payload = msgspec.msgpack.encode(FormerPart(1, 1, 1, deltas, None, Membership(1, ("a:1",))))
    found, scan = scanned(in_format(1) + framing.frame(payload))
    assert found == [Batch(1, [Delta(incarnation(7), 0, 1, {"a": 5})], None, Membership(1, ("a:1",)))]
    assert scan.damage is None


@given(logs(), st.integers(1, 300))
@settings(max_examples=60)
def test_batches_of_any_size_round_trip_in_frames_of_any_size(made: list[Batch], frame: int) -> None:
    data, offsets = written(made, frame)
    found, scan = scanned(data)
    assert found == made
    assert (scan.damage, scan.end, scan.next_batch) == (None, offsets[-1], len(made) + 1)


def test_a_batch_of_many_frames_counts_only_with_its_last_one() -> None:
    keyed = Keyed({f"{n}-x name-{n}": (n + 1, 1) for n in range(60)}, {incarnation(2): Settlement(1, 2, {"a": 1})})
    batch = Batch(1, [Delta(incarnation(1), 0, 1, {f"name-{n}": n + 1 for n in range(300)}, keyed)], floor=59)
    data, _ = written([batch], frame=200)
    starts = [at for at in range(len(data)) if data.startswith(MARK, at)]
    assert len(starts) > 20
    for start in starts[1:]:
        found, scan = scanned(data[:start])
        assert found == []
        assert scan.damage is not None
        assert (scan.damage.torn, scan.damage.offset, scan.end) == (True, HEADER_BYTES, HEADER_BYTES)
        assert scan.damage.reason == "the batch has no last frame"
    assert scanned(data)[0] == [batch]


def test_a_batch_without_some_of_its_parts_is_not_read() -> None:
    """Nothing but the parts' numbers tells: the frames that are left are whole, and so is the last one."""
    batch = Batch(1, [Delta(incarnation(1), 0, 1, {f"name-{n}": n + 1 for n in range(60)})])
    data, _ = written([batch], frame=200)
    starts = [at for at in range(len(data)) if data.startswith(MARK, at)]
    for first, start in enumerate(starts):
        for end in starts[first + 1 :]:
            found, scan = scanned(data[:start] + data[end:])
            assert found == []
            assert scan.damage is not None
            assert scan.damage.offset == HEADER_BYTES


@given(logs(), st.integers(40, 200), st.data())
@settings(max_examples=60)
def test_any_prefix_yields_the_whole_batches_in_it_and_is_torn(
    made: list[Batch], frame: int, data: st.DataObject
) -> None:
    whole, offsets = written(made, frame)
    size = data.draw(st.integers(HEADER_BYTES, len(whole)))
    found, scan = scanned(whole[:size])
    count = sum(offset <= size for offset in offsets) - 1
    assert found == made[:count]
    assert (scan.end, scan.next_batch) == (offsets[count], count + 1)
    if size == offsets[count]:
        assert scan.damage is None
    else:
        assert scan.damage is not None
        assert (scan.damage.offset, scan.damage.torn) == (offsets[count], True)


@pytest.mark.parametrize("frame", [40, DEFAULTS.frame_bytes])
def test_any_flipped_bit_hides_its_batch_and_is_rot_unless_in_the_newest(frame: int) -> None:
    whole, offsets = written(SMALL, frame)
    for at in range(HEADER_BYTES, len(whole)):
        hit = sum(offset <= at for offset in offsets) - 1
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            found, scan = scanned(bytes(flipped))
            assert found == SMALL[:hit]
            assert scan.end == offsets[hit]
            assert scan.damage is not None
            assert (scan.damage.offset, scan.damage.torn) == (offsets[hit], hit == len(SMALL) - 1), (at, bit)


@given(logs(), st.integers(40, 300), st.data())
@settings(max_examples=60)
def test_any_bytes_in_place_of_any_others_yield_only_a_prefix_of_what_was_written(
    made: list[Batch], frame: int, data: st.DataObject
) -> None:
    whole, offsets = written(made, frame)
    start = data.draw(st.integers(HEADER_BYTES, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    changed = whole[:start] + data.draw(st.binary(max_size=40) | st.just(bytes(end - start))) + whole[end:]
    found, scan = scanned(changed)
    assert found == made[: len(found)]
    assert len(found) >= sum(offset <= start for offset in offsets) - 1
    if len(found) < len(made) and any(offset >= end for offset in offsets[len(found) + 1 : -1]):
        assert scan.damage is not None
        assert not scan.damage.torn


def test_a_batch_that_is_missing_in_the_middle_is_damage() -> None:
    whole, offsets = written(SMALL)
    found, scan = scanned(whole[: offsets[1]] + whole[offsets[2] :])
    assert found == SMALL[:1]
    assert scan.damage is not None
    assert not scan.damage.torn
    assert "batch 3 stands where batch 2 should" in scan.damage.reason


def test_a_torn_batch_with_whole_frames_in_its_middle_is_torn() -> None:
    big = Batch(2, [Delta(incarnation(1), 1, 2, {f"name-{n}": 1 for n in range(60)})])
    whole, offsets = written([SMALL[0], big], frame=200)
    hole = whole[: offsets[1]] + bytes(50) + whole[offsets[1] + 50 :]
    found, scan = scanned(hole)
    assert found == SMALL[:1]
    assert scan.damage is not None
    assert (scan.damage.offset, scan.damage.torn) == (offsets[1], True)


def test_a_name_cannot_look_like_a_record() -> None:
    """Else a torn batch that holds such a name would be taken for damage, and the start refused."""
    later = encode_batch(Batch(9, []))
    with pytest.raises(UnicodeDecodeError):
        later.decode()
    with pytest.raises(UnicodeDecodeError):
        MARK[:1].decode()
    name = later.decode("latin-1")
    whole, _ = written([Batch(1, [Delta(incarnation(1), 0, 1, {name: 1, later.decode(errors="ignore"): 2})])])
    assert MARK not in whole[HEADER_BYTES + 1 :]
    _, scan = scanned(whole[:-1])
    assert scan.damage is not None
    assert scan.damage.torn


def test_a_record_that_claims_to_be_huge_is_damage_without_being_read() -> None:
    data = HEAD.encode() + MARK + b"\xff\xff\xff\x7f" + bytes(20)
    found, scan = scanned(data)
    assert found == []
    assert scan.damage is not None
    assert "claims" in scan.damage.reason


@pytest.mark.parametrize("identity", [Identity(b"short", incarnation(1)), Identity(incarnation(1), bytes(17))])
def test_a_record_with_an_identity_of_a_wrong_length_is_damage(identity: Identity) -> None:
    found, scan = scanned(HEAD.encode() + encode_batch(Batch(1, [], identity)))
    assert found == []
    assert scan.damage is not None
    assert "identity" in scan.damage.reason


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91\x01", b"\x93\x01\xc3\x91\xa1a", b"\x95\x01\xc3\x90\x92\xa1"])
def test_a_record_that_is_whole_but_no_batch_is_damage(payload: bytes) -> None:
    found, scan = scanned(HEAD.encode() + framing.frame(payload))
    assert found == []
    assert scan.damage is not None


def test_an_identity_owns_what_it_raises_and_what_it_raised() -> None:
    first = Identity(incarnation(1), incarnation(2))
    second = first.reborn(incarnation(3))
    assert (second.node, second.incarnation, second.retired) == (incarnation(1), incarnation(3), (incarnation(2),))
    assert second.owns(incarnation(2))
    assert second.owns(incarnation(3))
    assert not first.owns(incarnation(3))
    assert first.reborn(incarnation(3), node=incarnation(4)).node == incarnation(4)


@given(logs(), st.integers(40, 300), st.data())
@settings(max_examples=60)
def test_whole_batches_are_found_between_any_bytes_and_no_others(
    made: list[Batch], frame: int, data: st.DataObject
) -> None:
    whole, offsets = written(made, frame)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    junk = data.draw(st.binary(max_size=40) | st.just(MARK * 3) | st.just(whole[offsets[0] : offsets[0] + 9]))
    found = list(find_batches(whole[:start] + junk + whole[end:]))
    untouched = [
        batch
        for batch, begins, ends in zip(made, offsets, offsets[1:], strict=False)
        if ends <= start or end <= begins or start == end <= begins
    ]
    assert [batch for batch in found if batch in untouched] == untouched
    assert all(batch in made for batch in found)
    assert [batch.number for batch in found] == sorted({batch.number for batch in found})


def test_a_batch_of_several_frames_is_found_only_with_all_of_them() -> None:
    big = Batch(1, [Delta(incarnation(1), 0, 1, {f"name-{n}": n + 1 for n in range(60)})])
    data, _ = written([big], frame=200)
    starts = [at for at in range(len(data)) if data.startswith(MARK, at)]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        assert list(find_batches(data[:start] + data[end:])) == []
    assert list(find_batches(data[starts[0] : starts[1]] + data)) == [big]


def test_a_newer_format_is_distinguished_from_a_rotten_header() -> None:
    newer = in_format(3)
    assert room.is_newer_format(newer)
    assert not room.is_newer_format(HEAD.encode())
    rotten = bytearray(HEAD.encode())
    rotten[8] ^= 4
    assert not room.is_newer_format(bytes(rotten))
    assert not room.is_newer_format(newer[:20])
