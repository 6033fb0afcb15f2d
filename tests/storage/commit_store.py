"""A replica with its log on some disk: the least of a node that storage needs."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import trio

from gcount.core.format.log_records import Header
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.replica import Replica
from gcount.core.writes.id_rules import IdRules
from gcount.core.writes.increments import Asked, Outcome
from gcount.core.writes.writer import Writer
from gcount.observe.metrics import Metrics
from gcount.storage.disk import Disk
from gcount.storage.group_commit import Commit, Committer
from gcount.storage.log import Log
from tests.core.ids import NOW, WINDOW
from tests.fakes.counting import stage
from tests.fakes.disk import SimDisk

ME = Identity(b"n" * 16, b"i" * 16)


def sim_disk(seed: int = 0) -> SimDisk:
    return SimDisk(Random(seed))


def batch(number: int, size: int = 1) -> Batch:
    return Batch(number, [Delta(ME.incarnation, number - 1, number, {f"n{n}": number for n in range(size)})])


async def opened(disk: Disk, options: Options = DEFAULTS) -> tuple[Log, list[Batch], Header | None]:
    log, found = Log(disk, options), list[Batch]()
    header = await log.recover(found.append)
    if header is None:
        await log.begin(ME)
    return log, found, header


async def filled(disk: Disk, count: int, size: int = 1, options: Options = DEFAULTS) -> list[Batch]:
    log, _, _ = await opened(disk, options)
    made = [batch(number, size) for number in range(1, count + 1)]
    for one in made:
        await log.append(one, ME)
    log.close()
    return made


def contents(disk: Disk) -> dict[str, bytes]:
    return {name: disk.read(name) for name in disk.names()}


async def replayed(disk: Disk, options: Options = DEFAULTS) -> tuple[Replica, Log]:
    """What a start makes of a directory, the log open for appending."""
    replica, log = Replica(ME, 1000, options), Log(disk, options)
    if await log.recover(replica.apply) is None:
        await log.begin(ME)
    return replica, log


class Store:
    """A replica that commits, and what its clients were told."""

    def __init__(self, replica: Replica, log: Log) -> None:
        self.replica = replica
        self.log = log
        self.commits: list[Batch] = []
        self.metrics = Metrics()
        self.writer = Writer(replica, IdRules(lambda: NOW, lambda: "", WINDOW))
        self.committer = Committer(self.writer, log, self.metrics)

    def stage(self, name: str, amount: int = 1) -> Commit:
        stage(self.writer, name, amount)
        commit = self.committer.flush()
        assert commit is not None
        return commit

    async def run(self, asked: Asked) -> Outcome:
        """Stage what is asked, and wait for what comes of it."""
        told: list[Outcome] = []
        done = trio.Event()
        self.committer.stage(asked, told.append)
        self.committer.stage([], lambda outcome: done.set())
        await done.wait()
        return told[0]

    async def add(self, name: str, amount: int = 1) -> None:
        await self.stage(name, amount).wait()


@asynccontextmanager
async def running(disk: Disk, options: Options = DEFAULTS) -> AsyncIterator[Store]:
    """A store whose committer runs in the background."""
    replica, log = await replayed(disk, options)
    store = Store(replica, log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.committer.run, store.commits.append)
        yield store
        nursery.cancel_scope.cancel()
    log.close()


class Ledger:
    """What clients asked for and what was acknowledged, over all lives of a store."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()

    async def add(self, store: Store, name: str, amount: int) -> None:
        self.asked[name] += amount
        await store.add(name, amount)
        self.acknowledged[name] += amount

    def check(self, replica: Replica) -> None:
        for name in self.asked:
            total = replica.counters.total(name)
            assert self.acknowledged[name] <= total <= self.asked[name], name
            # From now on what was never acknowledged is either counted or gone for ever.
            self.asked[name] = self.acknowledged[name] = total
