"""Law: when all faults are over and no client writes, all nodes have the same state, as has a replay of each log."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from gcount.core.state.counters import Digest
from tests.simulation.campaign.history import Final, History
from tests.simulation.laws.durable_state import at_the_end


def violations(history: History) -> Iterator[str]:
    """Each difference between two nodes, or between a node and its log; each member that follows a duplicate."""
    for host in history.taken_over:
        yield f"{host} has the config of a copy outside its config, which was told to stand alone"
    forked = at_the_end(history).forked.keys()
    finals = [_without(final, forked) for final in history.finals]
    first = finals[0] if finals else None
    for final in finals:
        for what in ("cells", "digest", "membership"):
            if first is not None and getattr(final, what) != getattr(first, what):
                yield f"{final.host} and {first.host} differ in {what}: {_apart(final, first, what, what)}"
        if first is not None and not forked and final.keyed != first.keyed:
            yield f"{final.host} and {first.host} differ in ids: {final.keyed} and {first.keyed}"
        if final.damage:
            yield f"no node could start on what is durable at {final.host}: {final.damage}"
            continue
        for what in ("cells", "digest", "membership", "identity"):
            if getattr(final, what) != getattr(final, f"replayed_{what}"):
                yield f"{final.host} and its log differ in {what}: {_apart(final, final, what, f'replayed_{what}')}"
        if final.keyed != final.replayed_keyed:
            yield f"{final.host} and its log differ in ids: {final.keyed} and {final.replayed_keyed}"


def _without(final: Final, forked: Collection[bytes]) -> Final:
    """The same without incarnations under which two processes wrote: nothing is promised of those."""
    if not forked:
        return final

    def cells(of: dict[str, dict[bytes, int]]) -> dict[str, dict[bytes, int]]:
        left = {name: {who: n for who, n in each.items() if who not in forked} for name, each in of.items()}
        return {name: each for name, each in left.items() if each}

    def digest(of: Digest) -> Digest:
        return {who: version for who, version in of.items() if who not in forked}

    return replace(
        final,
        cells=cells(final.cells),
        digest=digest(final.digest),
        replayed_cells=cells(final.replayed_cells),
        replayed_digest=digest(final.replayed_digest),
    )


def _apart(one: Final, other: Final, what: str, other_what: str) -> str:
    """The first differences between two nodes, in a short text."""
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
