"""Where to wait for the disk: in the event loop while it is fast, in a worker thread while it is not.

To hand a write to a thread and its end back costs more than a fast disk takes for it, and the two threads fight for
the interpreter meanwhile. In the loop nothing else runs until the disk is done, which nobody notices while that takes
less than the loop's other work. See docs/performance.md for what both cost.
"""

from typing import Final

HOLD: Final = 0.002  # seconds for which the loop may be held, typically
RETRY: Final = 1.0  # seconds in a thread, at least, until the loop is tried again
SHARE: Final = 100  # times as long in a thread as the slow write held the loop: it may have one part of so many
_WEIGHT: Final = 0.1  # of the newest time in the typical one


class SyncPacing:
    """Decides for the next write by how long the last ones took.

    A slow disk holds the loop once in a while only, and for 1 % of the time: links, which die after a second of
    silence, get through. Only times in the loop count: a thread's contain the wait for the interpreter.
    """

    def __init__(self) -> None:
        self._typical = 0.0
        self._threads_until = 0.0

    def in_loop(self, now: float) -> bool:
        """Whether the next write is to be done in the loop.

        Args:
            now: seconds, by any clock that only goes forward.
        """
        return now >= self._threads_until

    def took(self, seconds: float, now: float) -> None:
        """Learn from a write that was done in the loop.

        Args:
            seconds: how long it held the loop.
            now: as for `in_loop`.
        """
        self._typical += _WEIGHT * (seconds - self._typical)
        if self._typical > HOLD:
            self._typical, self._threads_until = 0.0, now + max(RETRY, SHARE * seconds)
