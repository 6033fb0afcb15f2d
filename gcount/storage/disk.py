"""The port to a file system, and the real one behind it.

Operations are small and synchronous, as a file system's are; `run` is what moves a sequence of them off the event loop.
So the order of writes, syncs and renames, on which crash safety rests, stands in the log's own code, and a simulated
disk can tear it at any point.
"""

import errno
import fcntl
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import trio

from gcount.errors import DirectoryInUse, DiskFailed, DiskFull, Unreadable
from gcount.storage.pace import Pace

T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
LOCK = "lock"  # the file whose lock says that a process owns the directory


class File(ABC):
    """A file that is open for appending."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Append all the bytes, or raise OSError with any part of them written."""

    @abstractmethod
    def sync(self) -> None:
        """Return when all that was written is durable. After an OSError nobody knows what is (fsyncgate)."""

    @abstractmethod
    def truncate(self, size: int) -> None:
        """Cut the file back to a size in bytes."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


class Directory(ABC):
    """The files of one directory, to be read only."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all files, sorted."""

    @abstractmethod
    def read(self, name: str, start: int = 0, size: int = -1) -> bytes:
        """A whole file, or so many of its bytes, fewer only at its end."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Of a file, in bytes."""

    def fetch(self, name: str, start: int = 0, size: int = -1) -> bytes:
        """The same as `read`, with errors that say what the operator can do.

        Raises:
            Unreadable: it can't be read.
            FileNotFoundError: it is not there, or not any more.
        """
        try:
            return self.read(name, start, size)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Unreadable(self.describe(name), error.strerror or str(error), bad=error.errno == errno.EIO) from error

    def describe(self, name: str) -> str:
        """What to call a file when talking to the operator."""
        return name


class Disk(Directory):
    """One directory, owned by one process."""

    @abstractmethod
    async def run(self, operation: Callable[[], T], *, brief: bool = False, aside: bool = False) -> T:
        """Call a function that uses the operations below without holding up the event loop for long.

        Args:
            operation: waits for those that were given before it, unless it is done in the loop.
            brief: whether it is only one small write and its sync, which may be done in the loop; then without a
                checkpoint.
            aside: whether it is one that takes long: then only others of that kind wait for it.
        """

    async def attempt(self, operation: Callable[[], T], *, brief: bool = False, aside: bool = False) -> T:
        """The same, with errors that say what they mean for the node.

        Raises:
            DiskFull: there was no room.
            DiskFailed: anything else went wrong; the process has to end.
        """
        try:
            return await self.run(operation, brief=brief, aside=aside)
        except OSError as error:
            if error.errno in FULL:
                raise DiskFull("the disk is full") from error
            raise DiskFailed(
                f"the disk failed: {error.strerror or error}; the next start recovers what was acknowledged"
            ) from error

    @abstractmethod
    def create(self, name: str) -> File:
        """A new, empty file; one of that name is replaced."""

    @abstractmethod
    def append(self, name: str) -> File:
        """Open an existing file at its end."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Give a file another name, atomically replacing one that had it."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file."""

    @abstractmethod
    def sync_names(self) -> None:
        """Return when the directory itself, its creations, renames and deletions, is durable."""

    @abstractmethod
    def free_bytes(self) -> int:
        """How much room is left."""


def sync_or_fail(sync: Callable[[], None]) -> None:
    """Sync a file or a directory. Even want of space is fatal: the pages that failed may be lost and yet look written.

    Raises:
        DiskFailed: the process has to end.
    """
    try:
        sync()
    except OSError as error:
        raise DiskFailed(f"a sync failed: {error.strerror}; the next start recovers what was acknowledged") from error


class RealFile(File):
    """A file of the operating system."""

    def __init__(self, path: Path, flags: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o640)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        os.close(self._fd)


class RealDirectory(Directory):
    """A directory of the operating system, whoever may be writing to it.

    Args:
        path: of the directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self._path.iterdir() if entry.name != LOCK)

    def read(self, name: str, start: int = 0, size: int = -1) -> bytes:
        with (self._path / name).open("rb") as file:
            file.seek(start)
            return file.read(size)

    def size(self, name: str) -> int:
        return (self._path / name).stat().st_size

    def describe(self, name: str) -> str:
        return str(self._path / name)


class RealDisk(RealDirectory, Disk):
    """A directory of the operating system, locked against other processes until it is closed.

    Args:
        path: made when it is missing.

    Raises:
        DirectoryInUse: another process holds it.
        DiskFailed: it can't be made or opened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # Of its own: name look-ups that hang must not keep the log from a worker thread, nor a long sync aside.
        self._limiter = trio.CapacityLimiter(1)
        self._limiter_aside = trio.CapacityLimiter(1)
        self._pace = Pace()
        try:
            _make_durably(path)
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise DiskFailed(f"the data directory {path} can't be used: {error.strerror}") from error
        _take(self._lock, path)

    def close(self) -> None:
        """Let other processes have the directory."""
        os.close(self._lock)

    async def run(self, operation: Callable[[], T], *, brief: bool = False, aside: bool = False) -> T:
        if brief and self._pace.in_loop(started := perf_counter()):
            try:
                return operation()
            finally:
                self._pace.took((now := perf_counter()) - started, now)
        return await trio.to_thread.run_sync(operation, limiter=self._limiter_aside if aside else self._limiter)

    def create(self, name: str) -> File:
        return RealFile(self._path / name, os.O_CREAT | os.O_TRUNC)

    def append(self, name: str) -> File:
        return RealFile(self._path / name, 0)

    def rename(self, old: str, new: str) -> None:
        (self._path / old).rename(self._path / new)

    def remove(self, name: str) -> None:
        (self._path / name).unlink()

    def sync_names(self) -> None:
        _sync_directory(self._path)

    def free_bytes(self) -> int:
        stats = os.statvfs(self._path)
        return stats.f_bavail * stats.f_frsize


@contextmanager
def unused(path: Path) -> Iterator[None]:
    """Keep nodes from using a directory for as long as the context lasts, without changing anything in it.

    Raises:
        DirectoryInUse: a process holds it.
    """
    try:
        lock = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # no node was ever started there
        yield
        return
    _take(lock, path)
    try:
        yield
    finally:
        os.close(lock)


def _take(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise DirectoryInUse(f"the data directory {path} is in use by another node") from None


def _make_durably(path: Path) -> None:
    missing = [part for part in (path, *path.parents) if not part.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for part in missing:
        _sync_directory(part.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
