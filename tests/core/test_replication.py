"""The two ends of a link, alone and with each other: whatever the network does to them, replicas converge."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol.messages import Ack, Push
from gcount.core.protocol.replication import (
    REFUSED_PAUSE,
    URGENT_FOR,
    DeltaReceiver,
    DeltaSender,
)
from gcount.core.protocol.transfer import UNTAKEN_PAUSE
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta, Digest
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.errors import ProtocolError
from tests.core.histories import NAMES, incarnation, newer_than
from tests.core.replicas import add, replica, take

NOBODY = Membership()


def next_push(pusher: DeltaSender, one: Replica, now: float) -> Push | None:
    return pusher.next_push(one.counters, one.identity, now)


def test_own_changes_are_pushed_at_once_and_one_at_a_time() -> None:
    one, pusher = replica(1), DeltaSender({}, 0.0)
    assert next_push(pusher, one, 0.0) is None
    add(one, "a")
    assert next_push(pusher, one, 0.0) == Push(1, True, [Delta(incarnation(1), 0, 1, {"a": 1})])
    add(one, "b")
    assert next_push(pusher, one, 5.0) is None
    pusher.acked(Ack(1, {incarnation(1): 1}), 5.0)
    assert next_push(pusher, one, 5.0) == Push(2, True, [Delta(incarnation(1), 1, 2, {"b": 1})])
    pusher.acked(Ack(2, {incarnation(1): 2}), 5.0)
    assert next_push(pusher, one, 5.0) is None


def test_what_the_peer_has_already_is_not_pushed() -> None:
    one = replica(1)
    add(one, "a")
    add(one, "b")
    assert next_push(DeltaSender({incarnation(1): 2}, 0.0), one, 0.0) is None
    assert next_push(DeltaSender({incarnation(1): 1}, 0.0), one, 0.0) == Push(
        1, True, [Delta(incarnation(1), 1, 2, {"b": 1})]
    )


def test_retired_incarnations_are_own() -> None:
    one = replica(1)
    add(one, "a")
    one.apply(Batch(one.next_batch, [], one.identity.reborn(incarnation(11))))
    add(one, "a")
    push = next_push(DeltaSender({}, 0.0), one, 0.0)
    assert push is not None
    assert {delta.incarnation for delta in push.deltas} == {incarnation(1), incarnation(11)}


def test_news_of_others_are_relayed_only_when_they_are_overdue() -> None:
    one, pusher, beats = replica(1), DeltaSender({}, 0.0), 0.25
    take(one, [Delta(incarnation(2), 0, 1, {"a": 1})])
    pushes = {beat * beats: next_push(pusher, one, beat * beats) for beat in range(12)}
    relayed_at = next(at for at, push in pushes.items() if push is not None)
    assert DEFAULTS.relay_after <= relayed_at <= 2 * DEFAULTS.relay_after
    assert pushes[relayed_at] == Push(1, True, [Delta(incarnation(2), 0, 1, {"a": 1})])


def test_news_of_others_that_the_peer_gets_from_themselves_are_never_relayed() -> None:
    one, pusher = replica(1), DeltaSender({}, 0.0)
    for version in range(1, 40):
        take(one, [Delta(incarnation(2), version - 1, version, {"a": version})])
        assert next_push(pusher, one, version / 4) is None
        pusher.learned({incarnation(2): version})


@pytest.mark.parametrize("number", [0, 2, 7])
def test_an_ack_of_another_push_is_a_protocol_error(number: int) -> None:
    one, pusher = replica(1), DeltaSender({}, 0.0)
    add(one, "a")
    next_push(pusher, one, 0.0)
    with pytest.raises(ProtocolError):
        pusher.acked(Ack(number, {}), 0.0)


def test_an_ack_without_a_push_or_a_second_one_is_a_protocol_error() -> None:
    one, pusher = replica(1), DeltaSender({}, 0.0)
    with pytest.raises(ProtocolError):
        pusher.acked(Ack(0, {}), 0.0)
    add(one, "a")
    next_push(pusher, one, 0.0)
    pusher.acked(Ack(1, {incarnation(1): 1}), 0.0)
    with pytest.raises(ProtocolError):
        pusher.acked(Ack(1, {}), 0.0)


@pytest.mark.parametrize("ack", [Ack(1, {}, "disk full"), Ack(1, {}), Ack(1, {incarnation(2): 4})])
def test_a_peer_that_took_nothing_is_left_alone_for_a_second(ack: Ack) -> None:
    one, pusher = replica(1), DeltaSender({}, 0.0)
    add(one, "a")
    next_push(pusher, one, 0.0)
    pusher.acked(ack, 10.0)
    assert next_push(pusher, one, 10.0 + REFUSED_PAUSE - 0.01) is None
    again = next_push(pusher, one, 10.0 + REFUSED_PAUSE)
    assert again == Push(2, True, [Delta(incarnation(1), 0, 1, {"a": 1})])


def test_a_peer_that_took_something_meanwhile_is_left_alone_for_a_second_again() -> None:
    one, pusher, now = replica(1), DeltaSender({}, 0.0), 0.0
    for known in (0, 0, 3, 3):
        add(one, "a")
        push = next_push(pusher, one, now)
        assert push is not None
        pusher.acked(Ack(push.number, {incarnation(1): known}), now)
        last, now = now, now + 10.0
    assert next_push(pusher, one, last + UNTAKEN_PAUSE - 0.01) is None
    assert next_push(pusher, one, last + UNTAKEN_PAUSE) is not None


def test_what_a_peer_left_is_offered_at_once_when_it_may_take_it_now() -> None:
    one, pusher, now = replica(1), DeltaSender({}, 0.0), 0.0
    add(one, "a")
    for number in (1, 2):
        next_push(pusher, one, now)
        pusher.acked(Ack(number, {}), now)
        now += UNTAKEN_PAUSE
    assert next_push(pusher, one, now) is None
    pusher.offer_again()
    assert next_push(pusher, one, now) is not None


def test_a_big_push_goes_in_chunks_that_each_wait_for_an_ack() -> None:
    pusher = DeltaSender({}, 0.0, options=Options(push_bytes=150))
    one, intake = replica(1), DeltaReceiver(1000, {}, NOBODY)
    add(one, *(f"name-{n}" for n in range(20)))
    for number in range(1, 100):
        push = next_push(pusher, one, 0.0)
        assert push is not None
        assert next_push(pusher, one, 0.0) is None
        assert push.number == number
        whole = intake.pushed(push)
        assert (whole is not None) == push.last
        if whole is not None:
            break
        add(one, "name-0")  # what changes meanwhile is not mixed into the push under way
        pusher.acked(intake.ack({}), 0.0)
    assert number > 3
    assert whole == [Delta(incarnation(1), 0, 1, {f"name-{n}": 1 for n in range(20)})]
    pusher.acked(intake.ack({incarnation(1): 1}), 0.0)
    assert next_push(pusher, one, DEFAULTS.push_interval / 2) is None
    assert next_push(pusher, one, DEFAULTS.push_interval) == Push(
        number + 1, True, [Delta(incarnation(1), 1, one.version, {"name-0": number})]
    )


def test_while_a_client_waits_pushes_are_sent_at_once_and_marked() -> None:
    one, pusher = replica(1), DeltaSender({}, 0.0)
    add(one, "a")
    assert next_push(pusher, one, 0.0) == Push(1, True, [Delta(incarnation(1), 0, 1, {"a": 1})])
    add(one, "a")
    pusher.hasten(0.0)
    assert next_push(pusher, one, 0.0) is None  # one at a time, whoever waits
    pusher.acked(Ack(1, {incarnation(1): 1}), 0.0)
    assert next_push(pusher, one, 0.0) == Push(2, True, [Delta(incarnation(1), 1, 2, {"a": 2})], urgent=True)
    pusher.acked(Ack(2, {incarnation(1): 2}), 0.0)
    add(one, "a")
    assert next_push(pusher, one, 0.0) == Push(3, True, [Delta(incarnation(1), 2, 3, {"a": 3})], urgent=True)
    pusher.acked(Ack(3, {incarnation(1): 3}), 0.0)
    add(one, "a")
    later = URGENT_FOR
    assert next_push(pusher, one, later) == Push(4, True, [Delta(incarnation(1), 3, 4, {"a": 4})])
    pusher.acked(Ack(4, {incarnation(1): 4}), later)
    add(one, "a")
    assert next_push(pusher, one, later) is None


def test_lag_is_what_the_peer_has_not_acknowledged() -> None:
    one = replica(1)
    add(one, "a")
    add(one, "a")
    take(one, [Delta(incarnation(2), 0, 7, {"a": 1})])
    assert DeltaSender({}, 0.0).lag(one.counters) == 9
    assert DeltaSender({incarnation(1): 2, incarnation(2): 6, incarnation(3): 5}, 0.0).lag(one.counters) == 1


@pytest.mark.parametrize("number", [0, 2])
def test_a_push_with_a_skipped_number_is_a_protocol_error(number: int) -> None:
    with pytest.raises(ProtocolError):
        DeltaReceiver(10, {}, NOBODY).pushed(Push(number, True, []))


def test_a_push_while_one_is_under_way_is_a_protocol_error() -> None:
    intake = DeltaReceiver(10, {}, NOBODY)
    assert intake.pushed(Push(1, True, [])) == []
    with pytest.raises(ProtocolError):
        intake.pushed(Push(2, True, []))
    late = DeltaReceiver(10, {}, NOBODY)
    late.pushed(Push(1, True, []))
    late.ack({})
    assert late.pushed(Push(2, True, [])) == []


def test_more_cells_than_may_be_buffered_are_a_protocol_error() -> None:
    intake = DeltaReceiver(3, {}, NOBODY)
    assert intake.pushed(Push(1, False, [Delta(incarnation(1), 0, 1, {"a": 1, "b": 1})])) is None
    with pytest.raises(ProtocolError, match="3 cells"):
        intake.pushed(Push(2, False, [Delta(incarnation(1), 0, 1, {"c": 1, "d": 1})]))


def test_cells_of_a_push_that_was_taken_do_not_count_any_more() -> None:
    intake = DeltaReceiver(2, {}, NOBODY)
    for number in range(1, 10):
        assert intake.pushed(Push(number, True, [Delta(incarnation(1), number, number + 1, {"a": 1, "b": 1})]))
        intake.ack({})


def test_each_answer_has_only_what_changed_since_the_last() -> None:
    who, other = incarnation(1), incarnation(2)
    intake = DeltaReceiver(10, {who: 1}, NOBODY)
    assert intake.news({who: 1, other: 1}) == {other: 1}
    intake.pushed(Push(1, True, []))
    assert intake.ack({who: 2, other: 1}) == Ack(1, {who: 2})
    assert intake.news({who: 2, other: 1}) == {}


def test_the_membership_is_sent_once_and_only_if_it_wins() -> None:
    older, newer = Membership(1, ("a:1",)), Membership(2, ("b:1",))
    intake = DeltaReceiver(10, {}, older)
    assert intake.newer_membership(older) is None
    assert intake.newer_membership(newer) == newer
    assert intake.newer_membership(newer) is None
    assert DeltaReceiver(10, {}, newer).newer_membership(older) is None


class Wire:
    """One link of a simulated cluster, whose messages can be lost only together with the link."""

    def __init__(self, sender: Replica, receiver: Replica, now: float, options: Options) -> None:
        self.sender, self.receiver = sender, receiver
        told = receiver.counters.digest()
        self.pusher = DeltaSender(told, now, options=options)
        self.intake = DeltaReceiver(10_000, told, NOBODY)
        self.push: Push | None = None
        self.ack: Ack | None = None

    def step(self, now: float) -> None:
        if self.ack is not None:
            self.pusher.acked(self.ack, now)
            self.ack = None
        elif self.push is not None:
            whole, self.push = self.intake.pushed(self.push), None
            if whole is not None:
                take(self.receiver, whole)
            digest: Digest = self.receiver.counters.digest() if whole is not None else {}
            self.ack = self.intake.ack(digest)
        else:
            self.push = next_push(self.pusher, self.sender, now)


def whole_of_their_owners(replicas: list[Replica], histories: dict[bytes, list[dict[str, int]]]) -> bool:
    """Whether each replica's cells are exactly those that the owner had at the version that the digest names."""
    for one in replicas:
        for who, version in one.counters.digest().items():
            held = {name: n for name in NAMES if (n := one.counters.cell(name, who))}
            if held != histories[who][version]:
                return False
    return True


@given(st.integers(0, 2**32), st.sampled_from([1, 60, 150, 64 * 1024]), st.integers(3, 4))
@settings(max_examples=60)
def test_replicas_converge_whatever_order_loss_and_duplication(seed: int, size: int, count: int) -> None:
    random, now, options = Random(seed), 0.0, Options(push_bytes=size)
    replicas = [replica(number) for number in range(1, count + 1)]
    histories: dict[bytes, list[dict[str, int]]] = {one.identity.incarnation: [{}] for one in replicas}
    pairs = [(x, y) for x in range(count) for y in range(count) if x != y]
    cut = random.choice(pairs)
    usable = [pair for pair in pairs if pair not in (cut, cut[::-1])]
    links = {(x, y): Wire(replicas[x], replicas[y], now, options) for x, y in usable}
    seen: list[Delta] = []
    for _ in range(150):
        now += random.choice((0.0, 0.1, 0.5))
        x, y = random.choice(usable)
        dice = random.random()
        if dice < 0.2:
            add(replicas[x], *random.sample(NAMES, random.randint(1, 4)))
            who = replicas[x].identity.incarnation
            histories[who].append({name: n for name in NAMES if (n := replicas[x].counters.cell(name, who))})
        elif dice < 0.3:
            links[x, y] = Wire(replicas[x], replicas[y], now, options)
        elif dice < 0.4:
            seen += newer_than(replicas[x].counters, {})
            seen += newer_than(replicas[x].counters, replicas[y].counters.digest())
            take(replicas[y], random.sample(seen, min(3, len(seen))))
        else:
            links[x, y].step(now)
    assert whole_of_their_owners(replicas, histories)
    links = {(x, y): Wire(replicas[x], replicas[y], now, options) for x, y in usable}
    for _ in range(600):
        now += 0.25
        for one in links.values():
            for _ in range(10):
                one.step(now)
        if all(one.counters == replicas[0].counters for one in replicas):
            break
    assert all(one.counters == replicas[0].counters for one in replicas)
    assert replicas[0].counters.digest() == {who: len(states) - 1 for who, states in histories.items() if states[1:]}
    assert whole_of_their_owners(replicas, histories)
