"""A node: its one nursery, and what can be asked of it.

`open_node` runs the same over a real disk and network and over simulated ones. Everything that a node does is a child
of the nursery in it, so that the crash of any part takes the whole node down, loudly; the next start recovers.
"""

from collections.abc import AsyncIterator, Callable, Sequence
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
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.identity import Identity, IncarnationClaim
from gcount.core.state.membership import parse_actors
from gcount.core.state.replica import Replica
from gcount.errors import DiskFull, ReadUnavailable, Recovering, Refusal
from gcount.observe.metrics import Metrics
from gcount.settings import Settings
from gcount.storage.checkpoints import Checkpoints
from gcount.storage.disk import Disk, shortage
from gcount.storage.group_commit import Amounts, Committer
from gcount.storage.log import Log
from gcount.storage.recovery import recover

CONFIRM_WITHIN = 1.0  # seconds after the start in which increments wait for the members' confirmations
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
        options: sizes, limits and pauses.
    """

    def __init__(
        self,
        settings: Settings,
        disk: Disk,
        transport: Transport,
        random: Random,
        wall_clock: Callable[[], float],
        options: Options,
    ) -> None:
        self.settings = settings
        self.options = options
        self.metrics = Metrics()
        self.log = Log(disk, options)
        self.checkpoints = Checkpoints(disk, self.log, self.metrics, options)
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

    # What clients ask

    async def increment(self, name: str, amount: int) -> int:
        """Count; when this returns, the increment is on disk.

        Args:
            name: a valid name.
            amount: 0 to 2^64-1; adding 0 changes nothing.

        Returns:
            The counter's value on this node afterwards.

        Raises:
            Refusal: nothing was changed: PartLimitReached, CounterLimitReached, DiskFull, Recovering.
        """
        self.require_ready()
        if not amount:
            return self.local.replica.counters.total(name)
        [value] = await self.increment_many([(name, amount)])
        if isinstance(value, Refusal):
            raise value
        return value

    async def increment_many(self, amounts: Amounts, together: Sequence[range] = ()) -> list[int | Refusal]:
        """Count many things with one commit; see `increment`, and `Committer.increment_many` for the rest."""
        self.require_ready()
        if self.local.holds:
            await self.local.wait_unheld([name for name, amount in amounts if amount])
        await self._confirm_identity()
        # From the confirmation to here there is no await: nothing can have spoken against the incarnation meanwhile.
        return await self.local.committer.increment_many(amounts, together)

    def increment_each(
        self, names: Sequence[str], amount: int, tell: Callable[[Sequence[int] | DiskFull], None]
    ) -> bool:
        """Count an amount for each of many names and wait for nothing; see `Committer.increment_each`.

        Returns:
            False when that can't be done at once: nothing was changed, and `increment_many` waits until it can.
        """
        if not self._ready.is_set():
            return False
        local = self.local
        if local.holds and local.holds.keep_any(names, trio.current_time()):
            return False
        return local.may_continue and local.committer.increment_each(names, amount, tell)

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
            self._ready.set()
            if self._ready_or_stopping.is_set():
                self.stop()  # it was told to while it started, when there was nothing to stop yet
            self._ready_or_stopping.set()

    async def _recover(self) -> Replica:
        while True:
            identity = Identity(self._random.randbytes(ID_BYTES), self._random.randbytes(ID_BYTES))
            replica = Replica(identity, self.settings.max_counters, self.options)
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

    async def _confirm_identity(self) -> None:
        local = self.local
        if local.may_continue:
            return
        guard = local.guard
        with trio.move_on_at(self._serving_since + CONFIRM_WITHIN):
            while not (self._gather.stopping or guard.standing.reason or local.may_continue):
                await local.wait_news()
        guard.give_up(local.members.others)
        await guard.mint_if_due()

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
            raise Recovering(self._no_room or "the node has not finished its start; try again in a moment")


@asynccontextmanager
async def open_node(
    settings: Settings,
    disk: Disk,
    transport: Transport,
    *,
    random: Random,
    wall_clock: Callable[[], float],
    options: Options = DEFAULTS,
) -> AsyncIterator[Node]:
    """Run a node for as long as the context lasts; it may still be recovering when the context begins.

    Args:
        settings: what the operator set; `port` is the one that is really listened on.
        disk: its data directory.
        transport: how it reaches others.
        random: where ids and jitter come from.
        wall_clock: seconds since the epoch.
        options: sizes, limits and pauses; in production the defaults.

    Raises:
        Fatal: in a group, out of the context: the node can't go on.
    """
    node = Node(settings, disk, transport, random, wall_clock, options)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            try:
                yield node
            finally:
                nursery.cancel_scope.cancel()
    finally:
        node.log.close()  # only now, as a batch may have been on its way to the disk
