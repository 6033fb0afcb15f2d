"""Checkpoints: exactly the state of the moment at which they began, whatever is committed while they are captured."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.format import words as room
from gcount.core.format.checkpoint import Capture, Cells, Detached, Head, Record, encode_record
from gcount.core.format.checkpoint_reader import Reader, Restore
from gcount.core.format.checkpoint_salvage import CheckpointSalvage, rebuilt
from gcount.core.format.log_records import CHECKPOINT_MAGIC, Header
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from tests.core.histories import NAMES, History, forms_of_columns, incarnation, knowing, newer, three_histories

ME = Identity(b"n" * 16, incarnation(1), (incarnation(8),))
LIVE = Header(ME.node, ME.incarnation, 7, 3)


def blank(options: Options = DEFAULTS) -> Replica:
    return Replica(Identity(bytes(16), bytes(16)), 0, options)


def encoded(capture: Capture, records: list[Record] | None = None) -> bytes:
    made = list(capture.records()) if records is None else records
    return capture.header.encode(CHECKPOINT_MAGIC) + b"".join(map(encode_record, made))


def restored(data: bytes, piece: int = 10**9, options: Options = DEFAULTS) -> Replica:
    replica, reader = blank(options), Reader(options)
    restore = Restore(replica)
    for at in range(0, len(data) + 1, piece):
        for record in reader.feed(data[at : at + piece], last=at + piece > len(data)):
            restore.take(record)
    restore.finish()
    return replica


def sample(options: Options = DEFAULTS, counters: int = 30) -> Replica:
    replica = Replica(ME, 10**6, options)
    replica.apply(Batch(1, [Delta(incarnation(2), 0, 4, {f"n{n}": n + 1 for n in range(counters)})]))
    replica.apply(Batch(2, [Delta(incarnation(3), 0, 2, {"n3": 2**64 - 1})], None, Membership(5, ("h:1",))))
    replica.apply(Batch(3, [Delta(incarnation(8), 6, 7, {"n1": 4, "detached": 9})]))
    return replica


def same(one: Replica, other: Replica) -> bool:
    return (
        one.counters == other.counters
        and one.detached.deltas() == other.detached.deltas()
        and (one.identity, one.membership) == (other.identity, other.membership)
        and one.next_batch == other.next_batch
    )


@given(three_histories, forms_of_columns, st.data(), st.integers(1, 4))
@settings(max_examples=120)
def test_a_checkpoint_taken_while_commits_go_on_is_the_state_of_its_start_and_with_the_later_log_that_of_the_end(
    made: tuple[History, ...], form: Options, data: st.DataObject, size: int
) -> None:
    order = data.draw(st.permutations([one for one in made for _ in one.commits]))
    known = dict.fromkeys((one.incarnation for one in made), 0)
    replica = Replica(ME, 1000, replace(form, record_cells=size, record_names=size))
    log: list[Batch] = []

    def commit() -> None:
        one = order.pop()
        version = known[one.incarnation]
        known[one.incarnation] = version + 1
        log.append(Batch(len(log) + 1, [one.delta(version, version + 1)]))
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
    capture.close()
    while order:
        commit()
    again = restored(encoded(capture, records), options=form)
    list(again.counters.sum_up())
    assert same(again, start)
    for who in start.counters.digest():
        for after in range(start.counters.version(who) + 1):
            assert newer(again.counters, who, after) == newer(start.counters, who, after)
    for batch in log[covered:]:
        again.apply(batch)
    assert same(again, replica)
    assert all(again.counters.total(name) == replica.counters.total(name) for name in NAMES)


@given(st.integers(1, 300), forms_of_columns)
@settings(max_examples=120)
def test_a_checkpoint_can_be_read_in_pieces_of_any_size(piece: int, form: Options) -> None:
    options = replace(form, record_bytes=600, record_cells=8)
    replica = sample(options)
    data = encoded(Capture(replica, LIVE))
    again = restored(data, piece, options)
    list(again.counters.sum_up())
    assert same(again, replica)


def test_what_is_given_back_during_a_checkpoint_changes_nothing_in_it(forms: Options) -> None:
    """It follows what is detached, tells more of a counter of it and has a new one."""
    one = sample(replace(forms, frame_bytes=1))
    writer, more = Writer(one), Delta(incarnation(8), 7, 8, {"n1": 5, "new": 1})
    capture, records = Capture(one, LIVE), list[Record]()
    for record in capture.records():
        records.append(record)
        if isinstance(record, Detached) and writer.stage_delta(more):
            writer.seal()
            writer.commit()
    assert same(restored(encoded(capture, records)), sample())
    assert one.detached.deltas() == [Delta(incarnation(8), 6, 8, {"n1": 5, "detached": 9, "new": 1})]


def test_only_cells_that_change_meanwhile_cost_anything(forms: Options) -> None:
    replica = sample(forms)
    capture = Capture(replica, LIVE)
    replica.apply(Batch(4, [Delta(incarnation(2), 4, 5, {"n3": 100, "new": 1})]))
    (column,) = [column for who, column in capture._columns.items() if who == incarnation(2)]
    assert column._before == {3: (4, 4)}
    assert restored(encoded(capture)).counters.cell("n3", incarnation(2)) == 4
    assert column._before == {}
    capture.close()
    replica.apply(Batch(5, [Delta(incarnation(2), 5, 6, {"n4": 100})]))
    assert column._before == {}


def test_a_column_without_cells_keeps_its_version(forms: Options) -> None:
    replica = Replica(ME, 10, forms)
    replica.apply(Batch(1, [Delta(incarnation(2), 0, 9, {})]))
    assert restored(encoded(Capture(replica, LIVE))).counters.digest() == {incarnation(2): 9}


def test_words_are_little_endian_on_every_machine(forms: Options) -> None:
    replica = sample(forms)
    capture = Capture(replica, LIVE)
    data = encoded(capture)
    capture.close()
    assert (2).to_bytes(8, "little") + (3).to_bytes(8, "little") in data
    with patch.object(room, "_SWAPPED", True):
        swapped = encoded(Capture(replica, LIVE))
        assert (2).to_bytes(8, "big") + (3).to_bytes(8, "big") in swapped
        again = restored(swapped)
    list(again.counters.sum_up())
    assert same(again, replica)


def every_flip(data: bytes) -> Iterator[tuple[int, bytes]]:
    for at in range(len(data)):
        yield at, data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]


def offset_of_damage(data: bytes) -> int:
    reader, restore = Reader(), Restore(blank())
    try:
        for record in reader.feed(data, last=True):
            restore.take(record)
    except ValueError:
        return reader.offset
    pytest.fail("nothing was noticed")


def test_any_changed_byte_and_any_cut_is_noticed_at_or_before_its_place(forms: Options) -> None:
    data = encoded(Capture(sample(replace(forms, record_cells=8, record_names=8)), LIVE))
    for at, bad in every_flip(data):
        assert offset_of_damage(bad) <= at
    for size in range(len(data)):
        with pytest.raises(ValueError, match=r"\w"):
            restored(data[:size])


@pytest.mark.parametrize("change", ["missing", "twice", "swapped", "behind the end"])
def test_records_that_are_whole_but_not_in_their_place_are_refused(change: str, forms: Options) -> None:
    capture = Capture(sample(replace(forms, record_cells=8, record_names=8)), LIVE)
    records = list(capture.records())
    for at in range(len(records) - 1):
        changed = records[:]
        if change == "missing":
            del changed[at]
        elif change == "twice":
            changed.insert(at, changed[at])
        elif change == "swapped":
            changed[at], changed[at + 1] = changed[at + 1], changed[at]
        else:
            changed.append(changed[at])
        if change == "swapped" and _may_change_places(records[at], records[at + 1]):
            continue
        with pytest.raises(ValueError, match=r"\w"):
            restored(encoded(capture, changed))


@pytest.mark.parametrize("change", ["one more", "one less", "a version", "a length", "another order", "names"])
def test_a_first_record_that_promises_something_else_is_refused(change: str, forms: Options) -> None:
    capture = Capture(sample(forms), LIVE)
    head, *records = capture.records()
    assert isinstance(head, Head)
    (who, version, length), *others = head.columns
    columns = {
        "one more": [*head.columns, (incarnation(9), 1, 1)],
        "one less": others,
        "a version": [(who, version + 1, length), *others],
        "a length": [(who, version, length + 1), *others],
        "another order": [*others, (who, version, length)],
    }
    promised = msgspec.structs.replace(
        head, columns=columns.get(change, head.columns), names=head.names + (change == "names")
    )
    with pytest.raises(ValueError, match="first record"):
        restored(encoded(capture, [promised, *records]))


def _may_change_places(one: Record, other: Record) -> bool:
    """What belongs to different incarnations has no order; nobody writes it in another one."""
    if isinstance(one, Cells) and isinstance(other, Cells):
        return one.incarnation != other.incarnation
    return isinstance(one, Cells) and isinstance(other, Detached)


def test_what_is_left_of_a_damaged_checkpoint_is_true_and_claims_no_more_than_it_holds(forms: Options) -> None:
    """Each column is whole, or nothing of it is claimed; no cell is higher than it was; at most one record is lost."""
    small = replace(forms, record_cells=8, record_names=8)
    truth = sample(small)
    data = encoded(Capture(truth, LIVE))
    kept_whole = kept_detached = 0
    for at, bad in every_flip(data):
        replica = restored(rebuilt(CheckpointSalvage(bad), LIVE, 99, small))
        list(replica.counters.sum_up())
        missing = 0
        for who, version in truth.counters.digest().items():
            claimed = replica.counters.version(who)
            assert claimed in (0, version), at
            for name in [*truth.counters.names(0, 99), "detached"]:
                n = truth.counters.cell(name, who)
                assert replica.counters.cell(name, who) == (n if claimed else 0)
                detached = replica.detached.cell(name, who)
                assert detached in (0, n)
                missing += max(detached, replica.counters.cell(name, who)) != n
            kept_whole += claimed > 0
            kept_detached += not claimed
        assert missing <= 9
    assert kept_whole > 0
    assert kept_detached > 0


def test_what_is_left_is_joined_once_others_have_filled_the_gap(forms: Options) -> None:
    history = History(incarnation(2), [{"a": 1}, {"b": 2}, {"a": 3}])
    replica = Replica(ME, 10, replace(forms, record_names=1))
    replica.counters = knowing([(history, 2)], forms)
    data = encoded(Capture(replica, LIVE))
    bad = data.replace(b"\xa1b", b"\xa1c")  # the name of one counter
    again = restored(rebuilt(CheckpointSalvage(bad), LIVE, 3, forms))
    list(again.counters.sum_up())
    assert again.counters.digest() == {}
    again.apply(Batch(3, [history.delta(2, 3)]))
    assert again.detached.cell("a", incarnation(2)) == 4
    assert again.counters == Counters()
    again.apply(Batch(4, [history.delta(0, 2)]))
    assert again.counters == knowing([(history, 3)])
    assert not again.detached
