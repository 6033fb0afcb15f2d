"""A small file system of its own for one test, which can be filled and emptied, and what a node on it says then.

It is mounted in a mount namespace of a helper process and reached through /proc: nobody else sees it, it needs no root
where users may make namespaces, and it is gone when the helper is, however the tests end.
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
        """Use up all blocks; what is already in a file's last block still has the rest of it."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def make_room(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink()


@contextlib.contextmanager
def mounted(at: Path, size: int) -> Iterator[Filesystem]:
    """A file system of `size` bytes at a new directory; nothing may use it any more when the context ends.

    Raises:
        OSError: it can't be mounted.
    """
    at.mkdir(parents=True)
    mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "--mount", "--propagation", "private", *mapped, "sh", "-c", _MOUNT, "sh", str(at), str(size)]
    # Its standard input ends with the tests, even with kill -9, and so it does.
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
    """503, and the reason is the disk."""
    assert answer.status == 503, answer
    assert answer.headers["content-type"] == "application/problem+json", answer
    assert "retry-after" in answer.headers, answer
    problem = answer.json()
    assert {"type", "title", "status", "detail"} <= problem.keys(), problem
    assert problem["status"] == 503
    assert "full" in problem["detail"], problem


async def increments_until_refused(node: Node, name: str) -> int:
    """Use up what is left of the live segment's last block; how many increments of 1 were acknowledged."""
    for acknowledged in range(200):
        answer = await node.post(f"/counter/{name}", b"1")
        if answer.status != 200:
            assert_refused(answer)
            return acknowledged
    raise AssertionError("the disk is never full")


async def resumes(node: Node, within: float = 5.0) -> float:
    """Wait for readiness; the seconds that it took."""

    async def check() -> str | None:
        answer = await node.get("/health/ready")
        return None if answer.status == 200 else f"{node} is not ready: {answer.body!r}"

    return await eventually(check, within)
