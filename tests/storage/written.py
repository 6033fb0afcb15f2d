"""A log that a real replica wrote, the truth about it, and what is left of it after a repair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random

from gcount.core.format.log_records import HEADER_BYTES, encode_batch
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from gcount.storage.inspect.repair import repair
from gcount.storage.inspect.survey import survey
from gcount.storage.log import Log
from tests.core.histories import NAMES, History, knowing
from tests.fakes.counting import stage
from tests.fakes.disk import SimDisk
from tests.fakes.process import run_simulated
from tests.storage.commit_store import contents, sim_disk

BLANK = Identity(bytes(16), bytes(16))


def ids(seed: int = 1) -> Iterator[bytes]:
    random = Random(f"ids of a repair {seed}")
    while True:
        yield random.randbytes(16)


def mend(disk: SimDisk, seed: int = 1, options: Options = DEFAULTS) -> list[str]:
    new = ids(seed)
    return repair(disk, survey(disk), lambda: next(new), options)


async def recovered(disk: SimDisk) -> Replica:
    """What a start makes of a directory; raises `LogDamaged` when it refuses."""
    replica, log = Replica(BLANK, 1000), Log(disk)
    header = await log.recover(replica.apply)
    assert header is not None
    if replica.identity == BLANK:
        replica.identity = Identity(header.node, header.incarnation)
    log.close()
    return replica


@dataclass
class Written:
    """A log that a real replica wrote, and the truth about it."""

    disk: SimDisk
    batches: list[Batch] = field(default_factory=list)
    histories: dict[bytes, History] = field(default_factory=dict)
    places: dict[int, tuple[str, int, int]] = field(default_factory=dict)  # of batches: file, first byte, end

    def add(self, incarnation: bytes, commit: dict[str, int]) -> Delta:
        history = self.histories.setdefault(incarnation, History(incarnation, []))
        history.commits.append(commit)
        return history.delta(len(history.commits) - 1, len(history.commits))

    def check(self, replica: Replica) -> None:
        """Law 3, and nothing that nobody counted."""
        known = []
        for incarnation, version in replica.counters.digest().items():
            assert version <= len(self.histories[incarnation].commits)
            known.append((self.histories[incarnation], version))
        assert replica.counters == knowing(known)
        for name in NAMES:
            for incarnation, n in replica.cells(name).items():
                history = self.histories[incarnation]
                assert n <= history.state(len(history.commits))[name]

    def check_kept(self, replica: Replica, intact: list[int]) -> None:
        """Each batch that no damage touched is there, joined or detached."""
        for number in intact:
            for delta in self.batches[number - 1].deltas:
                for name, n in delta.cells.items():
                    detached = replica.detached.cell(name, delta.incarnation)
                    assert max(replica.counters.cell(name, delta.incarnation), detached) >= n

    def refill(self, replica: Replica) -> None:
        """What peers who know everything push."""
        writer = Writer(replica)
        for incarnation, history in self.histories.items():
            if incarnation != replica.identity.incarnation:
                assert writer.stage_delta(history.delta(0, len(history.commits)))
        writer.seal()
        writer.commit()


async def _write(seed: int, steps: int, options: Options) -> Written:
    random = Random(seed)
    written = Written(sim_disk(seed))
    me = Identity(b"n" * 16, random.randbytes(16))
    peers = [random.randbytes(16) for _ in range(2)]
    log, _, _ = await opened_as(written.disk, me, options)
    replica = Replica(me, 1000)
    writer = Writer(replica)
    for _ in range(steps):
        kind = random.choice(("add", "add", "add", "peer", "mint", "config"))
        name = random.choice(NAMES)
        if kind == "peer":
            writer.stage_delta(written.add(random.choice(peers), {name: random.randint(1, 9)}))
        elif kind == "mint":
            writer.stage_identity(replica.identity.reborn(random.randbytes(16)))
        elif kind == "config":
            writer.stage_membership(Membership(random.randint(1, 99), ("h:1",)))
        if kind in ("add", "mint"):
            amount = random.randint(1, 9)
            stage(writer, name, amount)
        batch = writer.seal()
        if kind in ("add", "mint"):
            written.add((batch.identity or replica.identity).incarnation, {name: amount})
        await log.append(batch, batch.identity or replica.identity)
        written.batches.append(batch)
        writer.commit()
    log.close()
    _place(written)
    return written


def _place(written: Written) -> None:
    files = iter(contents(written.disk).items())
    file, data = next(files)
    at = HEADER_BYTES
    for made in written.batches:
        if at == len(data):
            file, data = next(files)
            at = HEADER_BYTES
        end = at + len(encode_batch(made))
        written.places[made.number] = file, at, end
        at = end


async def opened_as(disk: SimDisk, identity: Identity, options: Options) -> tuple[Log, list[Batch], None]:
    log = Log(disk, options)
    assert await log.recover(lambda batch: None) is None
    await log.begin(identity)
    return log, [], None


def write(seed: int, steps: int, segment: int) -> Written:
    return run_simulated(partial(_write, seed, steps, Options(segment_bytes=segment)))
