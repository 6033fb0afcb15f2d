"""A disk in memory that forgets, tears or keeps what was not synced."""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import TypeVar

import trio

from gcount.storage.disk import Disk, File

T = TypeVar("T")


class _File(File):
    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.data = bytearray()
        self.synced = 0

    def write(self, data: bytes) -> None:
        self.disk.check()
        room = self.disk.free_bytes()
        self.data += data[:room]
        if room < len(data):
            raise OSError(errno.ENOSPC, "no room")

    def sync(self) -> None:
        self.disk.check()
        self.synced = len(self.data)

    def truncate(self, size: int) -> None:
        self.disk.check()
        del self.data[size:]
        self.synced = min(self.synced, size)

    def close(self) -> None:
        pass


class SimDisk(Disk):
    def __init__(self, random: Random, latency: tuple[float, float] = (0.0005, 0.004)) -> None:
        self.random = random
        self.latency = latency
        self.capacity = 10**12
        self._dead = False
        self._names: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}

    def check(self) -> None:
        if self._dead:
            raise OSError(errno.EIO, "the disk is gone")

    def cut(self) -> None:
        """Nothing reaches the disk any more."""
        self._dead = True

    def crash(self) -> None:
        """Lose or tear what was not synced, and be ready for the next start."""
        self._dead = False
        if self.random.random() < 0.5:
            self._durable = dict(self._names)
        self._names = dict(self._durable)
        for file in self._names.values():
            del file.data[self.random.randint(file.synced, len(file.data)) :]
            file.synced = len(file.data)

    def copy(self) -> SimDisk:
        """Another disk with what is durable on this one."""
        disk = SimDisk(Random(self.random.random()), self.latency)
        for name, file in self._durable.items():
            disk._names[name] = copied = _File(disk)
            copied.data = bytearray(file.data[: file.synced])
            copied.synced = file.synced
        disk._durable = dict(disk._names)
        return disk

    async def run(self, operation: Callable[[], T]) -> T:
        with trio.CancelScope(shield=True):
            await trio.sleep(self.random.uniform(*self.latency))
        return operation()

    def names(self) -> list[str]:
        return sorted(self._names)

    def read(self, name: str) -> bytes:
        self.check()
        return bytes(self._names[name].data)

    def create(self, name: str) -> File:
        self.check()
        self._names[name] = _File(self)
        return self._names[name]

    def append(self, name: str) -> File:
        return self._names[name]

    def rename(self, old: str, new: str) -> None:
        self.check()
        self._names[new] = self._names.pop(old)

    def remove(self, name: str) -> None:
        self.check()
        del self._names[name]

    def sync_names(self) -> None:
        self.check()
        self._durable = dict(self._names)

    def free_bytes(self) -> int:
        return max(0, self.capacity - sum(len(file.data) for file in self._names.values()))
