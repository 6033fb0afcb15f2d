"""The page of a comparison, in Markdown, and its plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from bench.comparison import plots
from bench.comparison.goals import GOALS
from bench.comparison.results import CONNECTIONS, Results, Row
from bench.comparison.works import WORKS

PAGE, DATA = "comparison.md", "results.json"
CURVE = "connections"


def write(results: Results, folder: Path) -> None:
    """Write the page, its plots and the results into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / DATA)
    pictures = _plots(results)
    for name, svg in pictures.items():
        (folder / f"{name}.svg").write_text(svg)
    (folder / PAGE).write_text("\n".join(_page(results, pictures)) + "\n")


def goals(results: Results) -> list[list[str]]:
    """The goals as a table, headings first."""
    titles = {work.name: work.title for work in WORKS}
    rows = [["work", "gcount", "against", "ratio of the medians", "goal", ""]]
    for goal in GOALS:
        ratio = goal.ratio(results)
        shown = "" if ratio is None else f"{ratio:.2f}"
        verdict = goal.verdict(results)
        rows.append([titles[goal.work], goal.subject, goal.against, shown, f">= {goal.least:.1f}", verdict])
    return rows


def _page(results: Results, pictures: Iterable[str]) -> list[str]:
    lines = ["# Comparison", "", f"`{results.command}`", ""]
    lines += _markdown([["machine", ""], *map(list, results.machine.items())])
    lines += [f"- left out: {what}" for what in results.missing] + [f"- failed: {what}" for what in results.failures]
    lines += ["", "## Goals", "", *_markdown(goals(results))]
    for work in WORKS:
        rows = [row for row in results.rows if row.work == work.name]
        if rows and work.name != CURVE:
            lines += [f"## {work.title}", "", *_markdown(_rates(rows))]
    if curve := [row for row in results.rows if row.work == CURVE]:
        lines += ["## Increments a second over connections", "", *_markdown(_over_connections(curve))]
    if results.starts:
        lines += ["## Start and memory over counters", "", *_markdown(_starts(results))]
    if results.sizes:
        lines += ["## Cost as nodes are added", "", *_markdown(_sizes(results))]
    for name in pictures:
        lines += [f"![{name}]({name}.svg)", ""]
    return lines


def _rates(rows: Sequence[Row]) -> list[list[str]]:
    best = max(row.rate for row in rows)
    shown = [["", "median /s", "lowest to highest /s", "of the fastest", "p50 ms", "p99 ms", "worst ms"]]
    for row in rows:
        low, high = row.spread
        times = [_ms(row.latency(which)) for which in ("p50", "p99", "worst")]
        shown.append([row.rival, f"{row.rate:,.0f}", f"{low:,.0f} to {high:,.0f}", f"{row.rate / best:.2f}", *times])
    return shown


def _over_connections(rows: Sequence[Row]) -> list[list[str]]:
    numbers = sorted({row.connections for row in rows})
    table = [["median /s with so many connections", *map(str, numbers)]]
    for rival in dict.fromkeys(row.rival for row in rows):
        rates = {row.connections: f"{row.rate:,.0f}" for row in rows if row.rival == rival}
        table.append([rival, *(rates.get(number, "") for number in numbers)])
    return table


def _starts(results: Results) -> list[list[str]]:
    table = [["", "counters", "median s until ready", "lowest to highest s", "memory MiB"]]
    for start in results.starts:
        spread = f"{min(start.seconds):.2f} to {max(start.seconds):.2f}"
        memory = f"{median(start.memory) / 2**20:.0f}"
        table.append([start.rival, f"{start.counters:,}", f"{median(start.seconds):.2f}", spread, memory])
    return table


def _sizes(results: Results) -> list[list[str]]:
    table = [["nodes", "median POST/s", "lowest to highest /s", "cpu of all nodes, µs a POST", "consistent read ms"]]
    for size in results.sizes:
        spread = f"{min(size.rates):,.0f} to {max(size.rates):,.0f}"
        cost = f"{median(size.costs) * 1e6:.0f}"
        table.append([str(size.nodes), f"{median(size.rates):,.0f}", spread, cost, _ms(median(size.reads))])
    return table


def _plots(results: Results) -> dict[str, str]:
    pictures = {}
    curve = [row for row in results.rows if row.work == CURVE]
    if curve:
        numbers = sorted({row.connections for row in curve})
        series = {
            rival: [(row.connections, row.rate) for row in curve if row.rival == rival]
            for rival in dict.fromkeys(row.rival for row in curve)
        }
        pictures["connections"] = plots.lines(
            "Durable increments, not pipelined", "connections", "increments/s", series, numbers
        )
    titles = {work.name: work.name for work in WORKS}
    timed = [
        (f"{titles[row.work]}: {row.rival}", [time * 1000 for time in times])
        for row in results.rows
        if row.work != CURVE and row.connections == CONNECTIONS and (times := _latencies(row))
    ]
    if timed:
        pictures["latency"] = plots.ranges(
            f"Latency with {CONNECTIONS} connections: p50, p99 and the worst", "ms", timed
        )
    if results.starts:
        counts = sorted({start.counters for start in results.starts})
        rivals = list(dict.fromkeys(start.rival for start in results.starts))
        ready = {
            rival: [(start.counters, median(start.seconds)) for start in results.starts if start.rival == rival]
            for rival in rivals
        }
        memory = {
            rival: [(start.counters, median(start.memory) / 2**20) for start in results.starts if start.rival == rival]
            for rival in rivals
        }
        pictures["start"] = plots.lines("Start", "counters", "seconds until ready", ready, counts)
        pictures["memory"] = plots.lines("Memory after the start", "counters", "MiB", memory, counts)
    if results.sizes:
        nodes = [size.nodes for size in results.sizes]
        cost = {
            "cpu of all nodes, µs a POST": [(size.nodes, median(size.costs) * 1e6) for size in results.sizes],
            "consistent read, µs": [(size.nodes, median(size.reads) * 1e6) for size in results.sizes],
        }
        pictures["nodes"] = plots.lines("Cost as nodes are added", "nodes", "µs", cost, nodes)
    return pictures


def _latencies(row: Row) -> list[float]:
    times = (row.latency(which) for which in ("p50", "p99", "worst"))
    return [time for time in times if time]


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.2f}"


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = rows
    table = [head, ["---", *["---:"] * (len(head) - 1)], *rest]
    return [*(f"| {' | '.join(row)} |" for row in table), ""]
