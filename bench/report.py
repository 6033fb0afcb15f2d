"""What all benchmarks share: their flags, their tables, their exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from math import ceil
from pathlib import Path

import trio

from bench.client import Failed
from bench.nodes import PROJECT


def parser(about: str | None, seconds: float, what: str, fast_path: str = "on") -> argparse.ArgumentParser:
    """The flags that every benchmark has.

    Args:
        about: the docstring of the benchmark's module.
        seconds: the default of --seconds.
        what: what lasts for so many seconds.
        fast_path: the default of --fast-path.
    """
    flags = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    flags.add_argument("--seconds", type=float, default=seconds, help=f"length of {what} [{seconds:g}]")
    flags.add_argument("--data", type=Path, default=PROJECT / "data", help="folder for temporary data [data]")
    flags.add_argument("--fast-path", choices=("on", "off"), default=fast_path, help=f"of the nodes [{fast_path}]")
    return flags


def run(main: Callable[[argparse.Namespace], Awaitable[None]], flags: argparse.ArgumentParser) -> int:
    """Run a benchmark; returns the exit code: 0, even if a goal was missed, or 1 after an error."""
    arguments = flags.parse_args()
    code = 0
    try:
        trio.run(main, arguments)
    except* (Failed, OSError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except* KeyboardInterrupt:
        code = 130
    return code


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least `percent` percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first of them headings; all columns but the first are aligned to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells]).rstrip(), flush=True)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def goal(name: str, figure: str, wanted: str, *, met: bool) -> None:
    print(f"\n{name}: {figure} (goal {wanted}: {'met' if met else 'MISSED'})")
