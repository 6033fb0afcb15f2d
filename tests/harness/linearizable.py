"""Checks whether the recorded history of one grow-only counter is linearizable. All times are of one clock.

Every increment adds a power of two of its own, so a value shows exactly which increments it contains. For such a
history the rules below are not only necessary but sufficient. Real-time order is an interval order, so a longer
contradiction always contains one of these short ones. (The unit test compares with a search over all orders.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Write:
    """An increment by `amount`, a power of two; `end` is None if it was not answered."""

    amount: int
    start: float
    end: float | None


@dataclass(frozen=True)
class Read:
    """A consistent read that was answered with `value`."""

    value: int
    start: float
    end: float
    where: str = ""


def violations(writes: Sequence[Write], reads: Sequence[Read]) -> Iterator[str]:
    """The contradictions in a history; without any, it is linearizable."""
    known = 0
    for write in writes:
        if write.amount <= 0 or write.amount & (write.amount - 1) or known & write.amount:
            raise ValueError(f"every write needs a power of two of its own: {write}")
        known |= write.amount
    for read in reads:
        if read.value & ~known:
            yield f"contains what no client wrote: {read}"
        for write in writes:
            if write.amount & read.value:
                if write.start > read.end:
                    yield f"holds a write of the future: {read} {write}"
            elif write.end is not None and write.end < read.start:
                yield f"misses a write acknowledged before: {read} {write}"
        missed = [write for write in writes if not write.amount & read.value and write.end is not None]
        held = [write for write in writes if write.amount & read.value]
        if missed and held:
            first = min(missed, key=lambda write: write.end or 0.0)
            last = max(held, key=lambda write: write.start)
            if first.end is not None and first.end < last.start:
                yield f"holds a write but not one acknowledged before that began: {read} {last} {first}"
    by_size = sorted(reads, key=lambda read: (read.value.bit_count(), read.value))
    for smaller, larger in pairwise(by_size):
        if smaller.value & ~larger.value:
            yield f"two reads that no order explains: {smaller} {larger}"
    newest: Read | None = None
    by_end = iter(sorted(reads, key=lambda read: read.end))
    ahead = next(by_end, None)
    for read in sorted(reads, key=lambda read: read.start):
        while ahead is not None and ahead.end < read.start:
            if newest is None or ahead.value.bit_count() > newest.value.bit_count():
                newest = ahead
            ahead = next(by_end, None)
        if newest is not None and newest.value & ~read.value:
            yield f"went back: {newest} was answered before {read}"
