"""Processes inside one trio run: which task belongs to which node, so that a node can be stopped between two steps.

What it promises:
- A task belongs to the process of the task that started it, unless it is changed (`PROCESS`, `within`).
- No task of a stopped process takes a step, as after SIGSTOP. When the process is resumed, its tasks go on in their
  order.
- With a seeded scheduler the same tasks take the same steps in the same order.
- `run_simulated` gives a run a clock of its own. It jumps to the next deadline, so that no time is spent waiting.

It depends on private parts of trio (`Runner.reschedule` and its queue); a test guards them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")
MOST_STEPS = 300_000  # of all tasks together; a long run takes a tenth of it

PROCESS: ContextVar[str] = ContextVar("PROCESS", default="")
"""The address of the node that a task is part of; tasks inherit it from the task that starts them."""


def seed_scheduler(seed: int) -> None:
    """Make the same seed run the same tasks in the same order."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio._core._run._r.seed(seed)


def run_simulated(work: Callable[[], Awaitable[T]]) -> T:
    """Run an async function in a trio run of its own with a clock that jumps: for tests of many runs or examples.

    A test of a single run uses the fixture `autojump_clock` instead.
    """
    return trio.run(work, clock=MockClock(autojump_threshold=0))


@contextmanager
def within(process: str) -> Iterator[None]:
    """Inside the context, the task belongs to that process."""
    token = PROCESS.set(process)
    try:
        yield
    finally:
        PROCESS.reset(token)


async def until(condition: Callable[[], bool], every: float = 0.02) -> None:
    """Return when a condition is true.

    Args:
        condition: called again and again.
        every: seconds between two calls.
    """
    while True:
        if condition():
            return
        await trio.sleep(every)


class Processes:
    """Stops processes as SIGSTOP does, on command or after a number of their steps."""

    def __init__(self) -> None:
        self._stopped: dict[str, list[trio.lowlevel.Task]] = {}
        self._steps = 0
        self.too_long: Callable[[], None] = lambda: None  # called after MOST_STEPS
        self._due: dict[str, tuple[int, Callable[[], None]]] = {}

    def stopped(self, process: str) -> bool:
        """Whether a process is stopped."""
        return process in self._stopped

    def stop(self, process: str) -> None:
        """Stop a process: none of its tasks runs any more."""
        if process in self._stopped:
            return
        queue = trio._core._run.GLOBAL_RUN_CONTEXT.runner.runq
        mine = [task for task in queue if task.context.get(PROCESS) == process]
        self._stopped[process] = mine
        for task in mine:
            queue.remove(task)

    def resume(self, process: str) -> None:
        """Let a process go on where it was stopped."""
        trio._core._run.GLOBAL_RUN_CONTEXT.runner.runq.extend(self._stopped.pop(process, []))

    def stop_after(self, process: str, steps: int, then: Callable[[], None]) -> None:
        """Stop a process in the middle of its work, after some wake-ups of its tasks.

        Args:
            process: the process.
            steps: the number of wake-ups, at least 1.
            then: called when the process has stopped.
        """
        self._due[process] = steps, then

    def spare(self, process: str) -> None:
        """Cancel a `stop_after`."""
        self._due.pop(process, None)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow each task that becomes ready to run."""
        runner_type = trio._core._run.Runner
        original = runner_type.reschedule

        def reschedule(runner: trio._core._run.Runner, task: trio.lowlevel.Task, *value: Any) -> None:
            original(runner, task, *value)
            self._steps += 1
            if self._steps == MOST_STEPS:
                self.too_long()
            if self._due or self._stopped:
                self._woken(runner, task, task.context.get(PROCESS, ""))

        runner_type.reschedule = reschedule  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            runner_type.reschedule = original  # type: ignore[method-assign]

    def _woken(self, runner: trio._core._run.Runner, task: trio.lowlevel.Task, process: str) -> None:
        if process in self._stopped:
            assert runner.runq.pop() is task
            self._stopped[process].append(task)
        elif process in self._due:
            steps, then = self._due[process]
            if steps > 1:
                self._due[process] = steps - 1, then
            else:
                del self._due[process]
                self.stop(process)
                then()
