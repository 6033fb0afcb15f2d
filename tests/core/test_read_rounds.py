"""What the consistent reads of a node set off: whom they ask, whom they wake, what they hold and release."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.protocol.consistent_read import CATCH_UP, HOLD_AFTER, STALL, Actors, PendingRead, Round
from gcount.core.protocol.counter_views import Cells, Own, Told, covers
from gcount.core.protocol.read_rounds import Arrival, Ask, Effect, Hold, ReadRounds, Release, Wake
from gcount.core.protocol.told_ids import Learned
from gcount.core.state.counters import Counters, Digest
from tests.core.histories import incarnation
from tests.core.views import found
from tests.core.views import own as a_node

ME, A, B = incarnation(1), incarnation(2), incarnation(3)
HERE = "here:1"


@dataclass
class Self:
    """This node, among others."""

    memberships: Sequence[Actors] = (("a:1", "b:1", HERE),)
    here: Collection[str] = (HERE,)
    node: bytes = b"this node"
    known: dict[str, Cells] = field(default_factory=dict)

    digest: Digest = field(default_factory=dict)

    def own(self, name: str, learned: Learned) -> Own:
        own = a_node(dict(self.known.get(name, {})), digest=dict(self.digest), keyed=sum(self.digest.values()))
        return learned.added_to(own, name, Counters())


def asked(effects: Iterable[Effect]) -> list[tuple[str, int]]:
    return [(effect.address, effect.round) for effect in effects if isinstance(effect, Ask)]


def answer(
    rounds: ReadRounds, number: int, address: str, cells: Cells, now: float = 0.0, changed: Digest | None = None
) -> list[Effect]:
    """The node that is at home at the address answers."""
    return rounds.answered(number, address, address.encode(), found(cells, changed=changed), now)


def unconfirmed(rounds: ReadRounds, number: int) -> list[Effect]:
    """Both members answer, one of them with more than was expected; what the last answer sets off."""
    assert answer(rounds, number, "a:1", {A: number}) == []
    return answer(rounds, number, "b:1", {})


def test_a_round_asks_all_other_members_and_its_last_answer_wakes_the_read() -> None:
    rounds = ReadRounds(Self(known={"x": {ME: 1}}))
    arrival = rounds.arrive("x")
    assert rounds.advance("x", 0.0) == [Ask("a:1", 1, "x", False), Ask("b:1", 1, "x", False)]
    assert (rounds.under_way, rounds.asked(1)) == ((1, 1), "x")
    assert answer(rounds, 1, "b:1", {}) == []
    assert answer(rounds, 1, "a:1", {ME: 1}) == [Wake("x")]
    assert rounds.value(arrival) == 1
    assert rounds.leave(arrival) == []
    assert (rounds.under_way, rounds.asked(1)) == ((0, 0), None)


def test_without_other_members_a_read_is_woken_by_its_own_round() -> None:
    rounds = ReadRounds(Self(memberships=((HERE,),), known={"x": {ME: 7}}))
    arrival = rounds.arrive("x")
    assert rounds.advance("x", 0.0) == [Wake("x")]
    assert rounds.value(arrival) == 7


def test_a_round_that_was_not_confirmed_is_followed_by_another_one_at_once() -> None:
    rounds = ReadRounds(Self())
    arrival = rounds.arrive("x")
    rounds.advance("x", 0.0)
    effects = unconfirmed(rounds, 1)
    assert asked(effects) == [("a:1", 2), ("b:1", 2)]
    assert effects[-1] == Wake("x")
    assert rounds.value(arrival) is None
    assert rounds.taken(arrival) == 2


def test_the_holds_of_a_round_are_released_with_the_last_read() -> None:
    rounds = ReadRounds(Self())
    arrivals = [rounds.arrive("x") for _ in range(2)]
    rounds.advance("x", 0.0)
    for number in range(1, HOLD_AFTER):
        unconfirmed(rounds, number)
    held = unconfirmed(rounds, HOLD_AFTER)
    assert held[0] == Hold("x")
    assert [effect.hold for effect in held if isinstance(effect, Ask)] == [True, True]
    assert Release("x") not in rounds.leave(arrivals[0])
    assert rounds.leave(arrivals[1]) == [Release("x")]


def test_numbers_of_rounds_are_never_used_twice_not_for_another_counter_either() -> None:
    rounds = ReadRounds(Self())
    first, second = rounds.arrive("x"), rounds.arrive("y")
    numbers = {number for name in "xy" for _, number in asked(rounds.advance(name, 0.0))}
    rounds.leave(first)
    again = rounds.arrive("x")
    numbers |= {number for _, number in asked(rounds.advance("x", 0.0))}
    assert numbers == {1, 2, 3}
    assert answer(rounds, 1, "a:1", {}) == answer(rounds, 1, "b:1", {}) == []
    assert rounds.value(again) is rounds.value(second) is None


def test_another_membership_voids_all_rounds_and_wakes_all_reads() -> None:
    view = Self()
    rounds = ReadRounds(view)
    reads = [rounds.arrive("x"), rounds.arrive("y")]
    for name in "xy":
        rounds.advance(name, 0.0)
    assert rounds.learned(("a:1", "new:1", HERE), ("a:1", "b:1", HERE)) == [Wake("x"), Wake("y")]
    assert rounds.under_way == (2, 0)
    assert [address for address, _ in asked(rounds.advance("x", 0.0))] == ["a:1", "b:1", "new:1"]
    assert [rounds.value(arrival) for arrival in reads] == [None, None]


def test_rounds_begin_again_for_a_member_when_its_link_returns() -> None:
    rounds = ReadRounds(Self())
    for name in "xy":
        rounds.arrive(name)
        rounds.advance(name, 0.0)
    answer(rounds, 2, "a:1", {})
    assert asked(rounds.linked("a:1", b"a:1", 1.0)) == [("a:1", 3), ("b:1", 3)]  # it had answered the one of y
    assert rounds.asked(1) is None
    assert rounds.asked(2) == "y"


def tells(rounds: ReadRounds, number: int, address: str, version: int) -> list[Effect]:
    """The node at an address tells of one id, which it took at that version."""
    told = Told({A: {f"1-{version}": (version, version)}}, {})
    return rounds.answered(number, address, address.encode(), found({}, changed={A: version})._replace(told=told), 0.0)


def known(effects: Iterable[Effect]) -> list[Digest | None]:
    return [effect.known for effect in effects if isinstance(effect, Ask)]


def test_ids_that_an_answer_tells_are_expected_by_the_next_round() -> None:
    rounds = ReadRounds(Self())
    arrival = rounds.arrive("x")
    assert known(rounds.advance("x", 0.0)) == [None, None]
    assert answer(rounds, 1, "b:1", {}) == []
    assert known(tells(rounds, 1, "a:1", 5)) == [{A: 5}, {A: 5}]
    assert answer(rounds, 2, "b:1", {}) == []
    assert answer(rounds, 2, "a:1", {}, changed={A: 5}) == [Wake("x")]
    assert rounds.value(arrival) == 5


def test_what_was_told_is_forgotten_when_a_link_is_new_as_its_member_may_have_lost_it() -> None:
    """An answer to an earlier round, which tells only what is newer, adds nothing to it."""
    rounds = ReadRounds(Self())
    rounds.arrive("x")
    rounds.advance("x", 0.0)
    answer(rounds, 1, "b:1", {})
    tells(rounds, 1, "a:1", 5)
    answer(rounds, 2, "a:1", {}, changed={A: 5})
    assert rounds.linked("a:1", b"a:1", 0.0) == []  # the round goes on, as it has its answer
    assert known(tells(rounds, 2, "b:1", 7)) == []
    assert known(rounds.advance("x", CATCH_UP)) == [None, None]


def test_a_read_that_leaves_wakes_those_that_may_have_waited_for_its_round() -> None:
    rounds = ReadRounds(Self())
    early = rounds.arrive("x")
    rounds.advance("x", 0.0)
    late = rounds.arrive("x")
    assert rounds.advance("x", 0.0) == []
    assert rounds.looks_again(late) == STALL
    assert rounds.leave(early) == [Wake("x")]
    assert asked(rounds.advance("x", 0.0)) == [("a:1", 2), ("b:1", 2)]


def test_a_read_that_gives_up_says_what_is_known_and_which_members_are_missing() -> None:
    rounds = ReadRounds(Self(known={"x": {ME: 2}}))
    arrival = rounds.arrive("x")
    rounds.advance("x", 0.0)
    rounds.answered(1, "a:1", A, found({A: 5}), 0.0)
    assert rounds.shortfall(arrival) == (7, ["b:1"], [])


def test_a_read_that_met_unknown_ids_is_woken_by_the_commit_that_brings_them() -> None:
    view = Self()
    rounds = ReadRounds(view)
    arrival = rounds.arrive("x")
    rounds.advance("x", 0.0)
    answer(rounds, 1, "a:1", {}, changed={A: 2})
    assert answer(rounds, 1, "b:1", {}) == [Wake("x")]
    assert rounds.looks_again(arrival) == CATCH_UP
    view.digest[A] = 1
    assert rounds.committed() == rounds.advance("x", 0.0) == []
    view.digest[A] = 2
    assert rounds.committed() == [Wake("x")]
    assert rounds.committed() == []
    assert asked(rounds.advance("x", 0.0)) == [("a:1", 2), ("b:1", 2)]


def test_a_read_that_met_ids_which_came_in_the_meantime_asks_again_at_once() -> None:
    view = Self()
    rounds = ReadRounds(view)
    rounds.arrive("x")
    rounds.advance("x", 0.0)
    answer(rounds, 1, "a:1", {}, changed={A: 2})
    view.digest[A] = 2
    assert asked(answer(rounds, 1, "b:1", {})) == [("a:1", 2), ("b:1", 2)]
    assert rounds.committed() == []


def test_a_commit_wakes_nobody_after_the_read_has_left() -> None:
    view = Self()
    rounds = ReadRounds(view)
    arrival = rounds.arrive("x")
    rounds.advance("x", 0.0)
    answer(rounds, 1, "a:1", {}, changed={A: 2})
    answer(rounds, 1, "b:1", {})
    rounds.leave(arrival)
    assert rounds.committed() == []


# Laws


def test_a_round_that_takes_ids_of_another_instant_is_an_error() -> None:
    class Late(PendingRead):
        def start(self, number: int, own: Own, *rest: object) -> Round | None:
            return super().start(number, own._replace(keyed=own.keyed - 1), *rest)  # type: ignore[arg-type]

    rounds = ReadRounds(Self(), Late)
    rounds.arrive("x")
    with pytest.raises(AssertionError, match="another instant"):
        rounds.advance("x", 0.0)


def test_a_round_that_expects_less_of_its_own_node_than_that_holds_is_an_error() -> None:
    class Forgetful(PendingRead):
        def start(self, number: int, own: Own, *rest: object) -> Round | None:
            return super().start(number, a_node({}), *rest)  # type: ignore[arg-type]

    rounds = ReadRounds(Self(known={"x": {ME: 1}}), Forgetful)
    rounds.arrive("x")
    with pytest.raises(AssertionError, match="expects less"):
        rounds.advance("x", 0.0)


def test_an_answer_to_a_read_by_a_round_from_before_it_is_an_error() -> None:
    rounds = ReadRounds(Self())
    rounds.arrive("x")
    rounds.advance("x", 0.0)
    late = rounds.arrive("x")
    rounds._pending["x"].rounds[0].began += 2
    for address in ("a:1", "b:1"):
        answer(rounds, 1, address, {})
    with pytest.raises(AssertionError, match="arrived after"):
        rounds.value(late)


def test_a_round_that_takes_one_node_for_two_members_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Round, "_other_entry", lambda self, address, node: None)
    rounds = ReadRounds(Self())
    rounds.arrive("x")
    rounds.advance("x", 0.0)
    rounds.answered(1, "a:1", A, found({}), 0.0)
    with pytest.raises(AssertionError, match="one node"):
        rounds.answered(1, "b:1", A, found({}), 0.0)


Step = tuple[str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "leave", "answer", "link", "learn", "wait", "count", "commit"]), st.integers(0, 11)
    ),
    max_size=80,
)


class Shell:
    """Does what the effects ask for, as the cluster's side does, and keeps count of it."""

    def __init__(self) -> None:
        self.view = Self(known={name: {} for name in "xy"})
        self.rounds = ReadRounds(self.view)
        self.reads: list[Arrival] = []
        self.sent: list[Ask] = []
        self.held: set[str] = set()
        self.now = 0.0

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Ask():
                    assert effect.address != HERE
                    self.sent.append(effect)
                    assert covers(  # sent in the instant in which the expectation was fixed
                        next(r.prev for r in self.rounds._pending[effect.name].rounds if r.number == effect.round),
                        self.view.known[effect.name],
                    )
                case Hold(name):
                    self.held.add(name)
                case Wake(name):
                    assert name in self.rounds, "nobody is there to be woken"
                case Release(name):
                    assert name not in self.rounds
                    self.held.discard(name)

    def step(self, action: str, number: int) -> None:
        name, address = "xy"[number % 2], ("a:1", "b:1")[number % 2]
        self.now += 0.01
        match action:
            case "arrive":
                self.reads.append(self.rounds.arrive(name))
                self.carry_out(self.rounds.advance(name, self.now))
            case "leave" if self.reads:
                self.carry_out(self.rounds.leave(self.reads.pop(number % len(self.reads))))
            case "answer" if self.sent:
                ask = self.sent.pop(number % len(self.sent))
                cells = {A: number} if number > 8 else {}
                changed = {A: number // 4} if number % 4 == 0 else {}
                self.carry_out(answer(self.rounds, ask.round, ask.address, cells, self.now, changed))
            case "link":
                self.carry_out(self.rounds.linked(address, bytes([number]), self.now))
            case "learn":
                actors = ("a:1", "b:1", HERE)
                self.carry_out(self.rounds.learned((*actors, "c:1") if number > 8 else actors, actors))
            case "wait":
                self.now += STALL
                for arrival in self.reads:
                    self.carry_out(self.rounds.advance(arrival.name, self.now))
            case "count":
                cells = self.view.known[name]
                self.view.known[name] = {**cells, ME: cells.get(ME, 0) + 1}
            case "commit":
                self.view.digest[A] = max(number // 4, self.view.digest.get(A, 0))
                self.carry_out(self.rounds.committed())


@given(steps)
def test_whatever_happens_nothing_is_left_over_when_the_last_read_is_over(changes: list[Step]) -> None:
    shell = Shell()
    for action, number in changes:
        shell.step(action, number)
        for arrival in shell.reads:
            shell.rounds.value(arrival)
        reading, waiting = shell.rounds.under_way
        assert reading or not waiting
        wanting = {arrival.name for arrival in shell.reads if shell.rounds.value(arrival) is None}
        for name in wanting:
            pending = shell.rounds._pending[name]
            assert pending.rounds or pending.needs_round(shell.now) or shell.now < pending.ahead.until
    for arrival in shell.reads:
        shell.carry_out(shell.rounds.leave(arrival))
    assert shell.rounds.under_way == (0, 0)
    assert not shell.held
