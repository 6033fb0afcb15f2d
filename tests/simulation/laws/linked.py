"""Law: a link comes up whatever the disks at its ends are busy with: who waits for a disk says so meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.campaign.history import History


def violations(history: History) -> Iterator[str]:
    """Each time that links did not come up."""
    yield from history.unlinked
