"""The replica: staged and sealed are invisible, what is replayed equals what was durable."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.format.log_records import Header, Scan, encode_batch
from gcount.core.limits import MAX_CELL, MAX_INCARNATIONS
from gcount.core.options import Options
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.errors import CounterLimitReached, PartLimitReached
from tests.core.histories import NAMES, History, histories, incarnation
from tests.fakes.counting import stage

ME = Identity(incarnation(100), incarnation(101))


def replica(max_counters: int = 1000) -> Replica:
    return Replica(ME, max_counters)


def commit(one: Replica) -> None:
    one.seal()
    one.commit()


def test_an_increment_is_visible_only_after_the_commit() -> None:
    one = replica()
    stage(one, "a", 5)
    assert (one.counters.total("a"), one.version, one.is_pending("a"), one.anything_staged) == (0, 0, True, True)
    batch = one.seal()
    assert (one.counters.total("a"), one.version, one.is_pending("a"), one.anything_staged) == (0, 0, True, False)
    assert batch.deltas == [Delta(ME.incarnation, 0, 1, {"a": 5})]
    one.commit()
    assert (one.counters.total("a"), one.version, one.is_pending("a")) == (5, 1, False)


def test_increments_of_one_counter_share_a_cell_and_those_after_the_seal_the_next_batch() -> None:
    one = replica()
    stage(one, "a", 1)
    stage(one, "a", 2)
    first = one.seal()
    stage(one, "a", 4)
    one.commit()
    second = one.seal()
    one.commit()
    assert [first.deltas[0].cells, second.deltas[0].cells] == [{"a": 3}, {"a": 7}]
    assert (first.number, second.number, one.counters.total("a"), one.version) == (1, 2, 7, 2)


def test_an_aborted_batch_leaves_no_trace_and_what_was_staged_meanwhile_untouched() -> None:
    one = replica()
    stage(one, "a", 1)
    stage(one, "lost", 1)
    one.seal()
    stage(one, "a", 10)
    one.abort()
    assert (one.counters.total("a"), one.is_pending("a"), one.is_pending("lost"), one.next_batch) == (0, True, False, 1)
    commit(one)
    assert (one.counters.total("a"), one.version, "lost" in one.counters) == (10, 1, False)


def test_one_batch_in_flight() -> None:
    one = replica()
    with pytest.raises(AssertionError, match="in flight"):
        one.commit()
    with pytest.raises(AssertionError, match="in flight"):
        one.abort()
    one.seal()
    with pytest.raises(AssertionError, match="in flight"):
        one.seal()


@pytest.mark.parametrize("where", ["durable", "staged", "sealed"])
def test_a_part_never_passes_64_bits_wherever_the_rest_of_it_is(where: str) -> None:
    one = replica()
    stage(one, "a", MAX_CELL - 5)
    if where != "staged":
        one.seal()
    if where == "durable":
        one.commit()
    stage(one, "a", 3)
    with pytest.raises(PartLimitReached):
        stage(one, "a", 3)
    stage(one, "a", 2)
    if where == "sealed":
        one.commit()
    commit(one)
    assert one.counters.total("a") == MAX_CELL
    stage(one, "b", MAX_CELL)


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from("-sca")), max_size=30))
def test_clients_never_make_it_hold_more_counters_than_allowed(limit: int, steps: list[tuple[str, str]]) -> None:
    one, sealed = replica(limit), False
    for name, then in steps:
        known = one.is_pending(name) or name in one.counters
        names = {other for other in NAMES if one.is_pending(other) or other in one.counters}
        if known or len(names) < limit:
            stage(one, name, 1)
        else:
            with pytest.raises(CounterLimitReached):
                stage(one, name, 1)
        if then == "s" and not sealed:
            one.seal()
            sealed = True
        elif then in "ca" and sealed:
            _ = one.commit() if then == "c" else one.abort()
            sealed = False
        assert len(one.counters) <= limit


def test_a_peers_names_are_not_limited() -> None:
    one = replica(1)
    assert one.stage_delta(Delta(incarnation(1), 0, 1, {"a": 1, "b": 1, "c": 1}))
    commit(one)
    assert len(one.counters) == 3
    with pytest.raises(CounterLimitReached):
        stage(one, "d", 1)
    stage(one, "c", 1)


def test_nobody_else_writes_this_nodes_incarnation() -> None:
    one = replica()
    assert not one.stage_delta(Delta(ME.incarnation, 0, 7, {"a": 9}))
    assert not one.anything_staged
    one.stage_identity(ME.reborn(incarnation(102)))
    commit(one)
    assert one.stage_delta(Delta(ME.incarnation, 0, 7, {"a": 9}))


def test_what_is_given_back_is_on_disk_when_it_is_joined_or_kept_detached() -> None:
    one, former = replica(), incarnation(1)
    one.stage_identity(Identity(ME.node, ME.incarnation, (former,)))
    commit(one)
    first, behind = Delta(former, 0, 1, {"a": 1}), Delta(former, 4, 5, {"a": 3})
    for delta in (first, behind):
        assert not one.has_back(delta)
        assert one.stage_delta(delta)
        assert not one.has_back(delta)
        commit(one)
        assert one.has_back(delta)


def test_a_delta_after_a_gap_is_not_taken() -> None:
    one = replica()
    assert not one.stage_delta(Delta(incarnation(1), 1, 2, {"a": 1}))
    assert one.stage_delta(Delta(incarnation(1), 0, 1, {"a": 1}))
    assert not one.stage_delta(Delta(incarnation(1), 1, 2, {"a": 1}))
    commit(one)
    assert one.stage_delta(Delta(incarnation(1), 1, 2, {"a": 2}))


def test_the_limit_of_incarnations_holds_for_what_is_staged_together() -> None:
    """Beyond it no peer would take this node's hello."""
    one = replica()
    for number in range(MAX_INCARNATIONS + 10):
        one.stage_delta(Delta(number.to_bytes(16, "big"), 0, 1, {"a": 1}))
    commit(one)
    stage(one, "a", 1)  # of this node's own life, for which there is room then
    commit(one)
    assert len(one.counters.digest()) == MAX_INCARNATIONS


def test_room_for_names_counts_what_peers_deltas_bring_until_it_is_durable() -> None:
    one, rooms = replica(5), []
    one.stage_delta(Delta(incarnation(1), 0, 1, {"a": 1, "b": 1}))
    rooms.append(one.room_for_names)
    one.seal()
    one.stage_delta(Delta(incarnation(2), 0, 1, {"c": 1}))
    rooms.append(one.room_for_names)
    one.commit()
    rooms.append(one.room_for_names)
    commit(one)
    rooms.append(one.room_for_names)
    assert rooms == [3, 2, 2, 2]


def test_a_new_life_that_is_durable_counts_once() -> None:
    one = replica()
    for version in range(1, 4):
        one.stage_delta(Delta(incarnation(1), 0, version, {"a": version}))
        commit(one)
        assert one.incarnations == 1


@pytest.mark.parametrize("sealed", [False, True])
def test_at_the_limit_of_incarnations_more_of_the_last_one_is_taken(sealed: bool) -> None:
    """It has its place from its first delta on, before that is durable."""
    one, numbers = replica(), iter(range(MAX_INCARNATIONS))
    while one.stage_delta(last := Delta(next(numbers).to_bytes(16, "big"), 0, 1, {"a": 1})):
        taken = last
    if sealed:
        one.seal()
    assert one.stage_delta(Delta(taken.incarnation, 0, 2, {"a": 2}))
    assert not one.stage_delta(last)
    if sealed:
        one.commit()
    commit(one)
    assert one.counters.cell("a", taken.incarnation) == 2


def test_a_new_incarnation_counts_in_the_very_batch_that_brings_it() -> None:
    one = replica()
    stage(one, "a", 1)
    commit(one)
    reborn = ME.reborn(incarnation(102))
    stage(one, "a", 2)
    one.stage_identity(reborn)
    batch = one.seal()
    assert one.identity == ME
    one.commit()
    assert batch.deltas == [Delta(incarnation(102), 0, 1, {"a": 2})]
    assert one.identity == reborn
    assert one.counters.cells("a") == {ME.incarnation: 1, incarnation(102): 2}


def test_a_membership_is_in_force_after_the_commit_and_only_a_winner_is_staged() -> None:
    one = replica()
    first, second = Membership(1, ("a:1",)), Membership(2, ("b:1",))
    assert one.stage_membership(second)
    assert not one.stage_membership(first)
    assert one.membership == Membership()
    one.seal()
    assert not one.stage_membership(second)
    one.commit()
    assert one.membership == second
    assert not one.stage_membership(first)


Step = tuple[str, str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "peer", "seal", "commit", "abort", "mint", "config"]), st.sampled_from(NAMES)
    ).flatmap(lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.integers(1, 2**40))),
    max_size=40,
)


@given(steps, histories(1), st.integers(40, 300))
@settings(max_examples=80)
def test_replaying_the_log_gives_the_durable_state(made: list[Step], peer: History, frame: int) -> None:
    one, log, sealed = replica(), Header(ME.node, ME.incarnation, 1, 1).encode(), None
    lives, versions = 101, 0
    for kind, name, n in made:
        if kind == "add":
            stage(one, name, n)
        elif kind == "peer":
            known = one.counters.version(peer.incarnation)
            upto = min(len(peer.commits), known + 1 + n % 2)
            if known < upto:
                one.stage_delta(peer.delta(max(0, known - n % 3), upto))
        elif kind == "mint":
            lives += 1
            one.stage_identity(one.identity.reborn(incarnation(lives)))
        elif kind == "config":
            versions += 1
            one.stage_membership(Membership(versions, (f"h{n}:1",)))
        elif kind == "seal" and sealed is None:
            sealed = one.seal()
        elif kind == "abort" and sealed is not None:
            one.abort()
            sealed = None
        elif kind == "commit" and sealed is not None:
            log += encode_batch(sealed, Options(frame_bytes=frame))
            one.commit()
            sealed = None
    scan, again = Scan(log, 1), replica()
    for batch in scan:
        again.recover(batch)
        again.recover(batch)
    assert scan.damage is None
    assert again.counters == one.counters
    assert {name: again.counters.total(name) for name in NAMES} == {name: one.counters.total(name) for name in NAMES}
    assert (again.identity, again.membership, again.next_batch) == (one.identity, one.membership, one.next_batch)
