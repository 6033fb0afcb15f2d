"""Merged batches bring a replica to where the batches themselves do."""

from copy import deepcopy

from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.format.replay_merge import Coalescer
from gcount.core.options import Options
from gcount.core.state.batch import Batch, Needs
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from tests.core.histories import NAMES, History, incarnation, newer, three_histories
from tests.core.keyed_histories import KeyedHistory, assert_is_what_the_model_says, three

ME = Identity(incarnation(100), incarnation(101), (incarnation(1),))


@st.composite
def logs(draw: st.DrawFn) -> tuple[tuple[History, ...], list[Batch]]:
    """Histories, and a log of any deltas of them: older ones again, overlapping ones, and gaps."""
    made = draw(three_histories)
    batches = []
    for number in range(1, draw(st.integers(1, 12)) + 1):
        deltas = []
        for history in draw(st.lists(st.sampled_from(made), max_size=3)):
            after = draw(st.integers(0, len(history.commits) - 1))
            deltas.append(history.delta(after, draw(st.integers(after + 1, len(history.commits)))))
        identity = ME.reborn(incarnation(110 + number)) if draw(st.integers(0, 5)) == 0 else None
        membership = (
            Membership().post(draw(st.sets(st.sampled_from("xyz"))), number) if draw(st.integers(0, 5)) == 0 else None
        )
        batches.append(Batch(number, deltas, identity, membership))
    return made, batches


def replayed(batches: list[Batch]) -> Replica:
    one = Replica(ME, 1000)
    for batch in batches:
        one.apply(batch)
    return one


def merged(batches: list[Batch], most_cells: int) -> tuple[Replica, list[Batch]]:
    applied: list[Batch] = []
    coalescer = Coalescer(applied.append, Options(merge_cells=most_cells))
    for batch in batches:
        coalescer.add(batch)
    coalescer.flush()
    return replayed(applied), applied


@given(logs(), st.sampled_from([0, 3, 1000]))
def test_merged_batches_bring_a_replica_to_the_same_state(
    log: tuple[tuple[History, ...], list[Batch]], most_cells: int
) -> None:
    _, batches = log
    (one, _), other = merged(batches, most_cells), replayed(batches)
    assert one.counters == other.counters
    assert one.detached.deltas() == other.detached.deltas()
    assert (one.identity, one.membership, one.next_batch) == (other.identity, other.membership, other.next_batch)
    assert [one.counters.total(name) for name in NAMES] == [other.counters.total(name) for name in NAMES]


@given(logs())
def test_a_peer_with_an_older_version_gets_everything_newer(
    log: tuple[tuple[History, ...], list[Batch]],
) -> None:
    histories, batches = log
    one, _ = merged(batches, 1000)
    for history in histories:
        version = one.counters.version(history.incarnation)
        for known in range(version):
            told = newer(one.counters, history.incarnation, known)
            assert told is not None
            assert told.upto == version
            assert {**history.state(known), **told.cells} == history.state(version)


@st.composite
def keyed_logs(draw: st.DrawFn) -> tuple[list[KeyedHistory], list[Batch]]:
    """The same of increments with ids, and of settlements."""
    made, batches = draw(three), []
    for number in range(1, draw(st.integers(1, 12)) + 1):
        deltas = []
        for history in draw(st.lists(st.sampled_from(made), max_size=3)):
            after = draw(st.integers(0, len(history.commits) - 1))
            deltas.append(history.delta(after, draw(st.integers(after + 1, len(history.commits)))))
        floor = number if draw(st.integers(0, 5)) == 0 else None
        versions = {draw(st.sampled_from(made)).incarnation: draw(st.integers(1, 3))}
        needs = Needs([one.incarnation for one in made], versions) if draw(st.integers(0, 3)) == 0 else None
        batches.append(Batch(number, deltas, floor=floor, needs=needs))
    return [*made], batches


@given(keyed_logs(), st.sampled_from([0, 3, 1000]))
@settings(max_examples=150)
def test_merged_batches_with_ids_bring_a_replica_to_the_same_state(
    log: tuple[list[KeyedHistory], list[Batch]], most_cells: int
) -> None:
    made, batches = log
    before = deepcopy(batches)
    (one, _), other = merged(batches, most_cells), replayed(batches)
    assert batches == before
    assert one.counters == other.counters
    assert one.detached.deltas() == other.detached.deltas()
    assert (one.floor, one.next_batch) == (other.floor, other.next_batch)
    assert_is_what_the_model_says(one.counters, made)


def test_an_entry_that_a_liar_lets_fall_keeps_its_maximum_as_when_it_was_joined() -> None:
    """Between the two a settlement may have covered the greater one; merged, it would be counted again."""
    key, who, other = "5-x a", ME.incarnation, incarnation(2)
    batches = [
        Batch(1, [Delta(who, 0, 1, {}, Keyed({key: (100, 1)}))]),
        Batch(2, [Delta(other, 0, 1, {}, Keyed(settled={who: Settlement(59, 1, {"a": 100})}))]),
        Batch(3, [Delta(who, 1, 2, {}, Keyed({key: (5, 2), "5-y a": (1, 1)}))]),
    ]
    one, _ = merged(batches, 1000)
    assert one.counters == replayed(batches).counters
    assert one.counters.total("a") == 105


def test_no_more_is_kept_than_so_many_entries_and_parts() -> None:
    batches = [
        Batch(
            n,
            [Delta(ME.incarnation, n - 1, n, {}, Keyed({f"{n}-x a": (1, n)}, {ME.incarnation: Settlement(0, 0, {})}))],
        )
        for n in range(1, 7)
    ]
    _, applied = merged(batches, 3)
    assert [batch.deltas[0].size for batch in applied] == [4, 4]


def test_what_follows_each_other_is_applied_once_and_input_is_left_as_it_was() -> None:
    first = Batch(1, [Delta(ME.incarnation, 0, 1, {"a": 1, "b": 1})])
    second = Batch(2, [Delta(ME.incarnation, 1, 2, {"a": 2})])
    _, applied = merged([first, second, Batch(3, [])], 1000)
    assert applied == [Batch(3, [Delta(ME.incarnation, 0, 2, {"a": 2, "b": 1})])]
    assert first.deltas[0].cells == {"a": 1, "b": 1}


def test_what_is_older_than_what_came_before_changes_nothing() -> None:
    newest, older = Delta(ME.incarnation, 0, 3, {"a": 3}), Delta(ME.incarnation, 1, 2, {"a": 2})
    one, _ = merged([Batch(1, [newest]), Batch(2, [older])], 1000)
    assert (one.counters.total("a"), one.version) == (3, 3)


def test_a_cell_that_a_liar_lets_fall_keeps_its_maximum_as_when_it_was_joined() -> None:
    batches = [
        Batch(1, [Delta(ME.incarnation, 0, 1, {"a": 100})]),
        Batch(2, [Delta(ME.incarnation, 1, 2, {"a": 5, "b": 1})]),
    ]
    one, _ = merged(batches, 1000)
    assert one.counters == replayed(batches).counters
    assert [one.counters.total(name) for name in "ab"] == [100, 1]


def test_no_more_is_kept_than_so_many_cells() -> None:
    batches = [Batch(n, [Delta(ME.incarnation, n - 1, n, {f"n{n}": 1})]) for n in range(1, 10)]
    _, applied = merged(batches, 3)
    assert [len(batch.deltas[0].cells) for batch in applied] == [4, 4, 1]


def test_a_delta_that_fills_the_gap_before_what_was_merged_is_joined_with_it() -> None:
    """Merged into what it fills it would be kept detached for ever, gap and all."""
    behind, whole = Delta(incarnation(1), 3, 5, {"a": 1}), Delta(incarnation(1), 0, 7, {"a": 2, "b": 1})
    one, _ = merged([Batch(1, [behind]), Batch(2, [whole])], 1000)
    assert one.counters.digest() == {incarnation(1): 7}
    assert one.cells("a") == {incarnation(1): 2}
    assert not one.detached
