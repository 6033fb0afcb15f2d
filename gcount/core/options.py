"""The sizes, limits and pauses that a node works with, as one value that is handed in when it is opened.

A node in production has `DEFAULTS`. Tests and the simulation make some of these so small that a few increments reach
every limit and every seam. What both ends of a link or a file rely on is no option: see `limits.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gcount.core.limits import MAX_FRAME_BYTES, MAX_INCARNATIONS, MAX_MEMBERS, MAX_MESSAGE_BYTES, MAX_NAME_BYTES

_HEAD_BYTES = 4096  # more than anything else in a message or a record takes
_PUSH_CELLS = 65_536
_AT_LEAST_ONE = (
    "column_recent_least",
    "column_piece",
    "sum_slice",
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
        column_recent_least: changes that any column remembers in their order.
        column_recent_most: changes that the longest column remembers; older askers cost one pass over it.
        column_piece: cells of a column that are searched in one go.
        column_small: words; a column that is no longer may be dense, whatever it holds.
        column_span: words for each cell. A sparse column is made dense when it takes no more, a dense one sparse at
            twice that.
        sum_slice: names that are added up between two looks at the event loop in a start.
        max_incarnations: how many a node takes; all of a cluster's.
        reborn_below: no node begins a new incarnation when so many are known. All nodes take more, so that those which
            were begun by nodes cut off from each other still reach everybody.
        max_unclaimed: incarnations beyond which none is taken that no member says is its own: anybody can make some
            up.
        max_uncounted_cells: cells buffered of all unfinished pushes, or more where --max-counters asks for more. By
            default that is one delta of all the counters that nodes with the default of that flag hold, with others
            before it; it takes about 3 GB.
        max_runs: deltas detached behind gaps, beyond which a node takes nothing back that a member has kept for it.
        chunk_deltas: deltas in one chunk: pieces that had to be searched for may be small, or empty.
        frame_bytes: what the log aims at for one frame of a big batch, and a checkpoint for one of what is detached.
        record_names: names in one record of a checkpoint.
        record_cells: cells in one record of a checkpoint.
        record_bytes: of the largest record of a checkpoint with its head; a reader that has so many has a whole one.
        merge_cells: cells that a replay merges before it applies them: some 50 ms of work, and 20 MB.
        replay_slice: cells that are replayed between two looks at the event loop.
        progress_interval: seconds between two lines that say how far a start has come.
        segment_bytes: the next segment of the log begins when the live one has passed this.
        brief_bytes: are appended to the log in a moment.
        checkpoint_floor_bytes: no checkpoint is made while the closed segments that none covers are no larger.
        checkpoint_factor: nor while they are no larger than the last one was, times this: so the log stays within a
            small factor of the state, and each byte of it costs about one of a checkpoint.
        checkpoint_retry: seconds until a checkpoint for which the disk had no room is tried again.
        checkpoint_write_bytes: of a checkpoint that are written in one go.
        checkpoint_sync_bytes: written between two syncs: one of them all would keep the log's own syncs waiting.
        checkpoint_read_bytes: of a checkpoint that are read in one go.
        piggyback_delay: seconds that deltas of peers wait for the next commit before they start one.
        push_bytes: of one chunk of a push; by default half a second at 1 Mbit/s.
        push_cells: after which a push takes no further delta.
        push_interval: seconds between two pushes on a link.
        relay_after: seconds that another node has to tell its own news before it is relayed.
        max_unsent_pushes: bytes of messages that wait to be sent on a link that this node dialled; nothing is added
            beyond.
        max_unsent_answers: bytes of answers that wait to be sent on a link that another node dialled; nothing more is
            read from it meanwhile.
        max_unsettled: questions that wait for the disk, on one link.
        max_errands: pushes and memberships that wait for the disk, on one link.
        max_stranger_cells: cells buffered for all nodes that are no members; by default about 150 MB.
        max_suspended: unfinished transfers whose links were lost that are kept for other links.
        max_removed: members that were removed and are still dialled.
        max_rounds: of consistent reads of one counter in flight.
        max_held_names: counters whose increments can be made to wait for consistent reads at a time.
        max_boot_nodes: nodes whose starts are remembered.
        max_boots: starts that are remembered of each.
        confirm_within: seconds after the start in which increments wait for the members' confirmations.

    Raises:
        ValueError: two of them contradict each other, or a limit of the protocol or of the files.
    """

    column_recent_least: int = 16
    column_recent_most: int = 65_536
    column_piece: int = 8_192
    column_small: int = 256
    column_span: int = 8
    sum_slice: int = 16_384

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
    max_errands: int = 64
    max_stranger_cells: int = 1_000_000
    max_suspended: int = MAX_MEMBERS
    max_removed: int = MAX_MEMBERS
    max_rounds: int = 4
    max_held_names: int = 1024
    max_boot_nodes: int = 1024
    max_boots: int = 64
    confirm_within: float = 1.0

    def __post_init__(self) -> None:
        problems = "; ".join(self._problems())
        if problems:
            raise ValueError(f"these options contradict each other: {problems}")

    def _problems(self) -> Iterator[str]:
        """Each rule that is broken, as what would have to hold."""
        rules = {
            "column_recent_least <= column_recent_most": self.column_recent_least <= self.column_recent_most,
            "reborn_below < max_incarnations": self.reborn_below < self.max_incarnations,
            "max_unclaimed <= max_incarnations": self.max_unclaimed <= self.max_incarnations,
            f"max_incarnations <= {MAX_INCARNATIONS}": self.max_incarnations <= MAX_INCARNATIONS,
            "push_cells <= max_uncounted_cells": self.push_cells <= self.max_uncounted_cells,
            "push_bytes fit into a message": self.push_bytes + _HEAD_BYTES <= MAX_MESSAGE_BYTES,
            "frame_bytes fit into a frame": self.frame_bytes + _HEAD_BYTES <= MAX_FRAME_BYTES,
            "record_names fit into a frame": self.record_names * (MAX_NAME_BYTES + 3) + _HEAD_BYTES <= MAX_FRAME_BYTES,
            "record_cells fit into a frame": self.record_cells * 24 + _HEAD_BYTES <= MAX_FRAME_BYTES,
            "checkpoint_write_bytes <= checkpoint_sync_bytes": (
                self.checkpoint_write_bytes <= self.checkpoint_sync_bytes
            ),
        }
        rules |= {f"{name} >= 1": getattr(self, name) >= 1 for name in _AT_LEAST_ONE}
        return (rule for rule, holds in rules.items() if not holds)


DEFAULTS: Final = Options()
"""What a node in production works with."""
