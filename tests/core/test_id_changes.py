"""What waits of ids for one batch: put and taken back without a trace, and sealed against what is durable by then."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.state.counters import Counters
from gcount.core.state.keyed import Keyed
from gcount.core.writes.id_changes import NO_CHANGES, IdChanges, RequestIds
from tests.core.ids import A, B, entry, peers

KEYS = [("5-x a", "a"), ("6-y a", "a"), ("5-x b", "b")]


def state(changes: IdChanges) -> tuple[object, ...]:
    return ({**changes.totals}, {**changes.planned}, changes.sum, changes.new, changes.oldest)


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 3)), max_size=12), st.integers(0, 12))
def test_what_is_taken_back_leaves_no_trace(made: list[tuple[tuple[str, str], int]], kept: int) -> None:
    changes, states, undo = IdChanges(), [], []
    for number, ((key, name), known) in enumerate(made):
        states.append(state(changes))
        undo.append(changes.saved(key, name, 0, grew=True))
        changes.put(key, name, number + 1, known, 10 - number)
    for was in reversed(undo[kept:]):
        changes.take_back(was)
    states.append(state(changes) if kept >= len(made) else states[kept])
    assert state(changes) == states[min(kept, len(made))]


def test_what_stands_for_no_changes_stays_empty() -> None:
    with pytest.raises(AssertionError, match="stays empty"):
        NO_CHANGES.put("5-x a", "a", 1, 0, 5)
    assert not NO_CHANGES


def test_a_total_that_is_staged_only_grows() -> None:
    changes = IdChanges()
    changes.put("5-x a", "a", 3, 0, 5)
    with pytest.raises(AssertionError, match="only grows"):
        changes.put("5-x a", "a", 3, 3, 5)


def test_the_seal_writes_what_is_more_than_anybody_holds() -> None:
    counters, changes = Counters(), IdChanges()
    counters.join(peers(A, entry(4, 1, "held", time=5) | entry(6, 1, "less", time=5)))
    changes.put("5-new a", "a", 3, 0, 5)
    changes.put("5-held a", "a", 4, 4, 5)
    changes.put("5-less a", "a", 7, 6, 5)
    assert changes.seal(counters, []) == changes.written == {"5-new a": 3, "5-less a": 7}
    assert changes.known == {"5-held a": (A, 1)}
    assert changes.gains == {"a": 3 + 1}


@pytest.mark.parametrize(("theirs", "gain"), [(1, 4), (5, 0), (9, 0)])
def test_what_other_deltas_of_the_batch_bring_of_an_id_is_no_gain(theirs: int, gain: int) -> None:
    counters, changes = Counters(), IdChanges()
    changes.put("5-x a", "a", 5, 0, 5)
    others = [peers(A, entry(theirs, time=5)), peers(B, entry(1, time=5) | entry(8, id_="y", time=5))]
    assert changes.seal(counters, others) == {"5-x a": 5}
    assert changes.gains == {"a": gain}


def test_a_request_rests_on_what_was_durable_or_became_it_and_on_the_own_version() -> None:
    ids, changes = RequestIds(), IdChanges()
    ids.rest_on(A, 3)
    ids.rest_on(A, 2)
    ids.fresh, ids.again = ["5-x a"], ["5-y a"]
    changes.known = {"5-y a": (B, 7)}
    changes.written["5-x a"] = 1
    assert ids.position(changes, {b"own": 4}) == {b"own": 4, A: 3, B: 7}
    ids.rest_on(b"own", 9)
    assert ids.position(changes, {b"own": 4})[b"own"] == 9


def test_a_request_is_replayed_if_nothing_that_it_staged_was_written() -> None:
    ids, changes = RequestIds(), IdChanges()
    assert not ids
    ids.again, ids.fresh = ["5-x a"], ["5-y a"]
    changes.written["5-x a"] = 1
    assert ids.replayed(changes)
    changes.written["5-y a"] = 1
    assert not ids.replayed(changes)
    assert ids


def test_entries_without_a_delta_of_their_own_are_no_change() -> None:
    changes = IdChanges()
    changes.put("5-x a", "a", 5, 0, 5)
    other = peers(A, {})
    assert other.keyed == Keyed()
    assert changes.seal(Counters(), [other]) == {"5-x a": 5}
