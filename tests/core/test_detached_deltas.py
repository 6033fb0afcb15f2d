"""Detached deltas: never claimed, never lost, joined when they fit, closed only under a new version."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.options import Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.detached_deltas import DetachedDeltas
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from tests.core.histories import NAMES, History, histories, incarnation, join, knowing
from tests.fakes.counting import stage

ME = Identity(incarnation(100), incarnation(101), (incarnation(1),))


def replica() -> Replica:
    return Replica(ME, 1000)


def replayed(deltas: list[Delta]) -> Replica:
    one = replica()
    for number, delta in enumerate(deltas, start=1):
        one.apply(Batch(number, [delta]))
    return one


@st.composite
def cut_logs(draw: st.DrawFn) -> tuple[History, list[Delta]]:
    """A history, and the deltas of it that are left, of different lengths and overlapping, in the order of the log."""
    history = draw(histories(1, max_commits=10))
    size = len(history.commits)
    cuts = draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(1, 3)), min_size=1, max_size=8))
    return history, [history.delta(after, min(size, after + length)) for after, length in sorted(cuts)]


@given(cut_logs())
def test_only_deltas_without_a_gap_before_them_are_claimed(cut: tuple[History, list[Delta]]) -> None:
    history, deltas = cut
    one = replayed(deltas)
    version = one.counters.version(history.incarnation)
    assert one.counters == (knowing([(history, version)]) if version else Counters())
    assert not any(delta.after <= version < delta.upto for delta in deltas)


@given(cut_logs())
def test_reads_see_the_greatest_cell_of_all_detached_deltas(cut: tuple[History, list[Delta]]) -> None:
    history, deltas = cut
    one = replayed(deltas)
    for name in NAMES:
        most = max((delta.cells.get(name, 0) for delta in deltas), default=0)
        assert one.cells(name) == ({history.incarnation: most} if most else {})


def test_reads_count_what_is_detached_of_this_nodes_own_former_lives_only() -> None:
    """Another node may go on with its life from before that, and then the two would hide each other."""
    one = replayed([Delta(who, 3, 4, {"a": 7}) for who in (incarnation(1), incarnation(2), ME.incarnation)])
    assert len(one.detached) == 3
    assert one.cells("a") == {incarnation(1): 7}


@given(cut_logs(), st.data())
def test_when_others_fill_the_gaps_all_is_joined_and_nothing_stays_detached(
    cut: tuple[History, list[Delta]], data: st.DataObject
) -> None:
    history, deltas = cut
    one, size = replayed(deltas), len(history.commits)
    writer = Writer(one)
    while (known := one.counters.version(history.incarnation)) < size:
        after = data.draw(st.integers(0, known))
        assert writer.stage_delta(history.delta(after, data.draw(st.integers(known + 1, size))))
        writer.seal()
        writer.commit()
        version = one.counters.version(history.incarnation)
        assert one.counters == knowing([(history, version)])
    assert (len(one.detached), one.detached.cells) == (0, 0)


@given(cut_logs())
def test_runs_are_as_many_as_gaps(cut: tuple[History, list[Delta]]) -> None:
    history, deltas = cut
    one = replayed(deltas)
    covered = {version for delta in deltas for version in range(delta.after + 1, delta.upto + 1)}
    covered |= set(range(one.counters.version(history.incarnation) + 1))
    assert len(one.detached) == sum(version - 1 not in covered for version in covered if version)


@given(cut_logs(), st.integers(0, 10))
def test_a_closed_gap_reaches_all_members_that_know_less_or_as_much(
    cut: tuple[History, list[Delta]], peer: int
) -> None:
    history, deltas = cut
    one = replayed(deltas)
    writer = Writer(one)
    before = {name: one.cells(name) for name in NAMES}
    top = max(delta.upto for delta in deltas)
    version = one.counters.version(history.incarnation)
    closes = writer.stage_closing(history.incarnation)
    assert closes == (version < top)
    writer.seal()
    writer.commit()
    assert not one.detached
    assert {name: one.counters.cells(name) for name in NAMES} == before
    if closes:
        assert one.counters.version(history.incarnation) == top + 1
        other = knowing([(history, min(peer, version))])
        assert join(other, one.counters) == one.counters
        ahead = join(knowing([(history, min(top, len(history.commits)))]), one.counters)
        assert ahead.version(history.incarnation) == top + 1
        assert all(ahead.total(name) == history.state(top).get(name, 0) for name in NAMES)


@given(cut_logs())
def test_replaying_the_log_with_its_closing_gives_the_same_again(cut: tuple[History, list[Delta]]) -> None:
    history, deltas = cut
    one = replayed(deltas)
    writer = Writer(one)
    writer.stage_closing(history.incarnation)
    closing = writer.seal()
    writer.commit()
    again = replayed(deltas)
    again.apply(closing)
    again.apply(closing)
    assert again.counters == one.counters
    assert not again.detached


def test_only_a_retired_incarnation_of_its_own_is_closed() -> None:
    """Others still write theirs: they would commit another state under the version that was claimed."""
    one = replica()
    writer = Writer(one)
    one.apply(Batch(1, [Delta(incarnation(7), 3, 4, {"a": 1})]))
    one.apply(Batch(2, [Delta(ME.incarnation, 3, 4, {"a": 1})]))
    assert len(one.detached) == 2
    assert not writer.stage_closing(incarnation(7))
    assert not writer.stage_closing(ME.incarnation)
    assert not writer.stage_closing(incarnation(1))
    assert not writer.pending.staging


def test_a_closing_gives_way_to_what_came_after_it_was_staged() -> None:
    one = replica()
    writer = Writer(one)
    one.apply(Batch(1, [Delta(incarnation(1), 3, 4, {"a": 9})]))
    stage(writer, "b", 1)
    writer.seal()
    assert writer.stage_closing(incarnation(1))
    assert writer.stage_delta(Delta(incarnation(1), 0, 2, {"c": 1}))
    writer.commit()
    batch = writer.seal()
    writer.commit()
    assert [delta.upto for delta in batch.deltas] == [2]
    assert writer.stage_closing(incarnation(1))
    writer.seal()
    writer.commit()
    assert (one.counters.version(incarnation(1)), one.counters.total("a")) == (5, 9)


def test_a_closing_that_was_staged_before_a_delta_was_sealed_is_dropped() -> None:
    one = replica()
    writer = Writer(one)
    one.apply(Batch(1, [Delta(incarnation(1), 3, 4, {"a": 9})]))
    writer.stage_delta(Delta(incarnation(1), 0, 1, {"c": 1}))
    writer.seal()
    assert writer.stage_closing(incarnation(1))
    writer.commit()
    assert writer.seal().deltas == []


def test_a_closing_that_was_staged_before_more_was_kept_detached_is_dropped() -> None:
    """It claims a version under which all that it does not hold would be taken for known."""
    one = replica()
    writer = Writer(one)
    one.apply(Batch(1, [Delta(incarnation(1), 5, 6, {"a": 9})]))
    assert writer.stage_delta(Delta(incarnation(1), 2, 3, {"b": 4}))
    writer.seal()
    assert writer.stage_closing(incarnation(1))
    writer.commit()
    assert writer.seal().deltas == []
    writer.commit()
    assert writer.stage_closing(incarnation(1))
    writer.seal()
    writer.commit()
    assert [one.counters.total(name) for name in "ab"] == [9, 4]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_what_is_kept_is_one_delta_in_whatever_order_its_pieces_come(order: tuple[int, ...]) -> None:
    """The middle one ends before the first does, and tells less of a counter."""
    who, detached = incarnation(1), DetachedDeltas()
    pieces = Delta(who, 2, 5, {"a": 2, "c": 5}), Delta(who, 3, 4, {"b": 1, "c": 4}), Delta(who, 5, 6, {"a": 3})
    for number in order:
        detached.keep(pieces[number])
    assert detached.deltas() == [Delta(who, 2, 6, {"a": 3, "b": 1, "c": 5})]


def test_gaps_of_the_present_incarnation_are_never_closed() -> None:
    """Its next commits take the versions that a closing would claim."""
    who, detached = incarnation(1), DetachedDeltas()
    detached.keep(Delta(who, 3, 4, {"a": 1}))
    assert detached.closing(Counters(), Identity(ME.node, who, (incarnation(2),)), who) is None
    assert detached.closing(Counters(), Identity(ME.node, who, (who,)), who) is None
    assert detached.closing(Counters(), ME, who) == Delta(who, 0, 5, {"a": 1})


def test_a_delta_that_is_kept_is_not_shared_with_its_batch() -> None:
    detached, first = DetachedDeltas(), Delta(incarnation(1), 3, 4, {"a": 1})
    detached.keep(first)
    detached.keep(Delta(incarnation(1), 4, 5, {"a": 2, "b": 1}))
    assert first.cells == {"a": 1}
    assert (len(detached), detached.cells, detached.cell("a", incarnation(1))) == (1, 2, 2)


def test_the_number_of_runs_and_cells_that_are_taken_back_is_limited() -> None:
    """A member that lies may make up any number of them."""
    one = Replica(ME, 0, Options(max_runs=3, max_uncounted_cells=50, push_cells=0))
    writer = Writer(one)

    def takes(number: int, cells: int) -> bool:
        taken = writer.stage_delta(
            Delta(incarnation(1), 10 * number, 10 * number + 1, {f"{n}": 1 for n in range(cells)})
        )
        writer.seal()
        writer.commit()
        return taken

    assert [takes(1, 30), takes(2, 21), takes(3, 20)] == [True, False, True]
    assert [takes(4, 0), takes(5, 0)] == [True, False]
    assert (len(one.detached), one.detached.cells) == (3, 50)


def test_deltas_that_are_being_read_are_not_changed_by_later_ones() -> None:
    """A checkpoint, or a link that gives it back, is in the midst of it."""
    detached, who = DetachedDeltas(), incarnation(1)
    for read in (detached.deltas, lambda: detached.of([who])):
        detached.keep(Delta(who, 3, 4, {"a": 1}))
        shown, cells = read(), dict(read()[0].cells)
        detached.keep(Delta(who, 4, 5, {"a": 2, f"b{len(cells)}": 1}))
        assert shown[0].cells == cells
        assert detached.cell("a", who) == 2


def ids(who: bytes, after: int, upto: int, entries: dict[str, tuple[int, int]], until: int = 0) -> Delta:
    """A delta with entries, and with a settlement of another column if there is a time."""
    settled = {incarnation(9): Settlement(until, 1, {"settled": until})} if until else {}
    return Delta(who, after, upto, {}, Keyed(entries, settled))


def test_entries_and_settlements_are_kept_with_their_versions_and_joined_when_they_fit() -> None:
    who, one = incarnation(1), replica()
    first, second = (
        ids(who, 2, 4, {"5-x a": (3, 3)}, until=7),
        ids(who, 3, 5, {"5-x a": (4, 5), "5-y b": (1, 4)}, until=9),
    )
    one.apply(Batch(1, [first]))
    (shown,) = one.detached.deltas()
    one.apply(Batch(2, [second]))
    whole = ids(who, 2, 5, {"5-x a": (4, 5), "5-y b": (1, 4)}, until=9)
    assert one.detached.deltas() == [whole]
    assert shown == first == ids(who, 2, 4, {"5-x a": (3, 3)}, until=7)
    assert (one.detached.cells, one.detached.names()) == (4, {"a", "b", "settled"})
    assert all(map(one.detached.contains, (first, second, whole)))
    assert not one.detached.contains(ids(who, 2, 5, {"5-x a": (5, 5)}))
    assert not one.detached.contains(ids(who, 2, 5, {}, until=10))
    one.apply(Batch(3, [Delta(who, 0, 2, {"a": 1})]))
    assert not one.detached
    assert [one.counters.total(name) for name in ("a", "b", "settled")] == [5, 1, 9]


def test_a_closing_has_the_entries_and_settlements_of_all_runs() -> None:
    who, detached = incarnation(1), DetachedDeltas()
    runs = (
        ids(who, 2, 3, {"5-x a": (3, 3)}, until=7),
        ids(who, 5, 6, {"5-x a": (4, 6)}, until=9),
        Delta(who, 8, 9, {"a": 1}),
    )
    for run in runs:
        detached.keep(run)
    closing = detached.closing(Counters(), ME, who)
    assert closing == Delta(who, 0, 10, {"a": 1}, ids(who, 0, 0, {"5-x a": (4, 6)}, until=9).keyed)
    assert detached.deltas() == [*runs]


def test_a_read_with_detached_entries_of_an_own_former_life_needs_them_closed() -> None:
    """Its value is without them, and its digest never reaches the version that it has to reach."""
    who, one = incarnation(1), replica()
    one.apply(Batch(1, [Delta(who, 0, 1, {"b": 1}, Keyed({"5-x a": (3, 1)}))]))
    assert one.changed("a") == {who: 1}
    one.apply(Batch(2, [ids(who, 3, 4, {"5-y a": (3, 4)}), ids(incarnation(2), 3, 4, {"5-z a": (3, 4)})]))
    assert (one.changed("a"), one.changed("b"), one.counters.keyed("a")) == ({who: 4}, {}, 3)
    writer = Writer(one)
    assert writer.stage_closing(who)
    writer.seal()
    writer.commit()
    assert (one.changed("a"), one.counters.version(who), one.counters.keyed("a")) == ({who: 4}, 5, 6)


def test_no_more_entries_are_taken_back_than_cells_may_be() -> None:
    one = Replica(ME, 0, Options(max_uncounted_cells=65_536))
    most = one.max_uncounted_cells
    fits, full = ({f"5-{n} a": (1, 4) for n in range(number)} for number in (most, most + 1))
    assert one.takes_back(ids(incarnation(1), 3, 4, fits))
    assert not one.takes_back(ids(incarnation(1), 3, 4, full))
    assert not one.takes_back(ids(incarnation(2), 3, 4, {}))


cut_with_ids = st.tuples(st.integers(0, 12), st.integers(1, 3), st.sampled_from([None, 0, 5, 7, 9]))


@given(st.lists(cut_with_ids, max_size=12))
def test_the_time_of_the_oldest_id_is_that_of_all_that_is_still_detached(
    made: list[tuple[int, int, int | None]],
) -> None:
    """0 stands for a settlement."""
    one, who = replica(), incarnation(2)
    for number, (after, length, time) in enumerate(made, start=1):
        upto = after + length
        entries = {f"{time}-{number} a": (1, upto)} if time else {}
        settled = {incarnation(3): Settlement(9, 1, {})} if time == 0 else {}
        one.apply(Batch(number, [Delta(who, after, upto, {"b": 1}, Keyed(entries, settled))]))
        held = [run.keyed for run in one.detached.deltas() if run.keyed]
        times = [0 if keyed.settled else min(int(key.partition("-")[0]) for key in keyed.entries) for keyed in held]
        assert one.detached.ids_from == ({who: min(times)} if times else {})
