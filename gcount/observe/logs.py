"""The log: one line for each event on standard error, as text for people or as JSON for machines."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

EVENT_WIDTH = 24
LEVEL_WIDTH = 8


def configure(log_format: Literal["text", "json"], stream: TextIO | None = None) -> None:
    """Set up the log. It may be called again.

    The lines of dependencies that use the standard library's logging go to the same log, from WARNING up. So do
    Python's warnings. It has to be called before an application is made, because Quart adds a handler of its own if it
    finds none. (hypercorn always adds one, unless its configuration has a logger; see `http_config`.)

    Args:
        log_format: the format of the lines.
        stream: where the lines are written; by default standard error.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            _add_time,
            structlog.processors.format_exc_info,
            _render_json if log_format == "json" else _render_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_Lines(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _ToStructlog)]:
        root.removeHandler(handler)
    root.addHandler(_ToStructlog())
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)


def get_logger(**fields: object) -> FilteringBoundLogger:
    """A logger that adds `fields` to each of its lines."""
    return cast(FilteringBoundLogger, structlog.get_logger(**fields))


class _Lines:
    """Writes finished lines; it is its own factory, as all loggers write to one stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, *_names: object) -> "_Lines":
        return self

    def msg(self, line: str) -> None:
        """Write one line."""
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # The reader of the log is gone, or the log's disk is full. A node has no reason to stop counting for that.
            pass

    debug = info = warning = error = critical = msg


class _ToStructlog(logging.Handler):
    """Passes records of the standard library's logging on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an event of the same level, made by the logger of that name."""
        level = next((level for level in (50, 40, 30, 20) if record.levelno >= level), 10)
        try:
            event = record.getMessage().strip()
        except (TypeError, ValueError):
            event = str(record.msg)  # the arguments do not fit the text
        get_logger().log(level, event, logger=record.name, exc_info=record.exc_info)


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    event["timestamp"] = now.replace("+00:00", "Z")
    return event


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    first = {key: event.pop(key) for key in ("timestamp", "level", "event")}
    return json.dumps({**first, **event}, default=str)


def _render_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    time, level, what = event.pop("timestamp"), event.pop("level"), _shown(event.pop("event"))
    traceback = event.pop("exception", None)
    fields = " ".join(f"{key}={_field(value)}" for key, value in event.items())
    line = f"{time} {level:<{LEVEL_WIDTH}} {what:<{EVENT_WIDTH}} {fields}".rstrip()
    return f"{line}\n{traceback}" if traceback else line


def _field(value: object) -> str:
    """A value as one word; it is quoted if it has blanks or other special characters."""
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "='):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _shown(value: object) -> str:
    """A value as text, with control characters escaped: none may end the line or control a terminal."""
    text = str(value)
    return text if text.isprintable() else json.dumps(text)[1:-1]
