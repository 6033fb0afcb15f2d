"""Recovery: a start reads the newest checkpoint of a data directory, and then the log from there on."""

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
    """Restore a blank replica from a data directory, and make sure that all it was restored from is durable.

    Unfinished checkpoints are removed in any case, as nothing reads them.

    Args:
        replica: the blank replica. Nothing of it may leave the node before this returns: the process that wrote the log
            may have ended between a write and its sync.
        log: a log that is not recovered yet.
        checkpoints: the checkpoints of the same directory.

    Returns:
        The header of the first segment; None for an empty directory, in which `Log.begin` has to be called.

    Raises:
        LogDamaged: something that was synced can't be read. Nothing else was changed.
        DiskFull: there is no space to write the live segment anew. Nothing else was changed.
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
    """Switch the garbage collector off: a start makes millions of objects and no cycles among them.

    Looking for cycles would take up to a fifth of the time of a start.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
