"""How big things are in a run: limits and batch sizes scaled down until a few increments reach them.

Nothing that a simulation does is big. So what a large state is cut into (pushes into parcels, batches into frames,
columns into pieces) is made so small, seed by seed, that two hundred increments of a few counters meet every seam.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from types import ModuleType

from gcount.cluster.links import accepted_link, peer
from gcount.core.format import checkpoint, checkpoint_reader, chunks, log_records, replay_merge
from gcount.core.protocol import consistent_read, replication
from gcount.core.state import columns, counters, replica
from gcount.storage import log

LARGEST_RECORD = 2_500  # bytes; of a checkpoint, when all that is known of a run's incarnations is in its head


@dataclass(frozen=True)
class Sizes:
    """The sizes of one run; see the constants of the same names.

    Args:
        push_bytes: of a parcel.
        push_cells: of a push.
        most_deltas: in a parcel.
        frame_bytes: of a batch in the log, and of what a checkpoint keeps aside.
        piece: cells of a column that are searched in one go.
        few_recent: changes that any column remembers.
        max_recent: changes that the longest one remembers.
        most_cells: that a replay merges before it applies them.
        unsent: bytes that wait on one link, beyond which nothing is asked or read.
        stranger_cells: of unfinished pushes of all that are no members.
        brief_bytes: that are appended to the log in a moment.
        slice_: names, or cells, between two looks at the event loop in a start.
        rounds: of one counter in flight.
    """

    push_bytes: int
    push_cells: int
    most_deltas: int
    frame_bytes: int
    piece: int
    few_recent: int
    max_recent: int
    most_cells: int
    unsent: int
    stranger_cells: int
    brief_bytes: int
    slice_: int
    rounds: int

    def constants(self) -> Iterator[tuple[ModuleType, str, object]]:
        """Modules, the names in them, and what these stand for in the run: in each module that uses one."""
        yield replication, "PUSH_BYTES", self.push_bytes
        yield replication, "PUSH_CELLS", self.push_cells
        yield replica, "PUSH_CELLS", self.push_cells
        yield chunks, "MOST_DELTAS", self.most_deltas
        yield log_records, "FRAME_BYTES", self.frame_bytes
        yield checkpoint, "FRAME_BYTES", self.frame_bytes
        yield checkpoint_reader, "_LARGEST", LARGEST_RECORD
        yield columns, "PIECE", self.piece
        yield columns, "FEW_RECENT", self.few_recent
        yield columns, "MAX_RECENT", self.max_recent
        yield replay_merge, "MOST_CELLS", self.most_cells
        yield peer, "MAX_UNSENT", self.unsent
        yield accepted_link, "MAX_UNSENT", self.unsent
        yield accepted_link, "MAX_STRANGER_CELLS", self.stranger_cells
        yield log, "_BRIEF_BYTES", self.brief_bytes
        yield log, "_CELLS_A_SLICE", self.slice_
        yield counters, "_SLICE", self.slice_
        yield consistent_read, "MAX_ROUNDS", self.rounds


def draw_sizes(random: Random) -> Sizes:
    """The sizes of a seed."""
    few = random.choice((1, 2, 4))
    return Sizes(
        push_bytes=random.choice((100, 200, 500, 64 * 1024)),
        push_cells=random.choice((1, 5, 20, 65_536)),
        most_deltas=random.choice((1, 2, 16)),
        frame_bytes=random.choice((80, 80, 200, 256 * 1024)),
        piece=random.choice((1, 2, 5)),
        few_recent=few,
        max_recent=random.choice((few, 6, 24)),
        most_cells=random.choice((0, 3, 10, 40)),
        unsent=random.choice((1, 1, 256 * 1024)),
        stranger_cells=random.choice((3, 1_000_000)),
        brief_bytes=random.choice((150, 64 * 1024)),
        slice_=random.choice((1, 3, 20)),
        rounds=random.choice((1, 2, 4)),
    )
