"""The lock of a data directory: nobody who deletes a file opens it, and former versions keep to it, too."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from gcount.errors import DirectoryInUse, DiskFailed
from gcount.storage import locking
from gcount.storage.disk import RealDisk
from gcount.storage.locking import LOCK, unused


@contextmanager
def former_node(path: Path) -> Iterator[None]:
    """As former versions lock a directory."""
    lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def take(path: Path) -> None:
    RealDisk(path).close()


def leave_alone(path: Path) -> None:
    with unused(path):
        pass


TAKES = pytest.mark.parametrize("use", [take, leave_alone])


@TAKES
def test_deleting_or_replacing_the_lock_file_changes_nothing(tmp_path: Path, use: Callable[[Path], None]) -> None:
    held = RealDisk(tmp_path)
    (tmp_path / LOCK).unlink()
    with pytest.raises(DirectoryInUse, match="in use by another node"):
        use(tmp_path)
    (tmp_path / LOCK).write_bytes(b"")
    with pytest.raises(DirectoryInUse):
        use(tmp_path)
    held.close()
    use(tmp_path)


@TAKES
def test_a_node_of_a_former_version_keeps_it_from_others(tmp_path: Path, use: Callable[[Path], None]) -> None:
    with former_node(tmp_path), pytest.raises(DirectoryInUse):
        use(tmp_path)
    use(tmp_path)


def test_a_node_of_a_former_version_is_kept_out(tmp_path: Path) -> None:
    held = RealDisk(tmp_path)
    with pytest.raises(BlockingIOError), former_node(tmp_path):
        pass
    held.close()


def test_an_unused_directory_keeps_nodes_out_and_creates_no_file(tmp_path: Path) -> None:
    with unused(tmp_path), pytest.raises(DirectoryInUse):
        RealDisk(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_another_path_to_a_directory_is_the_same_directory(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    held = RealDisk(tmp_path / "data")
    with pytest.raises(DirectoryInUse):
        RealDisk(tmp_path / "link")
    held.close()


@TAKES
@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_a_file_system_without_locks_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Path], None], error: int
) -> None:
    def refuse(_fd: int, _operation: int) -> None:
        raise OSError(error, os.strerror(error))

    kept = SimpleNamespace(flock=refuse, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB)
    monkeypatch.setattr(locking, "fcntl", kept)
    with pytest.raises(DiskFailed) as caught:
        use(tmp_path)
    assert str(caught.value) == (
        f"the data directory {tmp_path} can't be locked: {os.strerror(error)}; put it on a local file system"
    )


def test_no_descriptor_stays_open_where_it_is_not_held(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    held = RealDisk(tmp_path)
    for _ in range(3):
        with pytest.raises(DirectoryInUse):
            RealDisk(tmp_path)
    held.close()
    with former_node(tmp_path), pytest.raises(DirectoryInUse):
        RealDisk(tmp_path)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.symlink_to("nowhere"), "it is a symbolic link that leads nowhere"),
        (lambda path: path.symlink_to(path), "it is a symbolic link that leads nowhere"),
        (lambda path: path.write_bytes(b""), "it is not a directory"),
    ],
)
def test_a_path_that_is_no_directory_is_reported(tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    make(tmp_path / "data")
    with pytest.raises(DiskFailed) as caught:
        RealDisk(tmp_path / "data")
    assert str(caught.value) == f"the data directory {tmp_path / 'data'} can't be used: {why}"
