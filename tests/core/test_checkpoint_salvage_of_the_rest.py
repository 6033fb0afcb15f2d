"""What is left of a damaged checkpoint besides its cells: identity, membership and detached deltas."""

from collections.abc import Iterator

import pytest

from gcount.core.format.checkpoint import Capture, Cells, Detached, Head, Names, Record, encode_record
from gcount.core.format.checkpoint_reader import Reader, Restore
from gcount.core.format.checkpoint_salvage import CheckpointSalvage, rebuilt
from gcount.core.format.log_records import CHECKPOINT_MAGIC, Header
from gcount.core.options import Options
from gcount.core.protocol.messages import decode, encode
from gcount.core.protocol.replication import DeltaSender
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from tests.core.histories import incarnation

ME = Identity(b"n" * 16, incarnation(1), (incarnation(8),))
LIVE = Header(ME.node, ME.incarnation, 7, 3)
MEMBERS = Membership(5, ("h:1",))
DETACHED = [Delta(incarnation(8), 6, 7, {"n1": 4, "detached": 9}), Delta(incarnation(8), 9, 11, {"n1": 5})]
CELLS = {f"n{n}": n + 1 for n in range(20)}


def sample() -> Replica:
    replica = Replica(ME, 10**6, Options(record_cells=8, record_names=8))
    replica.apply(Batch(1, [Delta(incarnation(2), 0, 4, CELLS), Delta(incarnation(3), 0, 1, {"n3": 1})]))
    replica.apply(Batch(2, DETACHED, None, MEMBERS))
    return replica


def records() -> list[Record]:
    return list(Capture(sample(), LIVE).records())


def written(all_of_it: list[Record], damaged: int | None = None) -> bytes:
    parts = [bytearray(encode_record(record)) for record in all_of_it]
    if damaged is not None:
        parts[damaged][-1] ^= 1
    return LIVE.encode(CHECKPOINT_MAGIC) + b"".join(parts)


def repaired(data: bytes, next_batch: int = 99) -> Replica:
    replica, reader = Replica(Identity(bytes(16), bytes(16)), 0), Reader()
    restore = Restore(replica)
    for record in reader.feed(rebuilt(CheckpointSalvage(data), LIVE, next_batch), last=True):
        restore.take(record)
    restore.finish()
    return replica


def each(kind: type[Record]) -> Iterator[tuple[int, bytes]]:
    """The bytes with each record of a kind damaged in its turn."""
    made = records()
    found = [number for number, record in enumerate(made) if isinstance(record, kind)]
    assert found
    return ((number, written(made, number)) for number in found)


def test_without_damage_it_is_what_it_was() -> None:
    one, truth = repaired(written(records())), sample()
    assert (one.identity, one.membership, one.next_batch) == (ME, MEMBERS, 3)
    assert one.counters == truth.counters
    assert one.detached.deltas() == DETACHED


@pytest.mark.parametrize("kind", [Names, Cells])
def test_damage_to_names_or_cells_costs_nothing_else(kind: type[Record]) -> None:
    for _, data in each(kind):
        one = repaired(data)
        assert (one.identity, one.membership, one.next_batch) == (ME, MEMBERS, 3)
        assert [delta for delta in one.detached.deltas() if delta.incarnation == incarnation(8)] == DETACHED


@pytest.mark.parametrize("kind", [Names, Cells])
def test_the_readable_part_of_a_damaged_column_is_kept_detached(kind: type[Record]) -> None:
    """Claimed, it would hide for ever what can't be read: the column's own version says that all of it is there."""
    cost_something = 0
    for number, data in each(kind):
        one, damaged = repaired(data), records()[number]
        lost: set[str] = set(damaged.names) if isinstance(damaged, Names) else set()
        if isinstance(damaged, Cells) and damaged.incarnation == incarnation(2):
            lost = set(list(CELLS)[damaged.first : damaged.first + damaged.count])
        of_two = [delta for delta in one.detached.deltas() if delta.incarnation == incarnation(2)]
        if lost & CELLS.keys():
            cost_something += 1
            left = {name: n for name, n in CELLS.items() if name not in lost}
            assert one.counters.version(incarnation(2)) == 0
            assert of_two == [Delta(incarnation(2), 4, 4, left)]
        else:
            assert (one.counters.version(incarnation(2)), of_two) == (4, [])
    assert cost_something > 1


def test_what_can_be_read_of_a_column_is_given_back_to_its_node_which_counts_it() -> None:
    _, data = next(each(Cells))
    one, now = repaired(data), Identity(b"o" * 16, incarnation(5), (incarnation(2),))
    detached = one.detached.of(now.retired)
    push = DeltaSender({}, 0.0, detached=detached).next_push(one.counters, one.identity, 0.0)
    assert push is not None
    assert decode(encode(push)) == push
    owner = Replica(now, 10**6)
    writer = Writer(owner)
    assert all(map(writer.stage_delta, push.deltas))
    writer.seal()
    writer.commit()
    assert all(map(owner.has_back, detached))
    assert writer.stage_closing(incarnation(2))
    writer.seal()
    writer.commit()
    left = {name: n for delta in detached for name, n in delta.cells.items()}
    assert {name: owner.counters.total(name) for name in left} == left
    assert not owner.detached


def test_damage_to_detached_deltas_loses_only_those() -> None:
    for _, data in each(Detached):
        one, truth = repaired(data), sample()
        assert one.counters == truth.counters
        assert not one.detached


def test_without_its_first_record_nothing_is_claimed() -> None:
    """Only that tells how long each column is."""
    ((_, data),) = each(Head)
    one = repaired(data)
    assert one.counters.digest() == {}
    assert {delta.incarnation for delta in one.detached.deltas()} == {incarnation(2), incarnation(3), incarnation(8)}
    assert (one.identity.node, one.identity.incarnation, one.next_batch) == (ME.node, ME.incarnation, 3)


def test_a_salvage_never_claims_batches_that_the_log_does_not_reach() -> None:
    data = written(records())
    assert [repaired(data, next_batch).next_batch for next_batch in (2, 3, 4)] == [2, 3, 3]
