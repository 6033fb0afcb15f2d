"""For how long tasks hold the event loop."""

from __future__ import annotations

import time

import trio


class Blocking(trio.abc.Instrument):
    """Measures for how long tasks block the event loop.

    Attributes:
        longest: the longest time without a pause, in seconds, by the task's name.
    """

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}
        self._since = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._since = time.perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        name, blocked = task.name.rpartition(".")[2], time.perf_counter() - self._since
        self.longest[name] = max(blocked, self.longest.get(name, 0.0))
