"""Limits so small that a run meets them; each seed draws its own, apart from its scenario."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from types import ModuleType
from unittest.mock import patch

from gcount.cluster.links import accepted_link, dial_loops
from gcount.core import limits
from gcount.core.protocol import restarts, write_holds

FEW_LIVES = 24
SPARE_LIVES = 6  # not to be used for a new incarnation where an old one exists


@dataclass(frozen=True)
class Limits:
    """Those of one run.

    Args:
        lives: MAX_INCARNATIONS.
        held_names: MAX_HELD_NAMES.
        errands: MAX_ERRANDS.
        unsettled: MAX_UNSETTLED.
        lingering: MAX_MEMBERS, for those that were removed and are still dialled.
        boot_nodes: MAX_NODES, of those whose boots are remembered.
        boots: MAX_BOOTS, of each.
        counters: --max-counters of each machine, by turns.
    """

    lives: int
    held_names: int
    errands: int
    unsettled: int
    lingering: int
    boot_nodes: int
    boots: int
    counters: tuple[int, ...]

    def max_counters(self, number: int) -> int:
        """What the operator of a machine set.

        Args:
            number: of the machine, from 1.
        """
        return self.counters[(number - 1) % len(self.counters)]


def draw_limits(seed: int, *, few_lives: bool) -> Limits:
    """The limits of a seed.

    Args:
        seed: any number.
        few_lives: whether the cluster's incarnations are to run out.
    """
    random = Random(f"limits {seed}")
    few = random.random() < 0.3
    return Limits(
        lives=FEW_LIVES if few_lives else limits.MAX_INCARNATIONS,
        held_names=random.choice((1, 2, write_holds.MAX_HELD_NAMES)),
        errands=random.choice((2, 4, accepted_link.MAX_ERRANDS)),
        unsettled=random.choice((1, 2, accepted_link.MAX_UNSETTLED)),
        lingering=random.choice((0, 1, limits.MAX_MEMBERS)),
        boot_nodes=random.choice((8, restarts.MAX_NODES)),
        boots=random.choice((2, 3, restarts.MAX_BOOTS)),
        counters=tuple(random.choices((3, 5, 7, 1000), k=4)) if few else (1000,),
    )


@contextmanager
def in_force(drawn: Limits) -> Iterator[None]:
    """Let the nodes of a run have these limits; each module has its own name for them."""
    with ExitStack() as small:
        for name, value in (
            ("MAX_INCARNATIONS", drawn.lives),
            ("REBORN_BELOW", drawn.lives - SPARE_LIVES),
            (
                "MAX_UNCLAIMED",
                drawn.lives,
            ),  # the owners of most have lost their directories, and there are no strangers
        ):
            for module in [module for module in _modules() if hasattr(module, name)]:
                small.enter_context(patch.object(module, name, value))
        for module, name, value in (
            (write_holds, "MAX_HELD_NAMES", drawn.held_names),
            (accepted_link, "MAX_ERRANDS", drawn.errands),
            (accepted_link, "MAX_UNSETTLED", drawn.unsettled),
            (dial_loops, "MAX_MEMBERS", drawn.lingering),
            (restarts, "MAX_NODES", drawn.boot_nodes),
            (restarts, "MAX_BOOTS", drawn.boots),
        ):
            small.enter_context(patch.object(module, name, value))
        yield


def _modules() -> list[ModuleType]:
    return [module for name, module in sorted(sys.modules.items()) if name.startswith("gcount.")]
