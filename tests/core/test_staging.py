"""What waits for a batch: all that is asked is staged in its order, within the limits, and sealed as one value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.format.checkpoint import Capture
from gcount.core.format.checkpoint_reader import Restore
from gcount.core.format.log_records import Header
from gcount.core.limits import MAX_CELL
from gcount.core.state.counters import Delta
from gcount.core.writes.increments import Add, Asked, Peek, Repeat, Together, flat
from gcount.core.writes.staging import Staged
from gcount.core.writes.writer import Writer
from gcount.errors import CounterLimitReached, PartLimitReached, Refusal
from tests.core.histories import NAMES, incarnation
from tests.core.test_writer import ME, commit, writer
from tests.fakes.counting import stage


def staged(one: Writer, asked: Asked) -> list[int | str]:
    """What waits for each then, or why it was refused."""
    found = one.stage(asked)
    assert found.refused == any(isinstance(each, Refusal) for each in found.waiting)
    assert list(found.names) == [each.name for each in flat(asked)]
    return [repr(each) if isinstance(each, Refusal) else each for each in found.waiting]


@given(
    st.integers(1, 30),
    st.lists(
        st.tuples(
            st.sampled_from(["each", "each", "alone", "peer", "mint", "seal", "commit", "abort"]),
            st.lists(st.sampled_from(NAMES), min_size=1, max_size=5),
            st.sampled_from([1, 7, 2**61]),
        ),
        max_size=40,
    ),
)
def test_to_stage_each_of_many_is_to_stage_one_after_the_other(
    limit: int, made: list[tuple[str, list[str], int]]
) -> None:
    one, other, sealed, lives = writer(limit), writer(limit), False, 101
    for number, (kind, names, amount) in enumerate(made):
        if kind == "each":
            alone = [staged(other, [Add(name, amount)])[0] for name in names]
            assert staged(one, Repeat(names, amount)) == alone
        elif kind == "alone":
            assert staged(one, [Add(names[0], amount)]) == staged(other, [Add(names[0], amount)])
        elif kind == "peer":
            for each in (one, other):
                each.stage_delta(Delta(incarnation(number), 0, 1, dict.fromkeys(names, amount)))
        elif kind == "mint":
            lives += 1
            for each in (one, other):
                each.stage_identity(each.replica.identity.reborn(incarnation(lives)))
        elif kind == "seal" and not sealed:
            assert one.seal() == other.seal()
            sealed = True
        elif kind in ("commit", "abort") and sealed:
            for each in (one, other):
                _ = each.commit() if kind == "commit" else each.abort()
            sealed = False
        assert (one.replica.counters, one.replica.identity) == (other.replica.counters, other.replica.identity)
        for mine, its in ((one.pending.staging, other.pending.staging), (one.pending.sealed, other.pending.sealed)):
            assert (mine.amounts, mine.total, mine.increments) == (its.amounts, its.total, its.increments)


@pytest.mark.parametrize("where", ["durable", "staged", "sealed"])
@pytest.mark.parametrize("names", [["a", "a", "a"], ["a", "b", "a"]])
def test_near_the_limit_of_a_part_the_last_of_many_is_refused(where: str, names: list[str]) -> None:
    one = writer()
    stage(one, "a", MAX_CELL - len(names) + 1)
    if where != "staged":
        one.seal()
    if where == "durable":
        one.commit()
    *taken, refused = one.stage(Repeat(names, 1)).waiting
    assert isinstance(refused, PartLimitReached) == (names.count("a") == len(names))
    assert all(isinstance(each, int) for each in taken)
    last = one.stage(Repeat(["a", "a"], 1)).waiting[-1]
    assert isinstance(last, PartLimitReached)
    if where == "sealed":
        one.commit()
    commit(one)
    assert one.replica.counters.total("a") == MAX_CELL


@pytest.mark.parametrize("where", ["durable", "staged", "sealed"])
def test_near_the_limit_of_counters_those_of_many_that_are_known_go_on(where: str) -> None:
    one = writer(3)
    assert one.stage(Repeat(["a", "b"], 1)).waiting == [1, 1]
    if where != "staged":
        one.seal()
    if where == "durable":
        one.commit()
    before = one.pending.staging.amounts.get("a", 0)
    a, c, d, again = one.stage(Repeat(["a", "c", "d", "c"], 5)).waiting
    assert (a, c, again) == (before + 5, 5, 10)
    assert isinstance(d, CounterLimitReached)
    assert one.stage(Repeat(["c"], 5)) == Staged(["c"], [15])


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    ("name", "error"), [("x", PartLimitReached), ("new", CounterLimitReached)], ids=["part", "counters"]
)
def test_amounts_that_belong_together_are_staged_all_or_not_at_all(
    sealed: bool, name: str, error: type[Refusal]
) -> None:
    one = writer(4)
    for each in ("x", "y", "z"):
        stage(one, each, 1)
    if sealed:
        one.seal()
    stage(one, "y", 2)
    before, increments = dict(one.pending.staging.amounts), one.pending.staging.increments
    items: list[Add | Peek] = [
        Add("z", 1),
        Peek("y"),
        Add("y", 4),
        Add("y", 0),
        Add("made", 1),
        Add("z", 2),
        Add(name, MAX_CELL),
    ]
    found = one.stage([Together(items)])
    assert found.refused
    assert [type(each) for each in found.waiting] == [error] * len(items)
    assert list(one.pending.staging.amounts.items()) == list(before.items())
    assert (one.pending.staging.increments, one.pending.staging.total) == (increments, sum(before.values()))
    pending = 2 if sealed else 3
    found = one.stage([Together([Add("y", 1), Peek("made"), Add("made", 7), Peek("y")])])
    assert found == Staged(["y", "made", "made", "y"], [pending + 1, 0, 7, pending + 1])
    if sealed:
        one.commit()
    commit(one)
    assert [one.replica.counters.total(each) for each in ("x", "y", "z", "made")] == [1, 4, 1, 7]


def test_aborted_increments_and_former_incarnations_do_not_count_towards_the_limit_of_a_part() -> None:
    one = writer()
    stage(one, "a", MAX_CELL)
    one.seal()
    one.abort()
    assert one.stage(Repeat(["a"], MAX_CELL)) == Staged(["a"], range(MAX_CELL, MAX_CELL + 1, MAX_CELL))
    assert one.stage(Repeat(["a"], 1)).refused
    commit(one)
    one.stage_identity(ME.reborn(incarnation(102)))
    commit(one)
    assert one.stage(Repeat(["a"], MAX_CELL)) == Staged(["a"], range(MAX_CELL, MAX_CELL + 1, MAX_CELL))


@pytest.mark.parametrize("made_of", ["log", "checkpoint", "checkpoint and log"])
def test_after_a_start_the_limit_of_a_part_is_as_near_as_before(made_of: str) -> None:
    one, again = writer(), writer()
    stage(one, "a", MAX_CELL - 2)
    one.seal()
    batches = [one.commit()]
    if "checkpoint" in made_of:
        capture, restore = Capture(one.replica, Header(ME.node, ME.incarnation, 1, 1)), Restore(again.replica)
        for record in capture.records():
            restore.take(record)
        restore.finish()
        capture.close()
        batches = []
    if "log" in made_of:
        stage(one, "b", 1)
        one.seal()
        for batch in [*batches, one.commit()]:
            again.replica.apply(batch)
    list(again.replica.counters.sum_up())
    *taken, refused = again.stage(Repeat(["a"] * 3, 1)).waiting
    assert taken == [1, 2]
    assert isinstance(refused, PartLimitReached)
    commit(again)
    assert again.replica.counters.cell("a", ME.incarnation) == MAX_CELL


def test_many_at_once_never_pass_64_bits_however_the_greatest_part_grew() -> None:
    one = writer()
    assert not one.stage(Repeat(["a", "b"], 1)).refused
    commit(one)
    stage(one, "a", MAX_CELL - 10)
    commit(one)
    assert [isinstance(each, Refusal) for each in one.stage(Repeat(["b", "a"], 10)).waiting] == [False, True]
    assert not one.stage(Repeat(["a"] * 9, 1)).refused
    commit(one)
    assert one.replica.counters.cell("a", ME.incarnation) == MAX_CELL


def test_a_repeat_of_nothing_and_an_add_of_nothing_change_nothing_at_any_limit() -> None:
    one = writer(1)
    stage(one, "a", MAX_CELL)
    before = dict(one.pending.staging.amounts)
    assert one.stage(Repeat(["a", "new", "a"], 0)) == Staged(["a", "new", "a"], [MAX_CELL, 0, MAX_CELL])
    assert one.stage([Add("a", 0), Add("new", 0), Peek("a"), Peek("new")]).waiting == [MAX_CELL, 0, MAX_CELL, 0]
    assert one.pending.staging.amounts == before


def test_what_is_sealed_is_one_value_and_the_next_one_begins_with_nothing() -> None:
    one = writer()
    stage(one, "a", 3)
    one.stage_delta(Delta(incarnation(1), 0, 1, {"b": 1}))
    one.stage_identity(ME.renamed(incarnation(7)))
    gathered = one.pending.staging
    assert gathered
    batch = one.seal()
    assert one.pending.sealed is gathered
    assert not one.pending.staging
    assert (batch.identity, [*batch.deltas[0].cells.items()]) == (gathered.identity, [*gathered.amounts.items()])
    one.commit()
    assert not one.pending.sealed


# Laws


def test_a_sum_that_is_not_that_of_the_amounts_is_never_sealed() -> None:
    one = writer()
    stage(one, "a", 3)
    one.pending.staging.amounts["a"] = 2
    with pytest.raises(AssertionError, match="the sum"):
        one.seal()


@pytest.mark.parametrize("how", ["its cells were joined", "its version was joined"])
def test_a_batch_is_never_committed_if_its_own_cells_changed_since_its_seal(how: str) -> None:
    one = writer()
    stage(one, "a", 3)
    commit(one)
    stage(one, "a", 4)
    [own] = one.seal().deltas
    if how == "its version was joined":
        one.replica.counters.join(own)
    else:
        one.replica.counters._columns[ME.incarnation].cells[0] += 1
    with pytest.raises(AssertionError):
        one.commit()


def test_a_batch_of_another_number_is_never_committed() -> None:
    one = writer()
    stage(one, "a", 3)
    one.seal()
    one.replica.next_batch += 1
    with pytest.raises(AssertionError, match="batch 1 follows 1"):
        one.commit()
