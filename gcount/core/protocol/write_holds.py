"""Holds: increments of one counter wait for a moment so that a consistent read can end under any rate of writes.

Safety never rests on a hold, only termination does. A hold ends with the release of its last sharer or 250 ms after it
began, however many joined it meanwhile, and no new one begins before as long again has passed, so that readers never
starve writers. An increment waits for the holds that were in force when it came, of all its counters at once, and for
none that begins later: so it waits as long as one hold lasts, at most.
"""

from collections.abc import Iterable, Sequence

from gcount.core.options import DEFAULTS, Options

MAX_HOLD = 0.25  # seconds


class Hold:
    """One hold on one counter.

    Args:
        started: when it began, in seconds.
    """

    __slots__ = ("ended", "sharers", "started")

    def __init__(self, started: float) -> None:
        self.started = started
        self.sharers: set[object] = set()
        self.ended: float | None = None

    def until(self) -> float:
        """When it ends at the latest, in seconds."""
        return self.started + MAX_HOLD

    def over(self, now: float) -> bool:
        """Whether it has ended, by a release or in time."""
        return self.ended is not None or now >= self.until()

    def rested(self, now: float) -> bool:
        """Whether it ended so long ago that a new one may begin."""
        ended = self.until() if self.ended is None else self.ended
        return now >= ended + MAX_HOLD


class Holds:
    """The holds that other nodes' reads, and this one's own, have on this node's increments.

    Args:
        options: how many counters may be held.
    """

    def __init__(self, options: Options = DEFAULTS) -> None:
        self._max_names = options.max_held_names
        self._holds: dict[str, Hold] = {}

    def __bool__(self) -> bool:
        """Whether there may be any; otherwise nothing need be asked."""
        return bool(self._holds)

    def ask(self, name: str, sharer: object, now: float) -> bool:
        """Begin or join a hold; returns False while the counter rests from the last one."""
        hold = self._holds.get(name)
        if hold is None or hold.rested(now):
            self._forget_rested(now)
            if len(self._holds) >= self._max_names:
                return False
            hold = self._holds[name] = Hold(now)
            assert len(self._holds) <= self._max_names, "more counters are held than are allowed"
        if hold.over(now):
            return False
        hold.sharers.add(sharer)
        assert hold.ended is None, "a hold that was released is joined"
        return True

    def release(self, name: str, sharer: object, now: float) -> bool:
        """End one share; returns whether that ended the hold."""
        hold = self._holds.get(name)
        if hold is None or hold.over(now):
            return False
        assert hold.sharers, "a hold that nobody shares is in force"
        if sharer not in hold.sharers:
            return False  # it asked while the counter rested, and was refused: the hold is others'
        hold.sharers.discard(sharer)
        assert now >= hold.started, "a hold ends after it began"
        if not hold.sharers:
            hold.ended = now
        return not hold.sharers

    def release_all(self, sharer: object, now: float) -> list[str]:
        """End all shares of one sharer, as its link is gone; returns the names whose hold ended."""
        return [
            name for name, hold in self._holds.items() if sharer in hold.sharers and self.release(name, sharer, now)
        ]

    def until(self, name: str, now: float) -> float | None:
        """Until when increments of a counter wait at the latest, in seconds; None when they need not."""
        hold = self._holds.get(name)
        return None if hold is None or hold.over(now) else hold.until()

    def in_force(self, names: Iterable[str], now: float) -> list[Hold]:
        """The holds that keep increments of these counters waiting now."""
        found = [hold for name in names if (hold := self._holds.get(name)) is not None]
        return [hold for hold in found if not hold.over(now)]

    def keep_any(self, names: Sequence[str], now: float) -> bool:
        """Whether increments of any of these counters wait."""
        return not self._holds.keys().isdisjoint(names) and any(self.until(name, now) is not None for name in names)

    def _forget_rested(self, now: float) -> None:
        if len(self._holds) >= self._max_names // 2:
            self._holds = {name: hold for name, hold in self._holds.items() if not hold.rested(now)}
