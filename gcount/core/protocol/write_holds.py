"""Holds: increments of one counter wait for a moment, so that a consistent read can end under any rate of writes.

Only the termination of reads depends on holds, never their correctness. A hold ends when its last sharer releases it,
or 250 ms after it began, even if readers have joined it meanwhile. No new hold of the counter begins before 250 ms more
have passed, so that readers can't starve writers. An increment waits for the holds that are in force when it arrives,
for those of all its counters at the same time, and for none that begins later. So it waits as long as one hold lasts,
at most.
"""

from collections.abc import Iterable, Sequence

from gcount.core.options import DEFAULTS, Options

MAX_HOLD = 0.25  # seconds


class Hold:
    """One hold of one counter.

    Args:
        started: when it began, in seconds.

    Attributes:
        sharers: the callers that asked for it and have not released it.
        ended: when its last sharer released it, in seconds; None before.
    """

    __slots__ = ("ended", "sharers", "started")

    def __init__(self, started: float) -> None:
        self.started = started
        self.sharers: set[object] = set()
        self.ended: float | None = None

    def until(self) -> float:
        """When it ends at the latest, in seconds, whatever its sharers do."""
        return self.started + MAX_HOLD

    def over(self, now: float) -> bool:
        """Whether it has ended, by a release or by its time limit."""
        return self.ended is not None or now >= self.until()

    def rested(self, now: float) -> bool:
        """Whether it ended so long ago that a new hold of the counter may begin."""
        ended = self.until() if self.ended is None else self.ended
        return now >= ended + MAX_HOLD


class Holds:
    """The holds of this node's counters, which other nodes' reads and this node's own have asked for.

    Args:
        options: how many counters may be held at the same time.
    """

    def __init__(self, options: Options = DEFAULTS) -> None:
        self._max_names = options.max_held_names
        self._holds: dict[str, Hold] = {}

    def __bool__(self) -> bool:
        """Whether any hold may be in force; the fast path of increments asks only this."""
        return bool(self._holds)

    def ask(self, name: str, sharer: object, now: float) -> bool:
        """Begin or join a hold.

        Args:
            name: the counter.
            sharer: identifies the caller in `release`.
            now: the current time, in seconds.

        Returns:
            Whether the hold is in force. It is not while the counter rests from its last one, or when the number of
            held counters is at its limit.
        """
        hold = self._holds.get(name)
        if hold is None or hold.rested(now):
            self._forget_rested(now)  # ended holds stay until here, as their counters have to rest
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
        """End a sharer's part in a hold; returns whether that ended the hold."""
        hold = self._holds.get(name)
        if hold is None or hold.over(now):
            return False
        assert hold.sharers, "a hold without a sharer is in force"
        if sharer not in hold.sharers:
            return False  # it asked while the counter rested and was refused; the present hold is not its own
        hold.sharers.discard(sharer)
        assert now >= hold.started, "a hold ends after it began"
        if not hold.sharers:
            hold.ended = now
        return not hold.sharers

    def release_all(self, sharer: object, now: float) -> list[str]:
        """End all parts of a sharer whose link is gone; returns the names of the counters whose hold ended."""
        return [
            name for name, hold in self._holds.items() if sharer in hold.sharers and self.release(name, sharer, now)
        ]

    def until(self, name: str, now: float) -> float | None:
        """Until when increments of a counter wait at the latest, in seconds; None when they do not wait."""
        hold = self._holds.get(name)
        return None if hold is None or hold.over(now) else hold.until()

    def in_force(self, names: Iterable[str], now: float) -> list[Hold]:
        """The holds for which increments of these counters wait now."""
        found = [hold for name in names if (hold := self._holds.get(name)) is not None]
        return [hold for hold in found if not hold.over(now)]

    def any_held(self, names: Sequence[str], now: float) -> bool:
        """Whether increments of any of these counters wait now."""
        return not self._holds.keys().isdisjoint(names) and any(self.until(name, now) is not None for name in names)

    def _forget_rested(self, now: float) -> None:
        if len(self._holds) >= self._max_names // 2:
            self._holds = {name: hold for name, hold in self._holds.items() if not hold.rested(now)}
