"""Plots as SVG: lines over a logarithmic axis, and ranges of latencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

COLOURS = ("#1565c0", "#ef6c00", "#2e7d32", "#c62828", "#6a1b9a", "#00838f", "#8d6e63", "#546e7a")
WIDTH, HEIGHT = 760, 420  # the size of a plot of lines
LEFT, RIGHT, TOP, BOTTOM = 80, 190, 50, 55
ROW = 24  # the height of a range
LABELS = 320  # the width of the labels of ranges

Points = Sequence[tuple[float, float]]


def lines(title: str, across: str, up: str, series: Mapping[str, Points], ticks: Sequence[float]) -> str:
    """Lines over a logarithmic axis.

    Args:
        title: above it all.
        across: what the horizontal axis shows.
        up: what the vertical axis, which is logarithmic, shows.
        series: the points of each line.
        ticks: where the horizontal axis has its numbers; evenly apart from each other.
    """
    drawing = _Drawing(WIDTH, HEIGHT, title)
    values = [y for points in series.values() for _, y in points]
    low, high = floor(log10(min(values))), max(ceil(log10(max(values))), floor(log10(min(values))) + 1)
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def place(x: float, y: float) -> tuple[float, float]:
        share = (log10(y) - low) / (high - low)
        return LEFT + (ticks.index(x) + 0.5) / len(ticks) * (right - LEFT), bottom - share * (bottom - TOP)

    for power in range(low, high + 1):
        y = place(ticks[0], 10.0**power)[1]
        drawing.line(LEFT, y, right, y, "#dddddd")
        drawing.text(LEFT - 8, y + 4, _number(10.0**power), "end")
    for tick in ticks:
        drawing.text(place(tick, 10.0**low)[0], bottom + 18, _number(tick), "middle")
    drawing.text((LEFT + right) / 2, HEIGHT - 14, across, "middle")
    drawing.text(LEFT, TOP - 12, up)
    for number, (label, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        drawing.path([place(*point) for point in points], colour)
        drawing.dot(right + 16, TOP + 10 + 20 * number, colour)
        drawing.text(right + 26, TOP + 14 + 20 * number, label)
    return drawing.svg()


def ranges(title: str, across: str, rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """A row for each range, from its smallest to its largest value, with a dot at each value; logarithmic axis."""
    bottom = TOP + ROW * len(rows)
    drawing = _Drawing(WIDTH + LABELS - LEFT, bottom + BOTTOM, title)
    values = [value for _, row in rows for value in row]
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    right = WIDTH + LABELS - LEFT - 30

    def place(value: float) -> float:
        return LABELS + (log10(value) - low) / max(1, high - low) * (right - LABELS)

    for power in range(low, high + 1):
        drawing.line(place(10.0**power), TOP, place(10.0**power), bottom, "#dddddd")
        drawing.text(place(10.0**power), bottom + 18, _number(10.0**power), "middle")
    drawing.text((LABELS + right) / 2, bottom + 40, across, "middle")
    for number, (label, row) in enumerate(rows):
        y = TOP + ROW * (number + 0.5)
        drawing.text(LABELS - 10, y + 4, label, "end")
        drawing.line(place(min(row)), y, place(max(row)), y, COLOURS[0])
        for at, value in enumerate(row):
            drawing.dot(place(value), y, COLOURS[at % len(COLOURS)])
    return drawing.svg()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


class _Drawing:
    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
        ]
        self.text(16, 22, title, more='font-size="15"')

    def text(self, x: float, y: float, text: str, anchor: str = "start", more: str = "") -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" fill="#333333" text-anchor="{anchor}"'
        self._parts.append(f"<text {place} {more}>{escape(text)}</text>")

    def line(self, x: float, y: float, to_x: float, to_y: float, colour: str) -> None:
        place = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
        self._parts.append(f'<line {place} stroke="{colour}"/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')

    def path(self, points: Points, colour: str) -> None:
        place = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{place}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in points:
            self.dot(x, y, colour)

    def svg(self) -> str:
        return "\n".join([*self._parts, "</svg>\n"])
