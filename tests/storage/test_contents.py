"""What follows from what was found: all damage in order, sums, and whether an older checkpoint serves."""

from dataclasses import replace

import pytest

from gcount.core.format.checkpoint_salvage import CheckpointSalvage
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import IdentityHistory
from gcount.core.state.replica import Replica
from gcount.storage.checkpoints import checkpoint_name
from gcount.storage.inspect.contents import Contents, reach_of
from gcount.storage.inspect.corruption import DAMAGED_SUFFIX, Checkpoint, Corruption, Segment
from gcount.storage.log import Base, segment_name
from tests.storage.commit_store import ME, sim_disk


def segment(sequence: int, first: int, **found: object) -> Segment:
    made = Segment(sequence, segment_name(sequence), None, first)
    for name, value in found.items():
        setattr(made, name, value)
    return made


def damaged(sequence: int) -> Checkpoint:
    name = checkpoint_name(sequence)
    return Checkpoint(sequence, name, 10, Corruption(name, 0, "rot"), CheckpointSalvage(b""))


def found(*segments: Segment, needless: tuple[Checkpoint, ...] = (), strays: tuple[str, ...] = ()) -> Contents:
    replica = Replica(ME, 1000)
    base = Base(segments[0].sequence if segments else 0)
    return Contents(sim_disk(), needless, None, base, segments, strays, (), IdentityHistory(), replica, 1)


def test_damage_is_listed_in_the_order_of_the_log_without_files_that_were_moved_away() -> None:
    corruption, moved = Corruption(segment_name(2), 5, "rot", 3), damaged(3)
    moved.source += DAMAGED_SUFFIX
    contents = found(
        segment(1, 1), segment(2, 4, corruption=corruption), needless=(damaged(2), moved), strays=("x.log",)
    )
    assert [each.file for each in contents.corruptions] == [checkpoint_name(2), segment_name(2), "x.log"]
    assert [each.sequence for each in contents.needless_here] == [2]
    assert contents.lost == 3


def test_sums_are_those_of_all_segments() -> None:
    contents = found(segment(1, 1, size=100, whole=3), segment(2, 4, size=20, whole=1))
    assert (contents.size, contents.whole, contents.lost, contents.torn) == (120, 4, 0, None)


def test_detached_deltas_are_counted_once() -> None:
    contents = found()
    contents.replica.apply(Batch(1, [Delta(b"a" * 16, 0, 1, {"a": 1}), Delta(b"b" * 16, 3, 4, {"a": 1, "b": 1})]))
    assert (contents.counters, contents.incarnations) == (2, 2)


def test_the_torn_end_is_that_of_the_last_segment() -> None:
    torn = Corruption(segment_name(2), 9, "torn")
    assert found(segment(1, 1), segment(2, 4, torn=torn)).torn is torn
    assert found().torn is None


@pytest.mark.parametrize(
    ("segments", "contradictions", "serves"),
    [
        ([segment(1, 1), segment(2, 4)], (), True),
        ([segment(1, 1)], (), False),  # it ends where the damaged checkpoint began
        ([segment(1, 1, corruption=Corruption(segment_name(1), 0, "rot")), segment(2, 4)], (), False),
        ([segment(1, 1), segment(2, 4)], ("another log",), False),
    ],
)
def test_a_log_serves_instead_of_a_damaged_checkpoint_if_it_has_all_that_this_one_covered(
    segments: list[Segment], contradictions: tuple[str, ...], serves: bool
) -> None:
    contents = replace(found(*segments, needless=(damaged(2),)), contradictions=contradictions)
    assert contents.serves is serves


def test_without_an_identity_in_what_remains_of_a_checkpoint_a_repair_may_lose_something() -> None:
    assert found(segment(1, 1)).lossless
    assert not found(segment(1, 1), segment(2, 1), needless=(damaged(2),)).lossless


def test_the_reach_of_the_log_is_the_most_that_any_damaged_checkpoint_tells() -> None:
    one, other = damaged(2), damaged(3)
    assert one.salvage is not None
    one.salvage.next_batch = 7
    other.salvage = None
    assert (reach_of([]), reach_of([other]), reach_of([other, one, damaged(4)])) == (0, 0, 7)
