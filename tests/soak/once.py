"""Increments with ids: the attempts of each as one increment, and the laws about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.soak.history import History, Ids, Increment


@dataclass(frozen=True)
class Once:
    """One increment: all attempts with its id, in the order in which they began; or one attempt without an id."""

    attempts: Sequence[Increment]

    @property
    def name(self) -> str:
        return self.attempts[0].name

    @property
    def amount(self) -> int:
        return self.attempts[0].amount

    @property
    def sent(self) -> float | None:
        """When it could first have been counted; None if every attempt promised that nothing was changed."""
        return min((each.start for each in self.attempts if each.outcome in ("ok", "unknown")), default=None)

    @property
    def acked(self) -> float | None:
        """When it was first acknowledged."""
        return min((each.end for each in self.attempts if each.outcome == "ok"), default=None)

    def __str__(self) -> str:
        tries = ", ".join(f"node {each.node} {each.outcome} {each.start:.3f}" for each in self.attempts)
        return f"{self.name} +{self.amount} with {self.attempts[0].id or 'no id'} ({tries})"


def increments(history: History) -> list[Once]:
    """All increments of a history."""
    by_id: dict[tuple[str, str], list[Increment]] = defaultdict(list)
    alone: list[Once] = []
    for each in history.increments:
        if each.id:
            by_id[each.name, each.id].append(each)
        else:
            alone.append(Once([each]))
    return [*(Once(sorted(attempts, key=lambda each: each.start)) for attempts in by_id.values()), *alone]


def by_name(found: Iterable[Once]) -> dict[str, list[Once]]:
    """Increments by the names of their counters."""
    counters: dict[str, list[Once]] = defaultdict(list)
    for once in found:
        counters[once.name].append(once)
    return counters


def every_id_counts_once(history: History) -> Iterator[str]:
    """In the end a counter is exactly what the ids come to that were used, however often and wherever they were sent.

    An id is used once an attempt may have been counted. Then it is sent until it is acknowledged.
    """
    exact: dict[str, int] = {}
    for name, found in by_name(increments(history)).items():
        used = [once for once in found if once.sent is not None]
        for once in used:
            if once.acked is None and once.attempts[0].id:
                yield f"it was never acknowledged: {once}"
        if all(once.attempts[0].id for once in found):
            exact[name] = sum(once.amount for once in used)
    for final in history.finals:
        wanted = exact.get(final.name)
        if wanted is not None and not {final.consistent, final.value} <= {wanted, None}:
            yield f"the ids that were used come to {wanted}: {final}"


def repeats_are_told(history: History) -> Iterator[str]:
    """A node that has acknowledged an id says so when it gets the id again; nobody says so of an id that is new."""
    for once in increments(history):
        for at, attempt in enumerate(once.attempts):
            if attempt.outcome != "ok" or not attempt.id:
                continue
            others = [each for each in once.attempts if each is not attempt]
            acked_here = any(
                each.node == attempt.node and each.outcome == "ok" and each.end < attempt.start for each in others
            )
            if acked_here and not attempt.replayed:
                yield f"attempt {at + 1} at node {attempt.node} was not told that the id is known there: {once}"
            if attempt.replayed and not any(each.start <= attempt.end for each in others):
                yield f"attempt {at + 1} at node {attempt.node} was told that a new id is known: {once}"


def ids_are_settled(history: History) -> Iterator[str]:
    """Ids are settled as long as the run lasts, and after some quiet no node has a live id."""
    window = history.soak.window
    if not window:  # the run was to end before that
        return
    least = max(1, int(history.soak.seconds / (2 * window)))
    for node in range(1, history.soak.nodes + 1):
        seen = [each for each in history.ids if each.node == node]
        if not any(each.live for each in seen):
            yield f"node {node} never had a live id"
        elif not any(each.last for each in seen) or seen[-1].live:  # another look may be on its way at the end
            yield f"node {node} still has live ids: {seen[-1]}"
        elif settlements(seen) < least:
            yield f"node {node} settled ids {settlements(seen)} times only"


def settlements(seen: Sequence[Ids]) -> int:
    """How often the live ids of one node became fewer: at least so often were ids settled."""
    return sum(after.live < before.live for before, after in pairwise(seen))
