"""A node: its one nursery, and what can be asked of it.

`open_node` runs the same over a real disk and network and over simulated ones. Everything that a node does is a child
of the nursery in it, so that the crash of any part takes the whole node down, loudly; the next start recovers.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import trio

from gcount.cluster.context import make_context
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Link, Transport
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.increments import Asked, Outcome, refused
from gcount.core.state.membership import parse_actors
from gcount.core.state.replica import Replica
from gcount.events import Stopping
from gcount.node.parts import Parts, assemble
from gcount.node.startup import Startup
from gcount.node.statistics import NodeStatistics, ServingStatistics
from gcount.observe.metrics import Metrics
from gcount.settings import Settings
from gcount.storage.checkpoints import Checkpoints
from gcount.storage.disk import Disk
from gcount.storage.log import Log

MOST_LINGER = 60.0  # seconds for which removed members are still dialled, at most


class Node:
    """One node, from its start on; before it has recovered, most of its methods raise `Recovering`.

    Args:
        settings: what the operator set.
        disk: its data directory.
        transport: how it reaches others.
        random: where ids and jitter come from.
        wall_clock: seconds since the epoch; only decides between conflicting configs.
        options: sizes, limits and pauses.
        stopping: whether the process is about to end; what waits for other nodes is answered then.

    Attributes:
        replica: what it holds; once it has recovered, as those that follow.
        start_id: this start's id.
        peers: the members that it dials.
        parts: all that it consists of.
    """

    def __init__(
        self,
        settings: Settings,
        disk: Disk,
        transport: Transport,
        random: Random,
        wall_clock: Callable[[], float],
        options: Options,
        stopping: Stopping,
    ) -> None:
        self.settings = settings
        self._options = options
        self.metrics = Metrics()
        self.log = Log(disk, options)
        self.checkpoints = Checkpoints(disk, self.log, self.metrics, options)
        self.stopping = stopping
        self._startup = Startup(self.log, self.checkpoints, random, stopping)
        self._transport = transport
        self._random = random
        self._wall_clock = wall_clock
        self.replica: Replica
        self.start_id: bytes
        self.peers: Peers
        self.parts: Parts

    # What clients ask

    def submit(self, asked: Asked, tell: Callable[[Outcome], None]) -> bool:
        """Count, unless something has to be waited for but the disk; see `Increments.submit`."""
        return self._startup.over.is_set() and self.parts.increments.submit(asked, tell)

    async def count(self, asked: Asked) -> Outcome:
        """Count; when this returns, it is on disk. See `Increments.run`: until the start is over, all is refused."""
        if not self._startup.over.is_set():
            return refused(asked, self._startup.refusal())
        return await self.parts.increments.run(asked)

    def value(self, name: str) -> int:
        """What this node knows of a counter: at least all that it acknowledged itself."""
        self.require_ready()
        return self.replica.counters.total(name)

    async def consistent_value(self, name: str, timeout: float | None = None) -> int:
        """The exact value at some instant between call and return.

        Args:
            name: a valid name.
            timeout: seconds to try; by default what the operator set.

        Raises:
            ReadUnavailable: it could not be known in time.
            Recovering: the node has not finished its start.
        """
        self.require_ready()
        return await self.parts.client_reads.value(name, self.settings.timeout if timeout is None else timeout)

    async def configure(self, body: object) -> dict[str, object]:
        """Put a posted config in force, durably.

        Args:
            body: the decoded JSON document.

        Returns:
            The membership now in force, as `config` does.

        Raises:
            BadRequest, DiskFull, Recovering: nothing was changed.
        """
        self.require_ready()
        return await self.parts.config.post(parse_actors(body, self.settings.port))

    def config(self) -> dict[str, object]:
        """The membership in force, and which entry is this node; see `Config.describe`."""
        self.require_ready()
        return self.parts.config.describe()

    # What peers ask

    async def accept(self, link: Link, caller: str, promote: Callable[[], bool]) -> None:
        """Serve a link that another node dialled, until it is over; see `Acceptor.serve`."""
        self.require_ready()
        await self.parts.acceptor.serve(link, caller, promote)

    # What operators ask

    @property
    def listens_on(self) -> str:
        """HOST:PORT, an IPv6 host in brackets."""
        return self.settings.listen

    @property
    def started(self) -> float:
        """When it was started, in seconds as trio's clock counts them."""
        return self._startup.began

    @property
    def recovered(self) -> bool:
        """Whether the start is over."""
        return self._startup.over.is_set()

    @property
    def not_ready(self) -> str | None:
        """Why the node can't take increments now; None when it can."""
        return self._startup.not_over or self.parts.context.committer.full

    async def wait_ready(self) -> None:
        """Return when the node has recovered and serves."""
        await self._startup.over.wait()

    async def wait_recovered(self) -> None:
        """Return when the start is over: what comes a moment too early waits, as long as it would for a peer.

        Raises:
            Recovering: it takes longer, or the start waits for room on the disk.
        """
        await self._startup.wait_over(self.settings.timeout)

    def require_ready(self) -> None:
        """Raise `Recovering` until the start is over."""
        self._startup.require_over()

    def statistics(self) -> NodeStatistics:
        """What there is to tell of it now."""
        now = trio.current_time()
        return NodeStatistics(
            now,
            now - self.started,
            self.not_ready,
            self.log.statistics(),
            self.checkpoints.statistics(),
            self._serving() if self.recovered else None,
        )

    def _serving(self) -> ServingStatistics:
        replica = self.replica
        return ServingStatistics(
            replica.identity.node,
            replica.identity.incarnation,
            replica.version,
            len(replica.counters),
            len(replica.counters.digest()),
            replica.options.reborn_below,
            dict(self.parts.forks.shown),
            self.peers.statistics(),
            self.parts.reads.statistics(),
        )

    # Its life

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)

    async def run(self) -> None:
        """Recover, then serve for ever.

        Raises:
            Fatal: the process has to end.
        """
        replica = self.replica = await self._startup.recover(self.settings.max_counters, self._options)
        context = make_context(self.settings.cluster, replica, self.log, self._random, self.metrics, self.stopping)
        self.start_id = context.start_id
        self.parts = assemble(context, self._transport, self._now_ms, fresh=self._startup.fresh)
        self.peers = self.parts.peers
        self._startup.report(replica, self.metrics)
        async with trio.open_nursery() as nursery:
            self.parts.start(nursery, self.checkpoints, min(self.settings.timeout, MOST_LINGER))
            self._startup.over.set()


@asynccontextmanager
async def open_node(
    settings: Settings,
    disk: Disk,
    transport: Transport,
    *,
    random: Random,
    wall_clock: Callable[[], float],
    options: Options = DEFAULTS,
    stopping: Stopping | None = None,
) -> AsyncIterator[Node]:
    """Run a node for as long as the context lasts; it may still be recovering when the context begins.

    Args:
        settings: what the operator set; `port` is the one that is really listened on.
        disk: its data directory.
        transport: how it reaches others.
        random: where ids and jitter come from.
        wall_clock: seconds since the epoch.
        options: sizes, limits and pauses; in production the defaults.
        stopping: set when the process is about to end; by default never.

    Raises:
        Fatal: in a group, out of the context: the node can't go on.
    """
    node = Node(settings, disk, transport, random, wall_clock, options, stopping or Stopping())
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            try:
                yield node
            finally:
                nursery.cancel_scope.cancel()
    finally:
        node.log.close()  # only now, as a batch may have been on its way to the disk
