"""The start of a node: reads its directory, and waits for space if the disk is full."""

from random import Random

import structlog
import trio

from gcount.cluster.operator_log import report_start
from gcount.core.limits import ID_BYTES
from gcount.core.options import Options
from gcount.core.state.identity import Identity
from gcount.core.state.replica import Replica
from gcount.errors import DiskFull, Recovering
from gcount.events import Stopping
from gcount.observe.metrics import Metrics
from gcount.storage.checkpoints import Checkpoints
from gcount.storage.disk import shortage
from gcount.storage.log import Log
from gcount.storage.recovery import recover

FULL_RETRY = 1.0  # seconds between two attempts to start on a full disk

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Startup:
    """One start of a node.

    Args:
        log: the log in the data directory.
        checkpoints: the checkpoints in it.
        random: the source of ids.
        stopping: set when the process is asked to stop.

    Attributes:
        fresh: whether the directory was empty.
        began: when the start began, in seconds of trio's clock.
        over: set when the node has recovered and serves.
    """

    def __init__(self, log: Log, checkpoints: Checkpoints, random: Random, stopping: Stopping) -> None:
        self.fresh = False
        self.began = trio.current_time()
        self.over = trio.Event()
        self._log = log
        self._checkpoints = checkpoints
        self._random = random
        self._stopping = stopping
        self._full: str | None = None  # why the start waits for the disk; None when it does not

    async def recover(self, max_counters: int, options: Options) -> Replica:
        """Restore the state from the directory; an empty directory gets a new identity and its first segment.

        Args:
            max_counters: how many counters clients may make.
            options: the limits that the replica keeps.

        Raises:
            Fatal: the process has to end.
        """
        while True:
            identity = Identity(self._random.randbytes(ID_BYTES), self._random.randbytes(ID_BYTES))
            replica = Replica(identity, max_counters, options)
            try:
                header = await recover(replica, self._log, self._checkpoints)
                if header is None:
                    await self._log.begin(identity)
                    self.fresh = True
                elif replica.identity == identity:
                    replica.identity = Identity(header.node, header.incarnation)
                return replica
            except DiskFull as error:
                if self._full is None:
                    self._full = f"{error}; the start waits"
                    logger.error(shortage(str(error)), reason=str(error), effect="the start waits until there is space")
                await trio.sleep(FULL_RETRY)

    def report(self, replica: Replica, metrics: Metrics) -> None:
        """Say in the log and in the metrics what was recovered.

        Args:
            replica: what was recovered.
            metrics: the metrics.
        """
        seconds = trio.current_time() - self.began
        metrics.recovery_seconds.set(seconds)
        metrics.incarnations_minted.inc(self.fresh)
        report_start(replica, self._log.size, self._checkpoints.size, seconds, fresh=self.fresh)

    @property
    def not_over(self) -> str | None:
        """Why the node does not serve yet; None when it does."""
        return None if self.over.is_set() else self._full or "recovering"

    def refusal(self) -> Recovering:
        """The refusal of all requests until the start is over."""
        return Recovering(self._full or "the node has not finished its start; try again in a moment")

    def require_over(self) -> None:
        """Raise `Recovering` until the start is over."""
        if not self.over.is_set():
            raise self.refusal()

    async def wait_over(self, timeout: float) -> None:
        """Return when the start is over.

        Args:
            timeout: how long to wait, in seconds.

        Raises:
            Recovering: the start takes longer, it waits for space on the disk, or the process is about to end.
        """
        if not self.over.is_set() and self._full is None:
            with self._stopping.ends(trio.current_time() + timeout):
                await self.over.wait()
        self.require_over()
