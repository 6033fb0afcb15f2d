"""What answers of consistent reads tell of ids, and what the reader makes of it."""

from __future__ import annotations

from array import array

import pytest

from gcount.core.limits import MAX_VERSION
from gcount.core.options import Options
from gcount.core.protocol import told_ids
from gcount.core.protocol.counter_views import Found, Own, Told
from gcount.core.protocol.messages import CellsReply, decode, encode
from gcount.core.protocol.told_ids import Learned, tell
from gcount.core.state.counters import Counters, Delta, Digest
from gcount.core.state.keyed import Keyed, Settlement
from tests.core.histories import incarnation

ME, A, B = incarnation(1), incarnation(2), incarnation(3)


def counters(*deltas: Delta) -> Counters:
    found = Counters(Options(id_span=10))
    for delta in deltas:
        found.join(delta)
    return found


def taken(holder: bytes, after: int, upto: int, *entries: tuple[str, int, int]) -> Delta:
    return Delta(holder, after, upto, {}, Keyed({key: (total, version) for key, total, version in entries}))


def settled(settler: bytes, upto: int, *of: tuple[bytes, int, int, int]) -> Delta:
    """Of some columns: the ids up to a time and a version, and what those of `x` come to."""
    parts = {column: Settlement(until, version, {"x": part}) for column, until, version, part in of}
    return Delta(settler, upto - 1, upto, {}, Keyed({}, parts))


def own(here: Counters) -> Own:
    return Own(Found(here.cells("x"), here.parts("x"), here.changed("x")), here.digest(), here.keyed("x"), {})


def answer(there: Counters, known: Digest) -> Found:
    return tell(there, "x", known, Found(there.cells("x"), there.parts("x"), there.changed("x")))


def told(there: Counters, known: Digest) -> Told | None:
    return answer(there, known).told


def test_newer_entries_of_the_counter_are_told_and_no_others() -> None:
    there = counters(
        taken(A, 0, 4, ("5-a x", 1, 1), ("5-b x", 2, 3), ("5-c y", 4, 4)),
        taken(B, 0, 2, ("5-b x", 8, 2)),
        taken(ME, 0, 1, ("5-d x", 16, 1)),
    )
    assert told(there, {A: 1, ME: 1}) == Told({A: {"5-b": (2, 3)}, B: {"5-b": (8, 2)}}, {})
    assert told(there, {A: 3, B: 2, ME: 1}) is None


def test_of_an_entry_that_was_raised_the_present_total_is_told() -> None:
    there = counters(taken(A, 0, 1, ("5-a x", 1, 1)), taken(A, 1, 2, ("5-a x", 7, 2)))
    assert told(there, {}) == Told({A: {"5-a": (7, 2)}}, {})


@pytest.mark.parametrize("limit", ["MOST_TOLD", "MOST_SEARCHED"])
def test_too_many_entries_are_left_to_pushes(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = counters(taken(A, 0, 3, *((f"5-{n} x", 1, n) for n in (1, 2, 3))))
    monkeypatch.setattr(told_ids, limit, 2)
    assert told(there, {}) is None
    assert told(there, {A: 1}) is not None


def test_an_answer_of_many_columns_tells_no_entries_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    there = counters(Delta(B, 0, 1, {"x": 7}), taken(A, 0, 1, ("5-a x", 1, 1)))
    assert told(there, {}) is not None
    monkeypatch.setattr(told_ids, "MOST_NUMBERS", 1)
    assert told(there, {}) is None


def test_settlers_count_among_the_columns_of_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    there = counters(taken(A, 0, 3, ("5-a x", 5, 2), ("25-b x", 1, 3)), settled(B, 1, (A, 9, 2, 5)))
    monkeypatch.setattr(told_ids, "MOST_NUMBERS", 3)  # of A: a part, and the newest version; and B's settlement
    assert told(there, {}) is not None
    monkeypatch.setattr(told_ids, "MOST_NUMBERS", 2)
    assert told(there, {}) is None


@pytest.mark.parametrize("needs", [0, told_ids.MOST_NUMBERS])
def test_the_largest_answer_that_tells_entries_fits_into_a_message(needs: int) -> None:
    ids = {f"{10**11}-{n:051}": (2**64 - 1, MAX_VERSION) for n in range(told_ids.MOST_TOLD)}
    numbers = {n.to_bytes(16, "big"): MAX_VERSION for n in range(told_ids.MOST_NUMBERS)}
    changed, settlers = ({bytes(16): MAX_VERSION}, numbers) if needs else (numbers, {bytes(16): MAX_VERSION})
    reply = CellsReply(MAX_VERSION, {}, None, {}, changed, Told({bytes(16): ids}, settlers))
    assert decode(encode(reply)) == reply


def test_entries_that_are_not_in_the_order_of_their_versions_any_more_are_left_to_pushes() -> None:
    there = counters()
    there.restore_names(["x"])
    there.restore_cells(A, 3, 0, array("Q"), array("Q"), array("Q"))
    there.restore_entries(A, [("5-a x", 1, 2)])
    there.join(taken(A, 3, 4, ("5-b x", 1, 4)))
    assert told(there, {A: 2}) is None
    assert told(there, {A: 3}) == Told({A: {"5-b": (1, 4)}}, {})


def test_what_was_told_counts_once_beside_what_is_here() -> None:
    here = counters(taken(A, 0, 1, ("5-a x", 1, 1)), taken(B, 0, 1, ("5-b x", 3, 1)))
    learned = Learned()
    learned.take(answer(counters(taken(A, 0, 2, ("5-a x", 5, 2), ("5-b x", 2, 2))), {A: 1}), here.digest())
    learned.take(answer(counters(taken(B, 0, 3, ("5-a x", 4, 2), ("5-c x", 8, 3))), {B: 1}), here.digest())
    assert here.keyed("x") == 4
    together = learned.added_to(own(here), "x", here)
    assert together.keyed == 5 + 3 + 8
    assert [together.reach(holder) for holder in (ME, A, B)] == [0, 2, 3]
    assert learned.known(together) == {A: 2, B: 3}


def test_what_was_told_is_dropped_when_it_has_been_pushed() -> None:
    here, delta = counters(), taken(A, 0, 2, ("5-a x", 5, 1), ("5-b x", 2, 2))
    learned = Learned()
    learned.take(answer(counters(delta), {}), {})
    here.join(delta)
    assert learned.added_to(own(here), "x", here).keyed == 7
    here.join(settled(B, 1, (A, 9, 2, 7)))
    assert learned.added_to(own(here), "x", here).keyed == 7


def test_what_was_told_counts_no_more_when_a_settlement_covers_it() -> None:
    """The settlement may come from its settler before the entries come from theirs."""
    here = counters()
    learned = Learned()
    learned.take(answer(counters(taken(A, 0, 3, ("5-a x", 5, 2), ("25-b x", 1, 3))), {}), {})
    assert learned.added_to(own(here), "x", here).keyed == 6
    here.join(settled(B, 1, (A, 9, 2, 5)))
    assert learned.added_to(own(here), "x", here).keyed == 6


def test_an_answer_that_rests_on_a_settlement_that_is_not_known_here_tells_nothing() -> None:
    """Entries are missing in it, although it names a version beyond them."""
    here, there = counters(), counters(taken(A, 0, 3, ("5-a x", 5, 2), ("25-b x", 1, 3)), settled(B, 1, (A, 9, 2, 5)))
    learned, found = Learned(), answer(there, {})
    assert found.told == Told({A: {"25-b": (1, 3)}}, {B: 1})
    learned.take(found, here.digest())
    together = learned.added_to(own(here), "x", here)
    assert (together.keyed, together.reach(A), learned.known(together)) == (0, 0, {})
    here.join(settled(B, 1, (A, 9, 2, 5)))
    learned.take(found, here.digest())
    together = learned.added_to(own(here), "x", here)
    assert (together.keyed, together.reach(A), learned.known(together)) == (6, 3, {A: 3})


def test_more_than_a_reader_keeps_is_left_to_pushes(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = Learned()
    monkeypatch.setattr(told_ids, "MOST_LEARNED", 2)
    learned.take(answer(counters(taken(A, 0, 2, ("5-a x", 1, 1), ("5-b x", 1, 2))), {}), {})
    learned.take(answer(counters(taken(B, 0, 1, ("5-c x", 1, 1))), {}), {})
    here = counters()
    assert learned.added_to(own(here), "x", here).keyed == 2


def test_a_false_member_that_names_ever_more_columns_is_not_heard() -> None:
    """A question names all columns, and must not become longer than members take."""
    here, learned = counters(), Learned()
    for first in range(0, 3 * told_ids.MOST_NUMBERS, 1000):
        columns = {n.to_bytes(16, "big"): 1 for n in range(first, first + 1000)}
        learned.take(Found({}, {}, columns, Told({}, {})), here.digest())
    assert len(learned.known(learned.added_to(own(here), "x", here)) or {}) == 1000


def test_a_reader_that_has_heard_of_no_ids_asks_for_none() -> None:
    here, learned = counters(Delta(A, 0, 1, {"x": 3})), Learned()
    assert learned.known(own(here)) is None
    learned.take(Found({A: 3}, {}, {}), here.digest())
    assert not learned
    assert learned.known(own(here)) is None
    learned.take(Found({A: 3}, {}, {A: 2}), here.digest())
    assert learned
    assert learned.known(own(here)) == {A: 1}
