"""Law: what a node answers locally never goes down, also across its restarts, until its disk is made to forget."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.history import History


def violations(history: History) -> Iterator[str]:
    """Each value that was lower than one before it."""
    highest: dict[tuple[str, str], int] = {}
    for look in history.looks:
        before = highest.get((look.line, look.name), 0)
        if look.value < before:
            yield f"at {look.time:.4f} {look.name} at {look.line} went down from {before} to {look.value}"
        highest[look.line, look.name] = max(before, look.value)
