"""Checkpoints with ids: exact at one instant; damage is noticed; what is left of them claims nothing that is lost."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.format.checkpoint import Capture, Cells, Detached, Entries, Head, Names, Parts, Record, encode_record
from gcount.core.format.checkpoint_reader import Reader, Restore
from gcount.core.format.checkpoint_salvage import CheckpointSalvage, rebuilt
from gcount.core.format.log_records import CHECKPOINT_MAGIC, Header
from gcount.core.options import Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.replica import Replica
from tests.core.histories import incarnation
from tests.core.keyed_histories import (
    KeyedHistory,
    assert_is_what_the_model_says,
    sizes,
    three,
    told,
)

ME = Identity(b"n" * 16, incarnation(9))
LIVE = Header(ME.node, ME.incarnation, 7, 1)
A, B, C = map(incarnation, (1, 2, 3))
Histories = tuple[KeyedHistory, KeyedHistory, KeyedHistory]


def blank(options: Options) -> Replica:
    return Replica(ME, 1000, options)


def file_of(records: Sequence[Record]) -> bytes:
    return LIVE.encode(CHECKPOINT_MAGIC) + b"".join(map(encode_record, records))


def loaded(data: bytes, options: Options) -> Replica:
    replica, reader = blank(options), Reader()
    replica.counters.put_off_totals()
    restore = Restore(replica)
    for record in reader.feed(data, last=True):
        restore.take(record)
    restore.finish()
    for _ in replica.counters.sum_up():
        pass
    return replica


def mended(records: Sequence[Record], options: Options) -> Replica:
    """What a start makes of it after a repair."""
    return loaded(rebuilt(CheckpointSalvage(file_of(records)), LIVE, 99, options), options)


def small(options: Options) -> Options:
    """So that a few ids take several records."""
    return replace(options, record_names=2, record_cells=1, frame_bytes=150)


def same(one: Replica, other: Replica) -> bool:
    return (
        one.counters == other.counters
        and one.detached.deltas() == other.detached.deltas()
        and (one.floor, one.next_batch) == (other.floor, other.next_batch)
    )


@given(three, sizes, st.data())
@settings(max_examples=50)
def test_it_is_the_state_of_its_start_and_with_the_later_log_that_of_the_end(
    made: Histories, options: Options, data: st.DataObject
) -> None:
    replica, log = blank(small(options)), list[Batch]()
    order = data.draw(st.permutations([one for one in made for _ in one.commits]))

    def commit() -> None:
        one = order.pop()
        version = replica.counters.version(one.incarnation)
        floor = data.draw(st.none() | st.integers(0, 30))
        log.append(Batch(len(log) + 1, [one.delta(version, version + 1)], floor=floor))
        replica.apply(log[-1])

    for _ in range(data.draw(st.integers(0, len(order)))):
        commit()
    start, began = deepcopy(replica), len(log)
    covered = data.draw(st.integers(0, began))  # by closed segments: what is live then is replayed again
    capture, records = Capture(replica, LIVE), list[Record]()
    for record in capture.records():
        records.append(record)
        for _ in range(data.draw(st.integers(0, min(2, len(order))))):
            commit()
        if data.draw(st.booleans()):
            replica.counters.entries.sweep(2)
    capture.close()
    while order:
        commit()
    again = loaded(file_of(records), options)
    assert same(again, start)
    assert_is_what_the_model_says(again.counters, made)
    for who in start.counters.digest():
        assert told(again.counters, who, 0) == told(start.counters, who, 0)
    for batch in log[covered:]:
        again.apply(batch)
    assert same(again, replica)
    assert_is_what_the_model_says(again.counters, made)


@st.composite
def checkpoints(draw: st.DrawFn) -> tuple[Histories, list[Record], Options]:
    """Some histories, and a checkpoint that holds a part of each, behind gaps or not."""
    made, options = draw(three), small(draw(sizes))
    replica, batch = blank(options), 0
    for one in made:
        end = len(one.commits)
        for after, length in draw(st.lists(st.tuples(st.integers(0, end - 1), st.integers(1, 4)), max_size=4)):
            batch += 1
            replica.apply(Batch(batch, [one.delta(after, min(end, after + length))], floor=batch))
    return made, list(Capture(replica, LIVE).records()), options


@given(checkpoints(), st.data())
@settings(max_examples=100)
def test_whatever_records_are_lost_a_version_is_claimed_only_with_all_that_belongs_to_it(
    written: tuple[Histories, list[Record], Options], data: st.DataObject
) -> None:
    """Also the settlements that have covered its entries. And all is well once others have filled the gaps."""
    made, records, options = written
    chance = Random(data.draw(st.integers(0, 2**32)))
    lost = chance.sample(range(len(records)), chance.randint(0, min(3, len(records))))
    replica = mended([record for at, record in enumerate(records) if at not in lost], options)
    assert_is_what_the_model_says(replica.counters, made)
    for one in made:
        for version in range(replica.counters.version(one.incarnation), len(one.commits)):
            replica.apply(Batch(100, [one.delta(version, version + 1)]))
            assert_is_what_the_model_says(replica.counters, made)
    assert not replica.detached


@given(checkpoints(), st.data())
@settings(max_examples=50)
def test_no_entry_and_no_part_is_lost_that_can_be_read(
    written: tuple[Histories, list[Record], Options], data: st.DataObject
) -> None:
    _, records, options = written
    chance = Random(data.draw(st.integers(0, 2**32)))
    left = [record for record in records if isinstance(record, Names) or chance.random() < 0.6]
    replica = mended(left, options)
    names = [name for record in left if isinstance(record, Names) for name in record.names]
    detached = {who: Keyed() for who in (A, B, C)}
    for delta in replica.detached.deltas():
        detached[delta.incarnation].merge(delta.keyed or Keyed())
    for record in left:
        if isinstance(record, Entries):
            for key, total, version in record.entries:
                best = replica.counters.entries.get(key)
                live = None if best is None else best.of(record.incarnation)
                found = detached[record.incarnation].entries.get(key, (0, 0))
                assert found >= (total, version) or (live and (live.total, live.version) == (total, version))
        elif isinstance(record, Parts):
            words, kept = record.words(), detached[record.settler].settled.get(record.column)
            places = words.indexes or range(record.first, record.first + record.count)
            for index, n in zip(places, words.cells, strict=True):
                known = replica.counters.parts(names[index]).get(record.column, 0)
                assert max(known, kept.parts.get(names[index], 0) if kept else 0) >= n


def sample(options: Options) -> Replica:
    """A holds ids, of which C settled some; B holds one of them, too, and is settled by nobody."""
    replica = blank(small(options))
    ids = {f"{time}-x {name}": (time, 1) for time in range(5, 15) for name in ("a", "n" * 9)}
    replica.apply(Batch(1, [Delta(A, 0, 1, {"a": 7}, Keyed(ids))], floor=0))
    replica.apply(Batch(2, [Delta(B, 0, 3, {}, Keyed({"12-x a": (99, 2)}))]))
    parts = Settlement(9, 1, {"a": 35, "n" * 9: 35})
    replica.apply(Batch(3, [Delta(C, 0, 4, {"late": 1}, Keyed(settled={A: parts}))], floor=9))
    replica.apply(Batch(4, [Delta(incarnation(4), 5, 6, {"b": 2}, Keyed({f"{n}-y b": (n, 6) for n in range(1, 9)}))]))
    return replica


@pytest.fixture
def records(forms: Options) -> list[Record]:
    return list(Capture(sample(forms), LIVE).records())


def numbered(records: list[Record], *kinds: type[Record]) -> list[int]:
    found = [at for at, record in enumerate(records) if isinstance(record, kinds)]
    assert len(found) > 1 or kinds == (Head,)
    return found


def test_records_hold_so_many_ids_and_parts_as_they_may(records: list[Record]) -> None:
    assert {len(record.entries) for record in records if isinstance(record, Entries)} == {1, 2}
    assert {record.count for record in records if isinstance(record, Parts)} == {1}
    head = records[0]
    assert isinstance(head, Head)
    assert (head.floor, sorted(head.holders), head.settlers) == (9, [A, B], [(C, 1)])


def test_without_damage_it_is_what_it_was(records: list[Record], forms: Options) -> None:
    for again in (loaded(file_of(records), forms), mended(records, forms)):
        assert same(again, sample(forms))


def test_any_changed_byte_and_any_cut_is_noticed(records: list[Record], forms: Options) -> None:
    data = file_of(records)
    first = len(file_of(records[: numbered(records, Entries)[0]]))
    for at in range(first, len(data)):
        bad = data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]
        for changed in (bad, data[:at]):
            with pytest.raises(ValueError, match=r"\w"):
                loaded(changed, forms)


@pytest.mark.parametrize("change", ["missing", "twice", "swapped"])
def test_records_that_are_not_in_their_place_are_refused(change: str, records: list[Record], forms: Options) -> None:
    for at in numbered(records, Entries, Parts):
        changed = records[:]
        if change == "missing":
            del changed[at]
        elif change == "twice":
            changed.insert(at, changed[at])
        elif type(changed[at]) is type(changed[at + 1]):
            one, other = changed[at], changed[at + 1]
            if isinstance(one, Entries) and isinstance(other, Entries) and one.incarnation != other.incarnation:
                continue  # these have no order
            changed[at], changed[at + 1] = other, one
        else:
            continue
        with pytest.raises(ValueError, match=r"place|twice|first record|end mark"):
            loaded(file_of(changed), forms)


@pytest.mark.parametrize(
    "other",
    [{"holders": [A]}, {"holders": [A, B, C]}, {"settlers": []}, {"settlers": [(C, 2)]}, {"settlers": [(A, 1)]}],
)
def test_a_first_record_that_promises_something_else_is_refused(
    other: dict[str, object], records: list[Record], forms: Options
) -> None:
    head = msgspec.structs.replace(records[0], **other)
    with pytest.raises(ValueError, match=r"first record|place"):
        loaded(file_of([head, *records[1:]]), forms)


def test_a_column_that_lacks_a_record_of_entries_is_detached_with_the_others(
    records: list[Record], forms: Options
) -> None:
    truth = sample(forms)
    for at in numbered(records, Entries):
        lost = records[at]
        assert isinstance(lost, Entries)
        replica = mended(records[:at] + records[at + 1 :], forms)
        assert replica.counters.version(lost.incarnation) == 0
        assert replica.counters.digest().keys() == {A, B, C} - {lost.incarnation}
        left = {key for key, best in truth.counters.entries.items() if best.of(lost.incarnation)}
        left -= {key for key, _, _ in lost.entries}
        (delta,) = replica.detached.of([lost.incarnation])
        assert delta.after == delta.upto == truth.counters.version(lost.incarnation)
        assert (set() if delta.keyed is None else delta.keyed.entries.keys()) == left


def test_a_column_is_detached_with_that_of_its_settler(records: list[Record], forms: Options) -> None:
    """Its version would claim ids that are gone, as they are parts there."""
    for at in numbered(records, Cells):
        lost = records[at]
        if isinstance(lost, Cells) and lost.incarnation == C:
            replica = mended(records[:at] + records[at + 1 :], forms)
            assert replica.counters.digest() == {B: 3}
            (delta,) = replica.detached.of([C])
            assert delta.keyed == Keyed(settled={A: Settlement(9, 1, {"a": 35, "n" * 9: 35})})


def test_without_all_records_of_a_settlement_nothing_is_claimed_that_it_may_have_covered(
    records: list[Record], forms: Options
) -> None:
    places = numbered(records, Parts)
    one_lost = mended(records[: places[0]] + records[places[0] + 1 :], forms)
    assert one_lost.counters.digest() == {B: 3}
    all_lost = mended([record for record in records if not isinstance(record, Parts)], forms)
    assert all_lost.counters.digest() == {}
    assert {delta.incarnation for delta in all_lost.detached.deltas()} >= {A, B, C}


def test_the_floor_is_kept_unless_the_first_record_is_lost(records: list[Record], forms: Options) -> None:
    for at in range(1, len(records)):
        assert mended(records[:at] + records[at + 1 :], forms).floor == 9
    assert mended(records[1:], forms).floor is None


def test_a_detached_delta_of_ids_is_whole_only_with_all_of_its_pieces(records: list[Record], forms: Options) -> None:
    four = incarnation(4)
    whole = sample(forms).detached.of([four])
    assert mended(records, forms).detached.of([four]) == whole
    for at in numbered(records, Detached):
        (delta,) = mended(records[:at] + records[at + 1 :], forms).detached.of([four])
        assert (delta.after, delta.upto) == (6, 6)
        assert delta.size < whole[0].size
