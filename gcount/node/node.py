"""A node: its nursery, and all requests that it answers.

`open_node` runs the same code over a real disk and network and over simulated ones. All tasks of a node are in the
nursery there, so that an error in any part ends the whole node with a message. The next start recovers.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import trio

from gcount.cluster.context import make_context
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Link, Transport
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.membership import parse_actors
from gcount.core.state.replica import Replica
from gcount.core.writes.id_rules import IdRules
from gcount.core.writes.increments import Asked, Outcome, refused
from gcount.events import Stopping
from gcount.node.parts import Parts, assemble
from gcount.node.startup import Startup
from gcount.node.statistics import NodeStatistics, ServingStatistics
from gcount.observe.metrics import Metrics
from gcount.settings import Settings
from gcount.storage.checkpoints import Checkpoints
from gcount.storage.disk import Disk
from gcount.storage.log import Log

SPANS = 60  # at least so many spans of ids are in a window, so that ids do not stay for much longer than that
MOST_LINGER = 60.0  # seconds; the longest time for which removed members are still dialled


class Node:
    """One node, from its start on. Before it has recovered, most methods raise `Recovering`.

    Args:
        settings: what the operator set.
        disk: the data directory.
        transport: connects to other nodes.
        random: the source of ids and jitter.
        wall_clock: returns seconds since 1970. It only decides between conflicting configs, and which ids are new
            enough.
        options: sizes, limits and pauses.
        stopping: set when the process is asked to stop. Requests that wait for other nodes are answered then.

    Attributes:
        replica: the durable state. This attribute and those below exist once the node has recovered.
        start_id: the random id of this start.
        peers: the members that it dials.
        parts: all parts of the node.
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
        span = max(1, min(options.id_span, int(settings.retry_window) // SPANS))
        self._options = options = options if span == options.id_span else replace(options, id_span=span)
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

    def submit(self, asked: Asked, callback: Callable[[Outcome], None]) -> bool:
        """Take a request, unless it has to wait for anything but the disk; see `Increments.submit`."""
        return self._startup.over.is_set() and self.parts.increments.submit(asked, callback)

    async def count(self, asked: Asked) -> Outcome:
        """Take a request and wait until it is on disk; see `Increments.run`. Until the start is over, it is refused."""
        if not self._startup.over.is_set():
            return refused(asked, self._startup.refusal())
        return await self.parts.increments.run(asked)

    def value(self, name: str) -> int:
        """The value of a counter as this node knows it. It includes all that this node has acknowledged."""
        self.require_ready()
        return self.replica.counters.total(name)

    async def consistent_value(self, name: str, timeout: float | None = None) -> int:
        """The exact value of a counter at some instant between call and return.

        Args:
            name: a valid name.
            timeout: how long to try, in seconds; by default the operator's setting.

        Raises:
            ReadUnavailable: the value could not be known in time.
            Recovering: the node has not finished its start.
        """
        self.require_ready()
        return await self.parts.client_reads.value(name, self.settings.timeout if timeout is None else timeout)

    async def configure(self, body: object) -> dict[str, object]:
        """Put a posted config in force, durably.

        Args:
            body: the decoded JSON document.

        Returns:
            The membership now in force, in the form of `config`.

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
        """The listen address as HOST:PORT, with an IPv6 host in brackets."""
        return self.settings.listen

    @property
    def started(self) -> float:
        """When the node was started, in seconds of trio's clock."""
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
        """Return when the start is over, so that requests that come a moment too early are not refused.

        They wait as long as a consistent read waits for a peer.

        Raises:
            Recovering: the start takes longer, or it waits for space on the disk.
        """
        await self._startup.wait_over(self.settings.timeout)

    def require_ready(self) -> None:
        """Raise `Recovering` until the start is over."""
        self._startup.require_over()

    def statistics(self) -> NodeStatistics:
        """The statistics of the node at this instant."""
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
            self.parts.settling.statistics(),
        )

    # Running

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)

    async def run(self) -> None:
        """Recover, then serve for ever.

        Raises:
            Fatal: the process has to end.
        """
        replica = self.replica = await self._startup.recover(self.settings.max_counters, self._options)
        settings = self.settings
        rules = IdRules(
            self._wall_clock,
            lambda: self.parts.members.why_no_ids(),
            settings.retry_window,
            settings.max_ids,
            lambda incarnation: replica.identity.owns(incarnation) or self.parts.members.is_of_member(incarnation),
        )
        context = make_context(settings.cluster, replica, self.log, self._random, self.metrics, self.stopping, rules)
        self.start_id = context.start_id
        self.parts = assemble(context, self._transport, self._now_ms, fresh=self._startup.fresh)
        self.peers = self.parts.peers
        self._startup.report(replica, self.metrics)
        async with trio.open_nursery() as nursery:
            self.parts.start(nursery, self.checkpoints, min(self.settings.timeout, MOST_LINGER))
            self._startup.over.set()  # last: from here on requests and links are taken


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
    """Run a node for as long as the context lasts. It may still be recovering when the context begins.

    Args:
        settings: what the operator set; `port` has to be the port on which the node really listens.
        disk: the data directory.
        transport: connects to other nodes.
        random: the source of ids and jitter.
        wall_clock: returns seconds since 1970.
        options: sizes, limits and pauses; in production the defaults.
        stopping: set when the process is asked to stop; by default never.

    Raises:
        Fatal: the node can't go on. It leaves the context inside an exception group.
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
        node.log.close()  # only now: until all tasks have ended, a batch may be on its way to the disk
