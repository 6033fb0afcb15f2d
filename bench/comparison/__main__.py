"""Compares gcount with Redis, etcd and PostgreSQL, by public load tools, alternating in one run."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from bench.client import Failed
from bench.comparison.comparison import NAMES, Comparison
from bench.comparison.machine import Others, about
from bench.comparison.page import DATA, PAGE, goals, write
from bench.comparison.results import Results
from bench.nodes import PROJECT, data_folder
from bench.report import run, table


async def main(arguments: argparse.Namespace) -> None:
    output: Path = arguments.output or PROJECT / "data" / "comparison" / time.strftime("%Y%m%d-%H%M%S")
    if arguments.again is not None:
        write(Results.load(arguments.again), output)
        print(output / PAGE)
        return
    command = " ".join(["bench/run", *sys.argv[1:]])
    with data_folder(arguments.data) as folder:
        results, others = Results(command, about(folder)), Others()
        try:
            await Comparison(arguments.only, arguments.rounds, arguments.seconds, folder, results).run()
        finally:
            results.machine["used by others meanwhile"] = f"{others.share():.0%} of one processor"
            write(results, output)
    print()
    table(goals(results))
    print()
    for text in results.missing:
        print(f"left out: {text}")
    print(f"{output / PAGE}, {output / DATA}")
    if results.failures:
        raise Failed("; ".join(results.failures))


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench/run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=_positive, default=5, help="how often each is measured [5]")
    parser.add_argument("--seconds", type=_positive, default=2, help="seconds of each measurement [2]")
    parser.add_argument("--only", type=_works, default=NAMES, metavar="WORK,...", help=f"of {', '.join(NAMES)} [all]")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for the results [in data/comparison]")
    parser.add_argument("--data", type=Path, default=PROJECT / "data", help="folder for temporary data [data]")
    parser.add_argument("--again", type=Path, metavar="FILE", help=f"only write the page again, from this {DATA}")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number, 1 or more")
    return int(text)


def _works(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return names


if __name__ == "__main__":
    # SIGTERM ends this process as Ctrl-C does: with all programs that it has started. The handler of SIGINT is set too,
    # because a shell starts its background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(run(main, flags()))
