"""A node whose way to sync is fixed, on a disk that may be slower than this one, or takes no time at all.

For benchmarks only: `node_that_syncs.py WAY DELAY ...` with a way of `adaptive`, `loop`, `thread` or `never`, the
milliseconds that each sync takes longer, and the arguments of a node.
"""

import sys
import time

from gcount.cli.node import main
from gcount.storage.disk import RealFile
from gcount.storage.sync_pacing import SyncPacing

WAYS = ("adaptive", "loop", "thread")


def command(way: str, delay: float = 0.0) -> tuple[str, ...]:
    """What Python is to execute for such a node; the delay in milliseconds."""
    return "-P", __file__, way, str(delay)


def fix(way: str, delay: float) -> None:
    if way == "never":
        RealFile.sync = lambda _file: None  # type: ignore[assignment, method-assign]
    elif way != "adaptive":
        SyncPacing.in_loop = lambda _pace, _now: way == "loop"  # type: ignore[assignment, method-assign]
    if delay:
        sync = RealFile.sync

        def slowly(file: RealFile) -> None:
            time.sleep(delay)
            sync(file)

        RealFile.sync = slowly  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    fix(sys.argv[1], float(sys.argv[2]) / 1000)
    del sys.argv[1:3]
    sys.exit(main(sys.argv[1:]))
