"""The timeline of a run as an SVG: each node's faults, the increments that it took or refused, its consistent reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape
from math import ceil

from tests.soak.figures import percentile
from tests.soak.history import Fault, History
from tests.soak.plan import FAMILIES, FAMILY_OF, KINDS

COLOURS = dict(
    zip(
        KINDS,
        ("#c62828", "#6a1b9a", "#1565c0", "#0277bd", "#00838f", "#00695c", "#283593", "#8d6e63", "#ef6c00", "#f9a825"),
        strict=True,
    )
)
OK, NOT = "#2e7d32", "#d32f2f"
LEFT, RIGHT, TOP = 90, 20, 70
ROW, RATE, READS = 134, 84, 26  # heights: of a node's row, and within it of its increments and its consistent reads
STRIPE = 4  # the height of a fault's colour at the top of a row, one for each family
PIXELS_A_SECOND, NARROWEST, WIDEST = 8, 900, 12_000


class Picture:
    """The drawing of one history."""

    def __init__(self, history: History) -> None:
        self._history = history
        seconds = max(history.seconds, 1.0)
        self._width = min(WIDEST, max(NARROWEST, seconds * PIXELS_A_SECOND))
        self._scale = self._width / seconds
        self._bin = 1.0 if self._scale >= 4 else 5.0  # seconds
        self._bins = ceil(seconds / self._bin)
        self._parts: list[str] = []

    def svg(self) -> str:
        """The whole file."""
        nodes = range(1, self._history.soak.nodes + 1)
        height = TOP + ROW * len(nodes) + 40
        self._legend()
        for index, node in enumerate(nodes):
            self._row(node, TOP + ROW * index)
        self._axis(TOP + ROW * len(nodes))
        width = LEFT + self._width + RIGHT
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
            f'viewBox="0 0 {width:.0f} {height}" font-family="sans-serif" font-size="11">'
        )
        return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *self._parts, "</svg>\n"])

    def _x(self, time: float) -> float:
        return LEFT + time * self._scale

    def _rect(
        self, x: float, y: float, width: float, height: float, colour: str, more: str = "", tip: str = ""
    ) -> None:
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" '
            f'fill="{colour}" {more}>{title}</rect>'
        )

    def _text(self, x: float, y: float, text: str, more: str = "") -> None:
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" fill="#333333" {more}>{escape(text)}</text>')

    def _legend(self) -> None:
        soak = self._history.soak
        self._text(
            LEFT, 18, f"gcount: {soak.nodes} nodes, seed {soak.seed}, {self._history.seconds:.0f} s", 'font-size="14"'
        )
        x = float(LEFT)
        for kind in [kind for kind in KINDS if any(fault.kind == kind for fault in self._history.faults)]:
            self._rect(x, 28, 10, 10, COLOURS[kind])
            self._text(x + 14, 37, kind)
            x += 30 + 6.2 * len(kind)
        x = float(LEFT)
        for colour, what in (
            (OK, "increments acknowledged a second (upper) and consistent reads answered (lower)"),
            (NOT, "increments refused or not answered (upper), consistent reads answered 503 or not at all (lower)"),
        ):
            self._rect(x, 46, 10, 10, colour)
            self._text(x + 14, 55, what)
            x += 30 + 5.6 * len(what)

    def _row(self, node: int, top: float) -> None:
        history = self._history
        self._rect(LEFT, top, self._width, ROW - 12, "#f5f5f5")
        self._text(12, top + 40, f"node {node}", 'font-size="13"')
        self._faults([fault for fault in history.faults if node in fault.nodes], top)
        increments = [each for each in history.increments if each.node == node]
        acked = self._count(each.end for each in increments if each.outcome == "ok")
        lost = self._count(each.end for each in increments if each.outcome != "ok")
        most = self._most(acked, lost)
        self._bars(acked, lost, top + RATE, RATE - 5 * STRIPE, most)
        self._text(12, top + 56, f"max {most / self._bin:.0f}/s")
        reads = [each for each in history.queries if each.node == node]
        good = self._count(each.end for each in reads if each.outcome == "ok")
        bad = self._count(each.end for each in reads if each.outcome != "ok")
        self._bars(good, bad, top + RATE + 6 + READS, READS, self._most(good, bad))

    def _faults(self, faults: Iterable[Fault], top: float) -> None:
        for fault in faults:
            nodes = ", ".join(map(str, fault.nodes))
            tip = f"{fault.kind} {fault.detail}: nodes {nodes}, {fault.start:.1f} to {fault.end:.1f} s"
            x, width = self._x(fault.start), (fault.end - fault.start) * self._scale
            self._rect(x, top, width, ROW - 12, COLOURS[fault.kind], 'fill-opacity="0.22"', tip)
            row = top + STRIPE * list(FAMILIES).index(FAMILY_OF[fault.kind])
            self._rect(x, row, width, STRIPE, COLOURS[fault.kind], 'fill-opacity="0.8"', tip)

    def _count(self, times: Iterable[float]) -> Counter[int]:
        return Counter(min(self._bins - 1, int(time / self._bin)) for time in times)

    def _most(self, good: Counter[int], bad: Counter[int]) -> int:
        """The count that fills the height. A burst, such as the final reads, may be higher and is cut off."""
        return max(1, round(percentile([good[at] + bad[at] for at in range(self._bins)], 98)))

    def _bars(self, good: Counter[int], bad: Counter[int], floor: float, height: float, most: int) -> None:
        width = self._bin * self._scale
        for at in range(self._bins):
            x, up = LEFT + at * width, min(1.0, good[at] / most) * height
            down = min(height - up, bad[at] / most * height)
            if up:
                self._rect(x, floor - up, width - 0.5, up, OK, 'fill-opacity="0.75"')
            if down:
                self._rect(x, floor - up - down, width - 0.5, down, NOT, 'fill-opacity="0.85"')

    def _axis(self, y: float) -> None:
        every = next(step for step in (5, 10, 30, 60, 300, 3600) if step * self._scale >= 40 or step == 3600)
        for second in range(0, int(self._history.seconds) + 1, every):
            self._rect(self._x(second), y - 8, 0.5, 6, "#777777")
            self._text(self._x(second), y + 12, f"{second // 60}:{second % 60:02d}", 'text-anchor="middle"')
