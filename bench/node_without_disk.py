"""A node that forgets: it appends to its log, but nothing is written.

For `bench/persistence.py` only. Everything else is the product's own code: the HTTP server, the route, staging, the
task that commits groups, encoding the record, waking the waiters. Only the write, the sync and the check of the file
are left out.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

import trio

from gcount.cli.node import main
from gcount.storage.disk import RealDisk

T = TypeVar("T")


class ForgetfulDisk(RealDisk):
    """A disk that does no brief operation: such operations are the appends of the log."""

    async def run(self, operation: Callable[[], T], *, brief: bool = False, background: bool = False) -> T:
        if brief:
            await trio.lowlevel.checkpoint()
            return None  # type: ignore[return-value]  # nobody asks an append for anything
        return await super().run(operation, brief=brief, background=background)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], open_disk=ForgetfulDisk))
