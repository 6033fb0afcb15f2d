"""A node that tells for how long its tasks hold the event loop, and that settles ids of a short time together.

For benchmarks only: `node_that_tells.py SPAN ...`. SPAN is how many seconds of ids are settled together; the arguments
of a node follow. Each time that a task holds the event loop for longer than `LEAST`, standard error gets a line:
`held`, the time since 1970, the seconds, those of them in which the processor worked for it, and the task's name.
"""

import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import trio

from gcount.cli.node import main
from gcount.core.options import Options

LEAST = 0.001  # seconds
_HELD = re.compile(r"^held ([0-9.]+) ([0-9.]+) ([0-9.]+) (\S+)$", re.MULTILINE)


class Hold(NamedTuple):
    """A task that held the event loop.

    Attributes:
        until: until when, in seconds since 1970.
        seconds: for how long.
        processor: for how long of that the processor worked for it. In the rest the task waited, or other programs ran.
        task: the end of its name.
    """

    until: float
    seconds: float
    processor: float
    task: str


def command(span: int = 60) -> tuple[str, ...]:
    """The arguments with which Python runs such a node."""
    return "-P", __file__, str(span)


def holds(log: Path, after: float) -> list[Hold]:
    """What such a node has told since a time, from its standard error."""
    told = _HELD.findall(log.read_text())
    found = [Hold(float(until), float(seconds), float(processor), task) for until, seconds, processor, task in told]
    return [hold for hold in found if hold.until - hold.seconds >= after]


class Teller(trio.abc.Instrument):
    """Writes the lines."""

    def __init__(self) -> None:
        self._since = self._worked = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._since, self._worked = time.perf_counter(), time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        held, worked = time.perf_counter() - self._since, time.thread_time() - self._worked
        if held > LEAST:
            name = ".".join(task.name.split(".")[-2:])
            print(f"held {time.time():.6f} {held:.6f} {worked:.6f} {name}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    span = int(sys.argv[1])
    with patch("trio.run", partial(trio.run, instruments=[Teller()])):
        sys.exit(main(sys.argv[2:], options=Options(id_span=span)))
