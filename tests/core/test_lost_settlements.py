"""Rot takes settlements out of logs: whatever is left of a log, a replica counts exactly what it claims to know."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from random import Random

import pytest

from gcount.core.format.checkpoint import Capture, Cells, Parts, Record, encode_record
from gcount.core.format.checkpoint_reader import Reader, Restore
from gcount.core.format.checkpoint_salvage import CheckpointSalvage, rebuilt
from gcount.core.format.log_records import CHECKPOINT_MAGIC, HEADER_BYTES, Header, Scan, decode_header, encode_batch
from gcount.core.format.replay_merge import Coalescer
from gcount.core.protocol.replication import DeltaSender
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters, Delta, Digest
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Settlement
from gcount.core.state.replica import Replica
from gcount.core.writes import writer as writing
from gcount.core.writes.id_rules import IdRules
from gcount.core.writes.pushes import stage_push
from gcount.core.writes.writer import Writer
from tests.core.histories import incarnation
from tests.core.ids import entry, peers, settling
from tests.core.test_pushes import SMALL, World, value

HEAD = Header(bytes(16), bytes(16), 1, 1)


def read(data: bytes) -> list[Record]:
    return list(Reader(SMALL).feed(data, last=True))


def file_of(records: Iterable[Record], header: Header = HEAD) -> bytes:
    return header.encode(CHECKPOINT_MAGIC) + b"".join(map(encode_record, records))


def by_place(deltas: Iterable[Delta]) -> list[Delta]:
    return sorted(deltas, key=lambda delta: (delta.incarnation, delta.after))


ME = Identity(incarnation(100), incarnation(101))
A, B, C, D = map(incarnation, (1, 2, 3, 4))
COUNTED = Delta(A, 0, 2, {"n": 1})  # an id of version 1 is left out
SETTLED = settling(C, {A: Settlement(9, 1, {"n": 5})})


def log_of(*batches: tuple[list[Delta], dict[bytes, int]]) -> list[Batch]:
    """The batches of a node that takes some pushes, each with what it needs."""
    writer, written = Writer(Replica(ME, 1000, SMALL)), []
    for deltas, needs in batches:
        assert stage_push(writer, deltas, needs)
        written.append(writer.seal())
        writer.commit()
    return written


def replayed(batches: Iterable[Batch], checkpoint: bytes = b"") -> Replica:
    """What a start makes of a log, in which each batch is encoded and read."""
    replica = Replica(ME, 1000, SMALL)
    replica.counters.put_off_totals()
    if checkpoint:
        restore = Restore(replica)
        for record in read(checkpoint):
            restore.take(record)
        restore.finish()
    for batch in batches:
        [same] = Scan(bytes(HEADER_BYTES) + encode_batch(batch, SMALL), batch.number)
        assert same == batch
        replica.apply(same)
    list(replica.counters.sum_up())
    return replica


def refilled(replica: Replica, needs: dict[bytes, int], *deltas: Delta) -> int:
    """The value after a push."""
    writer = Writer(replica)
    assert stage_push(writer, deltas, needs)
    writer.seal()
    writer.commit()
    return value(replica.counters)


def test_a_delta_is_detached_if_the_settlement_that_came_with_it_is_behind_a_gap() -> None:
    first = Delta(C, 0, 1, {"n": 2})
    settled = settling(C, {A: Settlement(9, 1, {"n": 5})}, after=1)
    log = log_of(([first], {}), ([COUNTED, settled], {C: 2}))
    assert value(replayed(log).counters) == 8
    left = replayed(log[1:])
    assert left.counters.digest() == {}
    assert left.detached.deltas() == [Delta(A, 2, 2, {"n": 1}), settled]
    later = Delta(A, 2, 3, {"n": 4})
    left.apply(Batch(3, [later]))
    assert (left.counters.digest(), value(left.counters)) == ({}, 0)
    assert refilled(left, {C: 2}, Delta(A, 0, 2, {"n": 1}), Delta(C, 0, 2, {"n": 2}, settled.keyed)) == 11
    assert not left.detached


def test_a_delta_is_detached_if_the_settlement_that_was_known_before_is_lost() -> None:
    log = log_of(([SETTLED], {}), ([COUNTED], {C: 1}))
    assert value(replayed(log).counters) == 6
    left = replayed(log[1:])
    assert (left.counters.digest(), left.detached.deltas()) == ({}, [Delta(A, 2, 2, {"n": 1})])
    assert refilled(left, {C: 1}, COUNTED, SETTLED) == 6


def test_a_delta_that_is_detached_with_its_settlement_is_not_joined_without_it() -> None:
    """The next rot takes it. Then the gap before the delta is filled by a node that does not know the settlement."""
    whole = [Delta(A, 0, 1, {"n": 1}), Delta(A, 1, 3, {"n": 3})]
    settled = settling(C, {A: Settlement(9, 2, {"n": 4})})
    log = log_of(([settled], {}), ([whole[0]], {C: 1}), ([whole[1]], {C: 1}))
    assert replayed([log[0], log[2]]).detached.deltas() == [whole[1]]
    left = replayed(log[2:])
    assert left.detached.deltas() == [Delta(A, 3, 3, {"n": 3})]
    assert refilled(left, {}, whole[0]) == 1
    assert left.counters.digest() == {A: 1}


IDS = peers(A, {**entry(5, time=3, name="n"), **entry(7, time=13, name="m")})
SAME = peers(B, entry(5, time=3, name="n"))
BOTH = settling(C, {A: Settlement(9, 1, {}), B: Settlement(9, 1, {"n": 5})})
LATER = settling(D, {A: Settlement(19, 1, {"m": 7})})


def test_a_settlement_is_detached_if_another_one_of_the_same_column_is_lost() -> None:
    """It covers an id, too, that the other one has added up for another holder."""
    log = log_of(([IDS], {}), ([SAME], {}), ([BOTH], {}), ([LATER], {C: 1}))
    assert value(replayed(log).counters) == 12
    left = replayed([log[0], log[3]])
    assert (left.counters.digest(), value(left.counters)) == ({A: 1}, 12)
    assert refilled(left, {C: 1, D: 1}, SAME, BOTH, LATER) == 12
    assert not left.counters.entries.live


def test_a_settlement_that_is_left_of_a_checkpoint_is_detached_if_another_one_is_lost() -> None:
    whole = replayed(log_of(([Delta(A, 0, 1, {})], {}), ([BOTH], {}), ([LATER], {C: 1})))
    records = Capture(whole, HEAD).records()
    kept = [each for each in records if not (isinstance(each, Cells) and each.incarnation == C)]
    left = replayed([], rebuilt(CheckpointSalvage(file_of(kept)), HEAD, 9, SMALL))
    assert left.counters.digest() == {}
    assert refilled(left, {}, IDS) == 12  # of a node that knows neither settlement


def test_a_detached_delta_of_a_checkpoint_is_not_joined_without_the_settlement_that_it_needs() -> None:
    behind = Delta(A, 1, 3, {"n": 3})
    replica = replayed(log_of(([settling(C, {A: Settlement(9, 2, {"n": 4})})], {})))
    replica.apply(Batch(2, [behind]))
    records = list(Capture(replica, HEAD).records())
    assert replayed([], rebuilt(CheckpointSalvage(file_of(records)), HEAD, 9, SMALL)).detached.deltas() == [behind]
    without = [each for each in records if not isinstance(each, Parts)]
    left = replayed([], rebuilt(CheckpointSalvage(file_of(without)), HEAD, 9, SMALL))
    assert refilled(left, {}, Delta(A, 0, 1, {"n": 1})) == 1
    assert left.counters.digest() == {A: 1}


def test_who_gives_a_detached_delta_back_names_the_settlements_that_it_needs() -> None:
    giver = replayed(log_of(([settling(C, {A: Settlement(9, 2, {"n": 4})})], {})))
    needing, other = Delta(A, 1, 3, {"n": 3}), Delta(A, 5, 6, {"n": 4})
    pushes = []
    for delta in (needing, other):
        sender = DeltaSender({C: 1}, 0.0, detached=[delta])
        pushes.append(sender.next_push(giver.counters, giver.identity, 0.0))
    assert [push and (push.deltas, push.needs) for push in pushes] == [([needing], {C: 1}), ([other], {})]


class Rotting(World):
    """The same with logs and checkpoints, of which anything may rot that other replicas have."""

    def __init__(self, random: Random) -> None:
        self.logs: list[list[Batch]] = [[], [], []]
        self.checkpoints: list[bytes] = [b"", b"", b""]
        self.by_nodes: list[tuple[bytes, int, int]] = []
        self.lives = 10
        self.rots = self.withheld = 0
        super().__init__(random)

    def check(self, counters: Counters) -> None:
        """A settlement may be left without those that its settler knew. Then it says only what it added up itself."""
        digest, units = counters.digest(), 0
        for who, version, total in self.by_nodes:
            units |= total if version <= digest.get(who, 0) else 0
        for _, _, one in counters.settlements.items():
            for index in one.parts.held():
                units |= one.parts.get(index)
        cells = sum(sum(self.cells[one].values()) for one in digest.items())
        assert value(counters) == cells + units

    def note(self, delta: Delta, digest: Digest) -> None:
        super().note(delta, digest)
        entries = {} if delta.keyed is None else delta.keyed.entries
        self.by_nodes += [(delta.incarnation, delta.upto, total) for total, _ in entries.values()]

    def written(self, node: int, batch: Batch) -> None:
        self.logs[node].append(deepcopy(batch))

    def happen(self, dice: float) -> None:
        if 0.9 < dice < 0.93:
            self.checkpoint(self.random.randrange(3))
        elif dice > 0.97:
            self.rot(self.random.randrange(3))

    def checkpoint(self, node: int) -> None:
        replica = self.writers[node].replica
        capture = Capture(replica, Header(bytes(16), bytes(16), 2, replica.next_batch))
        self.checkpoints[node] = file_of(capture.records(), capture.header)
        capture.close()
        self.logs[node] = []

    def is_elsewhere(self, node: int, deltas: Iterable[Delta]) -> bool:
        others = [writer.replica.counters for writer in self.writers if writer is not self.writers[node]]
        return all(any(each.version(delta.incarnation) >= delta.upto for each in others) for delta in deltas)

    def rot(self, node: int) -> None:
        old = self.writers[node].replica
        spread = self.is_elsewhere(
            node, [*old.detached.deltas(), *(Delta(who, 0, n, {}) for who, n in old.counters.digest().items())]
        )
        if not spread:
            return
        chance = self.random.choice((0.1, 0.3, 0.6))
        batches = [each for each in self.logs[node] if self.random.random() > chance]
        data = self.checkpoints[node]
        if data and self.random.random() < 0.5:
            left = read(data)
            for lost in self.random.sample(left, min(len(left), self.random.choice((1, 1, 2, 4)))):
                left.remove(lost)
            salvage = CheckpointSalvage(file_of(left, decode_header(data, CHECKPOINT_MAGIC)))
            self.checkpoints[node] = data = rebuilt(salvage, HEAD, old.next_batch, SMALL)
        self.lives += 1
        me = old.identity.reborn(incarnation(self.lives))
        batches.append(Batch(old.next_batch, [], me))
        self.logs[node] = batches
        replica = replayed(batches, data)
        merged = list[Batch]()
        coalescer = Coalescer(merged.append, SMALL)
        for batch in batches:
            coalescer.add(batch)
        coalescer.flush()
        again = replayed(merged, data)
        assert replica.counters == again.counters
        assert by_place(replica.detached.deltas()) == by_place(again.detached.deltas())
        self.writers[node] = Writer(replica, IdRules(lambda: self.second, lambda: ""))
        for link in self.links:
            if node in (link.source, link.target):
                link.begin_anew()
        self.rots += 1
        self.withheld += any(run.after == run.upto for run in replica.detached.deltas())
        self.check(replica.counters)


def walks(seeds: Iterable[int], steps: int = 300) -> tuple[int, int]:
    """How often something rotted in some walks, and how often a delta was detached from its last version on then."""
    rots = withheld = 0
    for seed in seeds:
        world = Rotting(Random(seed))
        world.run(steps)
        rots, withheld = rots + world.rots, withheld + world.withheld
    return rots, withheld


def test_whatever_rots_a_replica_counts_what_it_claims_and_all_become_alike() -> None:
    rots, withheld = walks(range(50))
    assert rots > 100
    assert withheld > 20


@pytest.mark.parametrize("seed", [25, 29, 45])
def test_the_walks_show_that_no_needs_are_written(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "needs_of", lambda *_: None)
    with pytest.raises(AssertionError):
        walks([seed])
