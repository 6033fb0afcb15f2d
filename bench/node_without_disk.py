"""A node that forgets: the product, but nothing that it appends to its log reaches a disk.

For `bench/persistence.py` only. All else is the product's own code: the HTTP server, the route, staging, the task that
commits groups, waking the waiters. What is gone is encoding the record, write and sync.
"""

import sys

import trio

from gcount.__main__ import main
from gcount.core.records import Batch, Identity
from gcount.storage.log import Log


async def forget(_log: Log, _batch: Batch, _identity: Identity) -> int:
    await trio.lowlevel.checkpoint()
    return 0


if __name__ == "__main__":
    Log.append = forget  # type: ignore[assignment, method-assign]
    sys.exit(main(sys.argv[1:]))
