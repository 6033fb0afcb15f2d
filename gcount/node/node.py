"""A node: its one nursery, and what can be asked of it.

`open_node` runs the same over a real disk and network and over simulated ones. Everything that a node does is a child
of the nursery in it, so that the crash of any part takes the whole node down, loudly; the next start recovers.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import structlog
import trio

from gcount.cluster.config import Asker, describe_config, post_config
from gcount.cluster.consistent_reads import ConsistentReads, NodeStops
from gcount.cluster.gap_closer import close_gaps
from gcount.cluster.links.acceptor import Acceptor
from gcount.cluster.links.peers import Peers
from gcount.cluster.links.transport import Link, Transport
from gcount.cluster.local import Local
from gcount.cluster.operator_log import report_config, report_start
from gcount.core.limits import ID_BYTES
from gcount.core.state.batch import Batch
from gcount.core.state.identity import Identity, IncarnationClaim
from gcount.core.state.increments import Asked, Outcome, refused
from gcount.core.state.membership import parse_actors
from gcount.core.state.replica import Replica
from gcount.errors import DiskFull, ReadUnavailable, Recovering
from gcount.node.increments import Increments
from gcount.observe.metrics import Metrics
from gcount.settings import Settings
from gcount.storage.checkpoints import Checkpoints
from gcount.storage.disk import Disk, shortage
from gcount.storage.group_commit import Committer
from gcount.storage.log import Log
from gcount.storage.recovery import recover

EMPTY_WAIT = 1.5  # seconds in which members who know this node can reach it, before it answers reads without a config
SELF_WAIT = 1.0  # seconds to find out which entry of a new config is this node
MOST_LINGER = 60.0  # seconds for which removed members are still dialled, at most
ROOM_RETRY = 1.0  # seconds between two attempts to start on a full disk

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Node:
    """One node, from its start on; before it has recovered, most of its methods raise `Recovering`.

    Args:
        settings: what the operator set.
        disk: its data directory.
        transport: how it reaches others.
        random: where ids and jitter come from.
        wall_clock: seconds since the epoch; only decides between conflicting configs.
    """

    def __init__(
        self, settings: Settings, disk: Disk, transport: Transport, random: Random, wall_clock: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.log = Log(disk)
        self.checkpoints = Checkpoints(disk, self.log, self.metrics)
        self.started = trio.current_time()
        self._transport = transport
        self._random = random
        self._wall_clock = wall_clock
        self._fresh = False
        self._serving_since = self.started
        self._ready = trio.Event()
        self._no_room: str | None = None  # why the start waits
        self._ready_or_stopping = trio.Event()
        self.local: Local
        self.peers: Peers
        self._acceptor: Acceptor
        self._asker: Asker
        self._gather: ConsistentReads
        self._increments: Increments

    # What clients ask

    def submit(self, asked: Asked, tell: Callable[[Outcome], None]) -> bool:
        """Count, unless something has to be waited for but the disk; see `Increments.submit`."""
        return self._ready.is_set() and self._increments.submit(asked, tell)

    async def count(self, asked: Asked) -> Outcome:
        """Count; when this returns, it is on disk. See `Increments.run`: until the start is over, all is refused."""
        if not self._ready.is_set():
            return refused(asked, self._recovering())
        return await self._increments.run(asked)

    def value(self, name: str) -> int:
        """What this node knows of a counter: at least all that it acknowledged itself."""
        self.require_ready()
        return self.local.replica.counters.total(name)

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
        deadline = trio.current_time() + (self.settings.timeout if timeout is None else timeout)
        if not self.local.replica.membership.actors:
            await self._wait_to_be_known(name, deadline)
        return await self._gather.read(name, max(0.0, deadline - trio.current_time()))

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
        actors = parse_actors(body, self.settings.port)
        nodes = await post_config(self.local, self._asker, actors, lambda: int(self._wall_clock() * 1000))
        with trio.move_on_after(SELF_WAIT):
            while self.local.members.self_address is None and self.peers.any_untried and not self._gather.stopping:
                await self.local.wait_news()
        return describe_config(self.local, self.peers, nodes)

    def config(self) -> dict[str, object]:
        """The membership in force, and which entry is this node; see `describe_config`."""
        self.require_ready()
        return describe_config(self.local, self.peers)

    # What peers ask

    async def accept(self, link: Link, caller: str, promote: Callable[[], bool]) -> None:
        """Serve a link that another node dialled, until it is over; see `Acceptor.serve`."""
        self.require_ready()
        await self._acceptor.serve(link, caller, promote)

    # What operators ask

    @property
    def listens_on(self) -> str:
        """HOST:PORT, an IPv6 host in brackets."""
        return self.settings.listen

    @property
    def recovered(self) -> bool:
        """Whether the start is over."""
        return self._ready.is_set()

    @property
    def not_ready(self) -> str | None:
        """Why the node can't take increments now; None when it can."""
        if not self._ready.is_set():
            return self._no_room or "recovering"
        return self.local.committer.full

    async def wait_ready(self) -> None:
        """Return when the node has recovered and serves."""
        await self._ready.wait()

    # Its life

    def stop(self) -> None:
        """The process is about to end: whoever waits for other nodes, or for the start, is answered now."""
        self._ready_or_stopping.set()
        if self._ready.is_set():
            self._gather.stop()
            self.peers.stop()

    async def run(self) -> None:
        """Recover, then serve for ever.

        Raises:
            Fatal: the process has to end.
        """
        replica = await self._recover()
        committer = Committer(replica, self.log, self.metrics, self._committed)
        standing = IncarnationClaim(fresh=self._fresh)
        self.local = local = Local(self.settings.cluster, replica, committer, standing, self._random, self.metrics)
        self.peers = Peers(local, self._transport)
        self._gather = ConsistentReads(local, self.peers)
        self._asker = Asker(local, self._transport)
        self._acceptor = Acceptor(local, self.peers)
        local.on_learned = self._gather.learned
        local.on_identity = self._hang_up
        self.peers.on_collected = self._gather.collected
        self.peers.on_linked = self._gather.linked
        seconds = trio.current_time() - self.started
        self.metrics.recovery_seconds.set(seconds)
        self.metrics.incarnations_minted.inc(self._fresh)
        report_start(replica, self.log.size, self.checkpoints.size, seconds, fresh=self._fresh)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(committer.run)
            nursery.start_soon(self.checkpoints.run, replica)
            nursery.start_soon(self.peers.run, min(self.settings.timeout, MOST_LINGER))
            nursery.start_soon(report_config, local, self.peers)
            nursery.start_soon(close_gaps, local, self.peers)
            nursery.start_soon(self._acceptor.run)
            self._serving_since = trio.current_time()
            self._increments = Increments(local, self._serving_since, lambda: self._gather.stopping)
            self._ready.set()
            if self._ready_or_stopping.is_set():
                self.stop()  # it was told to while it started, when there was nothing to stop yet
            self._ready_or_stopping.set()

    async def _recover(self) -> Replica:
        while True:
            identity = Identity(self._random.randbytes(ID_BYTES), self._random.randbytes(ID_BYTES))
            replica = Replica(identity, self.settings.max_counters)
            try:
                header = await recover(replica, self.log, self.checkpoints)
                if header is None:
                    await self.log.begin(identity)
                    self._fresh = True
                elif replica.identity == identity:
                    replica.identity = Identity(header.node, header.incarnation)
                return replica
            except DiskFull as error:
                if self._no_room is None:
                    self._no_room = f"{error}; the start waits"
                    logger.error(shortage(str(error)), reason=str(error), effect="the start waits until there is room")
                await trio.sleep(ROOM_RETRY)

    async def _wait_to_be_known(self, name: str, deadline: float) -> None:
        """No config is known: members who know this node, whose disk may have forgotten them, get time to reach it."""
        known_by = self._serving_since + EMPTY_WAIT
        with trio.move_on_at(deadline):
            while trio.current_time() < known_by and not self.local.replica.membership.actors:
                if self._gather.stopping:
                    raise NodeStops(self.value(name), [])
                with trio.move_on_at(known_by):
                    await self.local.wait_news()
            return
        raise ReadUnavailable(self.value(name), [])

    def _hang_up(self) -> None:
        """The node's identity changed: all who know it have to meet it anew."""
        self.peers.hang_up()
        self._acceptor.hang_up()

    def _committed(self, batch: Batch) -> None:
        own = self.local.replica.identity.owns
        if batch.membership is not None or any(own(delta.incarnation) for delta in batch.deltas):
            self.peers.wake()  # news of others is relayed later, if they have not told it themselves by then
        if batch.identity is not None:
            self.local.minted()
        if batch.membership is not None:
            self.local.guard.members_changed(self.local.replica.membership.actors)
            self._gather.learned(batch.membership)  # also for reads that began while it was on its way to the disk
            self.local.tell_news()
        self.local.adopt_missed()
        if self.local.replica.salvage:
            self.local.tell_news()  # there may be more of it
        self.local.look_for_forks()

    async def wait_recovered(self) -> None:
        """Return when the start is over: what comes a moment too early waits, as long as it would for a peer.

        Raises:
            Recovering: it takes longer, or the start waits for room on the disk.
        """
        if not self._ready.is_set() and self._no_room is None:
            with trio.move_on_after(self.settings.timeout):
                await self._ready_or_stopping.wait()
        self.require_ready()

    def require_ready(self) -> None:
        """Raise `Recovering` until the start is over."""
        if not self._ready.is_set():
            raise self._recovering()

    def _recovering(self) -> Recovering:
        return Recovering(self._no_room or "the node has not finished its start; try again in a moment")


@asynccontextmanager
async def open_node(
    settings: Settings, disk: Disk, transport: Transport, *, random: Random, wall_clock: Callable[[], float]
) -> AsyncIterator[Node]:
    """Run a node for as long as the context lasts; it may still be recovering when the context begins.

    Args:
        settings: what the operator set; `port` is the one that is really listened on.
        disk: its data directory.
        transport: how it reaches others.
        random: where ids and jitter come from.
        wall_clock: seconds since the epoch.

    Raises:
        Fatal: in a group, out of the context: the node can't go on.
    """
    node = Node(settings, disk, transport, random, wall_clock)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            try:
                yield node
            finally:
                nursery.cancel_scope.cancel()
    finally:
        node.log.close()  # only now, as a batch may have been on its way to the disk
