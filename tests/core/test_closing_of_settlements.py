"""A gap is closed that held a settlement: what only it had added up, other nodes and this one still have as ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.options import Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.replica import Replica
from gcount.core.writes.settling import settlement
from gcount.core.writes.writer import Writer
from tests.core.histories import incarnation
from tests.core.ids import entry, peers, settling

OLD, PEER, THIRD = incarnation(1), incarnation(2), incarnation(3)
OLDER = incarnation(4)
ME = Identity(incarnation(100), incarnation(101), (OLDER, OLD))
OPTIONS = Options(id_span=10)


def repaired(*deltas: Delta) -> Writer:
    """A writer on what a repaired log has left."""
    replica = Replica(ME, 1000, OPTIONS)
    replica.apply(Batch(1, [*deltas]))
    return Writer(replica)


def closed(writer: Writer) -> dict[str, int]:
    """All values when the gaps of the former incarnation are closed."""
    assert writer.stage_closing(OLD)
    writer.seal()
    writer.commit()
    counters = writer.replica.counters
    assert not writer.replica.detached
    return {name: counters.total(name) for name, _ in counters.items()}


def test_ids_of_a_lost_settlement_that_a_later_one_covers_keep_counting() -> None:
    """Version 1 has settled `a`. Version 2 goes further in time, and says what `b` came to."""
    live = peers(PEER, {**entry(5, time=5), **entry(7, name="b", time=15)})
    writer = repaired(live, settling(OLD, {PEER: Settlement(19, 1, {"b": 7})}, after=1))
    assert closed(writer) == {"a": 5, "b": 7}
    counters = writer.replica.counters
    assert (counters.entries.live, counters.parts("a"), counters.parts("b")) == (0, {PEER: 5}, {PEER: 7})


def test_ids_that_a_part_behind_the_gap_has_counted_under_a_lost_column_count_once() -> None:
    """The rot took the entry of the smaller incarnation, too, to which the id was added up."""
    settled = {OLD: Settlement(9, 2, {"a": 5}), PEER: Settlement(9, 1, {})}
    assert closed(repaired(peers(PEER, entry(5, time=5)), settling(OLD, settled, after=2))) == {"a": 5}


def test_a_part_behind_the_gap_that_another_settlement_contains_makes_up_for_nothing_that_is_lost() -> None:
    """It is greater than the one that counts, but does not count itself."""
    known = peers(PEER, {}), settling(THIRD, {PEER: Settlement(9, 2, {"a": 4})}), peers(OLDER, entry(5, time=5))
    behind = {PEER: Settlement(9, 1, {"a": 9}), OLDER: Settlement(9, 1, {})}
    assert closed(repaired(*known, settling(OLD, behind, after=1))) == {"a": 4 + 5}


def test_an_entry_behind_one_gap_whose_settlement_is_lost_in_the_next_one_counts() -> None:
    deltas = peers(OLD, entry(5, 2, time=5), after=1), settling(OLD, {OLD: Settlement(19, 3, {"b": 7})}, after=3)
    assert closed(repaired(*deltas)) == {"a": 5, "b": 7}


def test_a_closing_that_settles_waits_for_deltas_with_what_it_covers() -> None:
    writer = repaired(settling(OLD, {PEER: Settlement(9, 1, {})}, after=1))
    assert writer.stage_closing(OLD)
    assert writer.stage_delta(peers(PEER, entry(5, time=5)))
    writer.seal()
    writer.commit()
    assert writer.replica.detached
    assert closed(writer) == {"a": 5}


def test_a_closing_that_settles_waits_for_other_settlements() -> None:
    writer = repaired(peers(PEER, entry(5, time=5)), settling(OLD, {PEER: Settlement(9, 1, {})}, after=1))
    assert writer.stage_closing(OLD)
    assert writer.stage_delta(settling(THIRD, {PEER: Settlement(9, 1, {"a": 5})}))
    writer.seal()
    writer.commit()
    assert closed(writer) == {"a": 5}


@pytest.mark.parametrize("asked", [(OLDER, OLD), (OLD, OLDER)])
def test_a_closing_that_settles_waits_for_that_of_an_older_life(asked: tuple[bytes, bytes]) -> None:
    """Whatever the order in which they were found: the later life may cover ids that the older one has behind a gap."""
    of_older = peers(OLDER, entry(5, 2, time=5), after=1)
    writer = repaired(of_older, settling(OLD, {OLDER: Settlement(19, 2, {"b": 7})}, after=1))
    for who in asked:
        assert writer.stage_closing(who)
    assert [delta.incarnation for delta in writer.seal().deltas] == [OLDER]
    writer.commit()
    assert closed(writer) == {"a": 5, "b": 7}


@given(
    st.lists(st.tuples(st.sampled_from((OLD, PEER, THIRD)), st.integers(0, 39), st.sampled_from("ab")), max_size=9),
    st.sets(st.integers(0, 3), min_size=1, max_size=3),
)
def test_whatever_settlements_are_lost_each_id_that_is_left_counts_once(
    taken: list[tuple[bytes, int, str]], lost: set[int]
) -> None:
    """Four settlements of 10 s each: some are in the log behind a gap."""
    whole, versions = Counters(OPTIONS), dict.fromkeys((OLD, PEER, THIRD), 0)
    kept = list[Delta]()
    for bit, (holder, time, name) in enumerate(taken):
        kept.append(peers(holder, entry(1 << bit, versions[holder] + 1, str(bit), name, time=time), versions[holder]))
        versions[holder] += 1
    for delta in kept:
        whole.join(delta)
    for number in range(4):
        after = whole.version(OLD)
        delta = Delta(OLD, after, after + 1, {}, Keyed(settled=settlement(whole, OLD, 10 * number + 9)))
        whole.join(delta)
        if number not in lost:
            kept.append(delta)
    writer = repaired(*kept)
    values = {name: whole.total(name) for name, _ in whole.items()}
    assert (closed(writer) if writer.replica.detached else values) == values
