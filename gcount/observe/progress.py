"""Log lines that show how far a long start has come."""

import structlog
import trio

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Progress:
    """Logs how far a start has come, but not too often.

    Args:
        every: the least time between two lines, in seconds.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._next = trio.current_time() + every

    def report(self, **where: object) -> None:
        """Log the progress, if the last line was long enough ago.

        Args:
            where: how far the start has come: the fields of the line.
        """
        now = trio.current_time()
        if now >= self._next:
            self._next = now + self._every
            logger.info("recovering", **where)
