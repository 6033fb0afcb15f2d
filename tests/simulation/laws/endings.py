"""Law: a node ends by itself if its disk failed or its log is damaged, and only then.

It starts again after any loss of power, no matter which unsynced bytes are left. It refuses to start on a log that
rotted.
"""

from __future__ import annotations

from collections.abc import Iterator

from gcount.errors import DiskFailed, LogDamaged
from tests.fakes.disk import SimulatedCrash
from tests.simulation.campaign.history import History

START_WITHIN = 1.5  # seconds of a node whose disk works
EXPLAINS: dict[str, tuple[type[BaseException], ...]] = {
    "rot": (LogDamaged,),
    "sync": (DiskFailed,),
    "power": (SimulatedCrash, DiskFailed),
}


def violations(history: History) -> Iterator[str]:
    """Each unexplained end of a node, and each node that went on though it had to end."""
    if not history.over:
        yield "the run did not come to its end"
    for life in history.lives:
        if life.failure is not None and not (life.expected and isinstance(life.failure, EXPLAINS[life.expected])):
            yield f"a node ended by itself: {life.failure!r}: {life}"
        if life.must_end and life.failure is None:
            yield f"a node went on after a sync had failed: {life}"
        if life.expected == "rot" and life.failure is None:
            yield f"a node started on a log that rotted: {life}"
