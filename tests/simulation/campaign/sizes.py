"""Sizes for a run: limits and batch sizes are scaled down until a few increments reach them.

Nothing in a simulation is large. The product cuts large things into pieces: pushes into chunks, batches into frames,
columns into slices. So these pieces are made so small, seed by seed, that two hundred increments of a few counters are
enough to reach every boundary between them.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from gcount.core.options import DEFAULTS, Options

LARGEST_RECORD = 2_500  # bytes of a checkpoint's record: its head names all incarnations of a run
SMALL = replace(
    DEFAULTS,
    checkpoint_factor=0.1,
    checkpoint_retry=0.3,
    checkpoint_write_bytes=300,
    checkpoint_sync_bytes=2000,
    checkpoint_read_bytes=1000,
    record_bytes=LARGEST_RECORD,
    column_small=0,  # so that columns of a few cells may be dense or sparse
    column_span=1,
)
"""The sizes of all seeds."""


def draw_files(random: Random, options: Options) -> Options:
    """Draw how large files become, and how much of a checkpoint is captured at once."""
    segment_bytes = random.choice((1200, 3000, 6000))
    floor_bytes = random.choice((0, 2000, 8000))
    cells = random.choice((1, 4, 20))
    return replace(
        options,
        segment_bytes=segment_bytes,
        checkpoint_floor_bytes=floor_bytes,
        record_names=cells,
        record_cells=cells,
    )


def draw_sizes(random: Random, options: Options) -> Options:
    """Draw the sizes of the pieces into which large states are cut."""
    few = random.choice((1, 2, 4))
    return replace(
        options,
        push_bytes=random.choice((100, 200, 500, 64 * 1024)),
        push_cells=random.choice((1, 5, 20, 65_536)),
        chunk_deltas=random.choice((1, 2, 16)),
        frame_bytes=random.choice((80, 80, 200, 256 * 1024)),
        column_piece=random.choice((1, 2, 5)),
        column_recent_least=few,
        column_recent_most=random.choice((few, 6, 24)),
        merge_cells=random.choice((0, 3, 10, 40)),
        **_unsent(random.choice((1, 1, 256 * 1024))),
        max_stranger_cells=random.choice((3, 1_000_000)),
        brief_bytes=random.choice((150, 64 * 1024)),
        **_slice(random.choice((1, 3, 20))),
        max_rounds=random.choice((1, 2, 4)),
    )


def _unsent(most: int) -> dict[str, int]:
    return {"max_unsent_pushes": most, "max_unsent_answers": most}


def _slice(size: int) -> dict[str, int]:
    return {"replay_slice": size, "sum_slice": size}
