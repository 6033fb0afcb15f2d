"""A disk in memory that does at a crash all that a real one may do: lose, tear or keep what was not synced.

What it promises:
- It is a `Disk` like the product's own, with the same operations. They raise the errors of the operating system.
- What was synced survives every crash, except a file or a name that has changed since. Chance decides about everything
  else, byte for byte (see `inode.py`) and name for name. The same seed decides the same.
- A sync that failed may have lost what it had to write, although a later sync succeeds (fsyncgate).
- Operations take only simulated time. Before each one `stepped` is called, and a crash or an error may be due.
- Two lives of a disk never share a file: a file that was opened before a crash can't be written after it.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from random import Random
from typing import TypeVar

import trio

from gcount.storage.disk import Disk, File
from tests.fakes.inode import Inode

T = TypeVar("T")
FAST = 0.02  # seconds; an operation that takes longer is done in a thread


class SimulatedCrash(BaseException):
    """The power failed before an operation. Like `SystemExit`, it must pass through all handlers of errors."""


class _Handle(File):
    """A file open for appending in one life of the disk."""

    def __init__(self, disk: SimDisk, name: str, inode: Inode) -> None:
        self._disk = disk
        self._life = disk.life
        self._name = name
        self.inode = inode
        disk.open_files += 1

    def write(self, data: bytes) -> None:
        self._step("write")
        free = self._disk.free_bytes()
        self.inode.write(data[:free])
        if free < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def sync(self) -> None:
        try:
            self._step("sync")
        except OSError:
            self.inode.rot(self._disk.random)
            raise
        self.inode.sync()
        self._disk.synced()

    def truncate(self, size: int) -> None:
        self._step("truncate")
        self.inode.truncate(size)

    def close(self) -> None:
        self._disk.open_files -= 1

    def _step(self, operation: str) -> None:
        if self._life != self._disk.life:
            raise OSError(errno.EBADF, "The file was opened before the crash")
        self._name = self._disk.name_of(self.inode) or self._name
        self._disk.step(operation, self._name)


class SimDisk(Disk):
    """One directory in memory.

    Args:
        random: decides how long operations take and what survives a crash.
        latency: the shortest and the longest time that a sequence of operations takes, in seconds.

    `background` is the latency of background operations. `at_once` is the share of brief operations
    that are done in the event loop without any wait, while the latency is that of a fast disk. `capacity`, in bytes,
    may be changed at any time. `history` has the newest operations, such as "sync 00000001.log". While `in_place` is
    False, the directory is as if it had been moved away.
    """

    def __init__(self, random: Random, latency: tuple[float, float] = (0.0005, 0.004)) -> None:
        self.random = random
        self.latency = latency
        self.background = latency
        self.at_once = 0.0
        self.capacity = 10**12
        self.life = 0
        self.operations = 0
        self.open_files = 0
        self.in_place = True
        self.history: deque[str] = deque(maxlen=10_000)
        self.stepped: Callable[[str, str], None] = lambda operation, name: None  # called before each operation
        self.synced: Callable[[], None] = lambda: None  # called when more is durable
        self._deleted = False
        self._cut = False
        self._crash_at: int | None = None
        self._crash_from: tuple[str, int] | None = None  # the end of an operation's text, and how many happen then
        self._faults: dict[str, tuple[int, int]] = {}  # by operation: how many succeed before, and the error number
        self._names: dict[str, Inode] = {}
        self._durable: dict[str, Inode] = {}
        self._changes: list[tuple[str | None, str | None, Inode | None]] = []  # old name, new name, file

    def crash_after(self, operations: int) -> None:
        """Crash after some more operations: the next one raises `SimulatedCrash`, and so do all after it."""
        self._crash_at = self.operations + operations

    def crash_from(self, ending: str, operations: int) -> None:
        """Crash after some operations, counted from the next one whose text in `history` ends with `ending`."""
        self._crash_from = ending, operations

    def fail(self, operation: str, after: int = 0, error: int = errno.EIO) -> None:
        """Make an operation ("sync", "truncate", "rename" ...) fail once, after some more that succeed."""
        self._faults[operation] = (after, error)

    def due(self, operation: str) -> bool:
        """Whether an operation still has to fail."""
        return operation in self._faults

    def fail_sync(self, after: int = 0, error: int = errno.EIO) -> None:
        """Make a sync of a file fail: what it had to write may be lost, although later syncs succeed."""
        self.fail("sync", after, error)

    def spare(self) -> None:
        """Cancel all crashes and failures that are due."""
        self._crash_at = self._crash_from = None
        self._faults = {}

    def cut(self) -> None:
        """Cut the disk off: each operation fails until the crash that has to follow."""
        self._cut = True

    def delete(self) -> None:
        """Delete the directory with all its files. The next start finds an empty one."""
        self._names, self._durable, self._changes = {}, {}, []
        self.in_place, self._deleted = False, True

    def crash(self) -> None:
        """Lose power: what was not synced is lost, kept or torn. Then the same disk can be opened again."""
        self.restart()
        for old, new, inode in self._changes:
            if self.random.random() < 0.5:
                continue
            if old is not None:
                self._durable.pop(old, None)
            if new is not None and inode is not None:
                self._durable[new] = inode
        self._changes = []
        self._names = dict(self._durable)
        for inode in self._names.values():
            inode.crash(self.random)

    def restart(self) -> None:
        """Lose the process only (kill -9): what was written can be read, but it is not more durable than before."""
        self.life += 1
        self.open_files = 0
        self._cut = False
        self.in_place, self._deleted = self.in_place or self._deleted, False
        self.spare()

    def copy(self) -> SimDisk:
        """Another disk, with what is durable on this one."""
        disk = SimDisk(Random(self.random.random()), self.latency)
        disk.at_once = self.at_once
        disk._names = {name: inode.copy() for name, inode in self._durable.items()}
        disk._durable = dict(disk._names)
        return disk

    def poke(self, name: str, data: bytes) -> None:
        """Replace a file's bytes durably, as rot or an operator does."""
        inode = Inode()
        inode.write(data)
        inode.sync()
        self._names[name] = self._durable[name] = inode

    def durable(self) -> dict[str, bytes]:
        """The names and contents of files that a loss of power can't take away."""
        return {name: inode.durable for name, inode in self._durable.items()}

    async def run(self, operation: Callable[[], T], *, brief: bool = False, background: bool = False) -> T:
        if brief and self.latency[1] < FAST and self.random.random() < self.at_once:
            return operation()
        life = self.life
        with trio.CancelScope(shield=True):  # like a thread, it can't be cancelled
            await trio.sleep(self.random.uniform(*(self.background if background else self.latency)))
        if life != self.life:
            raise OSError(errno.EIO, "The disk crashed meanwhile")
        return operation()

    def step(self, operation: str, name: str = "") -> None:
        """Count an operation that is about to happen, and fail it if its time has come."""
        if self._crash_from is not None and f"{operation} {name}".endswith(self._crash_from[0]):
            self._crash_at = self.operations + self._crash_from[1]
            self._crash_from = None
        if self._crash_at is not None and self.operations >= self._crash_at:
            raise SimulatedCrash(f"before {operation} {name}")
        if self._cut:
            raise OSError(errno.EIO, "The disk is gone")
        self.operations += 1
        self.history.append(f"{operation} {name}".strip())
        self.stepped(operation, name)
        if operation in self._faults:
            after, error = self._faults.pop(operation)
            if after == 0:
                raise OSError(error, f"Simulated failure of {operation}")
            self._faults[operation] = (after - 1, error)

    def names(self) -> list[str]:
        return sorted(self._names)

    def read(self, name: str, start: int = 0, size: int = -1) -> bytes:
        self.step("read", name)
        return bytes(self._find(name).data[start : None if size < 0 else start + size])

    def size(self, name: str) -> int:
        return len(self._find(name).data)

    def create(self, name: str) -> File:
        self.step("create", name)
        if self._deleted:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        inode = Inode()
        self._change(None, name, inode)
        return _Handle(self, name, inode)

    def append(self, name: str) -> File:
        """Open a file at its end. Nodes never do that; operators and tests do."""
        self.step("append", name)
        return _Handle(self, name, self._find(name))

    def rename(self, old: str, new: str) -> None:
        self.step("rename", f"{old} {new}")
        self._change(old, new, self._find(old))

    def remove(self, name: str) -> None:
        self.step("remove", name)
        self._find(name)
        self._change(name, None, None)

    def sync_names(self) -> None:
        self.step("sync_names")
        self._durable = dict(self._names)
        self._changes = []
        self.synced()

    def free_bytes(self) -> int:
        return max(0, self.capacity - sum(len(inode.data) for inode in self._names.values()))

    def is_in_place(self) -> bool:
        return self.in_place

    def has_in_place(self, name: str, file: File) -> bool:
        return self.in_place and isinstance(file, _Handle) and self._names.get(name) is file.inode

    def name_of(self, inode: Inode) -> str | None:
        """The name that a file has now."""
        return next((name for name, found in self._names.items() if found is inode), None)

    def _find(self, name: str) -> Inode:
        if name not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file", name)
        return self._names[name]

    def _change(self, old: str | None, new: str | None, inode: Inode | None) -> None:
        self._changes.append((old, new, inode))
        if old is not None:
            del self._names[old]
        if new is not None and inode is not None:
            self._names[new] = inode
