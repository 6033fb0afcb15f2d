"""A node, its disk, and what was done to both, written down with times that err to the cautious side.

A moment that takes something away is recorded before it is done, one that gives it back when it is certain.
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
    """A node's process is gone, and nobody killed it: the run is over."""


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self) -> float:
        return round(time.monotonic() - self._began, 6)


class Machine:
    """One node as the nemesis handles it."""

    def __init__(self, node: Node, disk: Filesystem | None, history: History, clock: Clock) -> None:
        self.node, self.disk = node, disk
        self.history, self.clock = history, clock
        self.ready = self.paused = self.full = False
        self.interrupted = 0  # checkpoints

    @property
    def number(self) -> int:
        return self.node.number

    @property
    def is_up(self) -> bool:
        """Whether it can be expected to take increments."""
        return self.ready and not self.paused and not self.full

    def _note(self, what: Literal["ready", "killed", "paused", "resumed", "full", "room", "ended"]) -> None:
        self.history.add(Moment(self.number, self.clock(), what))

    def check(self) -> None:
        """Raise `EndedByItself` if a node that said it was ready is gone."""
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
        """From the first start, or a restart, on."""
        try:
            await self.node.ready()
        except NeverReady:
            if not self.node.runs():
                self._ended()
            raise
        self.ready = True
        self._note("ready")

    def kill(self) -> None:
        """kill -9, whatever it is doing."""
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
        self.disk.make_room()
        self.full = False
        self._note("room")
