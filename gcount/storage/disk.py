"""The port to a file system, and its real implementation.

Operations are small and synchronous, like those of a file system; `run` moves a sequence of them off the event loop.
So the order of writes, syncs and renames, on which crash safety depends, is visible in the code of the log, and a
simulated disk can interrupt it at any point.
"""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Final, TypeVar

import trio

from gcount.errors import DiskFailed, DiskFull, NotInPlace, Unreadable
from gcount.storage.locking import LOCK, DirectoryLock
from gcount.storage.sync_pacing import SyncPacing

T = TypeVar("T")

FULL: Final = "the disk is full"
# These shortages may be over in a moment, so the node refuses the requests that need the resource, and goes on. Only a
# sync that fails ends the process, whatever the reason. A lack of descriptors can only meet the opening of a file; a
# lack of memory can meet any call.
SHORTAGES: Final = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EMFILE: "no file descriptor is left for a file of the log; raise the process's limit (ulimit -n)",
    errno.ENFILE: "no file descriptor is left on this machine for a file of the log; raise fs.file-max",
    errno.ENOMEM: "the kernel has no memory left to write to the log",
}
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


class File(ABC):
    """A file that is open for appending."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Append all bytes. After an OSError any part of them may have been written."""

    @abstractmethod
    def sync(self) -> None:
        """Return when all that was written is durable. After an OSError it is unknown what is durable (fsyncgate)."""

    @abstractmethod
    def truncate(self, size: int) -> None:
        """Cut the file back to a size in bytes."""

    @abstractmethod
    def close(self) -> None:
        """Close the file, without a sync."""


class Directory(ABC):
    """The files of one directory, which can only be read."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all files, sorted."""

    @abstractmethod
    def read(self, name: str, start: int = 0, size: int = -1) -> bytes:
        """The bytes of a file from an offset on; at most `size` of them, fewer only at the end of the file."""

    @abstractmethod
    def size(self, name: str) -> int:
        """The size of a file, in bytes."""

    def fetch(self, name: str, start: int = 0, size: int = -1) -> bytes:
        """The same as `read`, with errors that say what the operator can do.

        Raises:
            Unreadable: the file can't be read.
            FileNotFoundError: there is no such file, or not any more.
            OSError: the file can't be read now, as something in `SHORTAGES` is lacking.
        """
        try:
            return self.read(name, start, size)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            raise Unreadable(self.describe(name), error.strerror or str(error), bad=error.errno == errno.EIO) from error

    def describe(self, name: str) -> str:
        """The name of a file in messages for the operator."""
        return name


class Disk(Directory):
    """One directory, which belongs to one process."""

    @abstractmethod
    async def run(self, operation: Callable[[], T], *, brief: bool = False, background: bool = False) -> T:
        """Call a function that uses the operations below, without blocking the event loop for long.

        Args:
            operation: the function. It runs after the functions that were passed before it, except in the event loop.
            brief: whether it is only one small write and its sync. Then it may run in the event loop, in which case
                there is no trio checkpoint.
            background: whether it takes long. Then only other background functions wait for it.
        """

    async def attempt(self, operation: Callable[[], T], *, brief: bool = False, background: bool = False) -> T:
        """The same as `run`, with errors that say what they mean for the node.

        Raises:
            DiskFull: there was no space, or something else in `SHORTAGES` was lacking.
            NotInPlace: the directory is gone.
            DiskFailed: anything else went wrong. The process has to end.
        """
        try:
            return await self.run(operation, brief=brief, background=background)
        except OSError as error:
            if error.errno in SHORTAGES:
                raise DiskFull(SHORTAGES[error.errno]) from error
            if error.errno in _GONE and not self.is_in_place():
                raise NotInPlace(self.describe("")) from error
            raise DiskFailed(
                f"the disk failed: {error.strerror or error}; the next start recovers what was acknowledged"
            ) from error

    @abstractmethod
    def create(self, name: str) -> File:
        """A new, empty file, which replaces a file of that name."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Rename a file. It replaces a file of the new name atomically."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file."""

    @abstractmethod
    def sync_names(self) -> None:
        """Return when all creations, renames and deletions in the directory are durable."""

    @abstractmethod
    def free_bytes(self) -> int:
        """The free space of the file system, in bytes."""

    @abstractmethod
    def is_in_place(self) -> bool:
        """Whether the directory is still the one that other processes find at its path."""

    @abstractmethod
    def has_in_place(self, name: str, file: File) -> bool:
        """Whether an open file is still the one that other processes find at its path.

        The log asks this before each commit, so it has to be quick.
        """


def sync_or_fail(sync: Callable[[], None]) -> None:
    """Sync a file or a directory.

    A failure is fatal even for lack of space: the kernel may have dropped the pages that it could not write, and a
    second sync would succeed without them.

    Raises:
        DiskFailed: the sync failed. The process has to end.
    """
    try:
        sync()
    except OSError as error:
        raise DiskFailed(f"a sync failed: {error.strerror}; the next start recovers what was acknowledged") from error


def shortage(reason: str) -> str:
    """The log line for a reason in `SHORTAGES`."""
    return "disk full" if reason == FULL else "log not writable"


class RealFile(File):
    """A new file of the operating system, which replaces a file of that name.

    Args:
        name: the name of the file.
        directory: a descriptor of the directory in which it is made.
    """

    def __init__(self, name: str, directory: int) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_CREAT | os.O_TRUNC
        self._fd = os.open(name, flags, 0o640, dir_fd=directory)
        stats = os.fstat(self._fd)
        self._which = stats.st_dev, stats.st_ino

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

    def is_same(self, found: os.stat_result) -> bool:
        """Whether it is the file from which this result comes."""
        return (found.st_dev, found.st_ino) == self._which


class RealDirectory(Directory):
    """A directory of the operating system; another process may be writing to it.

    Args:
        path: the path of the directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return sorted(name for name in os.listdir(self._path) if name != LOCK)

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

    All operations use the descriptor of the locked directory. If another directory has taken its place at the path,
    that one is not touched, as it may belong to another node.

    Args:
        path: the path of the directory, which is made when it is missing.
        pacing: decides which writes run in the event loop.

    Raises:
        DirectoryInUse: another process has locked it.
        DiskFailed: it can't be made, opened or locked.
    """

    def __init__(self, path: Path, pacing: SyncPacing | None = None) -> None:
        super().__init__(path)
        # These limiters are not trio's default one: name look-ups that hang must not keep the log from getting a
        # thread. One thread each keeps operations in order, and a long background sync does not delay the log.
        self._limiter = trio.CapacityLimiter(1)
        self._background_limiter = trio.CapacityLimiter(1)
        self._pacing = SyncPacing() if pacing is None else pacing
        self._lock = DirectoryLock(path, make=True)
        self._fd = self._lock.fd

    def close(self) -> None:
        """Unlock the directory."""
        self._lock.close()

    def names(self) -> list[str]:
        return sorted(name for name in os.listdir(self._fd) if name != LOCK)

    def read(self, name: str, start: int = 0, size: int = -1) -> bytes:
        with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd), "rb") as file:
            file.seek(start)
            return file.read(size)

    def size(self, name: str) -> int:
        return os.stat(name, dir_fd=self._fd).st_size

    async def run(self, operation: Callable[[], T], *, brief: bool = False, background: bool = False) -> T:
        if brief and self._pacing.in_loop(started := perf_counter()):
            try:
                return operation()
            finally:
                self._pacing.took((now := perf_counter()) - started, now)
        return await trio.to_thread.run_sync(
            operation, limiter=self._background_limiter if background else self._limiter
        )

    def create(self, name: str) -> File:
        return RealFile(name, self._fd)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self._fd)

    def sync_names(self) -> None:
        os.fsync(self._fd)

    def free_bytes(self) -> int:
        stats = os.fstatvfs(self._fd)
        return stats.f_bavail * stats.f_frsize

    def is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def has_in_place(self, name: str, file: File) -> bool:
        try:
            return isinstance(file, RealFile) and file.is_same(os.stat(f"{self._path}/{name}"))
        except (FileNotFoundError, NotADirectoryError):
            return False
