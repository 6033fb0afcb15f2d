"""Log lines that an outsider can cause: limited in number, so that an outsider can't fill the log."""

import logging

import structlog
import trio

QUIET = 1.0  # seconds between two lines


class Throttle:
    """Logs an event that may happen often: one line in each period, with the number of lines that were left out.

    Args:
        event: what happened, in a few words.
        quiet: the least time between two lines, in seconds.
    """

    def __init__(self, event: str, quiet: float = QUIET) -> None:
        self._event = event
        self._quiet = quiet
        self._log = structlog.get_logger()
        self._quiet_until = float("-inf")
        self._suppressed = 0

    def warn(self, **fields: object) -> None:
        """Log the event with these fields, unless the last line is too recent."""
        if trio.current_time() < self._quiet_until:
            self._suppressed += 1
            return
        if self._suppressed:
            fields["suppressed"] = self._suppressed
        self._log.warning(self._event, **fields)
        self._quiet_until = trio.current_time() + self._quiet
        self._suppressed = 0


class ThrottledHandler(logging.Handler):
    """Logs records of a library that clients may be able to cause.

    Args:
        event: what the records are about, in a few words.
    """

    def __init__(self, event: str) -> None:
        super().__init__()
        self._throttle = Throttle(event)

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record, unless the last line is too recent."""
        self._throttle.warn(reason=record.getMessage(), exc_info=record.exc_info)
