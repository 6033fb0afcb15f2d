"""A batch: what is committed at once can be written, joined and joined again, and never changes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.format.log_records import HEADER_BYTES, Header, Scan, encode_batch
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from tests.core.histories import NAMES, History, histories, incarnation

ME = Identity(b"n" * 16, incarnation(1))
HEAD = Header(ME.node, ME.incarnation, 1, 1)

memberships = st.none() | st.builds(Membership, st.integers(1, 99), st.just(("h:1",)))
identities = st.none() | st.just(ME.reborn(incarnation(2)))


def blank() -> Replica:
    return Replica(ME, 1000)


@given(histories(3), identities, memberships, st.data())
def test_a_batch_that_is_joined_twice_has_been_joined_once(
    history: History, identity: Identity | None, membership: Membership | None, data: st.DataObject
) -> None:
    upto = data.draw(st.integers(1, len(history.commits)))
    batch = Batch(7, [history.delta(0, upto)], identity, membership)
    once, twice = blank(), blank()
    once.apply(batch)
    twice.apply(batch)
    twice.apply(batch)
    for one in (once, twice):
        state = history.state(upto)
        assert {name: one.counters.cell(name, history.incarnation) for name in state} == state
        assert one.identity == (identity or ME)
        assert one.membership == (membership or Membership())
        assert one.next_batch == 8


@given(histories(3), histories(4), st.data())
def test_the_deltas_of_a_batch_may_be_of_any_incarnations_and_one_may_follow_another(
    first: History, second: History, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(first.commits)))
    deltas = [
        *([first.delta(0, cut)] if cut else []),
        second.delta(0, len(second.commits)),
        *([first.delta(cut, len(first.commits))] if cut < len(first.commits) else []),
    ]
    replica = blank()
    replica.apply(Batch(1, deltas))
    for history in (first, second):
        state = history.state(len(history.commits))
        assert replica.counters.version(history.incarnation) == len(history.commits)
        assert {name: n for name in NAMES if (n := replica.counters.cell(name, history.incarnation))} == state


def test_an_empty_batch_only_counts() -> None:
    data = HEAD.encode() + encode_batch(Batch(1, [])) + encode_batch(Batch(2, []))
    scan = Scan(data, 1)
    assert list(scan) == [Batch(1, []), Batch(2, [])]
    assert len(data) > HEADER_BYTES
    replica = blank()
    for batch in Scan(data, 1):
        replica.apply(batch)
    assert (len(replica.counters), replica.next_batch) == (0, 3)


def test_a_batch_never_changes() -> None:
    batch = Batch(1, [Delta(incarnation(3), 0, 1, {"a": 1})])
    with pytest.raises(AttributeError):
        batch.number = 2  # type: ignore[misc]
    assert msgspec.structs.replace(batch, number=2) == Batch(2, batch.deltas)
