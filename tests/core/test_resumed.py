"""A transfer that a lost link interrupts goes on over the next one, and what it brings is never less than the whole."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.format.chunks import Assembly
from gcount.core.options import Options
from gcount.core.protocol.messages import Ack, Push
from gcount.core.protocol.replication import DeltaReceiver, DeltaSender
from gcount.core.protocol.suspended_transfers import SuspendedTransfers
from gcount.core.protocol.transfer import Transfer
from gcount.core.state.counters import Delta, Digest, highest
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.errors import ProtocolError
from tests.core.histories import incarnation
from tests.core.replicas import add, replica, take

NOBODY = Membership()
NODE, BOOT = b"n" * 16, b"b" * 16
NAMES = [f"name-{number:02}" for number in range(24)]


SMALL = Options(push_bytes=120)  # two names each


class Under:
    """A transfer of six chunks, of which some are acknowledged and the next one is on its way."""

    def __init__(self, acknowledged: int) -> None:
        self.sender = replica(1)
        add(self.sender, *NAMES[:12])
        self.ids = count(7)
        self.pusher = self.over({})
        self.sent = [self.push(self.pusher)]
        for number in range(1, acknowledged + 1):
            self.pusher.acked(Ack(number, {}), 0.0)
            self.sent.append(self.push(self.pusher))

    def over(self, digest: Digest, transfer: Transfer | None = None) -> DeltaSender:
        return DeltaSender(digest, 0.0, lambda: next(self.ids), transfer, options=SMALL)

    def push(self, pusher: DeltaSender) -> Push:
        push = pusher.next_push(self.sender.counters, self.sender.identity, 0.0)
        assert push is not None
        return push


def test_a_push_of_one_chunk_has_no_id_and_nothing_is_left_of_it() -> None:
    sender = replica(1)
    add(sender, "a")
    pusher = DeltaSender({}, 0.0, lambda: 7)
    push = pusher.next_push(sender.counters, sender.identity, 0.0)
    assert push is not None
    assert (push.last, push.transfer) == (True, 0)
    assert pusher.interrupted() is None


@pytest.mark.parametrize("arrived", [False, True])
@pytest.mark.parametrize("acknowledged", [1, 3, 4])
def test_a_transfer_goes_on_behind_what_the_peer_has_kept(acknowledged: int, arrived: bool) -> None:
    under = Under(acknowledged)
    transfer = under.pusher.interrupted()
    assert transfer is not None
    assert transfer.goes_on({}, acknowledged + arrived)
    push = under.push(under.over({}, transfer))
    assert (push.number, push.transfer) == (1, 7)
    assert (push.deltas == under.sent[-1].deltas) == (not arrived)
    assert push.deltas not in [sent.deltas for sent in under.sent[:-1]]


def test_what_changes_while_there_is_no_link_is_not_mixed_into_the_transfer() -> None:
    under = Under(1)
    transfer = under.pusher.interrupted()
    add(under.sender, *NAMES)
    assert transfer is not None
    assert transfer.goes_on({}, 2)
    pusher, rest = under.over({}, transfer), []
    for number in range(1, 10):
        push = under.push(pusher)
        rest += [n for delta in push.deltas for n in delta.cells.values()]
        assert {(delta.after, delta.upto) for delta in push.deltas} == {(0, 1)}
        if push.last:
            break
        pusher.acked(Ack(number, {}), 0.0)
    assert rest == [1] * 8


def test_a_lost_link_hands_its_transfer_over_and_holds_no_copy_of_the_state_any_more() -> None:
    pusher = Under(3).pusher
    assert pusher.interrupted() is not None
    assert pusher.interrupted() is None


def test_a_transfer_of_which_nothing_arrived_gives_way_to_the_state_as_it_is_now() -> None:
    transfer = Under(0).pusher.interrupted()
    assert transfer is not None
    assert not transfer.goes_on({}, 0)


@pytest.mark.parametrize("kept", [0, 1, 2, 5, 2**62])
def test_a_peer_that_kept_anything_else_is_sent_the_state_again(kept: int) -> None:
    transfer = Under(3).pusher.interrupted()
    assert transfer is not None
    assert not transfer.goes_on({}, kept)


def test_a_peer_can_not_have_kept_the_last_chunk_and_wait_for_more() -> None:
    under = Under(5)
    assert under.sent[-1].last
    transfer = under.pusher.interrupted()
    assert transfer is not None
    assert not transfer.goes_on({}, 6)
    assert transfer.goes_on({}, 5)
    assert under.push(under.over({}, transfer)).last


def test_a_transfer_of_what_the_peer_has_by_now_is_given_up() -> None:
    transfer = Under(3).pusher.interrupted()
    assert transfer is not None
    assert not transfer.goes_on({incarnation(1): 1}, 3)


def test_nothing_is_left_of_a_transfer_that_the_peer_refused() -> None:
    under = Under(5)
    under.pusher.acked(Ack(6, {}, "disk full"), 0.0)
    assert under.pusher.interrupted() is None


def test_a_sender_that_begins_anew_starts_an_assembly_of_its_own() -> None:
    for other in (0, 8):
        intake = DeltaReceiver(100, {}, NOBODY)
        intake.pushed(Push(1, False, [Delta(incarnation(1), 0, 2, {"a": 1})], transfer=7))
        intake.ack({})
        anew = [Delta(incarnation(1), 0, 2, {"b": 1})]
        assert intake.pushed(Push(2, True, anew, transfer=other)) == anew


def test_what_comes_on_a_link_after_another_took_over_is_never_taken_for_the_whole() -> None:
    intake = DeltaReceiver(100, {}, NOBODY)
    intake.pushed(Push(1, False, [Delta(incarnation(1), 0, 2, {"a": 1})], transfer=7))
    intake.ack({})
    assembly = intake.leave()
    assert assembly is not None
    with pytest.raises(ProtocolError, match="taken over"):
        intake.pushed(Push(2, True, [Delta(incarnation(1), 0, 2, {"b": 1})], transfer=7))
    assert (intake.buffered, list(intake.deltas()), intake.leave()) == (0, [], None)
    over = DeltaReceiver(100, {}, NOBODY, assembly)
    assert over.buffered == 1
    assert over.pushed(Push(1, True, [Delta(incarnation(1), 0, 2, {"b": 1})], transfer=7)) == [
        Delta(incarnation(1), 0, 2, {"a": 1, "b": 1})
    ]


def test_nothing_is_left_of_a_push_without_an_id_nor_of_a_whole_or_too_big_one() -> None:
    piece = [Delta(incarnation(1), 0, 2, {"a": 1})]
    old, whole, big = (DeltaReceiver(1, {}, NOBODY) for _ in range(3))
    old.pushed(Push(1, False, piece))
    whole.pushed(Push(1, True, piece, transfer=7))
    big.pushed(Push(1, False, piece, transfer=7))
    big.ack({})
    with pytest.raises(ProtocolError, match="--max-counters"):
        big.pushed(Push(2, False, piece, transfer=7))
    assert [intake.leave() for intake in (old, whole, big)] == [None] * 3


def test_a_link_reports_what_it_has_received_until_that_is_acknowledged() -> None:
    intake, piece = DeltaReceiver(9, {}, NOBODY), Delta(incarnation(1), 0, 2, {"a": 1})
    for number, last in [(1, False), (2, True)]:
        intake.pushed(Push(number, last, [piece], transfer=7))
        assert highest(intake.deltas(), {incarnation(1), incarnation(2)}) == {incarnation(1): 2}
        if not last:
            intake.ack({})
    intake.ack({incarnation(1): 2})
    assert list(intake.deltas()) == []


class Road:
    """Two nodes, the link between them, and what both ends keep when it is lost."""

    def __init__(self, sender: Replica, receiver: Replica, random: Random, options: Options) -> None:
        self.sender, self.receiver, self.random, self.options = sender, receiver, random, options
        self.kept, self.ids = SuspendedTransfers(1000), count(1)
        self.left: Transfer | None = None
        self.half_open: DeltaReceiver | None = None
        self.lost = self.sent = self.needed = 0
        self.chunks = 0  # of the transfer that the receiver is in the midst of
        self.push: Push | None = None
        self.ack: Ack | None = None
        self.dial()

    def find(self) -> Assembly | None:
        """What the receiver hands to a link that resumes: also what a link holds that is open by half."""
        resumes = self.left.id if self.left else 0
        if resumes and self.half_open is not None and self.half_open.transfer == resumes:
            return self.half_open.leave()
        return self.kept.take(NODE, BOOT, resumes, 0.0)

    def keep(self, intake: DeltaReceiver) -> None:
        """The receiver notices that a link is lost."""
        found = intake.leave()
        if found is not None:
            self.kept.keep(NODE, BOOT, found, 0.0)

    def dial(self) -> None:
        while self.random.random() < 0.2:  # the receiver says hello, which is lost
            self.keep(DeltaReceiver(1000, {}, NOBODY, self.find()))
        told, found = self.receiver.counters.digest(), self.find()
        self.intake = DeltaReceiver(1000, told, NOBODY, found)
        if self.left is not None and not self.left.goes_on(told, 0 if found is None else found.chunks):
            self.left = None
        if self.left is None:
            self.chunks = 0
        self.pusher = DeltaSender(told, 0.0, lambda: next(self.ids), self.left, options=self.options)
        self.left, self.push, self.ack = None, None, None

    def step(self, now: float) -> None:
        if self.ack is not None:
            self.pusher.acked(self.ack, now)
            self.ack = None
        elif self.push is not None:
            self.arrive()
        else:
            self.push = self.pusher.next_push(self.sender.counters, self.sender.identity, now)
            self.sent += self.push is not None

    def arrive(self) -> None:
        assert self.push is not None
        push, self.push = self.push, None
        whole = self.intake.pushed(push)
        self.chunks += 1
        if whole is not None:
            take(self.receiver, whole)
            self.needed, self.chunks = self.needed + self.chunks, 0
        self.ack = self.intake.ack(self.receiver.counters.digest() if whole is not None else {})

    def lose(self) -> None:
        """The sender notices that the link is lost; what it sent last may have arrived, and the receiver may notice."""
        self.lost += 1
        if self.push is not None and self.random.random() < 0.5:
            self.arrive()
        self.left = self.pusher.interrupted()
        if self.random.random() < 0.5:
            self.half_open = self.intake
        else:
            self.keep(self.intake)
        self.dial()


Histories = dict[bytes, list[dict[str, int]]]


def count_on(one: Replica, random: Random, histories: Histories) -> None:
    who = one.identity.incarnation
    add(one, *random.sample(NAMES, random.randint(1, len(NAMES))))
    histories[who].append({name: n for name in NAMES if (n := one.counters.cell(name, who))})


def whole(one: Replica, histories: Histories) -> bool:
    """Whether the cells are exactly those that their owner had at the version that the digest names."""
    return all(
        {name: n for name in NAMES if (n := one.counters.cell(name, who))} == histories[who][version]
        for who, version in one.counters.digest().items()
    )


@given(st.integers(0, 2**32), st.sampled_from([60, 120, 400]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_is_lost_the_receiver_has_whole_states_and_hardly_anything_is_sent_twice(
    seed: int, size: int, others: bool
) -> None:
    random, now = Random(seed), 0.0
    sender, receiver, third = replica(1), replica(2), replica(3)
    histories: Histories = {one.identity.incarnation: [{}] for one in (sender, receiver, third)}
    road = Road(sender, receiver, random, Options(push_bytes=size))
    for _ in range(300):
        now += random.choice((0.0, 0.1, 0.5))
        dice = random.random()
        if dice < 0.04:
            count_on(sender, random, histories)
        elif dice < 0.08 and others:
            count_on(third, random, histories)
            news = [delta for who in [incarnation(3)] for delta in third.counters.newer(who, 0)[1]]
            take(random.choice((sender, receiver)), news)
        elif dice < 0.2:
            road.lose()
        else:
            road.step(now)
        assert whole(receiver, histories)
    for _ in range(3000):
        now += 0.1
        road.step(now)
    assert receiver.counters.version(incarnation(1)) == sender.version
    assert receiver.counters.version(incarnation(3)) >= sender.counters.version(incarnation(3))
    assert whole(receiver, histories)
    if not others:  # who gets from others what is under way need not have the rest of it
        assert road.sent <= road.needed + road.lost
