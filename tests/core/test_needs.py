"""What a sender adds to a transfer, so that a peer which lacks a settlement can take it."""

from __future__ import annotations

from itertools import count

from gcount.core.format.chunks import Assembly
from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol.messages import Ack, Push
from gcount.core.protocol.replication import DeltaSender
from gcount.core.protocol.transfer import UNTAKEN_PAUSE, settlers_lacking
from gcount.core.state.counters import Delta, Digest
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.replica import Replica
from tests.core.histories import incarnation
from tests.core.replicas import add, replica, take

ME, A, C = incarnation(1), incarnation(2), incarnation(3)
SETTLED = Delta(C, 0, 2, {}, Keyed({}, {A: Settlement(59, 1, {"n": 5})}))


def settled(*names: str) -> Replica:
    """A node that has counted some names, and knows a settlement of another node."""
    one = replica(1)
    if names:
        add(one, *names)
    take(one, [SETTLED])
    return one


def next_push(sender: DeltaSender, one: Replica, now: float = 0.0) -> Push | None:
    return sender.next_push(one.counters, one.identity, now)


def whole(push: Push | None) -> list[Delta]:
    """The deltas of which the pieces are in a push."""
    assembly = Assembly()
    assembly.add([] if push is None else push.deltas)
    return assembly.take()


def columns(push: Push | None) -> list[bytes]:
    return [delta.incarnation for delta in whole(push)]


def test_a_node_that_knows_no_settlement_needs_none() -> None:
    one = replica(1)
    add(one, "a")
    push = next_push(DeltaSender({}, 0.0), one)
    assert push is not None
    assert push.needs == {}


def test_a_settler_that_the_peer_lacks_goes_with_the_own_changes_at_once() -> None:
    one = settled("a")
    push = next_push(DeltaSender({}, 0.0), one)
    assert push is not None
    assert whole(push) == [Delta(ME, 0, 1, {"a": 1}), SETTLED]
    assert push.needs == {C: 2}


def test_a_settler_alone_waits_as_other_changes_of_other_nodes_do() -> None:
    one, sender = settled(), DeltaSender({}, 0.0)
    pushes = {now: next_push(sender, one, now) for now in (0.0, 0.5, 1.0, 1.5, 2.0)}
    assert [now for now, push in pushes.items() if push is not None] == [2.0]
    assert columns(pushes[2.0]) == [C]


def test_a_peer_that_has_the_settlement_is_told_the_needs_and_sent_no_settler() -> None:
    one = settled("a")
    take(one, [Delta(C, 2, 3, {"late": 1})])
    push = next_push(DeltaSender({C: 2}, 0.0), one)
    assert push is not None
    assert (columns(push), push.needs) == ([ME], {C: 2})


def test_a_settler_goes_whole_beyond_the_cells_of_a_push() -> None:
    one = settled("a", "b")
    push = next_push(DeltaSender({}, 0.0, options=Options(push_cells=1)), one)
    assert columns(push) == [ME, C]


def test_a_settler_that_was_not_taken_goes_with_the_next_changes_nevertheless() -> None:
    """Without it the peer would take nothing."""
    one, sender = settled("a"), DeltaSender({}, 0.0)
    assert next_push(sender, one) is not None
    sender.acked(Ack(1, {}), 0.0)
    assert next_push(sender, one, UNTAKEN_PAUSE - 0.01) is None
    assert columns(next_push(sender, one, UNTAKEN_PAUSE)) == [ME, C]
    sender.acked(Ack(2, {ME: 1}), UNTAKEN_PAUSE)
    add(one, "a")
    assert columns(next_push(sender, one, UNTAKEN_PAUSE + DEFAULTS.push_interval)) == [ME, C]


def test_the_needs_are_those_of_the_start_of_the_transfer_and_come_with_its_last_chunk() -> None:
    names = [f"name-{number}" for number in range(24)]
    one, ids = settled(*names), count(1)
    sender = DeltaSender({C: 2}, 0.0, ids.__next__, options=Options(push_bytes=120))
    pushes = list[Push]()
    while not pushes or not pushes[-1].last:
        if len(pushes) == 3:
            take(one, [Delta(C, 2, 3, {}, Keyed({}, {A: Settlement(119, 2, {"n": 6})}))])
        if len(pushes) == 4:  # the link is lost, and the next one goes on
            left = sender.interrupted()
            assert left is not None
            assert left.goes_on({C: 2}, 4)
            sender = DeltaSender({C: 2}, 0.0, ids.__next__, left, options=Options(push_bytes=120))
        push = next_push(sender, one)
        assert push is not None
        pushes.append(push)
        if not push.last:
            sender.acked(Ack(push.number, {}), 0.0)
    assert len(pushes) > 5
    assert [push.needs for push in pushes] == [{}] * (len(pushes) - 1) + [{C: 2}]
    assert {who for push in pushes for who in columns(push)} == {ME}


def test_what_is_given_back_needs_nothing() -> None:
    """It was cut long ago, and nothing that settlements cover was left out of it."""
    one, delta = settled(), Delta(A, 10, 20, {"n": 1})
    push = next_push(DeltaSender({C: 2}, 0.0, detached=[delta]), one)
    assert push == Push(1, True, [delta])


def test_a_peer_lacks_the_settlers_of_which_it_has_less_than_is_needed() -> None:
    needs: Digest = {A: 3, C: 2}
    assert settlers_lacking(needs, {}) == [A, C]
    assert settlers_lacking(needs, {A: 2, C: 2}) == [A]
    assert settlers_lacking(needs, {A: 3, C: 9}) == []


def test_a_settlement_of_the_own_incarnation_is_needed_too() -> None:
    one = Replica(Identity(C, C), 1000)
    one.counters.join(SETTLED)
    push = next_push(DeltaSender({}, 0.0), one)
    assert push is not None
    assert (whole(push), push.needs) == ([SETTLED], {C: 2})
