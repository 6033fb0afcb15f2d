"""The fixtures that several files of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.tmpfs import Filesystem, mounted, why_not

SIZE = 1024 * 1024  # bytes


@pytest.fixture(scope="session")
def mountable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where nothing can be mounted."""
    reason = why_not(tmp_path_factory.mktemp("mount"))
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def disk(mountable: None, tmp_path: Path) -> Iterator[Filesystem]:
    """A file system of its own for the test, which it may fill."""
    with mounted(tmp_path / "mount", SIZE) as filesystem:
        yield filesystem
