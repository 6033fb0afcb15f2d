"""Settles increments with ids, so that memory holds only those that can still be sent again.

Each node promises to take no ids of a time any more, once they are older than the retry window and a grace period. The
first member of the config adds up the ids for which all members have promised that. Any member could do so, also two
at once; that it is one saves work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
import trio

from gcount.cluster.context import Context
from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.members import Members
from gcount.core.protocol.floors import Floors, Hold, promise
from gcount.core.state.counters import Digest
from gcount.errors import DiskFull

MOST_PAUSE = 10.0  # seconds between two promises of a node, with a long retry window
PAUSES = 6  # in a retry window at least; and so many pauses ids may wait before they count as held back
MUCH_LATER = 4  # times as late as other ids, those are settled that may be settled elsewhere, too; see floors.py
PATIENCE = 1 / 6  # of the retry window, for which settlement is held back before the log says so
SWEEP = 2000  # ids and sums that are freed in one step, which takes about 2 ms

NOT_SETTLED = "has not settled them yet, as the first member of the config"
NOT_IN_CONFIG = "is not in the config, and members settle"

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Held:
    """Settlement that is held back.

    Args:
        hold: by which member, and why.
        since: when it was due, in seconds since 1970.
    """

    hold: Hold
    since: int


@dataclass(frozen=True)
class IdStatistics:
    """The increments with ids at one instant.

    Args:
        live: how many ids are kept, so that each counts once.
        limit: how many a node may keep before it refuses new ones.
        window: for how long an id can be sent again, in seconds.
        oldest: the age of the oldest id in seconds, at most; None when there is none.
        floor: this node takes no id with a time up to here any more, in seconds since 1970; 0 before the first.
        floors: the same by the address of each other member; None when it was not heard since the start.
        held: settlement that is held back; None when it is not.
        held_for: for how long it has been held back, in seconds.
        settled: how many ids were dropped since the start, as they were settled.
        settlements: how many settlements this node has made since the start.
    """

    live: int
    limit: int
    window: float
    oldest: float | None
    floor: int
    floors: Mapping[str, int | None]
    held: Held | None
    held_for: float
    settled: int
    settlements: int


class Settling:
    """Promises, settles, and frees memory.

    Args:
        context: what the parts of the node share.
        members: the members of the cluster.
        guard: guards the right to the incarnation, under which settlements are written.
    """

    def __init__(self, context: Context, members: Members, guard: IdentityGuard) -> None:
        self._replica = context.replica
        self._committer = context.committer
        self._members = members
        self._guard = guard
        self._rules = context.rules
        self._floors = Floors(context.replica)
        self._lag = self._rules.window + self._rules.grace
        self._pause = min(MOST_PAUSE, self._rules.window / PAUSES)
        self._dropped_before = context.replica.counters.entries.dropped
        self._settlements = 0
        self._held_at: float | None = None  # when settlement was first seen to be held back, in seconds of trio's clock
        self._warned = False
        self._windows: dict[str, float] = {}  # by member: its retry window as it told it last, in seconds

    def told(self, address: str, floor: int, digest: Digest) -> None:
        """Take a floor that a member told. What others tell, which were members, is not kept.

        Args:
            address: its entry in the membership.
            floor: the floor, in seconds since 1970.
            digest: what it had on disk, not earlier than the floor.
        """
        if address not in self._newest:
            return
        hello = self._members.hellos[address]
        if self._windows.get(address) != hello.window:
            self._windows[address] = hello.window
            self._compare(address, hello.window)
        self._floors.told(address, (hello.node, hello.start_id), floor, digest)

    def _compare(self, address: str, window: float) -> None:
        """Warn if a member has another retry window; 0 when it did not tell it."""
        if window not in (0, self._rules.window):
            logger.warning(
                "retry windows differ",
                member=address,
                window=window,
                here=self._rules.window,
                effect="ids may count twice if a member is added or loses its directory; set GCOUNT_RETRY_WINDOW alike",
            )

    async def run(self) -> None:
        """Promise, settle and free memory, for ever. While there are no ids this wakes rarely, and writes nothing."""
        while True:
            await trio.sleep(self._pause)
            members = {*self._newest, *self._replica.membership.actors}
            self._floors.keep(members)
            self._windows = {address: window for address, window in self._windows.items() if address in members}
            with suppress(DiskFull):  # both are tried again after the pause
                await self._promise()
                await self._settle()
            while self._replica.counters.entries.sweep(SWEEP):
                await trio.lowlevel.checkpoint()
            self._report()

    def statistics(self) -> IdStatistics:
        """The increments with ids at this instant."""
        entries, now, held = self._replica.counters.entries, self._rules.now(), self._held()
        others = [entry for entry in self._newest if entry not in self._members.here]
        return IdStatistics(
            entries.live,
            self._rules.most,
            self._rules.window,
            None if entries.oldest is None else max(0.0, now - entries.oldest),
            self._replica.floor or 0,
            {entry: self._floors.of(entry) for entry in others},
            held,
            0.0 if held is None else now - held.since,
            entries.dropped - self._dropped_before,
            self._settlements,
        )

    @property
    def _newest(self) -> Sequence[str]:
        """The entries of the newest membership, which may not be on disk yet."""
        return self._replica.membership.merge(self._members.learned).actors

    async def _promise(self) -> None:
        floor = promise(self._replica, self._rules.now() - self._lag)
        commit = None if floor is None else self._committer.promise(floor)
        if commit is not None:
            await commit.wait()

    async def _settle(self) -> None:
        while self._is_first() and self._until() is not None:  # each settlement is small, so that others can run
            before = self._settled_version()
            await self._committer.settle_ids(self._until).wait()
            if self._settled_version() == before:
                return
            self._settlements += 1

    def _is_first(self) -> bool:
        members = self._newest
        return not members or members[0] in self._members.here

    def _until(self) -> int | None:
        """Up to which time ids can be settled now, in seconds since 1970. It is asked again when a batch is sealed."""
        if not self._guard.may_continue:
            return None
        late = self._rules.now() - MUCH_LATER * self._lag
        return self._floors.until(self._newest, self._members.here, late, self._columns())

    def _columns(self) -> set[bytes]:
        """The incarnations that this node or a member of the newest config says are its own, now or formerly."""
        identity, hellos = self._replica.identity, self._members.hellos
        found = {identity.incarnation, *identity.retired}
        for hello in (hellos[entry] for entry in self._newest if entry in hellos):
            found.update((hello.incarnation, *hello.retired))
        return found

    def _settled_version(self) -> int:
        """This node's version with its newest settlement; 0 without one."""
        return self._replica.counters.settlements.needs().get(self._replica.identity.incarnation, 0)

    # What holds settlement back

    def _held(self) -> Held | None:
        entries = self._replica.counters.entries
        if entries.oldest is None:
            return None
        end = entries.oldest + self._replica.options.id_span - 1
        late = self._floors.is_late(end, self._newest, self._columns())
        due = end + self._lag * (MUCH_LATER if late else 1)
        if self._rules.now() < due + PAUSES * self._pause:
            return None
        return Held(self._hold(end), int(due))

    def _hold(self, end: int) -> Hold:
        """What holds back the settlement of ids up to a time, which is due."""
        members, here = self._newest, self._members.here
        own = next(iter(here), "this node")
        if members and not here:
            return Hold(own, NOT_IN_CONFIG)
        return self._floors.hold(end, members, here) or Hold(members[0] if members else own, NOT_SETTLED)

    def _report(self) -> None:
        """Log once that settlement is held back for long, and once that it goes on."""
        held, now = self._held(), trio.current_time()
        if held is None:
            if self._warned:
                logger.info("settlement goes on", ids=self._replica.counters.entries.live)
            self._held_at, self._warned = None, False
            return
        if self._held_at is None:
            self._held_at = now
        if not self._warned and now - self._held_at >= PATIENCE * self._rules.window:
            self._warned = True
            logger.warning(
                "settlement held back",
                member=held.hold.address,
                reason=held.hold.reason,
                ids=self._replica.counters.entries.live,
                limit=self._rules.most,
                effect="ids are kept in memory meanwhile; if the member is away, start it or take it out of the config",
            )
