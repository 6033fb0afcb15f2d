"""The repair of a data directory: what is whole is kept, where it is, and the node goes on under a new incarnation.

Each damaged segment is written anew: its whole batches with the numbers that they had, and an empty one for each that
is lost, so that no other segment has to change. Order is what makes it safe to interrupt:

    1. the live segment, if it is whole, written and synced anew, as each start does (see `log.py`)
    2. a new last segment with the new identity
    3. each damaged segment, and a damaged checkpoint: NAME.new written and synced; NAME renamed to NAME.damaged;
       NAME.new renamed to NAME

Up to the last step of 3 the log is damaged, or lacks a segment: no node starts on it, and a repair that is begun again
goes on from there; a segment that lacks its name is then read from its .damaged copy. Every step is synced before the
next one, so a log that a node can start on always has the new identity in it.

A damaged checkpoint is written anew, too, with what is left of it (`CheckpointSalvage`); unless a crash has left all
that it covers: then nothing is lost, it is only moved aside, last of all, and the node goes on as before.
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
from gcount.storage.inspect.corruption import ASIDE, Segment
from gcount.storage.live_segment import UNFINISHED
from gcount.storage.log import segment_name


def repair(disk: Disk, found: Contents, new_id: Callable[[], bytes], options: Options = DEFAULTS) -> list[str]:
    """Repair a directory that is damaged.

    Args:
        disk: the directory, which no node may use meanwhile.
        found: what `survey` found in it, with at least one flaw.
        new_id: makes ids for what was lost.
        options: sizes of what is written anew.

    Returns:
        The names that the damaged files have now.

    Raises:
        NotRepairable: nothing was changed.
        OSError: the disk fails or is full; run it again.
    """
    require_repairable(found)
    moved: list[str] = []
    if not found.lossless:
        _rewrite(disk, found, new_id, moved, options)
    for name in [checkpoint_name(needless.sequence) for needless in found.needless_here] + [*found.strays]:
        _move_aside(disk, name, moved)
    return moved


def _rewrite(disk: Disk, found: Contents, new_id: Callable[[], bytes], moved: list[str], options: Options) -> None:
    """Put what is left of each damaged file in its place, under a new incarnation."""
    identity = found.lives.reborn(new_id(), new_id())
    live = found.segments[-1]
    if live.flaw is None:
        name = segment_name(live.sequence)
        _put(disk, name, disk.fetch(name)[: live.torn.offset if live.torn else None])
    head = Header(identity.node, identity.incarnation, live.sequence + 1, found.next_batch)
    _put(disk, segment_name(live.sequence + 1), head.encode() + encode_batch(Batch(found.next_batch, [], identity)))
    if found.checkpoint is not None and found.checkpoint.remains is not None:
        first = Header(identity.node, identity.incarnation, found.checkpoint.sequence, found.segments[0].first)
        whole = rebuilt(found.checkpoint.remains, first, found.next_batch, options)
        _put(disk, checkpoint_name(found.checkpoint.sequence), whole, moved)
    for segment, after in zip(found.segments, [*found.segments[1:], None], strict=True):
        if segment.flaw:
            end = found.next_batch if after is None else after.first
            _put(disk, segment_name(segment.sequence), _rebuilt(disk, segment, end, identity, options), moved)


def require_repairable(found: Contents) -> None:
    """Refuse what rot does not explain.

    Raises:
        NotRepairable: and why.
    """
    if found.contradictions:
        raise NotRepairable(f"{found.contradictions[0]}. Put it in its place, or move it out of the directory")


def _rebuilt(disk: Disk, segment: Segment, end: int, identity: Identity, options: Options) -> bytes:
    """A segment as it has to be, with all that is left of it."""
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
    """Put a whole segment under a name; the file that has it is moved aside first, if that is asked for."""
    fresh = disk.create(name + UNFINISHED)
    try:
        fresh.write(data)
        fresh.sync()
    except OSError:
        fresh.close()
        disk.remove(name + UNFINISHED)  # it may be what fills the disk
        raise
    fresh.close()
    if moved is not None and name in disk.names():
        _move_aside(disk, name, moved)
    disk.rename(name + UNFINISHED, name)
    disk.sync_names()


def _move_aside(disk: Disk, name: str, moved: list[str]) -> None:
    names, copy, number = disk.names(), name + ASIDE, 1
    while copy in names:
        number += 1
        copy = f"{name}{ASIDE}-{number}"
    disk.rename(name, copy)
    disk.sync_names()
    moved.append(copy)
