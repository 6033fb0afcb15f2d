"""What is left of a checkpoint claims a version only with all that its owner had at that version, whatever is lost."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.format import checkpoint as room
from gcount.core.format.checkpoint import Capture, Detached, Record, encode_record
from gcount.core.format.checkpoint_reader import Reader, Restore
from gcount.core.format.checkpoint_salvage import CheckpointSalvage, rebuilt
from gcount.core.format.log_records import CHECKPOINT_MAGIC, Header
from gcount.core.options import Options
from gcount.core.protocol.messages import Ack, Push, decode, encode
from gcount.core.protocol.replication import DeltaSender
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.identity import Identity
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from tests.core.histories import NAMES, History, forms_of_columns, histories, incarnation, knowing

ME = Identity(b"n" * 16, incarnation(9))
LIVE = Header(ME.node, ME.incarnation, 7, 1)
OTHER = incarnation(1)


def small(form: Options) -> Options:
    """So that a few counters take several records, and a delta several pieces."""
    return replace(form, frame_bytes=100, record_names=2, record_cells=2)


def blank(options: Options) -> Replica:
    return Replica(Identity(bytes(16), bytes(16)), 0, options)


def file_of(records: list[Record]) -> bytes:
    return LIVE.encode(CHECKPOINT_MAGIC) + b"".join(map(encode_record, records))


def loaded(data: bytes, options: Options) -> Replica:
    replica, reader = blank(options), Reader()
    restore = Restore(replica)
    for record in reader.feed(data, last=True):
        restore.take(record)
    restore.finish()
    list(replica.counters.sum_up())
    return replica


def mended(records: list[Record], options: Options) -> Replica:
    """What a start makes of it after a repair."""
    return loaded(rebuilt(CheckpointSalvage(file_of(records)), LIVE, 99, options), options)


def as_formerly(records: list[Record]) -> list[Record]:
    """As former versions wrote them."""
    return [Detached(record.deltas) if isinstance(record, Detached) else record for record in records]


@st.composite
def checkpoints(draw: st.DrawFn) -> tuple[list[History], list[Record], Options]:
    """Some histories, and a checkpoint that holds a part of each, behind gaps or not."""
    owners = [draw(histories(number, max_commits=9)) for number in (1, 2)]
    options = small(draw(forms_of_columns))
    replica, batch = Replica(ME, 1000, options), 0
    for owner in owners:
        size = len(owner.commits)
        for after, length in draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(1, 4)), max_size=4)):
            batch += 1
            replica.apply(Batch(batch, [owner.delta(after, min(size, after + length))]))
    return owners, list(Capture(replica, LIVE).records()), options


@given(checkpoints(), st.data(), st.booleans())
@settings(max_examples=120)
def test_whatever_records_are_lost_each_version_that_is_ever_claimed_is_what_its_owner_had(
    written: tuple[list[History], list[Record], Options], data: st.DataObject, former: bool
) -> None:
    owners, records, options = written
    lost = data.draw(st.sets(st.integers(0, len(records) - 1)))
    left = [record for at, record in enumerate(records) if at not in lost]
    replica = mended(as_formerly(left) if former else left, options)
    for owner in owners:
        for name in NAMES:
            assert replica.detached.cell(name, owner.incarnation) <= owner.state(99).get(name, 0)
    while True:
        assert replica.counters == knowing(
            (owner, version) for owner in owners if (version := replica.counters.version(owner.incarnation))
        )
        behind = [each for each in owners if replica.counters.version(each.incarnation) < len(each.commits)]
        if not behind:
            break
        version = replica.counters.version(behind[0].incarnation)
        replica.apply(Batch(100, [behind[0].delta(version, version + 1)]))
    assert not replica.detached


@given(checkpoints(), st.data())
@settings(max_examples=120)
def test_no_cell_is_lost_that_is_in_a_record_which_is_left(
    written: tuple[list[History], list[Record], Options], data: st.DataObject
) -> None:
    _, records, options = written
    left = [record for record in records if data.draw(st.booleans())]
    replica = mended(left, options)
    for record in left:
        for piece in record.deltas if isinstance(record, Detached) else ():
            for name, n in piece.cells.items():
                known = replica.counters.cell(name, piece.incarnation)
                assert max(known, replica.detached.cell(name, piece.incarnation)) >= n


@given(checkpoints(), st.data())
@settings(max_examples=120)
def test_whatever_records_are_lost_what_is_detached_can_be_given_back_to_its_owner(
    written: tuple[list[History], list[Record], Options], data: st.DataObject
) -> None:
    owners, records, options = written
    detached = mended([record for record in records if data.draw(st.booleans())], options).detached.deltas()
    owner = Replica(Identity(ME.node, ME.incarnation, tuple(each.incarnation for each in owners)), 1000)
    writer = Writer(owner)
    pusher = DeltaSender({}, 0.0, detached=detached)
    for now in range(len(detached)):
        push = pusher.next_push(Counters(), ME, now)
        arrived = decode(encode(push)) if push else None
        assert isinstance(arrived, Push)
        for delta in arrived.deltas:
            writer.stage_delta(delta)
        writer.seal()
        writer.commit()
        pusher.acked(Ack(arrived.number, {}, kept=all(map(owner.has_back, arrived.deltas))), now)
    assert not pusher.owes
    assert all(map(owner.has_back, detached))


def detached_of_many(options: Options) -> list[Record]:
    """A checkpoint that holds a delta behind a gap, in several records."""
    replica = Replica(ME, 1000, options)
    replica.apply(Batch(1, [Delta(OTHER, 2, 3, {f"counter {n}": n for n in range(1, 7)})]))
    records = list(Capture(replica, LIVE).records())
    assert sum(isinstance(record, Detached) for record in records) > 2
    return records


def spans(replica: Replica) -> list[tuple[int, int, int]]:
    return [(delta.after, delta.upto, len(delta.cells)) for delta in replica.detached.deltas()]


def test_a_delta_of_which_all_pieces_are_left_is_as_good_as_before(forms: Options) -> None:
    records = detached_of_many(small(forms))
    assert spans(mended(records[:-1], small(forms))) == [(2, 3, 6)]


def test_a_delta_may_lack_settled_ids_if_nothing_says_which_settlements_there_were(forms: Options) -> None:
    records = detached_of_many(small(forms))
    assert spans(mended(records[1:], small(forms))) == [(3, 3, 6)]


def test_a_delta_of_which_a_piece_is_lost_begins_where_it_ends(forms: Options) -> None:
    records = detached_of_many(small(forms))
    for at, record in enumerate(records):
        if isinstance(record, Detached):
            cells = sum(len(piece.cells) for piece in record.deltas)
            assert spans(mended(records[:at] + records[at + 1 :], small(forms))) == [(3, 3, 6 - cells)]


def test_a_checkpoint_of_the_former_format_does_not_show_whether_all_pieces_are_left(forms: Options) -> None:
    records = as_formerly(detached_of_many(small(forms)))
    assert spans(loaded(file_of(records), forms)) == [(2, 3, 6)]  # nothing of it is damaged
    assert spans(mended(records[:-1], small(forms))) == [(3, 3, 6)]


class FormerDetached(msgspec.Struct, array_like=True, tag=4):
    """As former versions know it."""

    deltas: list[Delta]


def test_former_and_present_records_are_read_by_present_and_former_readers() -> None:
    piece = Delta(OTHER, 2, 3, {"a": 1})
    former, present = FormerDetached([piece]), Detached([piece], [9])
    assert room.decode_record(msgspec.msgpack.encode(former)) == Detached([piece])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(present), type=FormerDetached).deltas == former.deltas


def test_sizes_that_are_not_those_of_the_pieces_are_no_record() -> None:
    piece = Delta(OTHER, 2, 3, {"a": 1})
    with pytest.raises(ValueError, match="2 sizes were found where 1 were expected"):
        room.decode_record(msgspec.msgpack.encode(Detached([piece], [1, 1])))
