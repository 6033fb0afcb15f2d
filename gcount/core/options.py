"""The sizes, limits and pauses that a node works with, as one value that is passed in when the node is opened.

A node in production uses `DEFAULTS`. Tests and the simulation make some of the options so small that a few increments
reach every limit and every boundary. Limits that both ends of a link or a file rely on are not options; they are in
`limits.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gcount.core.limits import (
    MAX_FRAME_BYTES,
    MAX_HOST_BYTES,
    MAX_INCARNATIONS,
    MAX_MEMBERS,
    MAX_MESSAGE_BYTES,
    MAX_NAME_BYTES,
)

_HEAD_BYTES = 4096  # an upper bound for all that a message or a record holds besides its names and cells
# And what the last frame of a batch holds besides: a membership; of each incarnation an id that is retired, one that
# needs settlements, and one with a version that is needed.
_REST_BYTES = _HEAD_BYTES + MAX_MEMBERS * (MAX_HOST_BYTES + 12) + MAX_INCARNATIONS * (3 * 18 + 9)
_ENTRY_BYTES = MAX_NAME_BYTES + 90  # of a name, an id, a total and a version in a record
_PUSH_CELLS = 65_536
_AT_LEAST_ONE = (
    "column_recent_least",
    "column_piece",
    "sum_slice",
    "id_span",
    "max_spans",
    "chunk_deltas",
    "frame_bytes",
    "record_names",
    "record_cells",
    "record_bytes",
    "segment_bytes",
    "checkpoint_read_bytes",
    "push_bytes",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a node works with.

    Args:
        column_recent_least: how many of its newest changes every column remembers in order.
        column_recent_most: how many of them the longest column remembers. A peer that lacks older changes costs one
            pass over the whole column.
        column_piece: cells of a column that are searched in one step.
        column_small: a column of at most so many words may be dense, however few cells it holds.
        column_span: words for each cell. A sparse column becomes dense when that takes at most so many words for each
            cell; a dense column becomes sparse at twice as many.
        sum_slice: counters whose totals a start computes before the event loop runs other tasks, and sums of ids that
            are settled at once, if they did not come late.
        id_span: seconds; ids of so much time are settled together. At least 1.
        max_spans: once ids that are not settled lie in so many of these spans, nodes that are not members open no
            further one; the default is almost three days.
        max_incarnations: how many incarnations of the whole cluster a node takes.
        reborn_below: a node begins no new incarnation once it knows so many. It is less than `max_incarnations`, so
            that incarnations begun by nodes that are cut off from each other still fit at all nodes.
        max_unclaimed: a node that knows so many incarnations takes no further one unless a member says that it is
            its own: anybody can invent incarnations. From nodes that are not members it takes none once it knows so
            many divided by the number of members.
        max_uncounted_cells: cells buffered of all unfinished pushes; a high --max-counters raises it. The default is
            one delta of all counters that nodes with the default of that flag hold, and what may stand before it in
            the same push; that takes about 3 GB.
        max_runs: once so many deltas are detached behind gaps, a node takes back nothing more that a member has kept
            for it.
        chunk_deltas: deltas in one chunk. Pieces of a delta that had to be searched for may be small, or empty.
        frame_bytes: the size that the log aims at for one frame of a big batch, and a checkpoint for one frame of
            detached deltas.
        record_names: names in one record of a checkpoint, or ids with the names of their counters.
        record_cells: cells in one record of a checkpoint.
        record_bytes: size of the largest record of a checkpoint, its head included. A reader needs so many bytes to
            be sure that it has a whole record.
        merge_cells: cells that a replay merges before it applies them; this takes about 50 ms and 20 MB.
        replay_slice: cells that a start replays before the event loop runs other tasks.
        progress_interval: seconds between two log lines about the progress of a start.
        segment_bytes: a new segment begins once the live one is larger.
        brief_bytes: an append of at most so many bytes may run in the event loop, if the disk is fast.
        checkpoint_floor_bytes: no checkpoint is made before the closed segments that no checkpoint covers are larger.
        checkpoint_factor: nor before they are larger than the last checkpoint times this factor. So the log stays
            within a small factor of the state, and each byte of log costs about one byte of checkpoint.
        checkpoint_retry: seconds after which a checkpoint that met a full disk is tried again.
        checkpoint_write_bytes: bytes of a checkpoint that are written in one step.
        checkpoint_sync_bytes: bytes of a checkpoint that are written between two syncs. One sync of the whole file
            would delay the syncs of the log.
        checkpoint_read_bytes: bytes of a checkpoint that are read in one step.
        piggyback_delay: seconds that deltas of peers wait for a commit of increments before they start one.
        push_bytes: size of a chunk; the default takes half a second at 1 Mbit/s.
        push_cells: cells after which a push takes no further delta.
        push_interval: seconds between two pushes on a link.
        relay_after: seconds that a node has to push its own changes to a peer before this node relays them.
        max_unsent_pushes: bytes of messages that wait to be sent on a link that this node dialled. Above that no
            message is added.
        max_unsent_answers: bytes of answers that wait to be sent on a link that another node dialled. Above that
            nothing is read from the link.
        max_unsettled: questions on one link that wait for the disk.
        max_tasks: pushes and memberships on one link that wait for the disk.
        max_stranger_cells: cells buffered for all nodes that are not members; the default takes about 150 MB.
        max_suspended: suspended transfers that are kept for other links.
        max_removed: removed members that are still dialled.
        max_rounds: rounds of consistent reads of one counter that are in flight.
        max_held_names: counters whose increments wait for consistent reads at the same time.
        max_restarted_nodes: nodes whose starts are remembered.
        max_starts: starts that are remembered of each of them.
        confirm_within: seconds after the start in which increments wait for the members' confirmations.

    Raises:
        ValueError: two options contradict each other, or one contradicts a limit of the protocol or of the files.
    """

    column_recent_least: int = 16
    column_recent_most: int = 65_536
    column_piece: int = 8_192
    column_small: int = 256
    column_span: int = 8
    sum_slice: int = 16_384
    id_span: int = 60
    max_spans: int = 4096

    max_incarnations: int = MAX_INCARNATIONS
    reborn_below: int = MAX_INCARNATIONS - 256
    max_unclaimed: int = MAX_INCARNATIONS // 2
    max_uncounted_cells: int = 2 * 10_000_000 + _PUSH_CELLS
    max_runs: int = 4096

    chunk_deltas: int = 16
    frame_bytes: int = 256 * 1024
    record_names: int = 2_048
    record_cells: int = 16_384
    record_bytes: int = 12 + MAX_FRAME_BYTES
    merge_cells: int = 131_072

    replay_slice: int = 5_000
    progress_interval: float = 1.0
    segment_bytes: int = 16 * 1024 * 1024
    brief_bytes: int = 64 * 1024
    checkpoint_floor_bytes: int = 64 * 1024 * 1024
    checkpoint_factor: float = 1.0
    checkpoint_retry: float = 60.0
    checkpoint_write_bytes: int = 1024 * 1024
    checkpoint_sync_bytes: int = 8 * 1024 * 1024
    checkpoint_read_bytes: int = 8 * 1024 * 1024

    piggyback_delay: float = 0.005

    push_bytes: int = 64 * 1024
    push_cells: int = _PUSH_CELLS
    push_interval: float = 0.01
    relay_after: float = 1.0
    max_unsent_pushes: int = 4 * 1024 * 1024
    max_unsent_answers: int = 256 * 1024
    max_unsettled: int = 4096
    max_tasks: int = 64
    max_stranger_cells: int = 1_000_000
    max_suspended: int = MAX_MEMBERS
    max_removed: int = MAX_MEMBERS
    max_rounds: int = 4
    max_held_names: int = 1024
    max_restarted_nodes: int = 1024
    max_starts: int = 64
    confirm_within: float = 1.0

    def __post_init__(self) -> None:
        problems = "; ".join(self._problems())
        if problems:
            raise ValueError(f"these options contradict each other: {problems}")

    def _problems(self) -> Iterator[str]:
        """Each rule that the options break, in the words of the condition that should be true."""
        rules = {
            "column_recent_least <= column_recent_most": self.column_recent_least <= self.column_recent_most,
            "reborn_below < max_incarnations": self.reborn_below < self.max_incarnations,
            "max_unclaimed <= max_incarnations": self.max_unclaimed <= self.max_incarnations,
            f"max_incarnations <= {MAX_INCARNATIONS}": self.max_incarnations <= MAX_INCARNATIONS,
            "push_cells <= max_uncounted_cells": self.push_cells <= self.max_uncounted_cells,
            "push_bytes fit into a message": self.push_bytes + _HEAD_BYTES <= MAX_MESSAGE_BYTES,
            "frame_bytes fit into a frame": self.frame_bytes + _REST_BYTES <= MAX_FRAME_BYTES,
            "record_names fit into a frame": self.record_names * _ENTRY_BYTES + _HEAD_BYTES <= MAX_FRAME_BYTES,
            "record_cells fit into a frame": self.record_cells * 24 + _HEAD_BYTES <= MAX_FRAME_BYTES,
            "checkpoint_write_bytes <= checkpoint_sync_bytes": (
                self.checkpoint_write_bytes <= self.checkpoint_sync_bytes
            ),
        }
        rules |= {f"{name} >= 1": getattr(self, name) >= 1 for name in _AT_LEAST_ONE}
        return (rule for rule, holds in rules.items() if not holds)


DEFAULTS: Final = Options()
"""What a node in production works with."""
