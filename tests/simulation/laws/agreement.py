"""Law: after heal and quiet all nodes hold the same, and the same as a replay of each of their logs makes."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.history import Final, History


def violations(history: History) -> Iterator[str]:
    """Each difference between two nodes, or between a node and its log."""
    first = history.finals[0] if history.finals else None
    for final in history.finals:
        for what in ("cells", "digest", "membership"):
            if first is not None and getattr(final, what) != getattr(first, what):
                yield f"{final.host} and {first.host} differ in {what}: {_apart(final, first, what, what)}"
        if final.damage:
            yield f"no node could start on what is durable at {final.host}: {final.damage}"
            continue
        for what in ("cells", "digest", "membership", "identity"):
            if getattr(final, what) != getattr(final, f"replayed_{what}"):
                yield f"{final.host} and its log differ in {what}: {_apart(final, final, what, f'replayed_{what}')}"


def _apart(one: Final, other: Final, what: str, other_what: str) -> str:
    """Where two differ, as short as it can be said."""
    mine, its = getattr(one, what), getattr(other, other_what)
    if isinstance(mine, dict):
        differing = [key for key in mine.keys() | its.keys() if mine.get(key) != its.get(key)]
        return ", ".join(f"{_shown(key)}: {_shown(mine.get(key))} and {_shown(its.get(key))}" for key in differing[:3])
    return f"{mine} and {its}"


def _shown(thing: object) -> str:
    if isinstance(thing, bytes):
        return thing.hex()[:6]
    if isinstance(thing, dict):
        return "{" + ", ".join(f"{_shown(key)}: {_shown(value)}" for key, value in thing.items()) + "}"
    return str(thing)
