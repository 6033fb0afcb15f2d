"""The way into a replica: staged and sealed are invisible, committed is visible, aborted leaves no trace."""

import pytest

from gcount.core.limits import MAX_CELL
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from tests.core.histories import incarnation
from tests.fakes.counting import stage

ME = Identity(incarnation(100), incarnation(101))


def writer(max_counters: int = 1000) -> Writer:
    return Writer(Replica(ME, max_counters))


def commit(one: Writer) -> None:
    one.seal()
    one.commit()


def test_an_increment_is_visible_only_after_the_commit() -> None:
    one = writer()
    now = one.replica
    stage(one, "a", 5)
    assert (now.counters.total("a"), now.version, "a" in one.pending, bool(one.pending.staging)) == (0, 0, True, True)
    batch = one.seal()
    assert (now.counters.total("a"), now.version, "a" in one.pending, bool(one.pending.staging)) == (0, 0, True, False)
    assert batch.deltas == [Delta(ME.incarnation, 0, 1, {"a": 5})]
    one.commit()
    assert (now.counters.total("a"), now.version, "a" in one.pending) == (5, 1, False)


def test_increments_of_one_counter_share_a_cell_and_those_after_the_seal_the_next_batch() -> None:
    one = writer()
    stage(one, "a", 1)
    stage(one, "a", 2)
    first = one.seal()
    stage(one, "a", 4)
    one.commit()
    second = one.seal()
    one.commit()
    assert [first.deltas[0].cells, second.deltas[0].cells] == [{"a": 3}, {"a": 7}]
    assert (first.number, second.number, one.replica.counters.total("a"), one.replica.version) == (1, 2, 7, 2)


def test_an_aborted_batch_leaves_no_trace_and_what_was_staged_meanwhile_untouched() -> None:
    one = writer()
    now, pending = one.replica, one.pending
    stage(one, "a", 1)
    stage(one, "lost", 1)
    one.seal()
    stage(one, "a", 10)
    one.abort()
    assert (now.counters.total("a"), "a" in pending, "lost" in pending, now.next_batch) == (0, True, False, 1)
    commit(one)
    assert (now.counters.total("a"), now.version, "lost" in now.counters) == (10, 1, False)


def test_one_batch_in_flight() -> None:
    one = writer()
    with pytest.raises(AssertionError, match="in flight"):
        one.commit()
    with pytest.raises(AssertionError, match="in flight"):
        one.abort()
    one.seal()
    with pytest.raises(AssertionError, match="in flight"):
        one.seal()


def test_no_other_node_writes_this_nodes_incarnation() -> None:
    one = writer()
    assert not one.stage_delta(Delta(ME.incarnation, 0, 7, {"a": 9}))
    assert not bool(one.pending.staging)
    one.stage_identity(ME.reborn(incarnation(102)))
    commit(one)
    assert one.stage_delta(Delta(ME.incarnation, 0, 7, {"a": 9}))


def test_a_delta_after_a_gap_is_not_taken() -> None:
    one = writer()
    assert not one.stage_delta(Delta(incarnation(1), 1, 2, {"a": 1}))
    assert one.stage_delta(Delta(incarnation(1), 0, 1, {"a": 1}))
    assert not one.stage_delta(Delta(incarnation(1), 1, 2, {"a": 1}))
    commit(one)
    assert one.stage_delta(Delta(incarnation(1), 1, 2, {"a": 2}))


def test_a_new_incarnation_counts_in_the_very_batch_that_brings_it() -> None:
    one = writer()
    stage(one, "a", 1)
    commit(one)
    reborn = ME.reborn(incarnation(102))
    stage(one, "a", 2)
    one.stage_identity(reborn)
    batch = one.seal()
    assert one.replica.identity == ME
    one.commit()
    assert batch.deltas == [Delta(incarnation(102), 0, 1, {"a": 2})]
    assert one.replica.identity == reborn
    assert one.replica.counters.cells("a") == {ME.incarnation: 1, incarnation(102): 2}


def test_a_membership_is_in_force_after_the_commit_and_only_a_winner_is_staged() -> None:
    one = writer()
    first, second = Membership(1, ("a:1",)), Membership(2, ("b:1",))
    assert one.stage_membership(second)
    assert not one.stage_membership(first)
    assert one.replica.membership == Membership()
    one.seal()
    assert not one.stage_membership(second)
    one.commit()
    assert one.replica.membership == second
    assert not one.stage_membership(first)


# Deltas that concern ids


def settling(settler: bytes, settled: dict[bytes, Settlement], after: int = 0) -> Delta:
    return Delta(settler, after, after + 1, {}, Keyed(settled=settled))


def test_of_a_stranger_no_settlement_is_taken_by_which_a_value_would_fall() -> None:
    one = writer()
    a, c, d = incarnation(1), incarnation(3), incarnation(4)
    assert one.stage_delta(Delta(a, 0, 1, {}, Keyed({"5-x a": (5, 1)})))
    assert one.stage_delta(settling(d, {d: Settlement(59, 1, {})}))
    commit(one)
    lowers, keeps = settling(c, {a: Settlement(59, 1, {"a": 4})}), settling(c, {a: Settlement(59, 1, {"a": 5})})
    assert not one.stage_delta(lowers, {c})
    assert not one.pending.staging
    assert one.stage_delta(keeps, {c})
    commit(one)
    assert one.replica.counters.total("a") == 5


def test_what_strangers_say_of_themselves_needs_no_proof() -> None:
    one = writer()
    c, d = incarnation(3), incarnation(4)
    assert one.stage_delta(settling(d, {d: Settlement(59, 1, {})}))
    commit(one)
    assert not one.stage_delta(settling(c, {c: Settlement(59, 9, {"a": 4})}), {d})
    assert one.stage_delta(settling(c, {c: Settlement(59, 9, {"a": 4})}), {c})


@pytest.mark.parametrize("where", ["staged", "sealed", "durable"])
def test_ids_of_a_stranger_wait_if_they_fit_into_no_part(where: str) -> None:
    """A settlement of them could not be written."""
    one = writer()
    c, d = incarnation(3), incarnation(4)
    assert one.stage_delta(Delta(c, 0, 1, {}, Keyed({"5-x a": (MAX_CELL, 1)})), {c})
    if where != "staged":
        one.seal()
    if where == "durable":
        one.commit()
    more = Delta(c, 0, 2, {"b": 1}, Keyed({"5-y a": (1, 2)}))
    assert not one.stage_delta(more, {c})
    assert one.stage_delta(more)  # a member keeps the limits
    assert one.stage_delta(Delta(d, 0, 1, {}, Keyed({"5-y b": (1, 1)})), {d})


@pytest.mark.parametrize("where", ["staged", "sealed"])
def test_a_strangers_settlement_waits_until_others_are_durable(where: str) -> None:
    """Each might raise a part for an id that it covers; of the two only the greater part would count."""
    one = writer()
    a, c, d = incarnation(1), incarnation(3), incarnation(4)
    assert one.stage_delta(Delta(a, 0, 1, {}, Keyed({"5-x a": (5, 1)})))
    commit(one)
    assert one.stage_delta(settling(d, {a: Settlement(59, 0, {})}))
    if where == "sealed":
        one.seal()
    early = settling(c, {a: Settlement(3, 1, {})})
    assert not one.stage_delta(early, {c})
    if where == "sealed":
        one.commit()
    commit(one)
    assert one.stage_delta(early, {c})
    commit(one)
    assert one.replica.counters.total("a") == 5


def test_members_settlements_are_taken_as_they_come() -> None:
    one = writer()
    c, d = incarnation(3), incarnation(4)
    assert one.stage_delta(settling(c, {incarnation(1): Settlement(59, 9, {})}))
    assert one.stage_delta(settling(d, {incarnation(2): Settlement(59, 9, {})}))
