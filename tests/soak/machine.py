"""A node and its disk, and a record of all that was done to them, with times on the safe side.

A fault is recorded before it begins, and its end when it is certain.
"""

from __future__ import annotations

import time
from typing import Literal

import trio

from tests.harness.checkpointing import unfinished
from tests.harness.processes import NeverReady, Node
from tests.harness.tmpfs import Filesystem
from tests.soak.history import History, Moment


class EndedByItself(Exception):
    """A node's process has ended without being killed. The run is over."""


class Clock:
    """The seconds since this object was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self) -> float:
        return round(time.monotonic() - self._began, 6)


class Machine:
    """One node, as the nemesis handles it."""

    def __init__(self, node: Node, disk: Filesystem | None, history: History, clock: Clock) -> None:
        self.node, self.disk = node, disk
        self.history, self.clock = history, clock
        self.ready = self.paused = self.full = False
        self.interrupted = 0  # checkpoints that were interrupted by a kill

    @property
    def number(self) -> int:
        return self.node.number

    @property
    def is_up(self) -> bool:
        """Whether the node can be expected to take increments."""
        return self.ready and not self.paused and not self.full

    def _note(self, what: Literal["ready", "killed", "paused", "resumed", "full", "room", "ended"]) -> None:
        self.history.add(Moment(self.number, self.clock(), what))

    def check(self) -> None:
        """Raise `EndedByItself` if the node was ready and its process has ended."""
        if self.ready and not self.node.runs():
            self._ended()

    def _ended(self) -> None:
        self.ready = False
        assert self.node.process is not None
        last = " | ".join(self.node.lines()[-3:])
        detail = f"ended by itself with {self.node.process.returncode}: {last}"
        self.history.add(Moment(self.number, self.clock(), "ended", detail))
        raise EndedByItself(f"node {self.number} {detail}")

    async def wait_ready(self) -> None:
        """Wait until the node is ready after a start."""
        try:
            await self.node.ready()
        except NeverReady:
            if not self.node.runs():
                self._ended()
            raise
        self.ready = True
        self._note("ready")

    def kill(self) -> None:
        """Kill the node with SIGKILL."""
        self.check()
        self.ready = False
        self._note("killed")
        self.node.kill9()
        assert self.node.data_dir is not None
        self.interrupted += unfinished(self.node.data_dir)

    def pause(self) -> None:
        self.check()
        self.paused = True
        self._note("paused")
        self.node.pause()

    def resume(self) -> None:
        self.node.resume()
        self.paused = False
        self._note("resumed")

    async def fill(self) -> None:
        assert self.disk is not None
        self.full = True
        self._note("full")
        await trio.to_thread.run_sync(self.disk.fill)

    def free(self) -> None:
        assert self.disk is not None
        self.disk.free_space()
        self.full = False
        self._note("room")
