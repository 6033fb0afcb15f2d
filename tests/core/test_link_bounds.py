"""What bounds a link: how much a push brings, how much is kept of what a peer claims, and how long it is left alone."""

from itertools import pairwise

import pytest

from gcount.core.limits import MAX_INCARNATIONS
from gcount.core.options import Options
from gcount.core.protocol.messages import Ack, Push
from gcount.core.protocol.replication import DeltaReceiver, DeltaSender
from gcount.core.protocol.transfer import UNTAKEN_PAUSE, UNTAKEN_PAUSE_MOST
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from gcount.errors import ProtocolError
from tests.core.histories import incarnation

LIVES = 5
MANY = [number.to_bytes(16, "big") for number in range(MAX_INCARNATIONS + 1)]


def of_many_lives() -> Replica:
    """A node with two cells of each of its former lives."""
    lives = [incarnation(number) for number in range(1, LIVES + 1)]
    one = Replica(Identity(incarnation(100), incarnation(101), tuple(lives)), 1000)
    writer = Writer(one)
    for life in lives:
        writer.stage_delta(Delta(life, 0, 1, {"a": 1, "b": 1}))
    writer.seal()
    writer.commit()
    return one


@pytest.mark.parametrize(("cells", "lives"), [(1, 1), (2, 1), (3, 2), (4, 2), (100, LIVES)])
def test_what_one_push_brings_in_all_is_bounded_and_the_next_one_brings_the_rest(cells: int, lives: int) -> None:
    """The peer buffers all of it until the last chunk."""
    pusher = DeltaSender({}, 0.0, options=Options(push_cells=cells))
    one, brought, now = of_many_lives(), list[int](), 0.0
    while push := pusher.next_push(one.counters, one.identity, now):
        assert push.last
        brought.append(len(push.deltas))
        pusher.acked(Ack(push.number, {delta.incarnation: delta.upto for delta in push.deltas}), now)
        now += 1.0
    assert max(brought) == lives
    assert sum(brought) == LIVES


def test_what_a_peer_left_is_offered_again_after_pauses_that_double_up_to_a_limit() -> None:
    one, pusher, now, offered = of_many_lives(), DeltaSender({}, 0.0), 0.0, list[float]()
    for _ in range(6):
        while (push := pusher.next_push(one.counters, one.identity, now)) is None:
            now += UNTAKEN_PAUSE / 4
        offered.append(now)
        pusher.acked(Ack(push.number, {}), now)
    pauses = [later - earlier for earlier, later in pairwise(offered)]
    assert pauses == [min(UNTAKEN_PAUSE * 2**times, UNTAKEN_PAUSE_MOST) for times in range(5)]
    assert UNTAKEN_PAUSE_MOST in pauses


def test_what_a_peer_sent_earlier_stays_true_when_it_sends_more() -> None:
    """It only tells what changed."""
    one, pusher = of_many_lives(), DeltaSender({incarnation(1): 1}, 0.0)
    assert pusher.lag(one.counters) == LIVES - 1
    for number in range(2, LIVES + 1):
        pusher.learned({incarnation(number): 1})
        assert pusher.lag(one.counters) == LIVES - number
    assert pusher.next_push(one.counters, one.identity, 9.0) is None


def test_a_peer_that_claims_more_incarnations_than_there_can_be_loses_its_link() -> None:
    pusher = DeltaSender({}, 0.0)
    pusher.learned(dict.fromkeys(MANY[:-1], 1))
    pusher.learned(dict.fromkeys(MANY[:-1], 2))
    with pytest.raises(ProtocolError, match=str(MAX_INCARNATIONS)):
        pusher.learned({MANY[-1]: 1})


def test_no_more_deltas_are_buffered_than_there_can_be_lives() -> None:
    """They may be empty, which no limit of cells bounds."""
    intake = DeltaReceiver(10, {}, Membership())
    assert intake.pushed(Push(1, False, [Delta(who, 0, 1, {}) for who in MANY[:-1]])) is None
    with pytest.raises(ProtocolError, match=f"{MAX_INCARNATIONS} deltas"):
        intake.pushed(Push(2, False, [Delta(MANY[-1], 0, 1, {})]))
