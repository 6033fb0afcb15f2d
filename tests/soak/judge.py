"""The laws of a soak. Each finds its violations in a history; a right history has none."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from tests.harness import linearizable
from tests.harness.linearizable import Read, Write
from tests.soak.history import POWERS, History, Increment, Query
from tests.soak.once import Once, by_name, every_id_counts_once, ids_are_settled, increments, repeats_are_told
from tests.soak.uptime import Uptime

HEALED_WITHIN = 30.0  # seconds in which a cluster has to heal


def violations(history: History) -> list[str]:
    """The violations of all laws in a history; each begins with the name of the law."""
    return [f"{law.__name__}: {violation}" for law in LAWS for violation in law(history)]


def consistent_reads_are_linearizable(history: History) -> Iterator[str]:
    """Judges the counters that get powers of two."""
    reads: dict[str, list[Read]] = defaultdict(list)
    for query in history.queries:
        if query.outcome == "ok":
            reads[query.name].append(Read(query.value, query.start, query.end, f"node {query.node}"))
    for name, found in by_name(increments(history)).items():
        if name.startswith(POWERS):
            writes = [Write(once.amount, once.sent, once.acked) for once in found if once.sent is not None]
            for violation in linearizable.violations(writes, reads[name]):
                yield f"{name}: {violation}"


class _Bounds:
    """The values that one counter may have had, and when."""

    def __init__(self, found: Iterable[Once]) -> None:
        found = list(found)
        acked = sorted((once.acked, once.amount) for once in found if once.acked is not None)
        sent = sorted((once.sent, once.amount) for once in found if once.sent is not None)
        self._acked_at, self._sent_at = [time for time, _ in acked], [time for time, _ in sent]
        self._acked = [0, *accumulate(amount for _, amount in acked)]
        self._sent = [0, *accumulate(amount for _, amount in sent)]

    def acked_before(self, time: float) -> int:
        return self._acked[bisect_left(self._acked_at, time)]

    def sent_until(self, time: float) -> int:
        return self._sent[bisect_right(self._sent_at, time)]


def values_are_within_bounds(history: History) -> Iterator[str]:
    """Always acknowledged <= value <= acknowledged + unknown: in the end, and in each read at its time."""
    bounds = {name: _Bounds(found) for name, found in by_name(increments(history)).items()}
    empty = _Bounds([])
    for query in history.queries:
        if query.outcome == "ok":
            known = bounds.get(query.name, empty)
            low, high = known.acked_before(query.start), known.sent_until(query.end)
            if not low <= query.value <= high:
                yield f"a consistent read is not within {low} .. {high}: {query}"
    for look in history.looks:
        high = bounds.get(look.name, empty).sent_until(look.end)
        if look.value > high:
            yield f"a value is more than was ever sent, {high}: {look}"
    for final in history.finals:
        known = bounds.get(final.name, empty)
        low, high = known.acked_before(float("inf")), known.sent_until(float("inf"))
        for value in (final.consistent, final.value):
            if value is not None and not low <= value <= high:
                yield f"the final value is not within {low} (acknowledged) .. {high} (and unknown): {final}"


def values_never_go_down(history: History) -> Iterator[str]:
    """Judges the values of each node across its restarts.

    An increment's answer is a value that includes its amount. Before the first attempt no value included it.
    """
    seen: dict[tuple[int, str], list[tuple[float, float, int, int]]] = defaultdict(list)
    for look in history.looks:
        seen[look.node, look.name].append((look.start, look.end, look.value, 0))
    for once in increments(history):
        for at, each in enumerate(once.attempts):
            if each.outcome == "ok":
                answer = (each.start, each.end, each.value, each.amount if at == 0 else 0)
                seen[each.node, each.name].append(answer)
    for (node, name), values in seen.items():
        ended = sorted(values, key=lambda value: value[1])
        highest, at = 0, 0
        for start, end, value, added in sorted(values):
            while at < len(ended) and ended[at][1] < start:
                highest = max(highest, ended[at][2])
                at += 1
            if value < highest + added:
                plus = f" and +{added}" if added else ""
                yield f"{name} at node {node}: {value} at {start:.3f} .. {end:.3f} after {highest}{plus}"


def nodes_agree_in_the_end(history: History) -> Iterator[str]:
    """Every counter has one value, on every node, by both kinds of reads."""
    if not history.finals:
        yield "the run did not come to its end: there are no final values"
        return
    finals: dict[str, dict[int, set[int | None]]] = defaultdict(dict)
    for final in history.finals:
        finals[final.name][final.node] = {final.consistent, final.value}
    for name in {increment.name for increment in history.increments} | finals.keys():
        nodes = finals[name]
        if set(nodes) != set(range(1, history.soak.nodes + 1)):
            yield f"{name}: final values of nodes {sorted(nodes)} only"
        values = set().union(*nodes.values())
        if None in values or len(values) > 1:
            yield f"{name}: the nodes do not agree: {nodes}"


def no_node_ends_by_itself(history: History) -> Iterator[str]:
    """A node ends only by kill -9, or in time and with code 0 after SIGTERM."""
    for moment in history.moments:
        if moment.what == "ended":
            yield f"node {moment.node} at {moment.time:.3f}: {moment.detail}"
    for ending in history.endings:
        if ending.code != 0:
            yield f"node {ending.node} answered SIGTERM with {'silence' if ending.code is None else ending.code}"
    if len(history.endings) != history.soak.nodes:
        yield f"{len(history.endings)} of {history.soak.nodes} nodes were stopped by SIGTERM"


def directories_are_whole(history: History) -> Iterator[str]:
    """At the end `gcount verify` finds no damage, in spite of all kills and full disks."""
    for ending in history.endings:
        if ending.verified != 0:
            yield f"gcount verify says {ending.verified} of node {ending.node}'s directory"


def no_node_wrote_a_traceback(history: History) -> Iterator[str]:
    """Standard error has no traceback, since the first start of each node."""
    for ending in history.endings:
        if ending.tracebacks:
            yield f"node {ending.node}: {ending.tracebacks}"


def refusals_say_why(history: History) -> Iterator[str]:
    """All answers are 200 or 503, and an increment that a full disk refuses names the disk as the reason."""
    operations: list[Increment | Query] = [*history.increments, *history.queries]
    for operation in operations:
        if operation.status not in (0, 200, 503):
            yield f"an answer that is not promised: {operation}"
    uptime = Uptime(history.moments)
    for increment in history.increments:
        full = uptime.was_full(increment.node, increment.start, increment.end)
        if increment.outcome == "refused" and full and not any(why in increment.reason for why in FULL_DISK_REASONS):
            yield f"a full disk refused without the reason: {increment}"


FULL_DISK_REASONS = ("disk is full", "not finished its start", "recover")  # the latter two: killed while it was full


def every_fault_heals(history: History) -> Iterator[str]:
    """After each step every node answers exactly, and then all values are equal."""
    for healing in history.healings:
        for what, after in (("exact", healing.exact_after), ("equal", healing.equal_after)):
            if after is None:
                yield f"step {healing.step} was not {what} within {HEALED_WITHIN:.0f} s"


def something_was_tried(history: History) -> Iterator[str]:
    """Without operations there is no verdict: every node took increments and answered both kinds of reads."""
    for node in range(1, history.soak.nodes + 1):
        if not any(increment.node == node and increment.outcome == "ok" for increment in history.increments):
            yield f"node {node} acknowledged nothing"
        if not any(query.node == node and query.outcome == "ok" for query in history.queries):
            yield f"node {node} answered no consistent read"
        if not any(look.node == node for look in history.looks):
            yield f"node {node} answered no /value"
    for ending in history.endings:
        if not ending.checkpoints:
            yield f"node {ending.node} made no checkpoint"


LAWS: tuple[Callable[[History], Iterator[str]], ...] = (
    consistent_reads_are_linearizable,
    values_are_within_bounds,
    every_id_counts_once,
    repeats_are_told,
    ids_are_settled,
    values_never_go_down,
    nodes_agree_in_the_end,
    no_node_ends_by_itself,
    directories_are_whole,
    no_node_wrote_a_traceback,
    refusals_say_why,
    every_fault_heals,
    something_was_tried,
)
