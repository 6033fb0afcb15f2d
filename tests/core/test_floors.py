"""Promises to take no more ids of a time, and what may be settled when all members have given them."""

from __future__ import annotations

import pytest

from gcount.core.options import DEFAULTS, Options
from gcount.core.protocol.floors import (
    BEHIND,
    BEHIND_THERE,
    DETACHED,
    DETACHED_OF_OTHERS,
    FORGOTTEN,
    NOT_COVERED,
    NOT_HEARD,
    SAME_NODE,
    Floors,
    Hold,
    floor_to_tell,
    promise,
)
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.ids import key_of
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.replica import Replica
from gcount.core.writes.settling import settlement

SPAN = DEFAULTS.id_span
NODE, OWN, OTHER, THIRD = b"n" * 16, b"i" * 16, b"o" * 16, b"t" * 16
A, B, C = "a:1", "b:1", "c:1"
MEMBERS = (A, B, C)
HERE = [A]
B_PROCESS, C_PROCESS = (b"b" * 16, b"1" * 16), (b"c" * 16, b"2" * 16)
END = 2 * SPAN - 1  # of the bucket in which the id is


def taken(replica: Replica, incarnation: bytes, time: int, version: int = 1) -> None:
    """An incarnation has taken an id of a time, and this replica has it on disk."""
    keyed = Keyed({key_of("x", f"{time}-{version}"): (5, version)})
    batch = Batch(replica.next_batch, [Delta(incarnation, version - 1, version, {}, keyed)])
    replica.apply(batch)


def promised(replica: Replica, floor: int) -> None:
    replica.apply(Batch(replica.next_batch, [], floor=floor))


@pytest.fixture
def replica() -> Replica:
    """With one id, of the second bucket."""
    made = Replica(Identity(NODE, OWN), 1000)
    taken(made, OWN, SPAN + 5)
    return made


@pytest.fixture
def floors(replica: Replica) -> Floors:
    """All members have promised, and all that they have is here."""
    made = Floors(replica)
    promised(replica, END)
    made.told(B, B_PROCESS, END, {OWN: 1})
    made.told(C, C_PROCESS, END, {})
    return made


# What a node promises


def test_a_floor_is_the_end_of_the_newest_ids_that_are_old_enough(replica: Replica) -> None:
    assert promise(replica, END) is None  # its last second may still be on the way
    assert promise(replica, END + 1) == END
    taken(replica, OTHER, 10 * SPAN)
    assert promise(replica, END + 1) == END
    assert promise(replica, 20 * SPAN) == 11 * SPAN - 1


def test_a_floor_never_goes_beyond_the_ids_that_are_there(replica: Replica) -> None:
    promised(replica, END)
    assert promise(replica, 1e9) is None  # a quiet node writes nothing, and a clock far ahead blocks nothing
    assert promise(Replica(Identity(NODE, OWN), 1000), 1e9) is None


def test_only_a_durable_floor_is_told(replica: Replica) -> None:
    assert replica.floor is None
    assert floor_to_tell(replica) == 0
    batch = Batch(replica.next_batch, [], floor=END)
    assert floor_to_tell(replica) == 0
    replica.apply(batch)
    assert floor_to_tell(replica) == END


def reborn(replica: Replica) -> None:
    """It goes on under a new incarnation, as after a repair."""
    replica.apply(Batch(replica.next_batch, [], identity=replica.identity.reborn(THIRD)))


def detached(replica: Replica, incarnation: bytes, keyed: Keyed | None) -> None:
    """A delta behind a gap, as a repaired log has it."""
    replica.apply(Batch(replica.next_batch, [Delta(incarnation, 7, 8, {"x": 1}, keyed)]))
    assert replica.detached


def test_the_floor_that_is_told_does_not_reach_ids_that_are_detached(replica: Replica) -> None:
    promised(replica, END)
    detached(replica, OTHER, None)
    assert floor_to_tell(replica) == END  # cells do not hold settlement back
    detached(replica, OTHER, Keyed({key_of("x", f"{END + 1}-a"): (5, 8)}))
    assert floor_to_tell(replica) == END
    detached(replica, THIRD, Keyed({key_of("x", f"{SPAN + 9}-a"): (5, 8), key_of("y", f"{END}-b"): (5, 8)}))
    assert floor_to_tell(replica) == SPAN + 8
    for version in range(8):
        replica.apply(Batch(replica.next_batch, [Delta(THIRD, version, version + 1, {})]))
    assert floor_to_tell(replica) == END  # the gap is filled: the digest that is told with the floor has the ids


def test_a_node_with_a_settlement_that_is_detached_tells_no_promise(replica: Replica) -> None:
    """It has covered entries that the node counts still; to settle them again would count them twice."""
    promised(replica, END)
    detached(replica, OTHER, Keyed({}, {OWN: Settlement(END, 1, {"x": 5})}))
    assert floor_to_tell(replica) == 0


# What may be settled


def test_ids_are_settled_when_all_members_have_promised(floors: Floors) -> None:
    assert floors.until(MEMBERS, HERE) == END
    assert floors.hold(END, MEMBERS, HERE) is None


def test_the_smallest_floor_decides(replica: Replica, floors: Floors) -> None:
    taken(replica, OTHER, 3 * SPAN)
    promised(replica, 4 * SPAN - 1)
    floors.told(B, B_PROCESS, 4 * SPAN - 1, {})
    assert floors.until(MEMBERS, HERE) == END
    floors.told(C, C_PROCESS, 4 * SPAN - 2, {})  # not the whole bucket
    assert floors.until(MEMBERS, HERE) == END
    floors.told(C, C_PROCESS, 4 * SPAN - 1, {})
    assert floors.until(MEMBERS, HERE) == 4 * SPAN - 1


def settled_alone(replica: Replica, floors: Floors) -> int | None:
    """This node settles what it can, as the only member. Up to which time?"""
    until, version = floors.until((), ()), replica.version
    assert until is not None
    settled = settlement(replica.counters, OWN, until)
    replica.apply(Batch(replica.next_batch, [Delta(OWN, version, version + 1, {}, Keyed({}, settled))]))
    return until if settled else None


def test_late_ids_are_settled_together_however_many_there_are() -> None:
    """A removed member comes back with ids of a time up to which this node has settled what it had of that member."""
    replica = Replica(Identity(NODE, OWN), 1000, Options(sum_slice=1))
    floors = Floors(replica)
    promised(replica, 9 * SPAN)
    taken(replica, OTHER, 3 * SPAN)
    assert settled_alone(replica, floors) == 4 * SPAN - 1
    for number in range(1, 6):
        taken(replica, OTHER, number * SPAN, 1 + number)
    assert [settled_alone(replica, floors) for _ in range(3)] == [number * SPAN - 1 for number in (4, 5, 6)]
    assert (replica.counters.total("x"), replica.counters.entries.live) == (6 * 5, 0)


def test_late_ids_wait_until_all_of_their_time_is_promised() -> None:
    """A settlement up to an earlier time, in a greater version, would cover the later ones without adding them up."""
    replica = Replica(Identity(NODE, OWN), 1000)
    floors = Floors(replica)
    promised(replica, 4 * SPAN - 1)
    taken(replica, OTHER, 3 * SPAN)
    assert settled_alone(replica, floors) == 4 * SPAN - 1
    taken(replica, OTHER, 3 * SPAN, 2)
    taken(replica, OTHER, SPAN, 3)
    floors.told(B, B_PROCESS, 2 * SPAN - 1, {})
    until = floors.until((A, B), HERE)
    assert until == 2 * SPAN - 1
    assert settlement(replica.counters, OWN, until) == {}
    floors.told(B, B_PROCESS, 4 * SPAN - 1, {})
    assert floors.until((A, B), HERE) == settled_alone(replica, floors) == 4 * SPAN - 1
    assert (replica.counters.total("x"), replica.counters.entries.live) == (3 * 5, 0)


def test_each_promise_is_awaited(replica: Replica) -> None:
    floors = Floors(replica)
    promised(replica, END)
    floors.told(B, B_PROCESS, END, {})
    assert floors.until(MEMBERS, HERE) is None
    assert floors.hold(END, MEMBERS, HERE) == Hold(C, NOT_HEARD)
    floors.told(C, C_PROCESS, 0, {})
    assert floors.until(MEMBERS, HERE) is None
    assert floors.hold(END, MEMBERS, HERE) == Hold(C, BEHIND_THERE)
    floors.told(C, C_PROCESS, END, {})
    assert floors.until(MEMBERS, HERE) == END


def test_the_own_promise_is_awaited(replica: Replica) -> None:
    floors = Floors(replica)
    floors.told(B, B_PROCESS, END, {})
    floors.told(C, C_PROCESS, END, {})
    assert floors.until(MEMBERS, HERE) is None
    assert floors.hold(END, MEMBERS, HERE) == Hold(A, BEHIND)
    assert floors.until((), ()) is None


def test_detached_ids_of_that_time_are_named_as_the_reason(replica: Replica, floors: Floors) -> None:
    floors.told(C, C_PROCESS, 0, {})  # a member that can't promise either: each of the two names itself
    detached(replica, OTHER, Keyed({key_of("x", f"{SPAN}-a"): (5, 8)}))
    assert floors.hold(SPAN - 1, MEMBERS, HERE) == Hold(C, BEHIND_THERE)
    assert floors.hold(END, MEMBERS, HERE) == Hold(A, DETACHED_OF_OTHERS.format(OTHER.hex()))
    assert floors.until(MEMBERS, HERE) is None


def test_own_detached_deltas_hold_all_back_until_their_gap_is_closed(replica: Replica, floors: Floors) -> None:
    reborn(replica)
    detached(replica, OWN, None)
    assert floor_to_tell(replica) == 0
    assert floors.hold(END, MEMBERS, HERE) == Hold(A, DETACHED)
    replica.apply(Batch(replica.next_batch, [Delta(OWN, 1, 9, {"x": 1})]))
    assert (floor_to_tell(replica), floors.until(MEMBERS, HERE)) == (END, END)


def test_a_node_that_may_have_forgotten_its_members_settles_nothing_alone(replica: Replica, floors: Floors) -> None:
    """Rot may take a config out of a log, and leave the ids and the promise."""
    assert floors.until((), ()) == END
    reborn(replica)
    assert floors.until((), ()) is None
    assert floors.hold(END, (), ()) == Hold("this node", FORGOTTEN)
    assert floors.until((A,), HERE) == END  # the operator has said so
    assert floors.until(MEMBERS, HERE) == END


def test_what_a_member_had_when_it_promised_is_awaited(replica: Replica, floors: Floors) -> None:
    floors.told(C, (b"c" * 16, b"3" * 16), END, {OTHER: 2})
    assert floors.until(MEMBERS, HERE) is None
    assert floors.hold(END, MEMBERS, HERE) == Hold(C, NOT_COVERED)
    taken(replica, OTHER, SPAN, 1)
    assert floors.until(MEMBERS, HERE) is None
    taken(replica, OTHER, SPAN, 2)
    assert floors.until(MEMBERS, HERE) == END


def test_a_digest_counts_as_it_was_when_the_floor_was_told_first(replica: Replica, floors: Floors) -> None:
    digest = {OWN: 1}
    taken(replica, OWN, 3 * SPAN, 2)
    promised(replica, 4 * SPAN - 1)
    floors.told(C, C_PROCESS, 4 * SPAN - 1, {})
    floors.told(B, B_PROCESS, 4 * SPAN - 1, digest)
    digest[OTHER] = 9  # the link goes on to change it
    floors.told(B, B_PROCESS, 4 * SPAN - 1, digest)
    assert floors.until(MEMBERS, HERE) == 4 * SPAN - 1
    floors.told(B, B_PROCESS, 5 * SPAN - 1, digest)  # with a new promise it counts anew
    assert floors.until(MEMBERS, HERE) is None


def test_another_process_at_the_same_address_is_heard_anew(floors: Floors) -> None:
    floors.told(B, (b"z" * 16, b"9" * 16), END, {OTHER: 1})
    assert floors.hold(END, MEMBERS, HERE) == Hold(B, NOT_COVERED)
    floors.told(B, (b"z" * 16, b"9" * 16), 0, {})  # its disk was lost
    assert floors.hold(END, MEMBERS, HERE) == Hold(B, BEHIND_THERE)


@pytest.mark.parametrize("other", [(B_PROCESS[0], b"9" * 16), (b"z" * 16, B_PROCESS[1]), (NODE, b"9" * 16)])
def test_each_member_has_to_be_another_node(floors: Floors, other: tuple[bytes, bytes]) -> None:
    floors.told(C, other, END, {})
    assert floors.until(MEMBERS, HERE) is None
    assert floors.hold(END, MEMBERS, HERE) == Hold(C, SAME_NODE)


def test_a_node_to_which_two_entries_lead_does_not_settle_for_the_member_that_was_there(floors: Floors) -> None:
    assert floors.until((A, B), [A, B]) is None
    assert floors.hold(END, (A, B), [A, B]) == Hold(B, SAME_NODE)


def test_only_a_member_settles(floors: Floors) -> None:
    assert floors.until(MEMBERS, []) is None
    assert floors.until((B, C), [A]) is None


def test_a_node_that_is_alone_settles_by_its_own_floor(replica: Replica) -> None:
    floors = Floors(replica)
    promised(replica, END)
    assert floors.until((), ()) == END
    assert floors.until((A,), [A]) == END


def test_a_new_member_is_awaited_and_a_removed_one_is_not(floors: Floors) -> None:
    assert floors.until((*MEMBERS, "d:1"), HERE) is None
    floors.told(C, C_PROCESS, 0, {})
    assert floors.until(MEMBERS, HERE) is None
    assert floors.until((A, B), HERE) == END


def test_what_was_told_is_kept_for_members_only(floors: Floors) -> None:
    assert (floors.of(B), floors.of(C), floors.of(A)) == (END, END, None)
    floors.keep((A, B))
    assert (floors.of(B), floors.of(C)) == (END, None)


def test_without_ids_up_to_the_floor_there_is_nothing_to_settle(replica: Replica, floors: Floors) -> None:
    replica.counters.entries.drop_covered({OWN: ((END, 1),)}, {})
    assert floors.until(MEMBERS, HERE) is None
    taken(replica, OWN, 3 * SPAN, 2)
    assert floors.until(MEMBERS, HERE) is None


def test_ids_of_as_many_strangers_as_there_are_members_are_settled_late(replica: Replica, floors: Floors) -> None:
    """They may be members of the greater part of a divided cluster, which settles them first."""
    taken(replica, OTHER, SPAN + 6)
    assert floors.until(MEMBERS, HERE, END - 1, [OWN]) == END  # one of three may be of a disk that was lost
    assert not floors.is_late(END, MEMBERS, [OWN])
    assert floors.until((A,), HERE, END - 1, [OWN]) is None
    assert floors.until((), (), END - 1, [OWN]) is None
    assert floors.is_late(END, (A,), [OWN])
    assert floors.until((A,), HERE, END, [OWN]) == END
    assert floors.until((A,), HERE, END - 1, [OWN, OTHER]) == END
