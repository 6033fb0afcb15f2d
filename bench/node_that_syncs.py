"""A node with a fixed way to wait for syncs, on a disk that is slower than this one, or that does not sync at all.

For benchmarks only: `node_that_syncs.py WAY DELAY ...`. WAY is `adaptive`, `loop`, `thread` or `never`. DELAY is the
time in milliseconds by which each sync takes longer. The arguments of a node follow.
"""

import sys
import time
from pathlib import Path

from gcount.cli.node import main
from gcount.storage.disk import File, RealDisk, RealFile
from gcount.storage.sync_pacing import SyncPacing

WAYS = ("adaptive", "loop", "thread")


def command(way: str, delay: float = 0.0) -> tuple[str, ...]:
    """The arguments with which Python runs such a node.

    Args:
        way: how the node waits for syncs, see above.
        delay: milliseconds by which each sync takes longer.
    """
    return "-P", __file__, way, str(delay)


class FixedPacing(SyncPacing):
    """Waits always in the event loop, or always in a thread, however long the disk takes."""

    def __init__(self, *, in_loop: bool) -> None:
        super().__init__()
        self._in_loop = in_loop

    def in_loop(self, now: float) -> bool:
        return self._in_loop


class SlowFile(RealFile):
    """A file with slower syncs.

    Args:
        name: the file's name.
        directory: the descriptor of its directory.
        delay: seconds by which a sync takes longer; with 0 nothing is synced.
    """

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
