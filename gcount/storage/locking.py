"""The lock of a data directory, which one process at a time can have.

The directory itself is locked. A lock file alone is not enough: it can be deleted under a running node, and the next
node would make and lock another one. But former versions of gcount lock only that file, so it is locked as well, and
they and this version exclude each other.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from gcount.errors import DirectoryInUse, DiskFailed

LOCK: Final = "lock"  # the name of the lock file


class DirectoryLock:
    """The lock of a data directory: no other process uses the directory until it is closed.

    Args:
        path: the path of the directory.
        make: whether to make the directory and the lock file when they are missing.

    Attributes:
        fd: a descriptor of the directory.

    Raises:
        DirectoryInUse: another process has locked it.
        DiskFailed: it can't be locked; or, with `make`, it can't be made or opened.
        OSError: without `make`, it can't be opened.
    """

    def __init__(self, path: Path, *, make: bool) -> None:
        self._path = path
        with ExitStack() as stack:  # closes what was opened if a later step fails
            try:
                self.fd = self._lock_both(stack, make=make)
            except OSError as error:
                if not make:
                    raise
                raise DiskFailed(f"the data directory {path} can't be used: {self._reason(error)}") from error
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Unlock the directory."""
        self._stack.close()

    def _lock_both(self, stack: ExitStack, *, make: bool) -> int:
        """Lock the directory and the lock file; returns the descriptor of the directory."""
        if make:
            _make_durably(self._path)
        fd = self._lock(stack, self._path, os.O_RDONLY | os.O_DIRECTORY)
        if make:
            self._lock(stack, LOCK, os.O_RDWR | os.O_CREAT, fd)
        else:
            with suppress(FileNotFoundError):  # no node was ever started there
                self._lock(stack, LOCK, os.O_RDONLY, fd)
        return fd

    def _lock(self, stack: ExitStack, name: Path | str, flags: int, within: int | None = None) -> int:
        fd = os.open(name, flags | os.O_CLOEXEC, 0o640, dir_fd=within)
        stack.callback(os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUse(
                f"the data directory {self._path} is in use by another node. Stop that node, or name another directory"
            ) from None
        except OSError as error:
            raise DiskFailed(
                f"the data directory {self._path} can't be locked: {error.strerror}; put it on a local file system"
            ) from error
        return fd

    def _reason(self, error: OSError) -> str:
        if isinstance(error, FileExistsError):
            path = Path(error.filename)  # the directory, or one of its parents
            what = "it" if path == self._path else path
            return f"{what} is {'a symbolic link that leads nowhere' if path.is_symlink() else 'not a directory'}"
        return error.strerror or str(error)


@contextmanager
def unused(path: Path) -> Iterator[None]:
    """Keep nodes from using a directory for as long as the context lasts. Nothing in the directory is changed.

    Raises:
        DirectoryInUse: another process has locked it.
        DiskFailed: it can't be locked.
        OSError: it can't be opened.
    """
    lock = DirectoryLock(path, make=False)
    try:
        yield
    finally:
        lock.close()


def _make_durably(path: Path) -> None:
    """Make a directory and its parents; a power loss afterwards does not undo it."""
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
