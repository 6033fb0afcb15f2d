"""What a start makes of a data directory: the newest checkpoint, then the log from there on."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from gcount.core.format.log_records import Header
from gcount.core.format.replay_merge import Coalescer
from gcount.core.state.replica import Replica
from gcount.storage.checkpoints import Checkpoints
from gcount.storage.log import Log


async def recover(replica: Replica, log: Log, checkpoints: Checkpoints) -> Header | None:
    """Bring a blank replica to where it was, and make durable what it was made of.

    Whatever becomes of it, checkpoints that were not finished are gone afterwards: nothing reads them.

    Args:
        replica: may be shown to nobody before this returns.
        log: not recovered yet.
        checkpoints: of the same directory.

    Returns:
        The header of the first segment; None for an empty directory, in which `Log.begin` has to be called.

    Raises:
        LogDamaged: something that was synced can't be read; nothing else was changed.
        DiskFull: there is no room to write the live segment anew; nothing else was changed.
        DiskFailed: the disk fails.
    """
    with _no_collector():
        replica.counters.put_off_totals()
        base = await checkpoints.load(replica)
        merged = Coalescer(replica.apply, replica.options)
        header = await log.recover(merged.add, base)
        merged.flush()
        for _ in replica.counters.sum_up():
            await trio.lowlevel.checkpoint()
    assert header is None or replica.next_batch == log.next_batch, "the log goes on where the replica ends"
    await checkpoints.tidy()
    return header


@contextmanager
def _no_collector() -> Iterator[None]:
    """A start makes millions of objects and no cycles: to look for some takes up to a fifth of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
