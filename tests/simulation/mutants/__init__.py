"""Planted bugs, a few lines each, switched on by name: the proof that the laws see what they are to see."""

from tests.simulation.mutants import basics, checkpoints, gaps, links, members, repair, requests, stopped
from tests.simulation.mutants.planted import MUTANTS, planted

__all__ = ["MUTANTS", "basics", "checkpoints", "gaps", "links", "members", "planted", "repair", "requests", "stopped"]
