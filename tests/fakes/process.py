"""Processes inside one trio run: which task belongs to which node, so that a node can be stopped between two steps.

What it promises:
- A task belongs to the process of the task that started it, unless it says otherwise (`PROCESS`, `within`).
- No task of a stopped process takes a step, as after SIGSTOP, until it is resumed; then they go on in their order.
- With a seeded scheduler the same tasks take the same steps in the same order.
- `run_simulated` gives a run a clock of its own that jumps to whatever is waited for, so that nothing really waits.

It rests on private parts of trio (`Runner.reschedule` and its queue); a test guards them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")
MOST_STEPS = 300_000  # of all tasks together; a long run takes a tenth

PROCESS: ContextVar[str] = ContextVar("PROCESS", default="")
"""The address of the node that a task is part of; tasks inherit it from the task that starts them."""


def seed_scheduler(seed: int) -> None:
    """Let the same seed run the same tasks in the same order."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio._core._run._r.seed(seed)


def run_simulated(work: Callable[[], Awaitable[T]]) -> T:
    """Run an async function in a trio run of its own, whose clock jumps: for tests of many runs, or of many examples.

    A test that is itself one run takes the fixture `autojump_clock` instead.
    """
    return trio.run(work, clock=MockClock(autojump_threshold=0))


@contextmanager
def within(process: str) -> Iterator[None]:
    """What the task does inside is done by that process."""
    token = PROCESS.set(process)
    try:
        yield
    finally:
        PROCESS.reset(token)


async def until(condition: Callable[[], bool], every: float = 0.02) -> None:
    """Return when it holds.

    Args:
        condition: looked at again and again.
        every: how often, in seconds.
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
        """Whether none of its tasks runs."""
        return process in self._stopped

    def stop(self, process: str) -> None:
        """Let none of its tasks run any more."""
        if process in self._stopped:
            return
        queue = trio._core._run.GLOBAL_RUN_CONTEXT.runner.runq
        mine = [task for task in queue if task.context.get(PROCESS) == process]
        self._stopped[process] = mine
        for task in mine:
            queue.remove(task)

    def resume(self, process: str) -> None:
        """Go on where it was stopped."""
        trio._core._run.GLOBAL_RUN_CONTEXT.runner.runq.extend(self._stopped.pop(process, []))

    def stop_after(self, process: str, steps: int, then: Callable[[], None]) -> None:
        """Stop a process in the midst of what it does, after that many wake-ups of its tasks.

        Args:
            process: which.
            steps: at least 1.
            then: called when it has stopped.
        """
        self._due[process] = steps, then

    def spare(self, process: str) -> None:
        """Forget what `stop_after` was asked for."""
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
