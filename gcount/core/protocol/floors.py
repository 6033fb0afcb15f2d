"""Promises: up to which time nodes take no ids any more, and so which ids can be settled.

The *floor* of a node is its promise. It takes no id with a time up to there any more, and it keeps that across
restarts. When all members have promised this for some ids, and this node has all that they had when they promised it,
then the entries of these ids are complete, and one settlement can add them up.

What a member told stays valid when its link breaks, because a promise is never taken back. A member that has lost its
disk tells a lower floor as soon as it is heard again.

A node that was taken out of the config may have been told to go on alone, and then settles, too. It knows less of the
members' ids than they do. Two settlements of one column, of which each covers ids that the other one lacks, can't be
joined without a loss. So the smaller part of a divided cluster settles the common ids much later than the greater one.
By then the greater one's settlement covers all of them.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from math import inf

import msgspec

from gcount.core.state.counters import Digest
from gcount.core.state.replica import Replica
from gcount.core.state.settlements import settled_until

NOT_HEARD = "not heard since this node's start"
BEHIND = "has not promised yet to take no more ids of that time"
BEHIND_THERE = f"{BEHIND}; ids in its /status say why"
DETACHED = (
    "has detached deltas of its own behind a gap in its log: it closes the gap when all members are linked and none of "
    "them can fill it"
)
DETACHED_OF_OTHERS = (
    "has detached deltas with ids of that time behind a gap in its log: they wait for the node that counted under "
    "incarnation {}; if that has lost its directory or is gone, give this node an empty directory"
)
SAME_NODE = "leads to the same node as another entry of the config"
NOT_COVERED = "has increments that have not reached this node yet"
FORGOTTEN = "has begun a new incarnation and knows no config: if it has no members, post a config with itself alone"


class Hold(msgspec.Struct, frozen=True):
    """What holds settlement back.

    Args:
        address: the member for which it waits.
        reason: why, in words that follow the address.
    """

    address: str
    reason: str


class Told(msgspec.Struct, frozen=True):
    """What a member told.

    Args:
        process: its node id, and the id of its start.
        floor: its floor, in seconds since 1970.
        digest: what it had on disk when it told that floor for the first time. It is not older than the floor.
    """

    process: tuple[bytes, bytes]
    floor: int
    digest: Digest


def floor_to_tell(replica: Replica) -> int:
    """The floor that a node tells others, and by which it settles, in seconds since 1970.

    It is the durable one: a promise that is only staged is forgotten by a crash. It does not reach ids in detached
    deltas, as no digest that is told with the floor says that they are here. While deltas of its own are detached it
    is 0: the rot may have taken more, and the gap is closed soon. Those of other nodes may stay for good.
    """
    if _has_own_gap(replica):
        return 0
    return max(0, min([replica.floor or 0, *(start - 1 for start in replica.detached.ids_from.values())]))


def promise(replica: Replica, before: float) -> int | None:
    """The floor that a node should promise now, in seconds since 1970; None while the present one is enough.

    It never reaches beyond the ids that are there. So a quiet node promises nothing, and a clock that once ran ahead
    does not keep the node from taking ids.

    Args:
        replica: the durable state.
        before: ids that were made before this time have reached all members, in seconds since 1970.
    """
    floor = replica.counters.entries.newest_end(int(before))
    return floor if floor > (replica.floor or 0) else None


class Floors:
    """What members told this node.

    Args:
        replica: this node's durable state.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._told: dict[str, Told] = {}

    def told(self, address: str, process: tuple[bytes, bytes], floor: int, digest: Digest) -> None:
        """Take what a member told in a hello or in the answer to a heartbeat.

        Args:
            address: its entry in the membership.
            process: its node id, and the id of its start.
            floor: its floor, in seconds since 1970; 0 when it has promised nothing.
            digest: what it has on disk, as far as it said. It is copied when the floor is new.
        """
        known = self._told.get(address)
        if known is None or known.floor != floor or known.process != process:
            self._told[address] = Told(process, floor, dict(digest))

    def keep(self, addresses: Collection[str]) -> None:
        """Forget what was told by all but some addresses."""
        for address in self._told.keys() - set(addresses):
            del self._told[address]

    def of(self, address: str) -> int | None:
        """The floor that a member told, in seconds since 1970; None when it was not heard since the start."""
        told = self._told.get(address)
        return None if told is None else told.floor

    def until(
        self,
        members: Sequence[str],
        here: Collection[str],
        late: float = inf,
        columns: Collection[bytes] = frozenset(),
    ) -> int | None:
        """Up to which time ids can be settled now, in seconds since 1970; None when no id can be.

        Args:
            members: the entries of the newest membership; none before the first config.
            here: those that are this node.
            late: the same time for ids that may be settled elsewhere, too.
            columns: the incarnations of the members.
        """
        entries, settlements = self._replica.counters.entries, self._replica.counters.settlements
        if entries.oldest is None or not _is_member(members, here) or self._has_forgotten(members):
            return None
        floors = [floor_to_tell(self._replica), *(self.of(address) or 0 for address in _others(members, here))]
        before = settled_until(settlements)
        elsewhere = partial(settled_elsewhere, columns=columns, members=len(members))
        until = entries.settled_until(min(floors), before, late, elsewhere)
        if entries.oldest > until or self.hold(until, members, here) is not None:
            return None
        return until

    def is_late(self, until: int, members: Sequence[str], columns: Collection[bytes]) -> bool:
        """Whether the oldest ids may be settled elsewhere, too, so that they are settled much later than others.

        Args:
            until: the end of their time, in seconds since 1970.
            members: as for `until`.
            columns: as for `until`.
        """
        elsewhere = partial(settled_elsewhere, columns=columns, members=len(members))
        return self._replica.counters.entries.settled_until(until, late=-1, is_late=elsewhere) < until

    def hold(self, until: int, members: Sequence[str], here: Collection[str]) -> Hold | None:
        """What holds back the settlement of ids up to a time; None when nothing does.

        Args:
            until: the time, in seconds since 1970.
            members: as for `until`.
            here: as for `until`.
        """
        if self._has_forgotten(members):
            return Hold(next(iter(here), "this node"), FORGOTTEN)
        mine = [entry for entry in members if entry in here]
        if len(mine) > 1:
            return Hold(mine[1], SAME_NODE)
        return next(self._holds(until, _others(members, here), next(iter(here), "this node")), None)

    def _holds(self, until: int, others: Sequence[str], own: str) -> Iterator[Hold]:
        # First what an operator has to look at: members that are away.
        yield from (Hold(address, NOT_HEARD) for address in others if address not in self._told)
        told = {address: self._told[address] for address in others if address in self._told}
        identity = self._replica.identity
        for which, me in ((0, identity.node), (1, b"")):  # as for a consistent read: n members are n nodes
            yield from (Hold(address, SAME_NODE) for address in _repeated(told, which, me))
        # Then this node itself. Of two members that have not promised, each names itself, and only so says why.
        if floor_to_tell(self._replica) < until:
            yield Hold(own, _why_behind(self._replica, until))
        yield from (Hold(address, BEHIND_THERE) for address, one in told.items() if one.floor < until)
        yield from (Hold(address, NOT_COVERED) for address, one in told.items() if not self._covers(one.digest))

    def _has_forgotten(self, members: Sequence[str]) -> bool:
        """Whether this node may have members that it does not know any more, as when its log was repaired."""
        return not members and bool(self._replica.identity.retired)

    def _covers(self, digest: Digest) -> bool:
        """Whether this node has on disk all that a digest says."""
        version = self._replica.counters.version
        return all(version(incarnation) >= upto for incarnation, upto in digest.items())


def _why_behind(replica: Replica, until: int) -> str:
    """Why this node has not promised to take no more ids up to a time."""
    if _has_own_gap(replica):
        return DETACHED
    others = (owner for owner, start in replica.detached.ids_from.items() if start <= until)
    return next((DETACHED_OF_OTHERS.format(owner.hex()) for owner in others), BEHIND)


def _has_own_gap(replica: Replica) -> bool:
    return any(map(replica.identity.owns, replica.detached.incarnations()))


def settled_elsewhere(holders: Collection[bytes], columns: Collection[bytes], members: int) -> bool:
    """Whether as many nodes that are not members have taken ids as there are members, so that they may settle them.

    Args:
        holders: the incarnations that have taken ids of some time.
        columns: those of the members.
        members: how many these are; 0 before the first config.
    """
    return sum(holder not in columns for holder in holders) >= max(1, members)


def _is_member(members: Sequence[str], here: Collection[str]) -> bool:
    """Whether this node belongs to the cluster. A node without a config works alone, as the only member."""
    return not members or any(entry in here for entry in members)


def _others(members: Sequence[str], here: Collection[str]) -> list[str]:
    return [entry for entry in members if entry not in here]


def _repeated(told: dict[str, Told], which: int, own: bytes) -> Iterable[str]:
    """The addresses at which a node was that was also at one before, by its node id or by the id of its start."""
    seen = {own}
    for address, one in told.items():
        if one.process[which] in seen:
            yield address
        seen.add(one.process[which])
