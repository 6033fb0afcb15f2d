"""Rot takes settlements out of logs: whatever is left of a log, a replica counts exactly what it claims to know."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from random import Random

import pytest

from gcount.core.format.checkpoint import Capture, Record, encode_record
from gcount.core.format.checkpoint_reader import Reader, Restore
from gcount.core.format.checkpoint_salvage import CheckpointSalvage, rebuilt
from gcount.core.format.log_records import CHECKPOINT_MAGIC, HEADER_BYTES, Header, Scan, encode_batch
from gcount.core.format.replay_merge import Coalescer
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.identity import Identity
from gcount.core.state.replica import Replica
from gcount.core.writes.id_rules import IdRules
from gcount.core.writes.writer import Writer
from tests.core.histories import incarnation
from tests.core.test_pushes import SMALL, World, value

HEAD = Header(bytes(16), bytes(16), 1, 1)


def read(data: bytes) -> list[Record]:
    return list(Reader(SMALL).feed(data, last=True))


def by_place(deltas: Iterable[Delta]) -> list[Delta]:
    return sorted(deltas, key=lambda delta: (delta.incarnation, delta.after))


class Rotting(World):
    """The same with logs and checkpoints, of which anything may rot that other replicas have."""

    def __init__(self, random: Random) -> None:
        self.logs: list[list[Batch]] = [[], [], []]
        self.checkpoints: list[bytes] = [b"", b"", b""]
        self.first = [1, 1, 1]
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
        self.checkpoints[node] = capture.header.encode(CHECKPOINT_MAGIC) + b"".join(
            encode_record(record) for record in capture.records()
        )
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
            whole = read(data)
            left = [record for record in whole if self.random.random() > 0.1]
            if len(left) < len(whole):
                torn = data[:HEADER_BYTES] + b"".join(map(encode_record, left))
                self.checkpoints[node] = data = rebuilt(CheckpointSalvage(torn), HEAD, old.next_batch, SMALL)
        self.lives += 1
        me = old.identity.reborn(incarnation(self.lives))
        batches.append(Batch(old.next_batch, [], me))
        self.logs[node] = batches
        replica = self.replayed(data, batches)
        merged = list[Batch]()
        coalescer = Coalescer(merged.append, SMALL)
        for batch in batches:
            coalescer.add(batch)
        coalescer.flush()
        again = self.replayed(data, merged)
        assert replica.counters == again.counters
        assert by_place(replica.detached.deltas()) == by_place(again.detached.deltas())
        self.writers[node] = Writer(replica, IdRules(lambda: self.second, lambda: ""))
        for link in self.links:
            if node in (link.source, link.target):
                link.begin_anew()
        self.rots += 1
        self.withheld += any(run.after == run.upto for run in replica.detached.deltas())
        self.check(replica.counters)

    def replayed(self, data: bytes, batches: list[Batch]) -> Replica:
        replica = Replica(Identity(bytes(16), bytes(16)), 1000, SMALL)
        replica.counters.put_off_totals()
        if data:
            restore = Restore(replica)
            for record in read(data):
                restore.take(record)
            restore.finish()
        for batch in batches:
            encoded = encode_batch(batch, SMALL)
            [same] = Scan(bytes(HEADER_BYTES) + encoded, batch.number)
            replica.apply(same)
        list(replica.counters.sum_up())
        return replica
