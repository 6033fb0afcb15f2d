"""All log lines have the same form, whichever library logged them."""

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypercorn.config import Config
from quart_trio import QuartTrio

from gcount.observe import logs

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_text(stream: io.StringIO) -> None:
    logs.configure("text", stream)
    logs.get_logger(node=1).info("link up", peer="10.0.0.2:7777", lag=3)
    line = stream.getvalue()
    assert re.fullmatch(TIME + r" info     link up                  node=1 peer=10\.0\.0\.2:7777 lag=3\n", line)


def test_json(stream: io.StringIO) -> None:
    logs.configure("json", stream)
    logs.get_logger(node=1).warning("link down", peer="10.0.0.2:7777", why=OSError("gone"))
    [line] = json_lines(stream)
    assert re.fullmatch(TIME, line.pop("timestamp"))
    expected = {"level": "warning", "event": "link down", "node": 1, "peer": "10.0.0.2:7777", "why": "gone"}
    assert line == expected


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_that_is_logged_can_make_a_second_line(log_format: Any, stream: io.StringIO) -> None:
    logs.configure(log_format, stream)
    logs.get_logger().info("a\nb\u2028\x1b[31m", name="c\r\nd\udcff", empty="")
    assert len(stream.getvalue().splitlines()) == 1
    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()


def test_text_quotes_values_that_are_not_one_word(stream: io.StringIO) -> None:
    logs.configure("text", stream)
    logs.get_logger().info("x", a="", b="two words", c='say "it"', d="k=v", e="é", f="\n")
    assert stream.getvalue().endswith(' a="" b="two words" c="say \\"it\\"" d="k=v" e=é f="\\n"\n')


def test_debug_is_left_out(stream: io.StringIO) -> None:
    logs.configure("text", stream)
    logs.get_logger().debug("noise")
    assert stream.getvalue() == ""


def test_a_traceback_is_a_field_in_json_and_follows_the_line_in_text(stream: io.StringIO) -> None:
    for log_format in ("json", "text"):
        logs.configure(log_format, stream)
        try:
            raise ExceptionGroup("several", [ValueError("the cause")])
        except ExceptionGroup:
            logs.get_logger().exception("crash")
    first, second, *rest = stream.getvalue().splitlines()
    assert "ValueError: the cause" in json.loads(first)["exception"]
    assert re.fullmatch(TIME + r" error    crash", second)
    assert any("ValueError: the cause" in line for line in rest)


def test_standard_logging_goes_the_same_way_from_warning_up(stream: io.StringIO) -> None:
    logs.configure("json", stream)
    logger = logging.getLogger("trio-websocket")
    logger.info("noise")
    logger.warning("odd: %s", "frame")
    logger.log(45, "own level")
    # Not through the logger: pytest's own handler objects to wrong arguments.
    wrong = logging.LogRecord("trio-websocket", logging.ERROR, "", 0, "too few: %s %s", ("one",), None)
    logging.getLogger().handlers[-1].handle(wrong)
    told = [(line["level"], line["event"], line["logger"]) for line in json_lines(stream)]
    assert told == [
        ("warning", "odd: frame", "trio-websocket"),
        ("error", "own level", "trio-websocket"),
        ("error", "too few: %s %s", "trio-websocket"),
    ]


def test_server_and_app_log_each_event_once(stream: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", stream)
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    assert config.log.error_logger is not None
    config.log.error_logger.error("from the server")
    QuartTrio("gcount").logger.error("from the app")
    assert [line["event"] for line in json_lines(stream)] == ["from the server", "from the app"]
    assert capfd.readouterr() == ("", "")


def test_warnings_are_lines_too(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure("json", stream)
        warnings.warn("old name", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    [line] = json_lines(stream)
    assert line["level"] == "warning"
    assert "old name" in line["event"]


def test_configured_again_it_logs_nothing_twice(stream: io.StringIO) -> None:
    logs.configure("text", io.StringIO())
    logs.configure("json", stream)
    logging.getLogger("x").warning("once")
    logs.get_logger().info("once more")
    assert [line["event"] for line in json_lines(stream)] == ["once", "once more"]


class Broken(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_is_gone_does_not_matter() -> None:
    logs.configure("text", Broken())
    logs.get_logger().info("into the void")
    logging.getLogger("x").error("into the void")


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text")
    logs.get_logger().info("here")
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert "here" in errors
