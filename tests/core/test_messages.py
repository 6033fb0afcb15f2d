"""The messages: they round-trip, and no bytes whatever get anything past `decode` but a ProtocolError."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.limits import MAX_INCARNATIONS, MAX_MEMBERS, MAX_MESSAGE_BYTES, MAX_VERSION
from gcount.core.protocol.counter_views import Told
from gcount.core.protocol.messages import (
    Ack,
    CellsReply,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Members,
    Message,
    Push,
    ReadCells,
    Refused,
    Release,
    decode,
    encode,
)
from gcount.core.state.counters import Delta
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.membership import Membership
from gcount.errors import ProtocolError
from tests.core.histories import incarnation

ID = incarnation(1)
TOLD = Told({ID: {"1-x": (2, 3)}}, {ID: 4})

ids = st.binary(min_size=16, max_size=16)
numbers = st.integers(0, MAX_VERSION)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
digests = st.dictionaries(ids, st.integers(1, MAX_VERSION), max_size=4)
cell_values = st.integers(1, 2**64 - 1)
actors = st.sets(st.sampled_from(["1.2.3.4:1", "[::1]:7777", "host:65535", "a.b:2"]), min_size=1)
memberships = st.just(Membership()) | st.builds(
    lambda version, chosen: Membership(version, tuple(sorted(chosen))), st.integers(1, MAX_VERSION), actors
)


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    upto = draw(st.integers(1, MAX_VERSION))
    after = draw(st.integers(0, upto))
    return Delta(draw(ids), after, upto, draw(st.dictionaries(names, cell_values, max_size=4)), draw(keyed(upto)))


def keyed(upto: int) -> st.SearchStrategy[Keyed | None]:
    keys = st.builds(lambda time, name: f"{time}-x {name}", st.integers(0, 10**12 - 1), names)
    entries = st.dictionaries(keys, st.tuples(cell_values, st.integers(1, upto)), max_size=3)
    settlements = st.builds(
        Settlement, numbers, st.integers(1, MAX_VERSION), st.dictionaries(names, cell_values, max_size=3)
    )
    return st.none() | st.builds(Keyed, entries, st.dictionaries(ids, settlements, max_size=2))


messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Hello,
        st.integers(-5, 2**40),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
        ids,
        ids,
        ids,
        st.lists(ids, max_size=3),
        memberships,
        digests,
        st.booleans(),
        floor=st.none() | numbers,
    ),
    st.builds(Refused, st.text(st.characters(exclude_categories=["Cs"])), numbers),
    st.builds(Push, numbers, st.booleans(), st.lists(deltas(), max_size=3), needs=digests),
    st.builds(Ack, numbers, digests, st.text(st.characters(exclude_categories=["Cs"]))),
    st.just(Heartbeat()),
    st.builds(HeartbeatAck, digests, floor=numbers),
    st.builds(ReadCells, numbers, names, st.booleans()),
    st.builds(
        CellsReply,
        numbers,
        st.dictionaries(ids, cell_values, max_size=4),
        st.none() | memberships,
        st.dictionaries(ids, cell_values, max_size=4),
        digests,
    ),
    st.builds(Release, names),
    st.builds(Members, memberships),
)


def survives(data: bytes) -> None:
    """Either a ProtocolError, or a message that means the same to the next reader."""
    try:
        message = decode(data)
    except ProtocolError:
        return
    assert decode(encode(message)) == message


@given(messages)
@settings(max_examples=200)
def test_messages_round_trip(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_arbitrary_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    survives(data)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=17) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=3) | st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.integers(0, 12), st.lists(anything, max_size=9))
@settings(max_examples=200)
def test_arbitrary_messagepack_is_a_message_or_a_protocol_error(tag: int, fields: list[object]) -> None:
    try:
        data = msgspec.msgpack.encode([tag, *fields])
    except UnicodeEncodeError:
        return
    survives(data)


@given(messages, st.data())
@settings(max_examples=300)
def test_a_message_with_changed_bytes_is_a_message_or_a_protocol_error(message: Message, data: st.DataObject) -> None:
    whole = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        if not whole:
            return
    survives(bytes(whole))


@pytest.mark.parametrize(
    "data",
    [b"\x92\x02\xa2\xff\xfe", b"\x94\x07\x01\xa2\xc3\x28\xc3", b"\x92\x09\xa1\xff", b"\x92\x0a\x92\x01\x91\xa1\x80"],
)
def test_text_that_is_not_utf8_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@pytest.mark.parametrize("data", [None, b"", "", "text"])
def test_an_empty_or_text_frame_is_a_protocol_error(data: bytes | str | None) -> None:
    with pytest.raises(ProtocolError, match="binary frame"):
        decode(data)


def test_a_message_of_more_than_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        decode(b"\xc1" * (MAX_MESSAGE_BYTES + 1))
    with pytest.raises(ProtocolError, match="can't be read"):
        decode(b"\xc1" * MAX_MESSAGE_BYTES)


@pytest.mark.parametrize("head", [b"\x94\x03\x01\xc3\xdd", b"\x92\x06\xdf", b"\xdd", b"\x92\x02\xdb", b"\x92\x06\xc6"])
def test_a_length_that_the_message_does_not_have_is_a_protocol_error(head: bytes) -> None:
    with pytest.raises(ProtocolError, match="can't be read"):
        decode(head + b"\xff\xff\xff\xff")


@pytest.mark.parametrize("opener", [b"\x91", b"\x81\xa1a"])
def test_deep_nesting_is_a_protocol_error(opener: bytes) -> None:
    """Where an unknown field is skipped, too."""
    with pytest.raises(ProtocolError):
        decode(opener * 50_000)
    with pytest.raises(ProtocolError):
        decode(b"\x92\x05" + opener * 50_000)


def hello(**changes: object) -> Hello:
    good = Hello(1, "", ID, ID, ID, [], Membership(), {})
    return msgspec.structs.replace(good, **changes)


def push(*made: Delta) -> Push:
    return Push(1, True, list(made))


def test_a_hello_without_the_newer_fields_is_understood_and_the_newer_one_by_old_nodes() -> None:
    """Fields are only ever added at the end, with a default."""
    fields = msgspec.msgpack.decode(encode(hello(entry="a:1", seen={ID: 3}, kept=7)))
    assert len(fields) == 17
    assert decode(msgspec.msgpack.encode(fields[:10])) == hello()
    assert decode(msgspec.msgpack.encode([*fields, "of a later time"])) == hello(entry="a:1", seen={ID: 3}, kept=7)


def test_an_answer_to_a_heartbeat_of_before_the_newer_field_owes_nothing() -> None:
    assert decode(msgspec.msgpack.encode([6, {}, None])) == HeartbeatAck({})
    assert decode(encode(HeartbeatAck({}, owes=True))) == HeartbeatAck({}, owes=True)


def test_messages_of_before_ids_are_understood_and_those_with_ids_by_nodes_of_before() -> None:
    """A node of before sends no floor in its hello. It ignores what it does not know at the end of an array."""
    assert not hello().knows_ids
    assert hello(floor=0).knows_ids
    cells, whole = {ID: 7}, hello(entry="a:1", floor=9)
    cases: list[tuple[Message, int, Message]] = [
        (whole, 15, hello(entry="a:1")),
        (Push(1, True, [], True, 7, {ID: 3}), 6, Push(1, True, [], True, 7)),
        (HeartbeatAck({ID: 3}, None, True, 9), 4, HeartbeatAck({ID: 3}, None, True)),
        (CellsReply(1, cells, None, {ID: 2}, {ID: 3}), 4, CellsReply(1, cells)),
        (CellsReply(1, cells, None, {}, {ID: 3}, TOLD), 6, CellsReply(1, cells, None, {}, {ID: 3})),
        (ReadCells(1, "a", True, {ID: 3}), 4, ReadCells(1, "a", True)),
    ]
    for new, fields, old in cases:
        sent = msgspec.msgpack.decode(encode(new))
        assert len(sent) > fields
        assert decode(msgspec.msgpack.encode(sent[:fields])) == old
    short = msgspec.msgpack.encode([3, 1, True, [[ID, 0, 1, {"a": 1}]]])
    assert decode(short) == push(Delta(ID, 0, 1, {"a": 1}))


def of_ids(entries: dict[str, tuple[int, int]]) -> Push:
    return push(Delta(ID, 0, 5, {}, Keyed(entries)))


def settling(*settlements: Settlement, column: bytes = ID) -> Push:
    return push(Delta(ID, 0, 5, {}, Keyed({}, dict.fromkeys([column], *settlements))))


TOO_MANY = {n.to_bytes(16, "big"): 1 for n in range(MAX_INCARNATIONS + 1)}
CROWD = Membership(1, tuple(sorted(f"h{n}:1" for n in range(MAX_MEMBERS + 1))))

BEYOND = [
    hello(node=b"short"),
    hello(start_id=bytes(17)),
    hello(incarnation=b""),
    hello(retired=[ID, b"x"]),
    hello(retired=[ID] * (MAX_INCARNATIONS + 1)),
    hello(cluster="é" * 128),
    hello(digest={b"x": 1}),
    hello(digest={ID: 0}),
    hello(digest={ID: MAX_VERSION + 1}),
    hello(membership=Membership(1, ())),
    hello(membership=Membership(-1, ("a:1",))),
    hello(membership=Membership(MAX_VERSION + 1, ("a:1",))),
    hello(challenge=b"short"),
    hello(entry="A:1"),
    hello(entry="nowhere"),
    hello(seen={ID: MAX_VERSION + 1}),
    hello(resumes=-1),
    hello(kept=MAX_VERSION + 1),
    push(Delta(ID, 2, 1, {"a": 1})),
    push(Delta(ID, 0, 0, {"a": 1})),
    push(Delta(ID, -1, 1, {"a": 1})),
    push(Delta(ID, 0, MAX_VERSION + 1, {"a": 1})),
    push(Delta(b"short", 0, 1, {"a": 1})),
    push(Delta(ID, 0, 1, {"a": 0})),
    push(Delta(ID, 0, 1, {"a": -1})),
    push(Delta(ID, 0, 1, {"": 1})),
    push(Delta(ID, 0, 1, {"a": 1}), Delta(ID, 0, 1, {"a\nb": 1})),
    push(Delta(ID, 0, 1, {"x" * 256: 1})),
    of_ids({"1-x": (1, 1)}),
    of_ids({"1-x ": (1, 1)}),
    of_ids({"x a": (1, 1)}),
    of_ids({" a": (1, 1)}),
    of_ids({"1-é a": (1, 1)}),
    of_ids({f"1-{'x' * 63} a": (1, 1)}),
    of_ids({"1-x a\nb": (1, 1)}),
    of_ids({f"1-x {'a' * 256}": (1, 1)}),
    of_ids({"f47ac10b-58cc-4372-a567-0e02b2c3d479 a": (1, 1)}),  # an id without a time
    of_ids({"1-x a": (0, 1)}),
    of_ids({"1-x a": (-1, 1)}),
    of_ids({"1-x a": (1, 0)}),
    of_ids({"1-x a": (1, 6)}),  # of a version that the delta does not reach
    settling(Settlement(-1, 1, {})),
    settling(Settlement(MAX_VERSION + 1, 1, {})),
    settling(Settlement(1, 0, {})),
    settling(Settlement(1, -1, {})),
    settling(Settlement(1, MAX_VERSION + 1, {})),
    settling(Settlement(1, 1, {"a": 0})),
    settling(Settlement(1, 1, {"": 1})),
    settling(Settlement(1, 1, {}), column=b"short"),
    push(Delta(ID, 0, 1, {}, Keyed({}, {n.to_bytes(16, "big"): Settlement(1, 1, {}) for n in range(4097)}))),
    Push(1, True, [], needs={ID: 0}),
    Push(1, True, [], needs={b"short": 1}),
    HeartbeatAck({}, floor=-1),
    HeartbeatAck({}, floor=MAX_VERSION + 1),
    hello(floor=-1),
    hello(floor=MAX_VERSION + 1),
    hello(window=-1.0),
    hello(window=float("nan")),
    CellsReply(1, {}, parts={ID: 0}),
    CellsReply(1, {}, parts={b"short": 1}),
    CellsReply(1, {}, changed={ID: MAX_VERSION + 1}),
    CellsReply(1, {}, told=TOLD),
    CellsReply(1, {}, changed={ID: 2}, told=TOLD),
    CellsReply(1, {}, changed={ID: 3}, told=Told({b"short": {}}, {})),
    CellsReply(1, {}, changed={ID: 3}, told=Told({ID: {"no time": (2, 3)}}, {})),
    CellsReply(1, {}, changed={ID: 3}, told=Told({ID: {"1-x": (0, 3)}}, {})),
    CellsReply(1, {}, changed={ID: 3}, told=Told({}, {ID: 0})),
    ReadCells(1, "a", False, {ID: 0}),
    Push(-1, True, []),
    Push(MAX_VERSION + 1, True, []),
    Push(1, True, [], transfer=-1),
    Ack(1, {ID: -1}),
    Ack(-1, {}),
    HeartbeatAck({b"": 1}),
    HeartbeatAck(TOO_MANY),
    ReadCells(1, "a\n", False),
    ReadCells(-1, "a", False),
    CellsReply(1, {ID: 0}),
    CellsReply(1, TOO_MANY),
    CellsReply(-1, {}),
    CellsReply(1, {}, Membership(0, ("a:1",))),
    Release(""),
    Members(Membership(2, ("b:1", "a:1"))),
    Members(Membership(2, ("a:1", "a:1"))),
    Members(Membership(2, ("a",))),
    Members(Membership(2, ("A:1",))),
    Members(CROWD),
]


@pytest.mark.parametrize("message", BEYOND, ids=lambda message: repr(message)[:60])
def test_what_is_beyond_a_limit_is_a_protocol_error(message: Message) -> None:
    with pytest.raises(ProtocolError, match=f"a {type(message).__name__} has"):
        decode(encode(message))


def test_what_is_at_a_limit_is_let_through() -> None:
    for message in (
        hello(cluster="é" * 127, digest={ID: MAX_VERSION}, retired=[ID] * MAX_INCARNATIONS),
        hello(challenge=ID, entry="[::1]:1", seen={ID: MAX_VERSION}, resumes=MAX_VERSION, kept=MAX_VERSION),
        HeartbeatAck(dict(list(TOO_MANY.items())[1:])),
        push(Delta(ID, MAX_VERSION - 1, MAX_VERSION, {"x" * 255: 2**64 - 1})),
        push(Delta(ID, 1, 1, {"a": 1})),
        of_ids({f"999999999999-{'x' * 51} {'a' * 255}": (2**64 - 1, 5)}),
        of_ids({"1-x a name with spaces": (1, 1), "01890a5d-ac96-774b-bcce-b302099a8057 a": (1, 1)}),
        settling(Settlement(MAX_VERSION, MAX_VERSION, {"a": 2**64 - 1})),
        CellsReply(1, {}, None, {ID: 2**64 - 1}, {ID: MAX_VERSION}),
        CellsReply(1, {}, None, {}, {ID: 3}, TOLD),
        CellsReply(1, {}, None, {}, {ID: MAX_VERSION}, Told({ID: {"1-x": (2**64 - 1, MAX_VERSION)}}, {})),
        ReadCells(1, "a", False, {}),
        ReadCells(1, "a", False, {ID: MAX_VERSION}),
    ):
        assert decode(encode(message)) == message


def test_a_cell_above_64_bits_cannot_even_be_said() -> None:
    data = encode(push(Delta(ID, 0, 1, {"a": 2**64 - 1}))).replace(b"\xcf" + b"\xff" * 8, b"\xcb\x44" + bytes(7))
    with pytest.raises(ProtocolError):
        decode(data)
