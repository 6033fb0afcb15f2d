"""The figures of a history: availability and latency of increments under each kind of fault, and the time to heal."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from tests.soak.history import Fault, History, Increment
from tests.soak.once import increments, settlements
from tests.soak.plan import KINDS
from tests.soak.uptime import Uptime

QUIET = "no fault"
HEAL_MEDIAN, HEAL_WORST = 2.0, 5.0  # seconds to exact: the promise
HEADINGS = (
    "fault",
    "times",
    "seconds",
    "attempts",
    "answered 200",
    "median ms",
    "p99 ms",
    "max ms",
    "exact after s",
    "worst s",
    "equal after s",
    "worst s",
)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least `percent` percent of them do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


def share(part: int, whole: int) -> str:
    """A share in percent: 100 only if it is all, and a dash if there is nothing."""
    if not whole:
        return "-"
    return "100 %" if part == whole else f"{min(99.999, part / whole * 100):.3f} %"


@dataclass(frozen=True)
class Row:
    """The results of increments on nodes that were up during one kind of fault, and the time to heal."""

    kind: str
    times: int
    seconds: float
    attempts: int
    answered: int
    latencies: Sequence[float]
    exact: Sequence[float]
    equal: Sequence[float]

    def cells(self) -> list[str]:
        """The cells of the row, as text; see HEADINGS."""
        milliseconds = [f"{percentile(self.latencies, p) * 1000:.0f}" for p in (50, 99, 100)]
        healed = [
            f"{percentile(times, p):.2f}" if times else "-" for times in (self.exact, self.equal) for p in (50, 100)
        ]
        length = f"{self.seconds:.0f}"
        available = share(self.answered, self.attempts)
        return [self.kind, str(self.times), length, f"{self.attempts:,}", available, *milliseconds, *healed]


class Figures:
    """All figures of a history."""

    def __init__(self, history: History) -> None:
        self.history = history
        uptime = Uptime(history.moments)
        # Only attempts on nodes that were up: those that overlap a kill, a pause or a full disk are left out.
        self._attempts = sorted(
            (each for each in history.increments if uptime.was_up(each.node, each.start, each.end)),
            key=lambda each: each.start,
        )
        self._starts = [each.start for each in self._attempts]
        self._longest = max((each.end - each.start for each in self._attempts), default=0.0)
        self.unavailable = [each for each in self._attempts if each.outcome != "ok"]
        self.exact = [each.exact_after for each in history.healings if each.exact_after is not None]
        self.equal = [each.equal_after for each in history.healings if each.equal_after is not None]
        self.rows = self._rows()

    def _during(self, fault: Fault) -> Iterable[int]:
        first = bisect_left(self._starts, fault.start - self._longest)
        last = bisect_right(self._starts, fault.end)
        return (at for at in range(first, last) if self._attempts[at].end >= fault.start)

    def _rows(self) -> list[Row]:
        under: dict[str, set[int]] = {kind: set() for kind in KINDS}
        faults: dict[str, list[Fault]] = {kind: [] for kind in KINDS}
        for fault in self.history.faults:
            under[fault.kind].update(self._during(fault))
            faults[fault.kind].append(fault)
        everything = set(range(len(self._attempts)))
        quiet = everything.difference(*under.values())
        rows = [self._row(kind, faults[kind], under[kind]) for kind in KINDS if faults[kind]]
        total = self._row("all of it", self.history.faults, everything)
        return [self._row(QUIET, [], quiet), *rows, total]

    def _row(self, kind: str, faults: Sequence[Fault], attempts: Iterable[int]) -> Row:
        chosen = [self._attempts[at] for at in attempts]
        answered = [each for each in chosen if each.outcome == "ok"]
        steps = {fault.step for fault in faults}
        healings = [healing for healing in self.history.healings if healing.step in steps]
        return Row(
            kind,
            len(faults),
            sum(fault.end - fault.start for fault in faults),
            len(chosen),
            len(answered),
            [each.end - each.start for each in answered],
            [healing.exact_after for healing in healings if healing.exact_after is not None],
            [healing.equal_after for healing in healings if healing.equal_after is not None],
        )

    @property
    def healed_as_promised(self) -> bool:
        return percentile(self.exact, 50) <= HEAL_MEDIAN and max(self.exact, default=0.0) <= HEAL_WORST

    def summary(self) -> list[str]:
        """The run in a few lines."""
        history, soak = self.history, self.history.soak
        attempts = Counter(each.outcome for each in history.increments)
        queries = Counter(each.outcome for each in history.queries)
        kills = sum(moment.what == "killed" for moment in history.moments)
        return [
            f"{soak.nodes} nodes, seed {soak.seed}, {history.seconds:.0f} s; {len(history.faults)} faults in "
            f"{len(history.healings)} steps, {kills} kills of a node",
            f"{len(history.increments):,} increments tried: {attempts['ok']:,} acknowledged, "
            f"{attempts['refused']:,} refused, {attempts['unknown']:,} not answered, "
            f"{attempts['unsent']:,} not sent",
            *self._ids(),
            f"{len(history.queries):,} consistent reads tried: {queries['ok']:,} answered, {queries['refused']:,} "
            f"refused with 503, {queries['unknown'] + queries['unsent']:,} without an answer; "
            f"{len(history.looks):,} reads of /value answered",
            f"available: {share(len(self._attempts) - len(self.unavailable), len(self._attempts))} of "
            f"{len(self._attempts):,} increments on nodes whose process and disk were up",
            f"{sum(each.checkpoints for each in history.endings):,} checkpoints made, "
            f"{sum(each.interrupted for each in history.endings)} kills in the midst of one",
            f"healed to exact reads on every node: {percentile(self.exact, 50):.2f} s at the median, "
            f"{max(self.exact, default=0.0):.2f} s at worst; to equal values: {percentile(self.equal, 50):.2f} and "
            f"{max(self.equal, default=0.0):.2f} s",
        ]

    def _ids(self) -> list[str]:
        """What became of increments with ids, in a line, if there were any."""
        found = [once for once in increments(self.history) if once.attempts[0].id]
        if not found:
            return []
        again = sum(len(once.attempts) > 1 for once in found)
        elsewhere = sum(len({each.node for each in once.attempts}) > 1 for once in found)
        twice = sum(len({each.node for each in once.attempts if each.outcome == "ok"}) > 1 for once in found)
        nodes = range(1, self.history.soak.nodes + 1)
        settled = [settlements([each for each in self.history.ids if each.node == node]) for node in nodes]
        return [
            f"{len(found):,} ids: {again:,} sent more than once, {elsewhere:,} to more than one node, {twice:,} "
            f"acknowledged by more than one; ids were settled {min(settled)} times at least on each node"
        ]

    def lines(self) -> list[str]:
        """The summary and the table, for a terminal."""
        rows = [list(HEADINGS), *(row.cells() for row in self.rows)]
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        table = []
        for row in rows:
            right = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            table.append("  ".join([row[0].ljust(widths[0]), *right]))
        return [*self.summary(), "", *table]

    def refused_on_full_disks(self) -> list[Increment]:
        """Increments that were refused because the disk was full."""
        return [each for each in self.history.increments if "disk is full" in each.reason]
