"""Law: a node whose process and disk are up takes increments, in whatever state its peers are.

It may refuse them only if a limit is reached, which law *refusals* judges. An increment may wait for the disk, up to
250 ms for the hold of a consistent read and, in the first second after the start, for confirmations of the members. It
waits for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from tests.simulation.campaign.history import History, Increment, Life, Sent
from tests.simulation.laws.refusals import JUDGED, JUDGED_OF_IDS

HOLD = 0.25
CONFIRM = 1.0
DISK = 0.15  # seconds: some syncs of the slowest disk, and a new incarnation


def violations(history: History) -> Iterator[str]:
    """Each increment that was not acknowledged in time, though it could have been."""
    every: list[Increment | Sent] = [*history.increments, *history.sent]
    for increment in every:
        life = _life(history, increment)
        if life is None or life.ready is None:
            continue
        latest = max(increment.start + HOLD, life.ready + CONFIRM) + DISK
        end = increment.end if increment.end is not None else inf
        refused = increment.refused and increment.refused not in JUDGED | JUDGED_OF_IDS
        if (end > latest or refused) and not _excused(history, increment, life, min(end, latest)):
            why = f" ({increment.refused})" if increment.refused else ""
            yield f"not answered in time{why}: {increment}"


def _life(history: History, increment: Increment | Sent) -> Life | None:
    for life in history.lives:
        ended = life.ended if life.ended is not None else inf
        if life.host == increment.host and life.began <= increment.start <= ended:
            return life
    return None


def _excused(history: History, increment: Increment | Sent, life: Life, until: float) -> bool:
    if life.ended is not None and life.ended <= until:
        return True
    return any(
        trouble.host == increment.host and trouble.start <= until and trouble.end >= increment.start
        for trouble in history.troubles
    )
