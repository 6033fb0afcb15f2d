"""Random histories of promises and settlements: each id counts once, and each guard is necessary for that.

Three replicas take ids, promise, push, tell, settle, crash and lose what was only staged. After each step, each replica
has to count exactly what its digest says: of each id the greatest total, whether it is settled or not.
"""

from __future__ import annotations

from random import Random

import pytest

from gcount.core.options import Options
from gcount.core.protocol.floors import Floors, floor_to_tell, promise
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta, Digest
from gcount.core.state.identity import Identity
from gcount.core.state.ids import key_of
from gcount.core.state.keyed import Keyed
from gcount.core.state.replica import Replica
from gcount.core.writes.settling import settlement

OPTIONS = Options(id_span=1)
START = 100
WINDOW, GRACE, SKEW = 2, 1, 1  # seconds
MEMBERS = ("a:1", "b:1", "c:1")
STEPS = 400
SEEDS = range(150, 200)  # each mutant is caught by some of these
KINDS = ("take", "promise", "write", "push", "tell", "tell", "settle", "tick") * 3 + ("crash", "back")


class Broken(Exception):
    """A replica counts an id twice, or not at all."""


class Member:
    """A replica, what is staged at it, its clock, and what others told it."""

    def __init__(self, address: str, kind: type[Floors]) -> None:
        self.address = address
        name = address[0].encode()
        self.replica = Replica(Identity(name * 16, name.upper() * 16), 1000, OPTIONS)
        self.clock = START
        self.kind = kind
        self.restart()

    def restart(self) -> None:
        self.staged = -1
        self.floors = self.kind(self.replica)

    @property
    def incarnation(self) -> bytes:
        return self.replica.identity.incarnation

    def write(self, keyed: Keyed | None = None, *, floor: int | None = None) -> None:
        replica, version = self.replica, self.replica.version
        deltas = [] if keyed is None else [Delta(self.incarnation, version, version + 1, {}, keyed)]
        replica.apply(Batch(replica.next_batch, deltas, floor=floor))


class World:
    """All members, and what they took."""

    def __init__(self, seed: int, kind: type[Floors], *, tells_staged: bool = False) -> None:
        self.chance = Random(seed)
        self.members = [Member(address, kind) for address in MEMBERS]
        self.tells_staged = tells_staged
        self.events: dict[bytes, list[tuple[int, str, int]]] = {member.incarnation: [] for member in self.members}
        self.settlements = 0

    def run(self) -> None:
        for kind in self.chance.choices(KINDS, k=STEPS):
            one, other = self.chance.sample(self.members, 2)
            getattr(self, kind)(one, other)
            self.check()

    def take(self, one: Member, _: Member) -> None:
        time, total = one.clock - self.chance.randrange(WINDOW), self.chance.choice((1, 10))
        key = key_of("x", f"{time}-a")
        known = one.replica.counters.entries.get(key)
        if time <= max(one.replica.floor or -1, one.staged) or (known is not None and known.total >= total):
            return
        version = one.replica.version + 1
        one.write(Keyed({key: (total, version)}))
        self.events[one.incarnation].append((version, key, total))

    def promise(self, one: Member, _: Member) -> None:
        one.staged = max(one.staged, promise(one.replica, one.clock - WINDOW - GRACE) or -1)

    def write(self, one: Member, _: Member) -> None:
        if one.staged > (one.replica.floor or -1):
            one.write(floor=one.staged)

    def push(self, one: Member, other: Member) -> None:
        counters, known, deltas = one.replica.counters, other.replica.counters.version, list[Delta]()
        for incarnation in counters.digest():
            pieces = [*counters.newer(incarnation, known(incarnation))[1]]
            if pieces:
                whole = Keyed({}, {})
                for piece in pieces:
                    whole.merge(piece.keyed or Keyed())
                deltas.append(Delta(incarnation, pieces[0].after, pieces[0].upto, {}, whole))
        other.replica.apply(Batch(other.replica.next_batch, deltas))

    def tell(self, one: Member, other: Member) -> None:
        floor = one.staged if self.tells_staged else floor_to_tell(one.replica)
        process = one.replica.identity.node, one.replica.identity.node
        other.floors.told(one.address, process, max(floor, 0), one.replica.counters.digest())

    def settle(self, one: Member, _: Member) -> None:
        until = one.floors.until(MEMBERS, [one.address])
        if until is not None and (settled := settlement(one.replica.counters, one.incarnation, until)):
            one.write(Keyed({}, settled))
            self.settlements += 1

    def tick(self, one: Member, _: Member) -> None:
        lowest = min(self.members, key=lambda member: member.clock)
        slow = one if one.clock < lowest.clock + SKEW else lowest
        slow.clock += 1

    def back(self, one: Member, _: Member) -> None:
        one.clock -= self.chance.randrange(2 * WINDOW)

    def crash(self, one: Member, _: Member) -> None:
        one.restart()

    def check(self) -> None:
        for member in self.members:
            counters = member.replica.counters
            best: dict[str, int] = {}
            for incarnation, events in self.events.items():
                for version, key, total in events:
                    if version <= counters.version(incarnation):
                        best[key] = max(total, best.get(key, 0))
            if counters.total("x") != sum(best.values()):
                raise Broken(f"{member.address} counts {counters.total('x')}, but knows of {best}")

    def heal(self) -> None:
        """Let all hear all, until nothing changes any more."""
        for member in self.members:
            member.clock = START + STEPS + WINDOW + GRACE  # later than all ids
        for _ in range(4):
            for one in self.members:
                self.promise(one, one)
                self.write(one, one)
                for other in self.members:
                    if other is not one:
                        self.push(one, other)
                        self.tell(one, other)
            self.settle(self.members[0], self.members[0])
            self.check()


class PromisesNotAwaited(Floors):
    def told(self, address: str, process: tuple[bytes, bytes], floor: int, digest: Digest) -> None:
        super().told(address, process, 1_000_000, digest)


class DigestsNotAwaited(Floors):
    def told(self, address: str, process: tuple[bytes, bytes], floor: int, digest: Digest) -> None:
        super().told(address, process, floor, {})


class DigestOlderThanThePromise(Floors):
    """It keeps what the member had when it was heard before."""

    def __init__(self, replica: Replica) -> None:
        super().__init__(replica)
        self._before: dict[str, Digest] = {}

    def told(self, address: str, process: tuple[bytes, bytes], floor: int, digest: Digest) -> None:
        super().told(address, process, floor, self._before.get(address, {}))
        self._before[address] = dict(digest)


def walks(kind: type[Floors] = Floors, *, tells_staged: bool = False) -> int:
    """How many settlements all histories have, before they are healed."""
    settlements = 0
    for seed in SEEDS:
        world = World(seed, kind, tells_staged=tells_staged)
        world.run()
        settlements += world.settlements
        world.heal()
        for member in world.members:
            assert member.replica.counters == world.members[0].replica.counters
            assert not member.replica.counters.entries.live
    return settlements


def test_each_id_counts_once_whatever_happens() -> None:
    assert walks() > len(SEEDS)


@pytest.mark.parametrize("mutant", [PromisesNotAwaited, DigestsNotAwaited, DigestOlderThanThePromise])
def test_each_guard_is_necessary(mutant: type[Floors]) -> None:
    with pytest.raises(Broken):
        walks(mutant)


def test_a_promise_is_told_only_when_it_is_durable() -> None:
    with pytest.raises(Broken):
        walks(tells_staged=True)
