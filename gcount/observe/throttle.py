"""Log lines that an outsider can cause, without letting the outsider fill the log."""

import logging

import structlog
import trio

QUIET = 1.0  # seconds between two lines


class Throttle:
    """Logs one event once in a while, however often it happens, and says how many were left out.

    Args:
        event: what happened, in a few words.
        quiet: seconds between two lines.
    """

    def __init__(self, event: str, quiet: float = QUIET) -> None:
        self._event = event
        self._quiet = quiet
        self._log = structlog.get_logger()
        self._quiet_until = float("-inf")
        self._suppressed = 0

    def warn(self, **fields: object) -> None:
        """Log the event with these fields, unless it was logged a moment ago."""
        if trio.current_time() < self._quiet_until:
            self._suppressed += 1
            return
        if self._suppressed:
            fields["suppressed"] = self._suppressed
        self._log.warning(self._event, **fields)
        self._quiet_until = trio.current_time() + self._quiet
        self._suppressed = 0


class ThrottledHandler(logging.Handler):
    """Logs what a library says through the standard logging, and clients may know how to cause.

    Args:
        event: what each such line is about, in a few words.
    """

    def __init__(self, event: str) -> None:
        super().__init__()
        self._throttle = Throttle(event)

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record, unless another one was logged a moment ago."""
        self._throttle.warn(reason=record.getMessage(), exc_info=record.exc_info)
