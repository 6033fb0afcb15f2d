"""Law: a link comes up even if the disks at its ends are slow: a node that waits for its disk says so meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.campaign.history import History


def violations(history: History) -> Iterator[str]:
    """Each case in which links did not come up."""
    yield from history.unlinked
