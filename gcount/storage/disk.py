"""The port to a file system, and the real one behind it.

Operations are small and synchronous, as a file system's are; `run` is what moves a sequence of them off the event loop.
So the order of writes, syncs and renames, on which crash safety rests, stands in the log's own code, and a simulated
disk can tear it at any point.
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
from gcount.storage.locking import LOCK, Held
from gcount.storage.sync_pacing import SyncPacing

T = TypeVar("T")

FULL: Final = "the disk is full"
# What is scarce now may be there in a moment: the node refuses what needs it, and goes on. Only a sync may not fail for
# any of it. No descriptor is left when a file is opened, and not later; the kernel can lack memory in any call.
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
            OSError: it can't be read now, for want of what there may be in a moment.
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
            DiskFull: there was no room, or something else was lacking that may be there in a moment.
            NotInPlace: the directory is gone.
            DiskFailed: anything else went wrong; the process has to end.
        """
        try:
            return await self.run(operation, brief=brief, aside=aside)
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
        """A new, empty file; one of that name is replaced."""

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

    @abstractmethod
    def is_in_place(self) -> bool:
        """Whether the directory is still what others find at its path."""

    @abstractmethod
    def holds(self, name: str, file: File) -> bool:
        """Whether what others find at a file's path is still the file that is open; for each commit, so it is quick."""


def sync_or_fail(sync: Callable[[], None]) -> None:
    """Sync a file or a directory. Even want of space is fatal: the pages that failed may be lost and yet look written.

    Raises:
        DiskFailed: the process has to end.
    """
    try:
        sync()
    except OSError as error:
        raise DiskFailed(f"a sync failed: {error.strerror}; the next start recovers what was acknowledged") from error


def shortage(reason: str) -> str:
    """What the node's own log calls a reason for which something was refused."""
    return "disk full" if reason == FULL else "log not writable"


class RealFile(File):
    """A new file of the operating system; one of that name is replaced.

    Args:
        name: of the file.
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
        """Whether it is the file that was looked at."""
        return (found.st_dev, found.st_ino) == self._which


class RealDirectory(Directory):
    """A directory of the operating system, whoever may be writing to it.

    Args:
        path: of the directory.
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

    All is done in the directory that is locked, also when another one has taken its place: that one is somebody else's.

    Args:
        path: made when it is missing.
        pacing: decides which writes are done in the event loop.

    Raises:
        DirectoryInUse: another process holds it.
        DiskFailed: it can't be made, opened or locked.
    """

    def __init__(self, path: Path, pacing: SyncPacing | None = None) -> None:
        super().__init__(path)
        # Of its own: name look-ups that hang must not keep the log from a worker thread, nor a long sync aside.
        self._limiter = trio.CapacityLimiter(1)
        self._limiter_aside = trio.CapacityLimiter(1)
        self._pacing = SyncPacing() if pacing is None else pacing
        self._held = Held(path, make=True)
        self._fd = self._held.fd

    def close(self) -> None:
        """Let other processes have the directory."""
        self._held.close()

    def names(self) -> list[str]:
        return sorted(name for name in os.listdir(self._fd) if name != LOCK)

    def read(self, name: str, start: int = 0, size: int = -1) -> bytes:
        with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd), "rb") as file:
            file.seek(start)
            return file.read(size)

    def size(self, name: str) -> int:
        return os.stat(name, dir_fd=self._fd).st_size

    async def run(self, operation: Callable[[], T], *, brief: bool = False, aside: bool = False) -> T:
        if brief and self._pacing.in_loop(started := perf_counter()):
            try:
                return operation()
            finally:
                self._pacing.took((now := perf_counter()) - started, now)
        return await trio.to_thread.run_sync(operation, limiter=self._limiter_aside if aside else self._limiter)

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

    def holds(self, name: str, file: File) -> bool:
        try:
            return isinstance(file, RealFile) and file.is_same(os.stat(f"{self._path}/{name}"))
        except (FileNotFoundError, NotADirectoryError):
            return False
