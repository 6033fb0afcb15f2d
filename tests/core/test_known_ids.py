"""Increments with ids count once, wherever the first one is: durable, in flight, staged, or of a peer."""

from __future__ import annotations

from copy import deepcopy
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.limits import MAX_CELL
from gcount.core.options import Options
from gcount.core.state.counters import Delta
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.writes.increments import Add, Peek, Raise, Repeat, Together
from gcount.core.writes.pushes import stage_push
from gcount.core.writes.staging import Staged
from gcount.core.writes.writer import Writer
from gcount.errors import Refusal
from tests.core.histories import incarnation
from tests.core.ids import (
    NOW,
    SPAN,
    WINDOW,
    A,
    B,
    answers,
    before,
    entry,
    peers,
    raised,
    refusal,
    sent,
    settling,
    writer,
)
from tests.core.test_writer import ME, commit

WHERE = ["durable", "sealed", "staged"]


def put(one: Writer, asked: Raise, where: str) -> None:
    """Let an id be known there."""
    assert not refusal(one, asked)
    if where != "staged":
        one.seal()
    if where == "durable":
        one.commit()


def finish(one: Writer) -> None:
    if one.pending.batch is not None:
        one.commit()
    commit(one)


# Once


@pytest.mark.parametrize("where", WHERE)
def test_sent_again_an_id_counts_once(where: str) -> None:
    one = writer()
    put(one, sent(5), where)
    again = one.stage([sent(5)])
    assert not again.refused
    if where == "sealed":
        one.commit()
    assert answers(one, again) == [[5]]
    assert one.replica.counters.total("a") == 5
    assert one.replica.version == 1  # the second one wrote nothing


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("amount", [0, 1, 4, 6])
def test_an_increments_id_has_one_amount_for_ever(where: str, amount: int) -> None:
    one = writer()
    put(one, sent(5), where)
    assert refusal(one, sent(amount)) == "IdConflict"
    assert refusal(one, raised(4)) == ""
    finish(one)
    assert one.replica.counters.total("a") == 5


def test_an_increment_by_nothing_writes_nothing_and_its_id_is_checked_all_the_same() -> None:
    one = writer()
    assert one.stage([sent(0)]).waiting == [0]
    assert not one.pending.staging
    assert refusal(one, sent(5)) == ""  # nothing was known of the id
    assert refusal(one, sent(0, "new", time=NOW - WINDOW)) == "IdGone"
    assert refusal(one, sent(0, "new", time=NOW + 301)) == "IdAhead"
    assert refusal(one, raised(0, time=NOW - WINDOW)) == ""  # no source has added less


@pytest.mark.parametrize("where", WHERE)
def test_a_source_only_grows_and_each_total_counts_once(where: str) -> None:
    one = writer()
    put(one, raised(5), where)
    staged = one.stage([raised(3), raised(8), raised(8), raised(7), raised(9)])
    before = 5 if where == "staged" else 0
    assert staged.waiting == [before, before + 3, before + 3, before + 3, before + 4]
    if where == "sealed":
        one.commit()
    assert answers(one, staged) == [[5, 8, 8, 8, 9]]
    assert one.replica.counters.total("a") == 9


def test_ids_of_different_counters_are_different() -> None:
    one = writer()
    staged = one.stage([sent(5, name="a"), sent(6, name="b"), sent(5, name="a")])
    assert answers(one, staged) == [[5, 6, 5]]


def test_an_id_in_a_batch_that_is_dropped_is_written_by_the_one_that_was_sent_meanwhile() -> None:
    one = writer()
    first = one.stage([sent(5)])
    one.seal()
    again = one.stage([sent(5), Add("a", 1)])
    one.abort()
    assert again.waiting == [0, 1]
    assert again.ids is not None
    sealed = one.pending.staging
    assert answers(one, again) == [[5, 6]]
    assert not again.ids.replayed(sealed.ids)
    assert first.waiting == [5]


def test_a_total_is_durable_only_when_it_can_be_answered_without_a_write() -> None:
    one = writer()
    known = one.ids.durable
    put(one, sent(5), "sealed")
    assert not known(sent(5))
    one.commit()
    assert known(sent(5))
    assert known(raised(5))
    assert known(raised(4))
    assert not known(sent(4))
    assert not known(raised(6))
    assert not known(sent(5, "other"))


# Peers


def test_what_a_peer_has_taken_is_known_and_more_is_added_to_the_own_entry() -> None:
    one = writer()
    assert one.stage_delta(peers(A, entry(5)))
    commit(one)
    assert refusal(one, sent(6)) == "IdConflict"
    staged = one.stage([sent(5), raised(7)])
    assert answers(one, staged) == [[5, 7]]
    held = one.replica.counters.entries.get(f"{NOW}-x a")
    assert held is not None
    assert [(each.holder, each.total) for each in held.all] == [(ME.incarnation, 7), (A, 5)]


@pytest.mark.parametrize("total", [3, 5, 8])
@pytest.mark.parametrize("when", ["in flight", "in the same batch", "before it, in the same batch"])
def test_a_peers_entry_of_the_same_id_that_comes_meanwhile_counts_once(total: int, when: str) -> None:
    one = writer()
    theirs = peers(A, entry(total))
    if when != "in the same batch":
        assert one.stage_delta(theirs)
    if when == "in flight":
        one.seal()
    staged = one.stage([Add("a", 10), raised(5), Add("a", 100)])
    if when == "in flight":
        one.commit()
    if when == "in the same batch":
        assert one.stage_delta(theirs)
    after = max(5, total) + 110
    [[first, second, third]] = answers(one, staged)
    assert one.replica.counters.total("a") == after
    assert (first, third) == (total + 10, after)
    assert isinstance(second, int)
    assert max(5, total) + 10 <= second <= after


def test_no_answer_is_above_the_value_after_the_batch() -> None:
    one = writer()
    staged = one.stage([raised(50), Add("a", 1), Add("a", 1), Peek("a"), Peek("b")])
    assert one.stage_delta(peers(A, entry(50)))
    assert answers(one, staged) == [[52, 52, 52, 52, 0]]


def test_a_retry_rests_on_the_version_that_holds_it() -> None:
    one = writer()
    assert one.stage_delta(Delta(A, 0, 7, {}, Keyed(entry(5, 7))))
    commit(one)
    own = {ME.incarnation: one.replica.version}
    assert one.ids.position([sent(5), Together([raised(4)]), Peek("a"), Add("a", 0)], own) == own | {A: 7}
    mixed = one.stage([sent(5), sent(1, "new")])
    assert mixed.ids is not None
    assert mixed.ids.known == {A: 7}
    sealed = one.pending.staging
    commit(one)
    assert mixed.ids.position(sealed.ids, {ME.incarnation: 1}) == {ME.incarnation: 1, A: 7}
    assert not mixed.ids.replayed(sealed.ids)


def test_one_that_was_in_flight_under_the_former_incarnation_rests_on_that() -> None:
    one = writer()
    put(one, sent(5), "sealed")
    again = one.stage([sent(5)])
    one.stage_identity(ME.reborn(incarnation(102)))
    one.commit()
    sealed = one.pending.staging
    commit(one)
    assert again.ids is not None
    assert again.ids.position(sealed.ids, {incarnation(102): 0}) == {incarnation(102): 0, ME.incarnation: 1}
    assert again.ids.replayed(sealed.ids)


# Which new ones are taken


def test_what_is_known_is_taken_at_any_age_and_anything_new_of_it_is_not() -> None:
    now = [float(NOW)]
    one = writer(now=lambda: now[0])
    put(one, sent(5), "durable")
    put(one, raised(5, "source"), "durable")
    now[0] += WINDOW
    assert refusal(one, sent(5)) == ""
    assert refusal(one, sent(6)) == "IdConflict"
    assert refusal(one, raised(5, "source")) == ""
    assert refusal(one, raised(6, "source")) == "IdGone"
    assert refusal(one, sent(5, "new")) == "IdGone"
    assert refusal(one, sent(5, "new", time=NOW + 1)) == ""


@pytest.mark.parametrize("where", WHERE)
def test_a_promise_binds_from_the_instant_at_which_it_is_staged(where: str) -> None:
    one = writer()
    assert one.stage_floor(NOW - 10)
    if where != "staged":
        one.seal()
    if where == "durable":
        one.commit()
    assert refusal(one, sent(1, time=NOW - 10)) == "IdGone"
    assert refusal(one, sent(1, time=NOW - 9)) == ""
    finish(one)
    assert one.replica.floor == NOW - 10


@pytest.mark.parametrize("where", ["durable", "sealed"])
def test_an_id_at_the_border_of_a_later_promise_is_counted_with_it(where: str) -> None:
    one = writer()
    put(one, sent(1, time=NOW - 20), where)
    again = one.stage([sent(1, time=NOW - 20)])
    assert one.stage_floor(NOW - 11)
    assert refusal(one, sent(1, "new", time=NOW - 20)) == "IdGone"
    if where == "sealed":
        one.abort()
    assert answers(one, again) == [[1]]


def test_ids_wait_until_all_members_know_them_and_never_again() -> None:
    reason = ["b:1 is too old"]
    one = writer(unavailable=lambda: reason[0])
    [found] = one.stage([sent(5)]).waiting
    assert "b:1 is too old" in str(found)
    assert refusal(one, sent(5)) == "IdsUnavailable"
    assert answers(one, one.stage([Add("a", 1)])) == [[1]]
    reason[0] = ""
    assert refusal(one, sent(5)) == ""
    commit(one)
    reason[0] = "b:1 is too old"
    assert one.replica.floor == 0
    assert refusal(one, sent(5, "y")) == ""


# Limits


@pytest.mark.parametrize("where", WHERE)
def test_the_limit_of_ids_is_exact_and_those_known_go_on(where: str) -> None:
    one = writer(most=2)
    put(one, raised(5), where)
    assert refusal(one, sent(5, "y")) == ""
    assert refusal(one, sent(5, "z")) == "IdLimitReached"
    assert refusal(one, raised(9)) == ""
    assert refusal(one, sent(5, "y")) == ""
    assert refusal(one, sent(5, "z")) == "IdLimitReached"
    finish(one)
    assert one.replica.counters.entries.live == 2
    assert refusal(one, sent(5, "z")) == "IdLimitReached"


def test_peers_ids_are_not_limited_but_count() -> None:
    one = writer(most=2)
    assert one.stage_delta(peers(A, entry(1, id_="p") | entry(1, id_="q") | entry(1, id_="r")))
    commit(one)
    assert one.replica.counters.entries.live == 3
    assert refusal(one, sent(1)) == "IdLimitReached"


def test_ids_that_no_member_holds_take_none_of_the_clients() -> None:
    one = writer(most=4, is_known=lambda holder: holder != A)
    assert one.ids.left_for_strangers() == 1
    assert one.stage_delta(peers(A, entry(5, id_="p")), {A})
    assert one.ids.left_for_strangers() == 0
    one.seal()
    assert one.ids.left_for_strangers() == 0
    one.commit()
    assert one.ids.left_for_strangers() == 0
    for number in range(4):
        assert refusal(one, sent(1, f"{number}")) == ""
    assert refusal(one, sent(1, "z")) == "IdLimitReached"
    assert refusal(one, raised(9, "p")) == ""
    commit(one)
    assert one.ids.left_for_strangers() == 0  # although a member has taken the id, too


def test_strangers_can_not_hold_what_members_hold_without_limit() -> None:
    """Whether their totals are the greatest makes no difference to memory."""
    strangers = [incarnation(number) for number in range(10, 15)]
    one = writer(most=20, is_known=lambda holder: holder == ME.incarnation)
    for number in range(5):
        put(one, sent(2, str(number)), "durable")
    assert one.ids.left_for_strangers() == 5
    for number, stranger in enumerate(strangers):
        assert one.stage_delta(peers(stranger, entry(1 + number % 3, id_=str(number))), {stranger})
        assert one.ids.left_for_strangers() == 4 - number
        commit(one)
        assert one.ids.left_for_strangers() == 4 - number
    assert one.replica.counters.entries.live == 5
    latest = {ME.incarnation: Settlement(NOW, 5, {"a": 8}), strangers[2]: Settlement(NOW, 1, {"a": 3})}
    assert one.stage_delta(
        settling(B, latest | {who: Settlement(NOW, 1, {}) for who in strangers if who not in latest})
    )
    commit(one)
    assert (one.ids.left_for_strangers(), one.replica.counters.entries.live) == (5, 0)


def test_ids_of_the_far_future_are_not_taken_from_strangers() -> None:
    """No settlement would reach them: they would stay for good."""
    clock = [float(NOW)]
    one = writer(now=lambda: clock[0], is_known=lambda holder: holder == ME.incarnation)
    ahead = peers(A, entry(1) | entry(1, time=NOW + 300 + WINDOW // 4 + 1))
    assert not one.stage_delta(ahead, {A})
    assert not one.pending.staging
    clock[0] += 1
    assert one.stage_delta(ahead, {A})
    assert one.stage_delta(peers(B, entry(1, time=10**11)))  # a member's are taken, whatever it says


@pytest.mark.parametrize("where", WHERE)
def test_strangers_open_no_further_spans_of_time_beyond_a_limit(where: str) -> None:
    one = writer(is_known=lambda holder: holder == ME.incarnation, options=Options(id_span=SPAN, max_spans=3))
    put(one, sent(5), "durable")
    assert one.stage_delta(peers(A, entry(1, time=10) | entry(1, time=20)), {A})
    if where != "staged":
        one.seal()
    if where == "durable":
        one.commit()
    other = incarnation(7)
    assert not one.stage_delta(peers(other, entry(1) | entry(1, time=30)), {other})
    assert one.stage_delta(peers(other, entry(1, time=NOW + 1)), {other})
    assert one.stage_delta(peers(B, entry(1, time=40)))  # a member's
    finish(one)
    assert one.replica.counters.entries.spans == {1, 2, 4, NOW // SPAN}
    assert one.stage_delta(peers(other, entry(1, 2, time=15), 1), {other})  # among others of that time
    assert not one.stage_delta(peers(other, entry(1, 2, time=50), 1), {other})


def test_a_push_that_is_not_taken_opens_no_spans() -> None:
    one = writer(is_known=lambda holder: holder == ME.incarnation, options=Options(id_span=SPAN, max_spans=1))
    assert not stage_push(one, [peers(A, entry(1, time=10))], {B: 1}, member=False)
    assert stage_push(one, [peers(A, entry(1, time=20))], {}, member=False)
    commit(one)
    assert one.replica.counters.entries.spans == {2}


def test_so_many_ids_that_no_member_holds_are_kept_apart_and_no_more() -> None:
    """They may come from directories that were lost, again and again. Memory has a limit all the same."""
    one = writer(most=4, is_known=lambda holder: holder != A)
    many = [entry(1, id_=f"p{number}") for number in range(7)]
    assert one.stage_delta(peers(A, {key: total for each in many for key, total in each.items()}))
    commit(one)
    assert refusal(one, sent(1, "y")) == ""
    assert refusal(one, sent(1, "z")) == "IdLimitReached"


def test_settled_ids_make_space_for_new_ones() -> None:
    one = writer(most=1)
    put(one, sent(5, time=NOW - 50), "durable")
    assert one.stage_floor(NOW - 41)
    commit(one)
    one.stage_settlement(lambda: NOW - 41)
    commit(one)
    assert refusal(one, sent(1, "y")) == ""


@pytest.mark.parametrize("where", WHERE)
def test_what_ids_add_to_a_part_ends_at_64_bits(where: str) -> None:
    one = writer()
    put(one, raised(MAX_CELL - 5), where)
    assert refusal(one, sent(6, "y")) == "PartLimitReached"
    assert refusal(one, sent(3, "y")) == ""
    assert refusal(one, sent(3, "z")) == "PartLimitReached"
    assert refusal(one, raised(MAX_CELL - 2)) == "PartLimitReached"
    assert refusal(one, raised(MAX_CELL - 3)) == ""
    assert refusal(one, sent(1, "z")) == "PartLimitReached"
    assert refusal(one, sent(MAX_CELL, "z", "b")) == ""
    finish(one)
    assert one.replica.counters.total("a") == MAX_CELL


def test_cells_and_what_others_hold_do_not_count_towards_it_and_what_is_settled_does() -> None:
    one = writer()
    assert one.stage_delta(peers(A, entry(MAX_CELL, id_="theirs")))
    put(one, sent(MAX_CELL - 1, time=NOW - 50), "staged")
    assert not one.stage([Add("a", MAX_CELL)]).refused
    commit(one)
    assert one.stage_floor(NOW - 41)
    commit(one)
    one.stage_settlement(lambda: NOW - 41)
    commit(one)
    assert one.replica.counters.parts("a") == {ME.incarnation: MAX_CELL - 1}
    assert refusal(one, sent(2, "y")) == "PartLimitReached"
    assert refusal(one, sent(1, "y")) == ""
    commit(one)
    assert one.replica.counters.total("a") == 3 * MAX_CELL


def test_near_the_limit_all_ids_are_walked_over_once_and_not_for_each_request() -> None:
    one = writer()
    put(one, sent(MAX_CELL - 9, "big"), "durable")
    put(one, sent(MAX_CELL - 9, "big", "b"), "durable")
    with patch.object(one.ids, "_sum_up", wraps=one.ids._sum_up) as walk:
        for number in range(3):
            assert refusal(one, sent(10, f"{number}")) == "PartLimitReached"
            assert refusal(one, sent(2, f"{number}")) == ""
            assert one.stage([Together([sent(1, f"{number}"), raised(3, f"{number}")])]).refused
            assert one.stage([Together([sent(1, "y"), raised(2, "y"), sent(10, "z", "b")])]).refused
            commit(one)
        assert refusal(one, sent(4, "y")) == "PartLimitReached"
        assert refusal(one, sent(3, "y")) == ""
        one.seal()
        assert refusal(one, raised(2, "y")) == ""  # less than what is in flight, which may be dropped
        assert refusal(one, sent(1, "z")) == "PartLimitReached"
        assert walk.call_count == 1
    one.abort()
    assert refusal(one, sent(2, "z")) == "PartLimitReached"
    assert refusal(one, sent(1, "z")) == ""
    commit(one)
    assert one.replica.counters.total("a") == MAX_CELL


@given(
    st.lists(
        st.tuples(st.sampled_from(["stage", "stage", "seal", "commit", "abort", "mint", "peer"]), st.data()),
        max_size=20,
    )
)
def test_the_part_that_is_kept_is_the_exact_one(steps: list[tuple[str, st.DataObject]]) -> None:
    one, big = writer(), MAX_CELL // 4
    for number, (kind, data) in enumerate(steps):
        if kind == "stage":
            total = data.draw(st.integers(1, 5)) * big
            group = [raised(total, data.draw(st.sampled_from("xyz"))) for _ in range(data.draw(st.integers(1, 3)))]
            one.stage([Together(group)] if data.draw(st.booleans()) else group)
        elif kind == "seal" and one.pending.batch is None:
            one.seal()
        elif kind == "commit" and one.pending.batch is not None:
            one.commit()
        elif kind == "abort" and one.pending.batch is not None:
            one.abort()
        elif kind == "mint" and one.pending.batch is None:
            one.stage_identity(one.replica.identity.reborn(incarnation(110 + number)))
            commit(one)
        elif kind == "peer":
            assert one.stage_delta(peers(incarnation(150 + number), entry(data.draw(st.integers(1, 4)) * big)))
        kept = one.ids._parts
        assert kept is None or {n: v for n, v in kept.items() if v} == {n: v for n, v in one.ids._sum_up().items() if v}
        assert sum(own_totals(one).values()) <= MAX_CELL


def own_totals(one: Writer) -> dict[str, int]:
    """The own total of each id that is durable or waits."""
    own = one.replica.identity.incarnation
    found = {key: mine.total for key, best in one.replica.counters.entries.items() if (mine := best.of(own))}
    for waiting in (one.pending.sealed, one.pending.staging):
        for key, total in waiting.ids.totals.items():
            found[key] = max(total, found.get(key, 0))
    return found


def test_what_turned_out_to_be_a_peers_is_no_part_of_the_own_ones() -> None:
    one = writer()
    put(one, sent(MAX_CELL - 9, "big"), "durable")
    assert refusal(one, sent(10)) == "PartLimitReached"
    assert one.stage_delta(peers(A, entry(9)))
    one.seal()
    assert refusal(one, sent(9)) == ""
    assert refusal(one, sent(9, "y")) == "PartLimitReached"
    one.commit()
    commit(one)
    assert refusal(one, sent(9, "y")) == ""


# All or nothing


def test_with_a_refused_id_nothing_of_its_group_is_counted() -> None:
    one = writer(max_counters=2)
    put(one, raised(5), "sealed")
    assert not one.stage([Add("a", 1), raised(6), raised(1, "y")]).refused
    staging = one.pending.staging
    kept = deepcopy((staging.amounts, staging.total, staging.increments, staging.ids.totals, staging.ids.planned))
    numbers = (staging.ids.sum, staging.ids.new, staging.ids.oldest)
    group = Together(
        [Add("a", 2), raised(7), raised(8), raised(6), sent(3, "z", "b"), sent(3, "z", "b"), sent(4, "z", "b")]
    )
    found = one.stage([group, Peek("a")])
    assert [type(each).__name__ for each in found.waiting[:-1]] == ["IdConflict"] * 7
    assert found.waiting[-1] == 3
    assert (staging.amounts, staging.total, staging.increments, staging.ids.totals, staging.ids.planned) == kept
    assert (staging.ids.sum, staging.ids.new, staging.ids.oldest) == numbers
    assert "b" not in one.pending
    finish(one)
    assert one.replica.counters.total("a") == 1 + 6 + 1


def test_the_limit_of_counters_counts_those_that_only_ids_make() -> None:
    one = writer(max_counters=2)
    assert refusal(one, sent(1, name="a")) == ""
    one.seal()
    assert refusal(one, sent(1, name="b")) == ""
    assert refusal(one, sent(1, name="c")) == "CounterLimitReached"
    assert one.stage([Add("c", 1)]).refused
    assert not one.stage([Add("b", 1), sent(1, "y", "a")]).refused
    finish(one)
    assert len(one.replica.counters) == 2


def test_many_at_once_are_answered_in_their_order_beside_ids() -> None:
    one = writer()
    first = one.stage(Repeat(["a", "a"], 1))
    middle = one.stage([sent(10)])
    apart, last = one.stage(Repeat(["b", "b"], 1)), one.stage(Repeat(["a", "b", "a"], 1))
    assert isinstance(apart.waiting, range)  # ids of another counter do not slow them down
    assert [[*found] for found in answers(one, first, middle, apart, last)] == [[1, 2], [12], [1, 2], [13, 3, 14]]


# Against a model

items = st.one_of(
    st.builds(Add, st.sampled_from("ab"), st.integers(0, 3)),
    st.builds(Peek, st.sampled_from("ab")),
    st.builds(sent, st.integers(0, 3), st.sampled_from("xy"), st.sampled_from("ab")),
    st.builds(raised, st.integers(0, 9), st.sampled_from("uv"), st.sampled_from("ab")),
)
requests = st.lists(st.one_of(items, st.builds(Together, st.lists(items, min_size=1, max_size=4))), max_size=4)


class Model:
    """Values and ids as they are when everything asked is done one after the other."""

    def __init__(self) -> None:
        self.cells, self.ids = {"a": 0, "b": 0}, dict[tuple[str, str], int]()

    def value(self, name: str) -> int:
        return self.cells[name] + sum(total for (of, _), total in self.ids.items() if of == name)

    def do(self, one: Add | Raise | Peek) -> int | None:
        """The answer; None when it is refused."""
        if isinstance(one, Add):
            self.cells[one.name] += one.amount
        elif isinstance(one, Raise):
            known = self.ids.get((one.name, one.id), 0)
            if one.once and known not in (0, one.total):
                return None
            if one.total:
                self.ids[one.name, one.id] = max(known, one.total)
        return self.value(one.name)

    def all(self, asked: list[Add | Raise | Peek | Together]) -> list[int | None]:
        found: list[int | None] = []
        for one in asked:
            saved = deepcopy((self.cells, self.ids))
            group = [self.do(each) for each in (one.items if isinstance(one, Together) else [one])]
            if None in group:
                self.cells, self.ids = saved
                group = [None] * len(group)
            found += group
        return found


@given(st.lists(st.tuples(st.sampled_from(["stage", "stage", "seal", "commit"]), requests), max_size=25))
def test_each_answer_is_as_if_all_was_done_one_after_the_other(
    steps: list[tuple[str, list[Add | Raise | Peek | Together]]],
) -> None:
    one, model = writer(), Model()
    staged: list[tuple[Staged, list[int | None]]] = []
    sealed: list[tuple[Staged, list[int | None]]] = []

    def land() -> None:
        what = one.pending.sealed
        one.commit()
        values = before(one, what)
        for found, expected in sealed:
            got = [None if isinstance(each, Refusal) else each for each in found.values(values)]
            assert got == expected
        sealed.clear()

    for kind, asked in [*steps, ("seal", []), ("commit", []), ("seal", []), ("commit", [])]:
        if kind == "stage":
            staged.append((one.stage(asked), model.all(asked)))
        elif kind == "seal" and one.pending.batch is None:
            one.seal()
            sealed, staged = staged, []
        elif kind == "commit" and one.pending.batch is not None:
            land()
    assert [one.replica.counters.total(name) for name in "ab"] == [model.value(name) for name in "ab"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stage", "stage", "peer", "seal", "commit", "abort"]),
            requests,
            st.dictionaries(st.tuples(st.sampled_from("xyuv"), st.sampled_from("ab")), st.integers(1, 9), min_size=1),
        ),
        max_size=25,
    )
)
def test_with_peers_and_full_disks_every_value_is_the_sum_of_the_greatest_and_every_answer_was_a_value(
    steps: list[tuple[str, list[Add | Raise | Peek | Together], dict[tuple[str, str], int]]],
) -> None:
    one = writer()
    staged, sealed = list[Staged](), list[Staged]()
    counters = one.replica.counters
    for number, (kind, asked, theirs) in enumerate([*steps, ("seal", [], {}), ("commit", [], {})]):
        if kind == "stage":
            staged.append(one.stage(asked))
        elif kind == "peer":
            keyed = {f"{NOW}-{id_} {name}": (total, 1) for (id_, name), total in theirs.items()}
            assert one.stage_delta(Delta(incarnation(110 + number), 0, 1, {}, Keyed(keyed)))
        elif kind == "seal" and one.pending.batch is None:
            one.seal()
            sealed, staged = staged, []
        elif kind == "abort" and one.pending.batch is not None:
            one.abort()
        elif kind == "commit" and one.pending.batch is not None:
            what, old = one.pending.sealed, {name: counters.total(name) for name in "ab"}
            one.commit()
            values = before(one, what)
            for request in sealed:
                for name, each in zip(request.names, request.values(values), strict=True):
                    assert isinstance(each, Refusal) or old[name] <= each <= counters.total(name)
            for name in "ab":
                ids = sum(best.total for key, best in counters.entries.items() if key.endswith(f" {name}"))
                assert counters.total(name) == sum(counters.cells(name).values()) + ids


def test_a_settlement_of_a_peer_that_comes_meanwhile_is_not_counted_beside_what_it_settled() -> None:
    """A member settles only what this node has promised to take no more of, so it can't be written again."""
    one = writer()
    put(one, sent(5, time=NOW - 50), "durable")
    assert one.stage_floor(NOW - 41)
    commit(one)
    assert one.stage_delta(settling(A, {ME.incarnation: Settlement(NOW - 41, 1, {"a": 5})}))
    one.seal()
    again = one.stage([sent(5, time=NOW - 50), Add("a", 1)])
    one.commit()
    assert answers(one, again) == [[5, 6]]
    assert refusal(one, sent(5, time=NOW - 50)) == "IdGone"
