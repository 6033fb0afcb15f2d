"""Links fuzzed: whatever a stranger or a false member says, in whatever order, the nodes go on and count exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import structlog
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcount.core.limits import MAX_INCARNATIONS, MAX_VERSION
from gcount.core.protocol import messages as wire
from gcount.core.state.membership import Membership
from gcount.errors import LinkError, ReadUnavailable
from tests.cluster.books import all_equal
from tests.cluster.impostor import joined_by_impostor
from tests.fakes.caller import HELLO, Caller, call, hello
from tests.fakes.cluster import Host, SimCluster, open_cluster, replayed
from tests.fakes.counting import add
from tests.fakes.process import run_simulated

FUZZ = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
COUNTERS = ["x", "y"]
TOP = 2**64 - 1


@dataclass(frozen=True)
class Who:
    """An id that only a run knows: of the node under attack, of an honest one, of the caller."""

    role: str


@dataclass(frozen=True)
class Lose:
    """A message of which the end, or all but the end, is missing."""

    message: list[Any]
    keep: int


TRUE_IDS = ["victim", "victim's former", "honest", "mine", "mine before"]
ids = st.sampled_from([Who(role) for role in TRUE_IDS]) | st.binary(min_size=16, max_size=16)
odd: st.SearchStrategy[Any] = st.sampled_from([None, True, -1, 0, 0.5, "1", b"", 2**62 + 1, 2**63, TOP, [], {}])
numbers = st.integers(1, 4) | st.sampled_from([0, 2**31, 2**53, MAX_VERSION - 1, MAX_VERSION])
names = st.sampled_from([*COUNTERS, "z", "n" * 255, "é" * 127])
cells = st.dictionaries(names, st.integers(1, 9) | st.sampled_from([2**63, TOP]), min_size=1, max_size=4)
digests = st.dictionaries(ids, numbers.filter(bool), max_size=5)
losing = st.builds(lambda version: [version, ["a:1", "b:2"]], st.integers(1, 1000))
winning = st.builds(
    lambda version, more: [version, sorted({"10.0.0.1:7777", "10.0.0.2:7777", "10.0.0.9:7777", *more})],
    st.sampled_from([2**50, MAX_VERSION - 1, MAX_VERSION]),
    st.sets(st.sampled_from(["10.0.0.77:1", "host:2", "[::1]:3"])),
)
deltas = st.builds(lambda *delta: list(delta), ids, numbers, numbers, cells)
fitting = st.builds(lambda who, upto, some: [who, 0, upto, some], ids, numbers.filter(bool), cells)
pushes = st.builds(
    lambda last, some: [3, Who("next"), last, some], st.booleans(), st.lists(fitting | deltas, max_size=5)
)
questions = st.builds(lambda number, name, hold: [7, number, name, hold], numbers, names, st.booleans())
calls = pushes | questions | st.just([5]) | st.builds(lambda name: [9, name], names)
hellos = st.builds(lambda *said: [1, 1, "", *said, False], ids, ids, ids, st.lists(ids, max_size=3), losing, digests)
answers = st.one_of(
    st.builds(
        lambda number, digest, refused: [4, number, digest, refused], numbers, digests, st.sampled_from(["", "no"])
    ),
    st.builds(lambda digest, membership: [6, digest, membership], digests, st.none() | losing),
    st.builds(
        lambda number, some: [8, number, some, None], numbers, st.dictionaries(ids, st.integers(1, TOP), max_size=4)
    ),
)
leaves = odd | ids | names | numbers
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | ids, inner, max_size=3)
)
anything = st.builds(lambda kind, fields: [kind, *fields], st.integers(0, 12), st.lists(values, max_size=10))
bombs = st.sampled_from([b"", "text", b"\x91" * 50_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc1"])


def spoiled(messages: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[Any]:
    """Messages of which one field is another thing, or some bytes are missing."""
    return st.one_of(
        st.builds(lambda said, at, thing: [*said[: at + 1], thing, *said[at + 2 :]], messages, st.integers(0, 8), odd),
        st.builds(Lose, messages, st.integers(1, 60)),
    )


def sessions(messages: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Mostly right ones, so that a link lives for a while."""
    wrong = spoiled(messages) | anything | bombs | st.binary(max_size=60)
    return st.lists(st.one_of(messages, messages, messages, messages, wrong), min_size=1, max_size=12)


class Attack:
    """One run: a cluster of two, the first of which is under attack, and what was counted there."""

    def __init__(self, cluster: SimCluster, counter: str) -> None:
        self.counter = counter
        self.cluster = cluster
        self.victim, self.honest = cluster.hosts
        self.counted = {host.address: 0 for host in cluster.hosts}
        self._pushes = 0

    async def prepare(self) -> None:
        """Both nodes have counted, and the victim has done so in two lives."""
        await self.count()
        self.victim.node.parts.guard.claim.doubt("a test wants a retired incarnation")
        await self.count()
        assert self.victim.node.replica.identity.retired
        await self.cluster.eventually(lambda: self.cluster.linked(self.victim) and self.cluster.linked(self.honest))
        await self.cluster.converged(self.counter, 4)

    async def count(self) -> None:
        for host in self.cluster.hosts:
            assert host.running, host.failure
            started = trio.current_time()
            await add(host.node, self.counter, 1)
            assert trio.current_time() - started < 1.5
            self.counted[host.address] += 1

    def bytes_of(self, message: Any) -> bytes | str:
        if isinstance(message, bytes | str):
            return message
        if isinstance(message, Lose):
            return msgspec.msgpack.encode(self._resolved(message.message))[: message.keep]
        return msgspec.msgpack.encode(self._resolved(message))

    def _resolved(self, part: Any) -> Any:
        match part:
            case Who(role="next"):
                self._pushes += 1
                return self._pushes
            case Who(role=role):
                return self._id(role)
            case list():
                return [self._resolved(each) for each in part]
            case dict():
                return {self._resolved(key): self._resolved(each) for key, each in part.items()}
        return part

    def _id(self, role: str) -> bytes:
        victim, honest = (host.node.replica.identity for host in (self.victim, self.honest))
        ids = [victim.incarnation, victim.retired[0], honest.incarnation, HELLO.incarnation, b"mine before 1234"]
        return ids[TRUE_IDS.index(role)]

    async def call(self, said: wire.Hello, session: list[Any]) -> None:
        """Say all of it on one link, and count in between."""
        self._pushes = 0
        async with call(self.cluster, self.victim) as caller, trio.open_nursery() as nursery:
            try:
                await caller.send(said)
                nursery.start_soon(_drain, caller)
                for message in session:
                    await caller.send(self.bytes_of(message))
                    await self.count()
            except LinkError:
                pass
            await trio.sleep(5 * self.cluster.network.delay[1])  # until the last of it has arrived, and done its harm
            nursery.cancel_scope.cancel()

    def own(self, host: Host) -> int:
        replica = host.node.replica
        return sum(n for who, n in replica.counters.cells(self.counter).items() if replica.identity.owns(who))

    async def check_own(self) -> None:
        """Own increments are exact, and the next start finds what is known now."""
        await self.count()
        for host in self.cluster.hosts:
            await self.cluster.eventually(partial(_can_start_again, host), 5)
            assert self.own(host) == self.counted[host.address]

    async def check_all(self) -> None:
        """And nobody's are known better than by their owner, and both nodes come to know the same."""
        await self.check_own()
        for host in self.cluster.hosts:
            replica = host.node.replica
            assert len(replica.counters.digest()) <= MAX_INCARNATIONS
            for other in self.cluster.hosts:
                for name in COUNTERS:
                    known, true = (h.node.replica.counters.cells(name) for h in (host, other))
                    owns = other.node.replica.identity.owns
                    assert all(n <= true.get(who, 0) for who, n in known.items() if owns(who))
        replica = self.victim.node.replica
        await self.cluster.eventually(lambda: self.honest.node.replica.counters == replica.counters, 12)
        await all_equal(self.cluster)


async def _can_start_again(host: Host) -> bool:
    again = await replayed(host.disk)
    replica = host.node.replica
    return (again.counters, again.identity) == (replica.counters, replica.identity)


async def _drain(caller: Caller) -> None:
    try:
        while True:
            await caller._link.receive()
    except LinkError:
        pass


@given(claims=st.lists(ids, max_size=4), mine=ids, told=losing, session=sessions(calls | hellos))
@FUZZ
def test_a_stranger_adds_nothing_but_its_own_incarnations(
    claims: list[Any], mine: Any, told: list[Any], session: list[Any]
) -> None:
    async def run() -> None:
        async with open_cluster(2) as cluster:
            attack = Attack(cluster, "x")
            await attack.prepare()
            incarnation, *retired = attack._resolved([mine, *claims])
            said = hello(incarnation=incarnation, retired=retired, membership=Membership(told[0], tuple(told[1])))
            allowed = {incarnation, *retired}
            honest = {who for host in cluster.hosts for who in _lives(host)}
            with structlog.testing.capture_logs() as logs:
                await attack.call(said, session)
            await attack.check_all()
            minted = attack.victim.node.replica.identity.incarnation not in honest
            assert minted or not [line for line in logs if line["event"] == "link down"]
            for host in cluster.hosts:
                honest |= _lives(host)
                assert host.node.replica.counters.digest().keys() <= honest | allowed
                for name in COUNTERS:
                    total = sum(host.node.replica.counters.cells(name).values())
                    assert await host.node.consistent_value(name) == total

    run_simulated(run)


def _lives(host: Host) -> set[bytes]:
    identity = host.node.replica.identity
    return {identity.incarnation, *identity.retired}


@given(said=sessions(calls | st.builds(lambda new: [10, new], winning)), answered=sessions(answers))
@FUZZ
def test_a_false_member_ends_no_node_and_changes_no_increments_of_others(said: list[Any], answered: list[Any]) -> None:
    """It may lie about all counters but "own": then what others count there is exact at themselves, at least."""

    async def run() -> None:
        async with open_cluster(2) as cluster:
            attack = Attack(cluster, "own")
            impostor = await joined_by_impostor(cluster)
            await attack.prepare()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attack.call, impostor.hello, said)
                for message in answered:
                    data = attack.bytes_of(message)
                    await impostor.say(attack.victim, data if isinstance(data, bytes) else data.encode())
                    await trio.sleep(2 * cluster.network.delay[1])  # it has arrived before the next one
            await attack.check_own()
            try:
                read = await attack.victim.node.consistent_value("own", 2)
            except ReadUnavailable as unavailable:
                read = unavailable.value + attack.counted[attack.honest.address]
            assert read >= sum(attack.counted.values())

    run_simulated(run)


@given(new=st.lists(winning, min_size=1, max_size=6))
@FUZZ
def test_a_strangers_memberships_leave_the_nodes_able_to_count(new: list[Any]) -> None:
    """Anybody who reaches the port can post a config, and so can anybody who says hello."""

    async def run() -> None:
        async with open_cluster(2) as cluster:
            attack = Attack(cluster, "x")
            await attack.prepare()
            await attack.call(HELLO, [[10, membership] for membership in new])
            await attack.check_all()
            best = Membership()
            for version, actors in new:
                best = best.merge(Membership(version, tuple(actors)))
            for host in cluster.hosts:
                assert host.node.replica.membership == best

    run_simulated(run)
