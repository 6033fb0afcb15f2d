"""Limits so small that a run reaches them. Each seed draws its own, independently of its scenario."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from gcount.core.options import DEFAULTS, Options

FEW_LIVES = 24
SPARE_LIVES = 6  # incarnations that only a node without an old one may begin


def draw_limits(seed: int, options: Options, *, few_lives: bool) -> tuple[Options, tuple[int, ...]]:
    """The limits of a seed.

    Args:
        seed: any number.
        options: the other options of the nodes.
        few_lives: whether the cluster's incarnations have to run out.

    Returns:
        The options of all nodes, and --max-counters for the machines, in turn.
    """
    random, lives = Random(f"limits {seed}"), FEW_LIVES if few_lives else DEFAULTS.max_incarnations
    few = random.random() < 0.3
    limited = replace(
        options,
        max_incarnations=lives,
        reborn_below=lives - SPARE_LIVES,
        max_unclaimed=lives,  # most owners have lost their directories, and there are no strangers
        max_held_names=random.choice((1, 2, DEFAULTS.max_held_names)),
        max_tasks=random.choice((2, 4, DEFAULTS.max_tasks)),
        max_unsettled=random.choice((1, 2, DEFAULTS.max_unsettled)),
        max_removed=random.choice((0, 1, DEFAULTS.max_removed)),
        max_restarted_nodes=random.choice((8, DEFAULTS.max_restarted_nodes)),
        max_starts=random.choice((2, 3, DEFAULTS.max_starts)),
    )
    return limited, tuple(random.choices((3, 5, 7, 1000), k=4)) if few else (1000,)
