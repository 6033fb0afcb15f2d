"""A node that forgets: the product, but nothing that it appends to its log reaches a disk.

For `bench/persistence.py` only. All else is the product's own code: the HTTP server, the route, staging, the task that
commits groups, encoding the record, waking the waiters. What is gone is the write, the sync and the look at the file.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

import trio

from gcount.cli.node import main
from gcount.storage.disk import RealDisk

T = TypeVar("T")


class ForgetfulDisk(RealDisk):
    """A disk that does nothing that is brief, which is what a log appends."""

    async def run(self, operation: Callable[[], T], *, brief: bool = False, background: bool = False) -> T:
        if brief:
            await trio.lowlevel.checkpoint()
            return None  # type: ignore[return-value]  # nobody asks an append for anything
        return await super().run(operation, brief=brief, background=background)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], open_disk=ForgetfulDisk))
