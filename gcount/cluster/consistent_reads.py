"""Consistent reads: ask all members, round after round, until the value is exact or the time is over.

`ReadRounds` decides on rounds, and knows no network and no clock. This module carries out its effects: it posts
questions, asks for holds and wakes reads.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from gcount.cluster.context import Context
from gcount.cluster.hold_gate import HoldGate
from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.links.peers import Peers
from gcount.cluster.members import Members, uses_ids
from gcount.core.protocol import messages
from gcount.core.protocol.consistent_read import Actors, PendingRead
from gcount.core.protocol.counter_views import Cells, Found, Own
from gcount.core.protocol.read_rounds import Ask, Effect, Hold, ReadRounds, Release, Wake
from gcount.core.protocol.told_ids import Learned
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.errors import ReadUnavailable
from gcount.events import News


class NodeStops(ReadUnavailable):
    """A consistent read that ends without a value because the node is asked to stop; see `ReadUnavailable`."""

    def __str__(self) -> str:
        return "the node stops, before the exact value could be known; ask another one"


@dataclass(frozen=True)
class ReadStatistics:
    """Consistent reads at one instant.

    Args:
        counters: the number of counters that are being read.
        rounds: the number of rounds that wait for members.
    """

    counters: int
    rounds: int


class ConsistentReads:
    """All consistent reads that this node answers.

    Args:
        context: what the parts of the node share.
        members: the members of the cluster.
        gate: lets this node's own increments wait.
        guard: notified when a member has more of this node's incarnation than the node itself.
        peers: the links to the members that are asked.
    """

    def __init__(self, context: Context, members: Members, gate: HoldGate, guard: IdentityGuard, peers: Peers) -> None:
        self._replica = context.replica
        self._stopping = context.stopping
        self._members = members
        self._gate = gate
        self._guard = guard
        self._peers = peers
        self._rounds = ReadRounds(
            _View(context.replica, members), partial(PendingRead, options=context.replica.options)
        )
        self._woken: dict[str, News] = {}  # by the counter that is being read
        self._exact = context.metrics.read_rounds.labels("exact")
        self._unavailable = context.metrics.read_rounds.labels("unavailable")

    async def read(self, name: str, timeout: float) -> int:
        """The exact value of a counter at some instant between call and return.

        Args:
            name: a valid name.
            timeout: how long to try, in seconds.

        Raises:
            ReadUnavailable: the value could not be known in time, or before the node was asked to stop.
        """
        rounds, stopping = self._rounds, self._stopping
        deadline, least = trio.current_time() + timeout, self._replica.counters.total(name)
        arrival = rounds.arrive(name)
        woken = self._woken.setdefault(name, News())
        try:
            while True:
                # Between this and the wait there is no await, so that no wake-up is missed.
                self._carry_out(rounds.advance(name, trio.current_time()))
                value = rounds.value(arrival)
                if value is not None:
                    self._check_value(value, least)
                    self._exact.observe(rounds.taken(arrival))
                    return value
                if stopping.is_set or trio.current_time() >= deadline:
                    break
                with stopping.ends(min(deadline, rounds.looks_again(arrival))):
                    await woken.wait()
            self._unavailable.observe(rounds.taken(arrival))
            raise (NodeStops if stopping.is_set else ReadUnavailable)(*rounds.shortfall(arrival))
        finally:
            self._carry_out(rounds.leave(arrival))
            if name not in rounds:
                del self._woken[name]

    def replied(self, address: str, reply: messages.CellsReply) -> None:
        """Take a member's answer to a round. It is ignored when its round is over."""
        name = self._rounds.asked(reply.round)
        if name is not None:
            self._look_for_fork(address, name, reply.cells)
            node = self._members.hellos[address].node
            found = Found(reply.cells, reply.parts, reply.changed, reply.told)
            self._carry_out(self._rounds.answered(reply.round, address, node, found, trio.current_time()))

    def committed(self) -> None:
        """Note that a batch is on disk, and visible: reads may have waited for the ids in it."""
        self._carry_out(self._rounds.committed())

    def linked(self, address: str) -> None:
        """Note that a member's link is up."""
        self._carry_out(self._rounds.linked(address, self._members.hellos[address].node, trio.current_time()))

    def learned(self, membership: Membership) -> None:
        """Note that another membership is in force, or is about to be."""
        self._carry_out(self._rounds.learned(membership.actors, self._replica.membership.actors))

    def statistics(self) -> ReadStatistics:
        """The reads that are under way now."""
        return ReadStatistics(*self._rounds.under_way)

    def _check_value(self, value: int, least: int) -> None:
        """Assert that a read is not answered with less than what this node had on disk when it arrived."""
        assert value >= least, "an exact value holds all that was on disk here when its read arrived"

    def _look_for_fork(self, address: str, name: str, cells: Cells) -> None:
        """Report a member that has more of this node's incarnation than this node: another process counts under it."""
        incarnation = self._replica.identity.incarnation
        if cells.get(incarnation, 0) > self._replica.counters.cell(name, incarnation):
            self._guard.found_fork(address)

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        """Carry out effects. There is no await between the call that returned them and this one (see `ReadRounds`)."""
        for effect in effects:
            if isinstance(effect, Ask):
                peer = self._peers.get(effect.address)
                if peer is not None:  # else the round begins anew when the member's link is up
                    peer.post(messages.ReadCells(effect.round, effect.name, effect.hold, effect.known))
            elif isinstance(effect, Wake):
                self._woken[effect.name].notify()
            elif isinstance(effect, Hold):
                self._gate.ask(effect.name, self)
            else:
                self._release(effect)

    def _release(self, release: Release) -> None:
        self._gate.release(release.name, self)
        for peer in self._peers:
            peer.post(messages.Release(release.name))


class _View:
    """The present state of this node, for rounds that start."""

    def __init__(self, replica: Replica, members: Members) -> None:
        self._replica = replica
        self._members = members

    def own(self, name: str, learned: Learned) -> Own:
        replica, counters = self._replica, self._replica.counters
        if not (uses_ids(replica) or replica.detached or learned):  # the usual case, in less time
            return Own(Found(replica.cells(name), {}, {}), counters.digest(), 0, {})
        found = Found(replica.cells(name), counters.parts(name), replica.changed(name))
        own = Own(found, counters.digest(), counters.keyed(name), {})
        return learned.added_to(own, name, counters) if learned else own

    @property
    def memberships(self) -> Sequence[Actors]:
        return self._members.readable

    @property
    def here(self) -> Collection[str]:
        return self._members.here

    @property
    def node(self) -> bytes:
        return self._replica.identity.node
