"""A node gives back what it keeps detached of a peer's former lives: bit by bit, over lost links, until it is kept."""

from itertools import count, pairwise

import pytest

from gcount.core.options import Options
from gcount.core.protocol.messages import Ack, Push
from gcount.core.protocol.replication import DeltaSender
from gcount.core.protocol.transfer import OFFER_PAUSE_MOST, Transfer
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.identity import Identity
from tests.core.histories import History, incarnation, knowing

ME = Identity(b"n" * 16, incarnation(1))
SMALL = Options(push_bytes=130)  # three names each
RUNS = [Delta(incarnation(9), 10 * n, 10 * n + 5, {f"name-{n}": n}) for n in range(1, 4)]


class Giver:
    """A link on which runs are given back; `own` commits of the node are waiting to be pushed, too."""

    def __init__(self, runs: list[Delta], own: int = 0, transfer: Transfer | None = None) -> None:
        self.counters = (
            knowing([(History(ME.incarnation, [{"own": n} for n in range(own)]), own)]) if own else Counters()
        )
        self.pusher = DeltaSender({}, 0.0, count(7).__next__, transfer, runs, SMALL)
        self.now = 0.0

    def push(self) -> Push | None:
        return self.pusher.next_push(self.counters, ME, self.now)

    def ack(self, push: Push, *, kept: bool = False) -> None:
        news = {delta.incarnation: delta.upto for delta in push.deltas if delta.incarnation == ME.incarnation}
        self.pusher.acked(Ack(push.number, news, kept=kept), self.now)
        self.now += 0.1

    def pushes(self) -> list[Push]:
        """All that go until nothing is left, each of which is kept."""
        found = []
        while (push := self.push()) is not None:
            found.append(push)
            self.ack(push, kept=True)
        return found


def test_runs_are_given_back_one_by_one_and_own_increments_do_not_wait_for_all_of_them() -> None:
    giver = Giver(RUNS, own=2)
    pushes = giver.pushes()
    assert [[delta.after for delta in push.deltas] for push in pushes] == [[10], [0], [20], [30]]
    assert all(push.last for push in pushes)
    assert not giver.pusher.owes


def test_something_is_owed_until_the_peer_has_said_that_the_last_run_is_on_its_disk() -> None:
    giver = Giver(RUNS[:1])
    owed, push = [giver.pusher.owes], giver.push()
    assert push is not None
    owed.append(giver.pusher.owes)
    giver.ack(push, kept=True)
    assert [*owed, giver.pusher.owes, Giver([]).pusher.owes] == [True, True, False, False]


def test_a_run_that_the_peer_does_not_keep_is_offered_again_ever_more_rarely_and_keeps_no_other_one_waiting() -> None:
    giver, times, first = Giver(RUNS[:2]), list[float](), list[int]()
    while len(times) < 12:
        push = giver.push()
        if push is not None:
            times.append(giver.now)
            first.append(push.deltas[0].after)
            giver.ack(push, kept=push.deltas[0].after == 20)
        giver.now += 0.1
    assert first == [10, 20, *[10] * 10]
    assert times[1] - times[0] >= 1.0
    pauses = [round(after - before) for before, after in pairwise(times)]
    assert pauses == [1, 0, 1, 2, 4, 8, 16, 32, *[OFFER_PAUSE_MOST] * 3]
    giver.now = times[-1] + 1.0
    giver.pusher.offer_again()
    assert giver.push() is not None


def test_what_is_given_back_goes_on_over_the_next_link() -> None:
    run = Delta(incarnation(9), 10, 20, {f"name-{n}": 1 for n in range(12)})
    giver, sent = Giver([run]), dict[str, int]()
    for _ in range(2):
        push = giver.push()
        assert push is not None
        sent |= push.deltas[0].cells
        giver.ack(push)
    left = giver.pusher.interrupted()
    assert left is not None
    assert left.goes_on({}, 2)
    after = Giver([run], transfer=left)
    rest = after.pushes()
    assert [len(push.deltas[0].cells) for push in rest] == [3, 3]
    assert {**sent, **{name: n for push in rest for name, n in push.deltas[0].cells.items()}} == run.cells
    assert not after.pusher.owes


@pytest.mark.parametrize("kept", [0, 2, 4])
def test_what_is_given_back_begins_anew_where_the_peer_has_more_or_less_than_was_sent(kept: int) -> None:
    run = Delta(incarnation(9), 10, 20, {f"name-{n}": 1 for n in range(12)})
    giver = Giver([run])
    for _ in range(3):
        push = giver.push()
        assert push is not None
        giver.ack(push)
    left = giver.pusher.interrupted()
    assert left is not None
    assert not left.goes_on({}, kept)
