"""What a seal computes, and the laws that a batch is checked by before and after it becomes visible."""

import pytest

from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.membership import Membership
from gcount.core.writes.increments import Add
from gcount.core.writes.writer import Writer
from tests.core.histories import incarnation
from tests.core.ids import NOW, A, B, entry, peers, raised, refusal, sent, settling, writer
from tests.core.test_writer import ME, commit

OLD = NOW - 50
UNTIL = NOW - 41  # the end of the span in which OLD is


def with_an_old_id() -> Writer:
    """A writer that has an id, and has promised to take no more of its time."""
    one = writer()
    assert not refusal(one, sent(5, time=OLD))
    commit(one)
    assert one.stage_floor(UNTIL)
    commit(one)
    return one


# Entries


def test_an_id_and_its_amount_are_one_delta_with_the_version_of_the_batch() -> None:
    one = writer()
    assert not one.stage([Add("a", 1), sent(5)]).refused
    batch = one.seal()
    assert batch.deltas == [Delta(ME.incarnation, 0, 1, {"a": 1}, Keyed(entry(5, 1)))]
    one.commit()
    assert not one.stage([raised(7, "y", "b")]).refused
    assert one.seal().deltas == [Delta(ME.incarnation, 1, 2, {}, Keyed(entry(7, 2, "y", "b")))]
    one.commit()
    assert (one.replica.version, one.replica.counters.total("a"), one.replica.counters.total("b")) == (2, 6, 7)


def test_an_entry_belongs_to_the_incarnation_that_is_in_force_with_the_batch() -> None:
    one = writer()
    assert not refusal(one, sent(5))
    one.stage_identity(ME.reborn(incarnation(102)))
    assert one.seal().deltas == [Delta(incarnation(102), 0, 1, {}, Keyed(entry(5, 1)))]
    one.commit()
    assert one.replica.version == 1


def test_an_id_that_was_durable_by_then_is_left_out_and_nothing_else_makes_no_delta() -> None:
    one = writer()
    assert not refusal(one, sent(5))
    one.seal()
    assert not one.stage([sent(5)]).refused
    one.commit()
    batch = one.seal()
    assert (batch.deltas, batch.floor) == ([], None)


# Promises


@pytest.mark.parametrize("what", ["an own id", "a peer's id", "a peer's settlement"])
def test_the_first_batch_with_ids_says_for_good_that_they_are_in_use(what: str) -> None:
    one = writer()
    assert not one.stage([Add("a", 1)]).refused
    assert one.seal().floor is None
    one.commit()
    if what == "an own id":
        assert not refusal(one, sent(5))
    else:
        theirs = peers(A, entry(5)) if what == "a peer's id" else settling(A, {B: Settlement(UNTIL, 1, {})})
        assert one.stage_delta(theirs)
    assert one.seal().floor == 0
    one.commit()
    assert one.replica.floor == 0
    assert not refusal(one, sent(5, "y"))
    assert one.seal().floor is None


def test_a_promise_only_grows_wherever_the_last_one_is() -> None:
    one = writer()
    assert one.stage_floor(5)
    assert not one.stage_floor(5)
    assert one.stage_floor(6)
    assert one.seal().floor == 6
    assert not one.stage_floor(6)
    one.abort()
    assert one.replica.floor is None
    assert one.stage_floor(5)
    commit(one)
    assert not one.stage_floor(5)
    assert one.replica.floor == 5


def test_a_promise_can_be_the_first_thing_that_concerns_ids() -> None:
    one = writer()
    assert one.stage_floor(0)
    assert one.pending.staging
    commit(one)
    assert one.replica.floor == 0


# Settlements


def test_a_settlement_is_decided_at_the_seal_and_keeps_the_value() -> None:
    one = with_an_old_id()
    asked: list[int] = []

    def until() -> int:
        asked.append(one.replica.version)
        return UNTIL

    one.stage_settlement(until)
    assert one.pending.staging
    assert not one.stage([Add("a", 1)]).refused
    assert asked == []
    batch = one.seal()
    assert asked == [1]
    assert batch.deltas == [
        Delta(ME.incarnation, 1, 2, {"a": 6 - 5}, Keyed({}, {ME.incarnation: Settlement(UNTIL, 1, {"a": 5})}))
    ]
    one.commit()
    assert (one.replica.counters.total("a"), one.replica.counters.entries.live) == (6, 0)


@pytest.mark.parametrize("until", [None, -1, UNTIL - 10])
def test_where_nothing_can_be_settled_nothing_is_written(until: int | None) -> None:
    one = with_an_old_id()
    one.stage_settlement(lambda: until)
    assert one.seal().deltas == []
    one.commit()
    assert one.replica.counters.entries.live == 1
    assert not one.pending.staging


@pytest.mark.parametrize("what", ["identity", "membership", "settlement"])
def test_nothing_is_settled_beside_what_changes_the_grounds_for_it(what: str) -> None:
    one = with_an_old_id()
    one.stage_settlement(lambda: UNTIL)
    if what == "identity":
        one.stage_identity(ME.reborn(incarnation(102)))
    elif what == "membership":
        assert one.stage_membership(Membership(1, ("a:1",)))
    else:
        assert one.stage_delta(settling(A, {B: Settlement(UNTIL, 1, {"b": 1})}))
    batch = one.seal()
    assert [delta.incarnation for delta in batch.deltas] == ([A] if what == "settlement" else [])
    one.commit()
    one.stage_settlement(lambda: UNTIL)
    commit(one)
    assert one.replica.counters.entries.live == 0
    assert one.replica.counters.total("a") == 5


def test_what_is_staged_beside_a_settlement_stays_live() -> None:
    one = with_an_old_id()
    one.stage_settlement(lambda: UNTIL)
    assert not one.stage([sent(3, "y")]).refused
    commit(one)
    assert (one.replica.counters.total("a"), one.replica.counters.entries.live) == (8, 1)


# Laws


def test_an_id_at_or_below_the_durable_promise_is_never_sealed() -> None:
    one = writer()
    assert not refusal(one, sent(5))
    one.replica.floor = NOW
    with pytest.raises(AssertionError, match="promise is kept"):
        one.seal()


def test_a_batch_with_an_id_is_never_committed_while_ids_are_not_in_use() -> None:
    one = writer()
    assert not refusal(one, sent(5))
    batch = one.seal()
    one.pending.batch = type(batch)(batch.number, batch.deltas)
    with pytest.raises(AssertionError, match="ids are in use"):
        one.commit()


def test_a_counter_that_grows_by_anything_but_what_the_seal_computed_is_noticed() -> None:
    one = writer()
    assert not refusal(one, sent(5))
    one.seal()
    one.pending.sealed.ids.gains["a"] = 4
    with pytest.raises(AssertionError, match="by what the seal computed"):
        one.commit()


def test_an_id_that_has_less_than_was_written_is_noticed() -> None:
    one = writer()
    assert not refusal(one, sent(5))
    one.seal()
    one.pending.sealed.ids.written[f"{NOW}-x a"] = 6
    with pytest.raises(AssertionError, match="never falls"):
        one.commit()


def test_another_incarnations_delta_is_never_committed_as_the_own_one() -> None:
    one = writer()
    assert not refusal(one, sent(5))
    one.seal()
    one.replica.identity = Identity(ME.node, incarnation(9))
    with pytest.raises(AssertionError, match="under the incarnation"):
        one.commit()
