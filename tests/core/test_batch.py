"""A batch: what is committed at once can be written, joined and joined again, and never changes."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.format.frames import FRAME_HEAD_BYTES, frame, read_frame
from gcount.core.format.log_records import HEADER_BYTES, Header, Scan, encode_batch, find_batches
from gcount.core.limits import MAX_CELL, MAX_FRAME_BYTES, MAX_HOST_BYTES, MAX_INCARNATIONS, MAX_MEMBERS, MAX_VERSION
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch, Needs, as_joinable, needs_of
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from tests.core.histories import NAMES, History, histories, incarnation

ME = Identity(b"n" * 16, incarnation(1))
HEAD = Header(ME.node, ME.incarnation, 1, 1)

memberships = st.none() | st.builds(Membership, st.integers(1, 99), st.just(("h:1",)))
identities = st.none() | st.just(ME.reborn(incarnation(2)))


def blank() -> Replica:
    return Replica(ME, 1000)


@given(histories(3), identities, memberships, st.data())
def test_a_batch_that_is_joined_twice_has_been_joined_once(
    history: History, identity: Identity | None, membership: Membership | None, data: st.DataObject
) -> None:
    upto = data.draw(st.integers(1, len(history.commits)))
    batch = Batch(7, [history.delta(0, upto)], identity, membership)
    once, twice = blank(), blank()
    once.apply(batch)
    twice.apply(batch)
    twice.apply(batch)
    for one in (once, twice):
        state = history.state(upto)
        assert {name: one.counters.cell(name, history.incarnation) for name in state} == state
        assert one.identity == (identity or ME)
        assert one.membership == (membership or Membership())
        assert one.next_batch == 8


@given(histories(3), histories(4), st.data())
def test_the_deltas_of_a_batch_may_be_of_any_incarnations_and_one_may_follow_another(
    first: History, second: History, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(first.commits)))
    deltas = [
        *([first.delta(0, cut)] if cut else []),
        second.delta(0, len(second.commits)),
        *([first.delta(cut, len(first.commits))] if cut < len(first.commits) else []),
    ]
    replica = blank()
    replica.apply(Batch(1, deltas))
    for history in (first, second):
        state = history.state(len(history.commits))
        assert replica.counters.version(history.incarnation) == len(history.commits)
        assert {name: n for name in NAMES if (n := replica.counters.cell(name, history.incarnation))} == state


def test_an_empty_batch_only_counts() -> None:
    data = HEAD.encode() + encode_batch(Batch(1, [])) + encode_batch(Batch(2, []))
    scan = Scan(data, 1)
    assert list(scan) == [Batch(1, []), Batch(2, [])]
    assert len(data) > HEADER_BYTES
    replica = blank()
    for batch in Scan(data, 1):
        replica.apply(batch)
    assert (len(replica.counters), replica.next_batch) == (0, 3)


A, B, C, D = map(incarnation, (1, 2, 3, 4))


def settling(settler: bytes, after: int, **columns: int) -> Delta:
    """A settlement of some columns, by their letters, each up to a version."""
    who = {"a": A, "b": B, "c": C}
    settled = {who[letter]: Settlement(9, version, {}) for letter, version in columns.items()}
    return Delta(settler, after, after + 1, {}, Keyed({}, settled))


def knowing(*deltas: Delta) -> Counters:
    counters = Counters()
    for delta in deltas:
        counters.join(delta)
    return counters


@pytest.mark.parametrize(
    ("deltas", "needs"),
    [
        ([], None),
        ([Delta(A, 3, 4, {})], None),  # what is settled of it was there before
        ([Delta(A, 2, 4, {})], Needs([A], {C: 2})),
        ([Delta(A, 0, 4, {}), Delta(B, 0, 1, {})], Needs([A, B], {C: 2, D: 1})),
        ([Delta(C, 0, 2, {})], None),  # it brings its own settlements
        ([settling(C, 2, a=4)], None),
        ([settling(C, 2, b=4)], Needs([C], {D: 1})),  # the other one may cover what is counted here
        ([settling(D, 1, a=1)], Needs([D], {C: 2})),
        ([Delta(B, 1, 3, {}), settling(D, 1, b=2)], Needs([B], {D: 2})),  # the same push brings it
        ([Delta(B, 1, 3, {}), settling(D, 5, b=2)], None),  # behind a gap
    ],
)
def test_a_delta_needs_settlements_that_cover_what_it_brings_or_have_settled_the_same(
    deltas: list[Delta], needs: Needs | None
) -> None:
    known = knowing(Delta(C, 0, 1, {}), settling(C, 1, a=3), settling(D, 0, b=1))
    assert needs_of(known, deltas) == needs


def rest(delta: Delta) -> Delta:
    return Delta(delta.incarnation, delta.upto, delta.upto, delta.cells, delta.keyed)


@pytest.mark.parametrize(
    ("columns", "versions", "lacking"),
    [
        ([A, B], {C: 2}, ()),  # it is in the batch
        ([A], {C: 3}, (A,)),
        ([A, B], {D: 2}, (A, B)),
        ([A], {D: 1}, ()),  # it was known before
        ([A, C], {C: 2, D: 2}, (A, C)),  # the one that would bring it lacks another one
        ([C], {C: 5}, ()),  # its own
        ([A, C], {C: 2, A: 4}, ()),  # each other's
    ],
)
def test_of_what_lacks_a_settlement_the_rest_begins_at_its_last_version(
    columns: list[bytes], versions: dict[bytes, int], lacking: tuple[bytes, ...]
) -> None:
    deltas = [Delta(A, 0, 2, {"a": 1}), Delta(A, 2, 4, {"a": 2}), Delta(B, 0, 1, {"a": 3}), Delta(C, 0, 2, {"a": 4})]
    needs = Needs(columns, versions)
    found = as_joinable(knowing(Delta(D, 0, 1, {})), Batch(1, deltas, needs=needs), needs)
    assert found == [rest(delta) if delta.incarnation in lacking else delta for delta in deltas]
    assert (found is deltas) == (not lacking)


def test_only_a_batch_that_needs_something_has_a_field_for_it() -> None:
    needing = Batch(1, [Delta(A, 0, 1, {"a": 1})], needs=Needs([A], {C: 2}))
    for batch, fields in (needing, 8), (msgspec.structs.replace(needing, needs=None), 7):
        data = encode_batch(batch)
        assert len(msgspec.msgpack.decode(data[FRAME_HEAD_BYTES:])) == fields
        assert list(Scan(HEAD.encode() + data, 1)) == [batch]


def largest_frames() -> Options:
    """The options with the largest frames that do not contradict others."""
    for size in range(MAX_FRAME_BYTES, 0, -1024):
        with suppress(ValueError):
            return Options(frame_bytes=size)
    raise AssertionError


def test_the_last_frame_of_a_batch_has_space_for_all_that_it_may_need() -> None:
    """Also where the deltas fill it, and it has a new identity and a membership as well."""
    incarnations = [number.to_bytes(16) for number in range(MAX_INCARNATIONS)]
    needs = Needs(incarnations, dict.fromkeys(incarnations, MAX_VERSION))
    identity = Identity(A, B, tuple(incarnations))
    members = tuple(f"{number:0{MAX_HOST_BYTES}}:65535" for number in range(MAX_MEMBERS))
    options = largest_frames()
    assert options.frame_bytes > DEFAULTS.frame_bytes
    cells = {f"{number:08}": MAX_CELL for number in range(options.frame_bytes // 20 - 4)}
    batch = Batch(1, [Delta(A, 0, 1, cells)], identity, Membership(1, members), 0, needs)
    data = encode_batch(batch, options)
    assert read_frame(data, 0)[1] == len(data) > options.frame_bytes
    assert list(Scan(HEAD.encode() + data, 1)) == [batch]


@pytest.mark.parametrize(
    "damaged",
    [
        [[A], {C: "2"}],
        [[A], {C: 1.5}],
        [["text"], {C: 2}],
        [A, {C: 2}],
        [{}, {C: 2}],
        [[A], [C, 2]],
        [[A]],
        [],
        7,
        "needs",
    ],
)
def test_needs_of_another_form_are_damage(damaged: object) -> None:
    payload = [1, 1, 1, [], None, None, None, damaged]
    scan = Scan(HEAD.encode() + frame(msgspec.msgpack.encode(payload)), 1)
    assert list(scan) == []
    assert scan.damage is not None
    assert scan.damage.torn
    assert list(find_batches(frame(msgspec.msgpack.encode(payload)))) == []


def test_needs_that_no_node_writes_only_detach() -> None:
    """A record with a right checksum may say anything: ids of other lengths, versions below 0, very many of each."""
    strange = [number.to_bytes(3) for number in range(20_000)]
    for needs in Needs([A, b"", *strange], {b"": -1, C: 2**64 - 1, **dict.fromkeys(strange, 1)}), Needs([A], {C: -5}):
        batch = Batch(1, [Delta(A, 0, 1, {"a": 1})], needs=needs)
        replica = blank()
        [read] = find_batches(encode_batch(batch))
        replica.apply(read)
        assert replica.counters.total("a") == (0 if C in needs.versions and needs.versions[C] > 0 else 1)


def test_a_batch_never_changes() -> None:
    batch = Batch(1, [Delta(incarnation(3), 0, 1, {"a": 1})])
    with pytest.raises(AttributeError):
        batch.number = 2  # type: ignore[misc]
    assert msgspec.structs.replace(batch, number=2) == Batch(2, batch.deltas)
