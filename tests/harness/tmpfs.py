"""A small file system for one test, which can be filled and emptied; and the answers of a node when it is full.

It is mounted in a mount namespace of a helper process, and reached through /proc. So no other process sees it, it needs
no root if users may make namespaces, and it ends with the helper process, however the tests end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.harness.client import Response
from tests.harness.processes import Node
from tests.harness.waiting import eventually

LONG = "n" * 200  # a record with this name does not fit into what is left of a block

_MOUNT = 'mount -t tmpfs -o "size=$2,mode=700" tmpfs "$1" && echo mounted && exec cat'


def why_not(base: Path) -> str | None:
    """Why no file system can be mounted here, or None; `base` is a directory for trying it."""
    if shutil.which("unshare") is None:
        return "a private mount needs the unshare command (util-linux)"
    try:
        with mounted(base / "probe", 65536):
            return None
    except OSError as error:
        return f"a private mount is not permitted here: {error}"


class Filesystem:
    """A mounted file system; `path` is its root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Use up all blocks. A file can still grow inside its last block."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free_space(self) -> None:
        """Free the blocks that `fill` has used up."""
        self._filler.unlink()


@contextlib.contextmanager
def mounted(at: Path, size: int) -> Iterator[Filesystem]:
    """A file system of `size` bytes at a new directory. When the context ends, nothing may use it any more.

    Raises:
        OSError: it can't be mounted.
    """
    at.mkdir(parents=True)
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "--mount", "--propagation", "private", *mapped, "sh", "-c", _MOUNT, "sh", str(at), str(size)]
    # The helper ends when its standard input ends, and that ends with the tests, even after kill -9.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as helper:
        assert helper.stdin is not None
        assert helper.stdout is not None
        assert helper.stderr is not None
        try:
            if not helper.stdout.readline():
                raise OSError(helper.stderr.read().strip())
            yield Filesystem(Path(f"/proc/{helper.pid}/root{at}"))
        finally:
            helper.stdin.close()
            helper.wait()


def assert_refused(answer: Response) -> None:
    """Check that an answer is 503 because of the disk."""
    assert answer.status == 503, answer
    assert answer.headers["content-type"] == "application/problem+json", answer
    assert "retry-after" in answer.headers, answer
    problem = answer.json()
    assert {"type", "title", "status", "detail"} <= problem.keys(), problem
    assert problem["status"] == 503
    assert "full" in problem["detail"], problem


async def increments_until_refused(node: Node, name: str) -> int:
    """Use up the last block of the live segment; returns how many increments of 1 were acknowledged."""
    for acknowledged in range(200):
        answer = await node.post(f"/counter/{name}", b"1")
        if answer.status != 200:
            assert_refused(answer)
            return acknowledged
    raise AssertionError("the disk is never full")


async def resumes(node: Node, within: float = 5.0) -> float:
    """Wait until the node is ready; returns the seconds that it took."""

    async def check() -> str | None:
        answer = await node.get("/health/ready")
        return None if answer.status == 200 else f"{node} is not ready: {answer.body!r}"

    return await eventually(check, within)
