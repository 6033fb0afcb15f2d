"""The lock of a data directory, which one process at a time can have.

It is the directory itself that is locked: a file in it can be deleted under a running node, and the next node would
make and lock another one. Former versions lock only the file, so that is locked, too: they and this one exclude each
other.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from gcount.errors import DirectoryInUse, DiskFailed

LOCK: Final = "lock"  # the file


class Held:
    """A data directory that no other process uses until it is closed.

    Args:
        path: of the directory.
        make: whether to make it, and the lock file, when they are missing.

    Attributes:
        fd: a descriptor of the directory.

    Raises:
        DirectoryInUse: another process holds it.
        DiskFailed: it can't be locked, nor made and opened if that was asked for.
        OSError: it can't be opened.
    """

    def __init__(self, path: Path, *, make: bool) -> None:
        self._path = path
        with ExitStack() as held:
            try:
                self.fd = self._hold(held, make=make)
            except OSError as error:
                if not make:
                    raise
                raise DiskFailed(f"the data directory {path} can't be used: {self._reason(error)}") from error
            self._held = held.pop_all()

    def close(self) -> None:
        """Let other processes have it."""
        self._held.close()

    def _hold(self, held: ExitStack, *, make: bool) -> int:
        if make:
            _make_durably(self._path)
        fd = self._lock(held, self._path, os.O_RDONLY | os.O_DIRECTORY)
        if make:
            self._lock(held, LOCK, os.O_RDWR | os.O_CREAT, fd)
        else:
            with suppress(FileNotFoundError):  # no node was ever started there
                self._lock(held, LOCK, os.O_RDONLY, fd)
        return fd

    def _lock(self, held: ExitStack, name: Path | str, flags: int, within: int | None = None) -> int:
        fd = os.open(name, flags | os.O_CLOEXEC, 0o640, dir_fd=within)
        held.callback(os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUse(f"the data directory {self._path} is in use by another node") from None
        except OSError as error:
            raise DiskFailed(
                f"the data directory {self._path} can't be locked: {error.strerror}; put it on a local file system"
            ) from error
        return fd

    def _reason(self, error: OSError) -> str:
        if isinstance(error, FileExistsError):
            path = Path(error.filename)  # it, or one above it
            what = "it" if path == self._path else path
            return f"{what} is {'a symbolic link that leads nowhere' if path.is_symlink() else 'not a directory'}"
        return error.strerror or str(error)


@contextmanager
def unused(path: Path) -> Iterator[None]:
    """Keep nodes from using a directory for as long as the context lasts, without changing anything in it.

    Raises:
        DirectoryInUse: a process holds it.
        DiskFailed: it can't be locked.
        OSError: it can't be opened.
    """
    held = Held(path, make=False)
    try:
        yield
    finally:
        held.close()


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
