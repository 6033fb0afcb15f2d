"""Units of ids as increments: what all requests that sent an id have done together."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.campaign.history import History, Increment, Sent


def units(history: History, line: str | None = None) -> list[Increment]:
    """Each unit of each id as one increment: it began when it was first sent, and ended when it was first acknowledged.

    Args:
        history: the run.
        line: leave out all requests but those to this line.
    """
    found: dict[tuple[str, int], Increment] = {}
    for sent in history.sent:
        if line is not None and sent.line != line:
            continue
        for unit in _units(sent):
            one = found.get((sent.key, unit))
            if one is None:
                one = Increment(sent.name, unit, sent.host, sent.line, sent.start, unit=True)
                found[sent.key, unit] = one
            if sent.acknowledged and sent.end is not None:
                one.end = sent.end if one.end is None else min(sent.end, one.end)
    return [*found.values()]


def units_of_lines(history: History) -> Iterator[Increment]:
    """The same for each line by itself."""
    for line in sorted({sent.line for sent in history.sent}):
        yield from units(history, line)


def sent_outside(history: History) -> dict[str, int]:
    """By name, the units that were sent to a node that is not a member all the time: to be seen there is not agreed."""
    found: dict[str, int] = {}
    for sent in history.sent:
        if not sent.member:
            found[sent.name] = found.get(sent.name, 0) | sent.total
    return found


def _units(sent: Sent) -> Iterator[int]:
    total = sent.total
    while total:
        yield total & -total
        total &= total - 1
