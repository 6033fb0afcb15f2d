"""A node that forgets: the product, but nothing that it appends to its log reaches a disk.

For `bench/persistence.py` only. All else is the product's own code: the HTTP server, the route, staging, the task that
commits groups, waking the waiters. What is gone is encoding the record, write and sync.
"""

import sys

import trio

from gcount.cli.node import main
from gcount.core.state.batch import Batch
from gcount.core.state.identity import Identity
from gcount.storage.log import Log


async def forget(_log: Log, _batch: Batch, _identity: Identity) -> int:
    await trio.lowlevel.checkpoint()
    return 0


if __name__ == "__main__":
    Log.append = forget  # type: ignore[assignment, method-assign]
    sys.exit(main(sys.argv[1:]))
