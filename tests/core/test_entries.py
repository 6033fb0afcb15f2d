"""Entries of ids: each id counts once, by its greatest total, until a settlement covers it."""

from collections import Counter
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.options import Options
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.settlements import changes_by, covers_with, state_of
from tests.core.histories import incarnation
from tests.core.keyed_histories import (
    NAMES,
    USUAL,
    KeyedHistory,
    Model,
    assert_is_what_the_model_says,
    learn,
    sizes,
    three,
    told,
)

A, B, C = map(incarnation, (1, 2, 3))
Histories = tuple[KeyedHistory, KeyedHistory, KeyedHistory]


def entries(who: bytes, after: int, of: dict[str, tuple[int, int]]) -> Delta:
    return Delta(who, after, after + 1, {}, Keyed(of))


def settles(who: bytes, after: int, settled: dict[bytes, Settlement]) -> Delta:
    return Delta(who, after, after + 1, {}, Keyed(settled=settled))


def knowing(deltas: list[Delta], options: Options = USUAL) -> Counters:
    counters = Counters(options)
    for delta in deltas:
        counters.join(delta)
    return counters


def assert_all_is_freed(counters: Counters, most: int) -> int:
    """After the last settlement; returns the number of steps."""
    steps, left = 1, counters.entries
    while left.sweep(most):
        steps += 1
    assert not any((left.live, left._buckets, left._of, left._recent, left._garbage, left._stale))
    return steps


def any_delta(data: st.DataObject, made: Histories) -> Delta:
    history = data.draw(st.sampled_from(made))
    after = data.draw(st.integers(0, len(history.commits) - 1))
    return history.delta(after, data.draw(st.integers(after + 1, len(history.commits))))


@given(three, sizes, st.data())
@settings(max_examples=250)
def test_a_replica_holds_what_its_digest_says_whatever_deltas_arrive(
    made: Histories, options: Options, data: st.DataObject
) -> None:
    counters = Counters(options)
    for _ in range(data.draw(st.integers(1, 12))):
        delta = any_delta(data, made)
        if counters.fits(delta):
            counters.join(delta)
        if data.draw(st.booleans()):
            counters.entries.sweep(data.draw(st.integers(1, 4)))
        assert_is_what_the_model_says(counters, made)
    everything = {one.incarnation: Settlement(99, 99, {}) for one in made}
    counters.join(Delta(C, counters.version(C), 99, {}, Keyed(settled=everything)))
    assert_all_is_freed(counters, 3)


def assert_tells_what_is_newer(counters: Counters, made: Histories) -> None:
    live = Model(made, counters.digest()).live()
    for history in made:
        who = history.incarnation
        for after in range(counters.version(who)):
            delta = told(counters, who, after) or Delta(who, 0, 0, {})
            keyed = delta.keyed or Keyed()
            assert keyed.entries == {key: of[who] for key, of in live.items() if who in of and of[who][1] > after}
            exact = history.delta(after, counters.version(who)).keyed or Keyed()
            assert keyed.contains(Keyed(settled=exact.settled))


@given(three, sizes, st.data())
@settings(max_examples=250)
def test_what_is_newer_than_a_version_is_what_a_naive_model_says(
    made: Histories, options: Options, data: st.DataObject
) -> None:
    counters = Counters(options)
    for _ in range(data.draw(st.integers(1, 6))):
        delta = any_delta(data, made)
        if counters.fits(delta):
            counters.join(delta)
        if data.draw(st.booleans()):
            counters.entries.sweep(data.draw(st.integers(1, 4)))
    assert_tells_what_is_newer(counters, made)


@given(three, sizes, st.data())
@settings(max_examples=150)
def test_an_exchange_brings_both_to_the_same_state(made: Histories, options: Options, data: st.DataObject) -> None:
    x, y = (knowing([one.delta(0, data.draw(st.integers(1, len(one.commits)))) for one in made]) for _ in range(2))
    x = learn(Counters(options), x)
    before = deepcopy(x)
    learn(x, y)
    learn(y, before)
    assert x.digest() == y.digest()
    assert state_of(x.settlements) == state_of(y.settlements)
    for one in (x, y):  # a name of which all ids are covered and came to nothing may be known to one of them only
        assert_is_what_the_model_says(one, made)


@given(three, sizes, st.data())
@settings(max_examples=150)
def test_what_was_captured_at_one_instant_is_restored(made: Histories, options: Options, data: st.DataObject) -> None:
    """A checkpoint reads the ids and the parts while more of them come."""
    counters = Counters(options)
    for one in made:
        counters.join(one.delta(0, data.draw(st.integers(1, len(one.commits)))))
    before, names = deepcopy(counters), len(counters)
    columns, shared, parts = counters.freeze(), counters.entries.share(), counters.settlements.freeze()
    for one in made:
        known = counters.version(one.incarnation)
        if known < len(one.commits):
            counters.join(one.delta(known, len(one.commits)))
    counters.entries.sweep(1000)
    size = data.draw(st.integers(1, 3))
    again = Counters(options)
    again.put_off_totals()
    again.restore_names(counters.names(0, names))
    for who, column in columns.items():
        again.restore_cells(who, column.version, 0, *column.read(100))
    for who, of in shared.columns(size):
        assert len(of) <= size
        again.restore_entries(who, of)
    for part in parts:
        first, words = 0, part.parts.read(size)
        while words[1] or not first:
            head = part.settler, part.column, part.until, part.version
            again.settlements.restore(head, part.parts.version, first, words)
            first, words = first + max(1, len(words[1])), part.parts.read(size)
    for _ in again.sum_up():
        pass
    counters.thaw()
    assert again == before
    assert_is_what_the_model_says(again, made)
    assert_is_what_the_model_says(learn(again, counters), made)
    assert_tells_what_is_newer(again, made)
    assert_is_what_the_model_says(learn(counters, again), made)


@given(three, sizes, st.data())
@settings(max_examples=150)
def test_sums_that_were_put_off_are_the_same(made: Histories, options: Options, data: st.DataObject) -> None:
    counters = Counters(options)
    counters.put_off_totals()
    for _ in range(6):
        delta = any_delta(data, made)
        if counters.fits(delta):
            counters.join(delta)
    for _ in counters.sum_up():
        pass
    assert_is_what_the_model_says(counters, made)


@given(three, st.data())
@settings(max_examples=150)
def test_what_would_be_dropped_is_what_is_dropped(made: Histories, data: st.DataObject) -> None:
    counters = knowing([one.delta(0, len(one.commits)) for one in made])
    until, version = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 5))
    who = data.draw(st.sampled_from((A, B, C)))
    covers = covers_with(counters.settlements, C, {who: (until, version)})
    expected = Counter[int]()
    for of in counters.entries.would_drop(covers).values():
        expected.update(of)
    settled = {who: Settlement(until, version, {})}
    for at, n in changes_by(counters.settlements, C, who, settled[who]):
        expected[at] -= n
    before = {name: counters.total(name) for name in NAMES}
    counters.join(Delta(C, counters.version(C), 9, {}, Keyed(settled=settled)))
    index = {name: n for n, name in enumerate(counters.names(0, 9))}
    after = {name: counters.total(name) for name in NAMES}
    assert after == {name: before[name] - expected[index.get(name, -1)] for name in NAMES}


@given(three, st.integers(0, 45))
@settings(max_examples=150)
def test_what_ids_come_to_is_the_sum_of_the_greatest_of_each(made: Histories, floor: int) -> None:
    counters = knowing([one.delta(0, len(one.commits)) for one in made])
    until = counters.entries.settled_until(floor)
    assert until <= floor
    reaches, sums = counters.entries.sums(until)
    best = {key: entry for key, entry in counters.entries.items() if int(key.partition("-")[0]) <= until}
    for key, entry in best.items():
        for one in entry.all:
            time, version = reaches[one.holder]
            assert int(key.partition("-")[0]) <= time <= until
            assert one.version <= version <= counters.version(one.holder)
    found = {(who, counters.names(i, i + 1)[0]): n for who, of in sums.items() for i, n in of.items()}
    expected = dict[tuple[bytes, str], int]()
    for key, entry in best.items():
        at = entry.holder, key.partition(" ")[2]
        expected[at] = expected.get(at, 0) + entry.total
    assert found == expected


def test_an_id_of_two_holders_counts_its_greatest_total_once() -> None:
    counters = knowing([entries(B, 0, {"5-x a": (4, 1)}), entries(A, 0, {"5-x a": (4, 1), "5-y a": (1, 1)})])
    counters.join(entries(C, 0, {"5-x a": (7, 1)}))
    assert counters.total("a") == 8
    best = counters.entries.get("5-x a")
    assert best is not None
    assert [(one.holder, one.total) for one in best.all] == [(C, 7), (A, 4), (B, 4)]
    assert counters.entries.live == 2
    assert [counters.entries.count(holders) for holders in ([A], [B], [C], [A, B, C])] == [2, 1, 1, 4]


def test_a_settlement_leaves_nothing_but_parts() -> None:
    counters = knowing([entries(A, 0, {f"{n}-x a": (1, 1) for n in range(30)}), entries(B, 0, {"5-x a": (1, 1)})])
    counters.join(settles(A, 1, {A: Settlement(29, 1, {"a": 30}), B: Settlement(29, 1, {})}))
    assert (counters.total("a"), counters.entries.live, counters.entries.dropped) == (30, 0, 30)
    assert counters.entries.oldest is None
    assert assert_all_is_freed(counters, 7) >= 9  # each of the 30 ids and of the 30 changes once, 7 at a time
    assert counters.changed("a") == {}


def test_a_holder_without_entries_is_freed_although_others_have_some() -> None:
    options = Options(id_span=10, column_recent_least=1, column_recent_most=1)
    of_a = {f"{n}-x a": (1, n) for n in range(1, 4)}
    counters = knowing([Delta(A, 0, 3, {}, Keyed(of_a)), entries(B, 0, {"1-x a": (2, 1), "99-x a": (1, 1)})], options)
    counters.join(settles(C, 0, {A: Settlement(9, 3, {"a": 2})}))
    assert ([counters.entries.count([one]) for one in (A, B)], counters.total("a")) == ([0, 2], 5)
    assert not counters.entries.sweep(100)
    assert counters.entries.holders == [B]
    counters.join(settles(C, 1, {A: Settlement(9, 3, {"a": 2}), B: Settlement(9, 1, {"a": 2})}))
    assert (counters.entries.count([A, B]), counters.total("a")) == (1, 5)


def test_what_is_read_is_freed_when_it_was_read() -> None:
    counters = knowing([entries(A, 0, {f"{n}-x a": (1, 1) for n in range(9)})])
    shared = counters.entries.share()
    read = shared.slices(2)
    first = next(read)
    counters.join(settles(A, 1, {A: Settlement(9, 1, {"a": 9})}))
    assert not counters.entries.sweep(100)
    assert counters.changed("a")
    assert len([*first, *(one for part in read for one in part)]) == 9
    del read
    assert not counters.entries.sweep(100)
    assert not counters.changed("a")


def test_a_change_after_the_readers_are_gone_copies_nothing() -> None:
    counters = knowing([entries(A, 0, {"1-x a": (1, 1)})])
    (bucket,) = counters.entries._buckets.values()
    ids, shared = bucket.ids, counters.entries.share()
    counters.join(entries(A, 1, {"1-y a": (1, 2)}))
    assert bucket.ids is not ids
    assert [len(part) for part in shared.slices(9)] == [1]
    ids, shared = bucket.ids, counters.entries.share()
    del shared
    counters.join(entries(A, 2, {"1-z a": (1, 3)}))
    assert bucket.ids is ids


def test_changes_of_a_holder_are_searched_for_only_where_there_are_newer_ones() -> None:
    options = Options(id_span=10, column_recent_least=1, column_recent_most=1)
    counters = knowing([entries(A, n, {f"{10 * n}-x a": (1, n + 1)}) for n in range(5)], options)
    assert counters.entries.newer(A, 2)[0] == 3
    assert [*counters.entries.newer(A, 4)[1]] == [{"40-x a": (1, 5)}]


def test_so_many_buckets_are_settled_at_once_that_it_takes_no_long_time() -> None:
    options = Options(id_span=10, sum_slice=4)
    made = {f"{10 * time}-x n{n}": (1, 1) for time in range(1, 4) for n in range(3)}
    found = knowing([entries(A, 0, made)], options).entries
    assert [found.settled_until(floor) for floor in (18, 19, 29, 100)] == [-1, 19, 19, 19]
    assert knowing([entries(A, 0, made)]).entries.settled_until(100) == 39
    assert (found.oldest, found.newest_end(before=30), found.newest_end(before=29)) == (10, 29, 19)


def test_ids_up_to_a_time_that_was_settled_before_are_settled_together() -> None:
    options = Options(id_span=10, sum_slice=4)
    made = {f"{10 * time}-x n{n}": (1, 1) for time in range(1, 5) for n in range(3)}
    found = knowing([entries(A, 0, made)], options).entries
    assert [found.settled_until(100, before) for before in (9, 19, 29, 39, 99)] == [19, 19, 29, 39, 49]
    assert [found.settled_until(floor, before=39) for floor in (18, 19, 29, 38)] == [-1, 19, 29, 29]


def test_all_entries_of_an_incarnation_share_its_bytes() -> None:
    counters = Counters(USUAL)
    for n in range(3):
        counters.join(entries(bytes(bytearray(A)), n, {f"{n}-x a": (1, n + 1)}))
    assert len({id(entry.holder) for _, entry in counters.entries.items()}) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("no-time a", 1, 1), "can't be no-time a"),
        (("5-x a", 0, 1), "can't be 5-x a: 0"),
        (("5-x a", 1, 2), "at version 1 can't be"),
        (("5-x a", 1, 0), "at version 1 can't be"),
        (("5-z a", 1, 1), "occurs twice"),
        (("5-x unknown", 1, 1), "names that do not exist"),
    ],
)
def test_entries_that_can_not_be_there_are_not_restored(wrong: tuple[str, int, int], message: str) -> None:
    counters = knowing([Delta(A, 0, 1, {"a": 1})])
    counters.restore_entries(A, [("5-z a", 1, 1)])
    with pytest.raises(ValueError, match=message):
        counters.restore_entries(A, [wrong])
