"""A node whose way to sync is fixed, on a disk that may be slower than this one, or takes no time at all.

For benchmarks only: `node_that_syncs.py WAY DELAY ...` with a way of `adaptive`, `loop`, `thread` or `never`, the
milliseconds that each sync takes longer, and the arguments of a node.
"""

import sys
import time
from pathlib import Path

from gcount.cli.node import main
from gcount.storage.disk import File, RealDisk, RealFile
from gcount.storage.sync_pacing import SyncPacing

WAYS = ("adaptive", "loop", "thread")


def command(way: str, delay: float = 0.0) -> tuple[str, ...]:
    """What Python is to execute for such a node; the delay in milliseconds."""
    return "-P", __file__, way, str(delay)


class FixedPacing(SyncPacing):
    """Always the event loop, or always a thread, however long the disk takes."""

    def __init__(self, *, in_loop: bool) -> None:
        super().__init__()
        self._in_loop = in_loop

    def in_loop(self, now: float) -> bool:
        return self._in_loop


class SlowFile(RealFile):
    """A file whose syncs take so many seconds longer; without a delay they are none at all."""

    def __init__(self, name: str, directory: int, delay: float) -> None:
        super().__init__(name, directory)
        self._delay = delay

    def sync(self) -> None:
        if self._delay:
            time.sleep(self._delay)
            super().sync()


class SlowDisk(RealDisk):
    """A disk of such files."""

    def __init__(self, path: Path, way: str, delay: float) -> None:
        fixed = way in ("loop", "thread")
        super().__init__(path, FixedPacing(in_loop=way == "loop") if fixed else None)
        self._never = way == "never"
        self._delay = delay

    def create(self, name: str) -> File:
        if self._delay or self._never:
            return SlowFile(name, self._fd, self._delay)
        return super().create(name)


if __name__ == "__main__":
    way, delay = sys.argv[1], float(sys.argv[2]) / 1000
    del sys.argv[1:3]
    sys.exit(main(sys.argv[1:], open_disk=lambda path: SlowDisk(path, way, delay)))
