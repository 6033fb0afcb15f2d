"""Planted bugs, a few lines each, switched on by name. They prove that the laws find what they have to find."""

from tests.simulation.mutants import basics, checkpoints, gaps, ids, links, members, repair, requests, stopped
from tests.simulation.mutants.planted import MUTANTS, planted

__all__ = [
    "MUTANTS",
    "basics",
    "checkpoints",
    "gaps",
    "ids",
    "links",
    "members",
    "planted",
    "repair",
    "requests",
    "stopped",
]
