"""The objects that all parts of a node's cluster side share."""

from contextlib import suppress
from dataclasses import dataclass
from random import Random

from gcount.core.limits import ID_BYTES
from gcount.core.state.replica import Replica
from gcount.core.writes.id_rules import NO_IDS, IdRules
from gcount.core.writes.known_ids import KnownIds
from gcount.core.writes.pending import Pending
from gcount.core.writes.writer import Writer
from gcount.errors import DiskFull
from gcount.events import News, Stopping
from gcount.observe.metrics import Metrics
from gcount.storage.group_commit import Committer
from gcount.storage.log import Log


@dataclass(frozen=True)
class Context:
    """One start of a node. Its identity is in the replica, because it can change.

    Args:
        cluster: the name of the cluster.
        start_id: the id of this start.
        replica: the state.
        pending: what waits for the disk.
        committer: makes changes of the state durable.
        random: the source of ids and jitter.
        metrics: the metrics.
        news: notified of each new confirmation, own address, membership, link and identity.
        stopping: set when the process is asked to stop.
        ids: what is known of increments with ids.
    """

    cluster: str
    start_id: bytes
    replica: Replica
    pending: Pending
    committer: Committer
    random: Random
    metrics: Metrics
    news: News
    stopping: Stopping
    ids: KnownIds

    @property
    def rules(self) -> IdRules:
        """Which increments with new ids are taken."""
        return self.ids.rules

    async def settle(self) -> None:
        """Return when all that is staged now is durable or dropped."""
        commit = self.committer.flush()
        if commit is not None:
            with suppress(DiskFull):
                await commit.wait()


def make_context(
    cluster: str,
    replica: Replica,
    log: Log,
    random: Random,
    metrics: Metrics,
    stopping: Stopping,
    rules: IdRules = NO_IDS,
) -> Context:
    """Make what the parts of one start share, with an id for this start and a committer for the replica.

    Args:
        cluster: the name of the cluster.
        replica: the state that the start has recovered.
        log: the log that makes changes of the state durable.
        random: the source of ids and jitter.
        metrics: the metrics.
        stopping: set when the process is asked to stop.
        rules: which increments with ids are taken.
    """
    writer = Writer(replica, rules)
    committer = Committer(writer, log, metrics)
    start_id = random.randbytes(ID_BYTES)
    pending = writer.pending
    return Context(cluster, start_id, replica, pending, committer, random, metrics, News(), stopping, writer.ids)
