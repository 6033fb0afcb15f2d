"""Planted bugs of the basics: what is durable, what is joined, consistent reads, identity, links."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from gcount.cluster.consistent_reads import ConsistentReads
from gcount.cluster.links.accepted_link import AcceptedLink
from gcount.cluster.links.acceptor import Acceptor
from gcount.core.format.log_records import Scan
from gcount.core.options import Options
from gcount.core.protocol.consistent_read import PendingRead, Round
from gcount.core.protocol.replication import DeltaSender
from gcount.core.protocol.write_holds import MAX_HOLD, Hold, Holds
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters, Delta, Digest
from gcount.core.state.identity import Identity, IncarnationClaim
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.core.writes.increments import Add, Peek
from gcount.core.writes.staging import Before
from gcount.core.writes.writer import Writer
from gcount.errors import Refusal
from gcount.node.startup import Startup
from gcount.storage import log, recovery
from gcount.storage.group_commit import Commit, Committer
from gcount.storage.live_segment import LiveSegment
from tests.simulation.mutants.planted import mutant

# What is durable


@mutant(Writer, "seal")
def visible_before_durable(seal: Any) -> Any:
    """A batch is joined when it is sealed, before it is written."""

    def change(self: Writer) -> Batch:
        batch: Batch = seal(self)
        for delta in filter(self.replica.counters.fits, batch.deltas):
            self.replica.counters.join(delta)
        return batch

    return change


@mutant(Commit, "add_done_callback")
def acknowledged_before_own_sync(_: Any) -> Any:
    """An increment that has to wait for nothing but the disk is answered when it is staged."""

    def change(self: Commit, tell: Any) -> None:
        early = Commit()
        early.before, early.position = Before((), lambda name: 0), {}
        tell(early)

    return change


@mutant(AcceptedLink, "_push")
def acknowledged_before_the_peers_sync(push: Any) -> Any:
    """A push is acknowledged as it arrives."""

    def change(self: Any, nursery: Any, message: Any) -> None:
        deltas = self.receiver.pushed(message)
        known = self._replica.counters.digest()
        if deltas:
            self._committer.take(deltas)
            known |= {delta.incarnation: max(delta.upto, known.get(delta.incarnation, 0)) for delta in deltas}
        self._answers.post(self.receiver.ack(known if message.last else {}))

    return change


@mutant(LiveSegment, "put")
def live_segment_not_written_anew(put: Any) -> Any:
    """A start appends to the live segment that it has read, of which the end may never have reached the disk."""

    def change(self: Any, name: str, data: bytes) -> None:
        if name not in self._disk.names() or name == self._name:
            put(self, name, data)
            return
        self.close()
        self._file, self._name, self.size = self._disk.append(name), name, len(data)
        if len(self._disk.read(name)) > len(data):
            self._file.truncate(len(data))

    return change


@mutant(LiveSegment, "_cut_back")
def partial_write_not_cut_back(cut_back: Any) -> Any:
    """A record that a full disk left half-written stays, and the next record is written behind it."""
    return lambda self, live: None


@mutant(log, "Scan")
def torn_tail_accepted(scan: Any) -> Any:
    """A start keeps a record that was torn, and the next one is written behind it."""

    class Accepting(Scan):
        def __iter__(self) -> Iterator[Batch]:
            yield from super().__iter__()
            self.end = len(self._data)

    return Accepting


# What is counted


@mutant(Writer, "seal")
def totals_merged(seal: Any) -> Any:
    """A node's cell has the total of the counter, and totals are joined by maximum."""

    def change(self: Writer) -> Batch:
        with patch.object(Counters, "cells_of", lambda counters, names, incarnation: counters.totals_of(names)):
            batch: Batch = seal(self)
        return batch

    return change


@mutant(Writer, "_stage_one")
def absolute_values_of_the_staging(stage: Any) -> Any:
    """The new value is computed when an increment is staged, not when it is sealed."""

    def change(self: Writer, one: Add | Peek) -> int | Refusal:
        waiting: int | Refusal = stage(self, one)
        sealed, staged = self.pending.sealed.amounts.get(one.name, 0), self.pending.staging
        if not sealed or isinstance(waiting, Refusal) or one.name not in staged.amounts:
            return waiting
        lost = waiting - max(1, waiting - sealed)  # the value of now does not contain what is sealed yet
        staged.amounts[one.name] -= lost
        staged.total -= lost
        return waiting - lost

    return change


@mutant(recovery, "Coalescer")
def amounts_replayed(coalescer: Any) -> Any:
    """A replay adds up the cells of the records, as if they were amounts."""

    def change(apply: Any, options: Options) -> Any:
        counters = apply.__self__.counters

        def add_up(batch: Batch) -> None:
            deltas = [
                Delta(
                    delta.incarnation,
                    delta.after,
                    delta.upto,
                    {name: n + counters.cell(name, delta.incarnation) for name, n in delta.cells.items()},
                )
                for delta in batch.deltas
            ]
            apply(Batch(batch.number, deltas, batch.identity, batch.membership))

        return coalescer(add_up, options)

    return change


@mutant(DeltaSender, "_lacking")
def relayed_without_its_version(lacking: Any) -> Any:
    """Another node's changes are passed on under a version that is too low."""

    def change(self: Any, counters: Counters, own: Identity, now: float) -> tuple[Digest, list[Delta]]:
        deltas: list[Delta] = [
            delta
            if own.owns(delta.incarnation) or delta.upto - delta.after < 2
            else Delta(delta.incarnation, delta.after, delta.upto - 1, delta.cells)
            for delta in lacking(self, counters, own, now)[1]
        ]
        return {delta.incarnation: delta.upto for delta in deltas}, deltas

    return change


@mutant(ConsistentReads, "replied")
def answers_joined_into_the_state(replied: Any) -> Any:
    """Cells of a reply are taken into the state, ahead of the digest."""

    def change(self: Any, address: str, reply: Any) -> None:
        name = self._rounds.asked(reply.round)
        if name is not None:
            counters = self._replica.counters
            (index,) = counters._intern((name,))
            for incarnation, n in reply.cells.items():
                column = counters._columns.get(incarnation)
                if column is not None and n > column.get(index):
                    column._grow(index + 1)
                    counters._totals[index] += n - column.cells[index]
                    column.cells[index] = n
        replied(self, address, reply)

    return change


# Identity


@mutant(IncarnationClaim, "heard")
def identity_kept_on_an_older_disk(heard: Any) -> Any:
    """A node goes on under its incarnation though a peer knows more of it."""
    return lambda self, address, node, knows, holds: heard(self, address, node, min(knows, holds), holds)


@mutant(IncarnationClaim, "overdue")
def identity_kept_unconfirmed(_: Any) -> Any:
    """A node goes on under its incarnation before all members have confirmed it."""

    def change(self: IncarnationClaim, members: Any) -> list[str]:
        self.settled = True
        return []

    return change


@mutant(Startup, "recover")
def identity_kept_on_a_lost_disk(recover: Any) -> Any:
    """The incarnation is made of the node's number, so that an empty directory goes on under the old one."""

    async def change(self: Any, max_counters: int) -> Replica:
        random = self._random
        self._random = _Fixed(bytes([self.settings.node_id]) * 16)
        replica: Replica = await recover(self, max_counters)
        self._random = random
        return replica

    return change


class _Fixed:
    def __init__(self, bytes_: bytes) -> None:
        self.randbytes = lambda size: bytes_[:size]


@mutant(Acceptor, "_welcome")
def hello_before_the_former_life_is_settled(welcome: Any) -> Any:
    """A hello is answered while a push of the former process is still on its way to the disk."""

    async def change(self: Any, channel: Any, accepted: Any, hello: Any, *, duplicate: bool) -> None:
        await self._updates.adopt(hello.membership)
        self._peers.called(hello.node)
        answer = self._handshake.hello(duplicate=duplicate)
        accepted.prepare(answer, None)
        await channel.send(answer)

    return change


@mutant(Acceptor, "_supersede")
def former_life_goes_on(supersede: Any) -> Any:
    """Links of a node's former process are not closed."""
    return lambda self, hello: False


# Membership


@mutant(Membership, "merge")
def membership_by_order_of_arrival(merge: Any) -> Any:
    """Of two configs of one version the one that arrives first stays."""
    return lambda self, other: other if other.version > self.version else self


# Answers to clients


@mutant(Committer, "_values_before")
def answered_with_the_batchs_total(_: Any) -> Any:
    """All increments of a batch are answered as if they were the last."""
    return lambda self, amounts: Before((), self._replica.counters.total)


@mutant(Round, "confirmed")
def view_taken_after_the_gather(confirmed: Any) -> Any:
    """A round's cells are the answer, without a comparison with the round before."""
    return True


@mutant(PendingRead, "start")
def own_cells_not_read_again(start: Any) -> Any:
    """Later rounds expect what the first one found, without the node's own newest cells."""

    def change(self: PendingRead, number: int, own: Any, *rest: Any) -> Any:
        found = own.found._replace(cells=self.known or own.found.cells)
        return start(self, number, own._replace(found=found), *rest)

    return change


@mutant(PendingRead, "_conclude")
def round_under_way_joined(conclude: Any) -> Any:
    """A round answers reads that arrived after it was sent, too."""

    def change(self: Any, round_: Round) -> None:
        round_.began = self._arrivals + 1
        conclude(self, round_)

    return change


@mutant(Round, "answer")
def majority_is_enough(answer: Any) -> Any:
    """A round is over when more than half have answered."""

    def change(self: Any, address: str, node: bytes, cells: Any) -> bool:
        wanted = self.__dict__.setdefault("wanted", len(self.missing) + 1)
        return bool(answer(self, address, node, cells)) or 2 * (wanted - len(self.missing)) > wanted

    return change


@mutant(Holds, "in_force")
def hold_outlives_its_release(_in_force: Any) -> Any:
    """A hold ends neither by its release nor by its timeout."""

    def change(self: Any, names: Any, now: float) -> list[Hold]:
        held = [self._holds[name] for name in names if name in self._holds]
        longer = [Hold(hold.started + 2 - MAX_HOLD) for hold in held]
        return [hold for hold in longer if not hold.over(now)]

    return change
