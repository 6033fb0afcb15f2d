"""What the laws take for the delta that closes a gap: what is left, and ids that a lost settlement had added up."""

import pytest

from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from tests.simulation.campaign.history import History, Stored
from tests.simulation.laws import one_writer
from tests.simulation.laws.durable_state import DurableState

OLD, PEER = b"o" * 16, b"p" * 16
ME = Identity(b"n" * 16, b"m" * 16, (OLD,))
LINE = "10.0.0.1:7777#2"


def settled(after: int, until: int, parts: dict[str, int]) -> Delta:
    """The former incarnation has settled the peer's ids up to a time."""
    return Delta(OLD, after, after + 1, {}, Keyed(settled={PEER: Settlement(until, 1, parts)}))


IDS = Delta(PEER, 0, 1, {}, Keyed({"5-x a": (4, 1), "15-y b": (8, 1), "25-z c": (16, 1)}))
FIRST = Delta(OLD, 0, 1, {"d": 1})
LOST = settled(1, 9, {"a": 4})
LEFT = settled(2, 19, {"b": 8})


def closing() -> Delta:
    """The delta that a node makes, of whose log the rot took one settlement."""
    replica = Replica(ME, 1000)
    replica.apply(Batch(1, [IDS, FIRST, LEFT]))
    writer = Writer(replica)
    assert writer.stage_closing(OLD)
    [delta] = writer.seal().deltas
    return delta


def rotten() -> DurableState:
    """The directory of that node."""
    state = DurableState()
    state.put(Stored(0, LINE, (IDS, FIRST, LEFT), ME))
    return state


def with_parts(delta: Delta, **parts: int) -> Delta:
    """The same delta with other parts."""
    assert delta.keyed is not None
    one = delta.keyed.settled[PEER]
    keyed = Keyed(delta.keyed.entries, {PEER: Settlement(one.until, one.version, parts)})
    return Delta(delta.incarnation, delta.after, delta.upto, delta.cells, keyed)


def test_a_closing_adds_up_the_ids_of_a_lost_settlement() -> None:
    delta = closing()
    assert delta == with_parts(delta, a=4, b=8)
    assert rotten().closes(LINE, delta)


@pytest.mark.parametrize("parts", [{"a": 5, "b": 8}, {"a": 4, "b": 9}, {"a": 4}, {"a": 4, "b": 8, "c": 16}])
def test_a_closing_counts_nothing_else(parts: dict[str, int]) -> None:
    """Neither more than the ids come to, nor less than what is left, nor ids that it does not cover."""
    assert not rotten().closes(LINE, with_parts(closing(), **parts))


def test_a_closing_has_the_parts_that_others_have_settled() -> None:
    state = rotten()
    state.put(Stored(1, LINE, (Delta(b"q" * 16, 0, 1, {}, Keyed(settled={PEER: Settlement(9, 1, {"a": 4})})),)))
    assert state.closes(LINE, closing())


def test_a_closing_goes_no_further_than_what_is_left() -> None:
    delta = closing()
    further = Keyed(settled={PEER: Settlement(29, 1, {"a": 4, "b": 8, "c": 16})})
    assert not rotten().closes(LINE, Delta(OLD, delta.after, delta.upto, {}, further))


def test_after_a_closing_with_more_parts_the_owner_has_its_version() -> None:
    """The line that began the incarnation had the lost settlement, and one version less than the closing."""
    history = History()
    history.journal += [
        Stored(0, "10.0.0.1:7777#1", (IDS, FIRST, LOST, LEFT)),
        Stored(1, LINE, (IDS, FIRST, LEFT), ME),
        Stored(2, LINE, (closing(),)),
    ]
    assert not list(one_writer.violations(history))
    history.journal[-1] = Stored(2, LINE, (with_parts(closing(), a=5, b=8),))
    assert list(one_writer.violations(history))
