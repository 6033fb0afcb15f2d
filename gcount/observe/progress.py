"""Lines in the log of a start that takes long."""

import structlog
import trio

EVERY = 1.0  # seconds

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Progress:
    """Says how far a start has come, but not too often."""

    def __init__(self) -> None:
        self._next = trio.current_time() + EVERY

    def tell(self, **where: object) -> None:
        """Say it if the last time is long enough ago."""
        now = trio.current_time()
        if now >= self._next:
            self._next = now + EVERY
            logger.info("recovering", **where)
