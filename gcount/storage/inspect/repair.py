"""The repair of a data directory: all that is whole is kept, and the node goes on under a new incarnation.

Each damaged segment is written anew. It gets its whole batches with their old numbers, and an empty batch for each lost
one, so that no other segment has to change. The order of steps makes it safe to interrupt a repair:

    1. if the live segment is whole, write and sync it anew, as each start does (see log.py)
    2. write a new last segment with the new identity
    3. for each damaged segment, and a damaged checkpoint: write and sync NAME.new; rename NAME to NAME.damaged;
       rename NAME.new to NAME

Until the last step of 3 the log is damaged or lacks a segment, so that no node starts on it. A repair that begins again
continues from there; it reads a missing segment from its .damaged copy. Every step is synced before the next one
begins, so a log on which a node can start always holds the new identity.

A damaged checkpoint is also written anew, with what is left of it (`CheckpointSalvage`). There is one exception: a
crash may have left all files that it covers. Then nothing is lost; the checkpoint is only renamed to NAME.damaged, as
the last step, and the node goes on under its old incarnation.
"""

from collections.abc import Callable

from gcount.core.format.checkpoint_salvage import rebuilt
from gcount.core.format.log_records import Header, encode_batch, find_batches
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.identity import Identity
from gcount.errors import NotRepairable
from gcount.storage.checkpoints import checkpoint_name
from gcount.storage.disk import Disk
from gcount.storage.inspect.contents import Contents
from gcount.storage.inspect.corruption import DAMAGED_SUFFIX, Segment
from gcount.storage.live_segment import UNFINISHED
from gcount.storage.log import segment_name


def repair(disk: Disk, found: Contents, new_id: Callable[[], bytes], options: Options = DEFAULTS) -> list[str]:
    """Repair a damaged directory.

    Args:
        disk: the directory. No node may use it meanwhile.
        found: what `survey` found in it, with at least one damage.
        new_id: returns a new random id.
        options: sizes of the files that are written anew.

    Returns:
        The names that the damaged files have now.

    Raises:
        NotRepairable: the damage can't be repaired. Nothing was changed.
        OSError: the disk fails or is full. The repair can be run again.
    """
    require_repairable(found)
    moved: list[str] = []
    if not found.lossless:
        _rewrite(disk, found, new_id, moved, options)
    for name in [checkpoint_name(needless.sequence) for needless in found.needless_here] + [*found.strays]:
        _rename_damaged(disk, name, moved)
    return moved


def _rewrite(disk: Disk, found: Contents, new_id: Callable[[], bytes], moved: list[str], options: Options) -> None:
    """Put what is left of each damaged file in its place, under a new incarnation."""
    identity = found.identities.reborn(new_id(), new_id(), new_id())
    live = found.segments[-1]
    if live.corruption is None:
        name = segment_name(live.sequence)
        _put(disk, name, disk.fetch(name)[: live.torn.offset if live.torn else None])
    head = Header(identity.node, identity.incarnation, live.sequence + 1, found.next_batch)
    _put(disk, segment_name(live.sequence + 1), head.encode() + encode_batch(Batch(found.next_batch, [], identity)))
    if found.checkpoint is not None and found.checkpoint.salvage is not None:
        first = Header(identity.node, identity.incarnation, found.checkpoint.sequence, found.segments[0].first)
        whole = rebuilt(found.checkpoint.salvage, first, found.next_batch, options)
        _put(disk, checkpoint_name(found.checkpoint.sequence), whole, moved)
    for segment, after in zip(found.segments, [*found.segments[1:], None], strict=True):
        if segment.corruption:
            end = found.next_batch if after is None else after.first
            _put(disk, segment_name(segment.sequence), _rebuilt(disk, segment, end, identity, options), moved)


def require_repairable(found: Contents) -> None:
    """Check that rot explains all that was found.

    Raises:
        NotRepairable: it does not; the text says why, and what the operator can do.
    """
    if found.contradictions:
        raise NotRepairable(found.contradictions[0])


def _rebuilt(disk: Disk, segment: Segment, end: int, identity: Identity, options: Options) -> bytes:
    """The bytes of a segment with all batches that are left of it, and an empty one for each lost batch."""
    head = segment.header or Header(identity.node, identity.incarnation, segment.sequence, segment.first)
    out = bytearray(head.encode())
    due = segment.first
    data = b"" if segment.source is None else disk.fetch(segment.source)
    for batch in find_batches(data):
        if due <= batch.number < end:
            out += _empty(due, batch.number) + encode_batch(batch, options)
            due = batch.number + 1
    return bytes(out + _empty(due, end))


def _empty(first: int, end: int) -> bytes:
    return b"".join(encode_batch(Batch(number, [])) for number in range(first, end))


def _put(disk: Disk, name: str, data: bytes, moved: list[str] | None = None) -> None:
    """Write a whole file and give it a name.

    Args:
        disk: the directory.
        name: the name.
        data: the bytes of the file.
        moved: if given, the file that has the name is kept under another one, which is appended here. Else it is
            replaced.
    """
    fresh = disk.create(name + UNFINISHED)
    try:
        fresh.write(data)
        fresh.sync()
    except OSError:
        fresh.close()
        disk.remove(name + UNFINISHED)  # the unfinished file may be what fills the disk
        raise
    fresh.close()
    if moved is not None and name in disk.names():
        _rename_damaged(disk, name, moved)
    disk.rename(name + UNFINISHED, name)
    disk.sync_names()


def _rename_damaged(disk: Disk, name: str, moved: list[str]) -> None:
    """Keep a damaged file under a name that no other file has, which is appended to `moved`."""
    names, copy, number = disk.names(), name + DAMAGED_SUFFIX, 1
    while copy in names:
        number += 1
        copy = f"{name}{DAMAGED_SUFFIX}-{number}"
    disk.rename(name, copy)
    disk.sync_names()
    moved.append(copy)
