"""What ids of increments cost: rates, memory, settling, reads, each beside the same without ids or beside its goal."""

from __future__ import annotations

import argparse
import sys

from bench.ids import rates, reads, settling
from bench.report import parser, run

PARTS = {"rates": rates.measure, "settling": settling.measure, "reads": reads.measure}


async def main(arguments: argparse.Namespace) -> None:
    for name in arguments.only:
        await PARTS[name](arguments)
        print()


if __name__ == "__main__":
    flags = parser(__doc__, 2.0, "each round of increments")
    flags.add_argument("--rounds", type=int, default=5, help="rounds of increments of each kind [5]")
    flags.add_argument("--ids", type=int, default=1_000_000, help="ids that are settled [1000000]")
    ahead = "seconds by which their time is ahead; they have to be taken until then [60]"
    flags.add_argument("--ahead", type=int, default=60, help=ahead)
    flags.add_argument("--read-seconds", type=float, default=4.0, help="length of the reads on each node [4]")
    flags.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="some parts only")
    sys.exit(run(main, flags))
