"""Logs that nothing was lost of: no start detaches anything, whatever the batches need and with whatever checkpoint."""

from collections.abc import Iterable
from random import Random

import msgspec

from gcount.core.format.replay_merge import Coalescer
from gcount.core.state.batch import Batch
from tests.core.test_lost_settlements import Rotting, replayed
from tests.core.test_pushes import SMALL


class Restarting(Rotting):
    """Where something would rot, a node starts anew with all of its log, and with its log from a checkpoint on."""

    def __init__(self, random: Random) -> None:
        self.all: list[list[Batch]] = [[], [], []]
        self.starts = self.needing = 0
        super().__init__(random)

    def written(self, node: int, batch: Batch) -> None:
        super().written(node, batch)
        self.all[node].append(self.logs[node][-1])

    def rot(self, node: int) -> None:
        replica = self.writers[node].replica
        checkpoint, since = self.checkpoints[node], self.logs[node]
        starts = [(self.all[node], b""), (since, checkpoint), (self.all[node], checkpoint)]  # a log may begin before
        for batches, base in starts:
            for log in (batches, merged(batches)):
                again = replayed(log, base)
                assert again.counters == replica.counters
                assert not again.detached
        former = replayed([msgspec.structs.replace(batch, needs=None) for batch in self.all[node]])
        assert former.counters == replica.counters  # as a version wrote the log that did not name needs
        self.starts += 1
        self.needing += sum(batch.needs is not None for batch in self.all[node])


def merged(batches: Iterable[Batch]) -> list[Batch]:
    found = list[Batch]()
    coalescer = Coalescer(found.append, SMALL)
    for batch in batches:
        coalescer.add(batch)
    coalescer.flush()
    return found


def test_a_log_that_is_whole_has_all_that_its_batches_need() -> None:
    starts = needing = 0
    for seed in range(30):
        world = Restarting(Random(seed))
        world.run(200)
        starts, needing = starts + world.starts, needing + world.needing
    assert starts > 100
    assert needing > 100
