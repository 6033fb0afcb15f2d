"""Decides where to wait for the disk: in the event loop while it is fast, in a worker thread while it is slow.

Passing a write to a thread, and its end back, costs more than a fast disk takes for the write, and meanwhile the two
threads compete for the interpreter. In the event loop nothing else runs until the disk is done. That is not noticeable
while it takes less time than the other work of the loop. docs/performance.md says what both cost.
"""

from typing import Final

MAX_TYPICAL: Final = 0.002  # seconds that a typical write may block the event loop
RETRY: Final = 1.0  # seconds in which all writes use a thread, at least, before one is tried in the loop again
SHARE: Final = 100  # times as long as the last write blocked the loop, writes use a thread: it blocks for 1 % at most
_WEIGHT: Final = 0.1  # of the newest time in the moving average


class SyncPacing:
    """Decides for the next write by the time that the last ones took.

    A slow disk blocks the event loop for at most 1 % of the time, so that links, which end after a second of silence,
    stay up. Only times in the loop are counted: times in a thread contain the wait for the interpreter.
    """

    def __init__(self) -> None:
        self._typical = 0.0
        self._threads_until = 0.0

    def in_loop(self, now: float) -> bool:
        """Whether the next write is to run in the event loop.

        Args:
            now: the time in seconds, from a clock that never goes backward.
        """
        return now >= self._threads_until

    def took(self, seconds: float, now: float) -> None:
        """Take the time of a write that ran in the event loop.

        Args:
            seconds: how long it blocked the loop.
            now: the time after it, as for `in_loop`.
        """
        self._typical += _WEIGHT * (seconds - self._typical)
        if self._typical > MAX_TYPICAL:
            self._typical, self._threads_until = 0.0, now + max(RETRY, SHARE * seconds)
