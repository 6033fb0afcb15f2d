"""What the links and the reads of one start share."""

from contextlib import suppress
from dataclasses import dataclass
from random import Random

from gcount.core.state.replica import Replica
from gcount.errors import DiskFull
from gcount.events import News, Stopping
from gcount.observe.metrics import Metrics
from gcount.storage.group_commit import Committer


@dataclass(frozen=True)
class Context:
    """One start of a node; who the node is, is in its replica, as that can change.

    Args:
        cluster: the cluster's name.
        boot: this start's id.
        replica: the state.
        committer: the door to it.
        random: where ids and jitter come from.
        metrics: what is counted.
        news: told when a confirmation, an own address, a membership, a link or an identity is news.
        stopping: whether the process is about to end.
    """

    cluster: str
    start_id: bytes
    replica: Replica
    committer: Committer
    random: Random
    metrics: Metrics
    news: News
    stopping: Stopping

    async def settle(self) -> None:
        """Return when all that is staged now is durable, or dropped."""
        commit = self.committer.flush()
        if commit is not None:
            with suppress(DiskFull):
                await commit.wait()
