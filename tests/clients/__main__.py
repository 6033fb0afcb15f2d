"""Measures the table of docs/clients.md: `.venv/bin/python -P -m tests.clients [--write] [NAME ...]`.

It installs clients in a temporary folder, and takes some minutes. Clients that can't be installed are named and left
out. The exit code is 1 if a counter has fewer increments than were acknowledged to its client, or more than the page
promises.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import trio

from tests.clients.failing import FAULTS, Outcome, measure
from tests.clients.known import CLIENTS, Client
from tests.clients.tools import ALL, Missing

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
BEGIN, END = "<!-- measured by tests/clients -->\n", "<!-- end of what was measured -->\n"
AT_ONCE = 3  # clients that run at the same time


def main() -> int:
    """Measure, print the table, and write it into the page with --write."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    parser.add_argument("names", nargs="*", metavar="NAME", help="clients; by default all")
    chosen = parser.parse_args()
    os.environ[ALL] = "all"
    clients = [client for client in CLIENTS if not chosen.names or client.name in chosen.names]
    with tempfile.TemporaryDirectory() as folder:
        outcomes = trio.run(_measure, clients, Path(folder))
    text = table(clients, outcomes)
    print(text, end="")
    for outcome in outcomes:
        for words, count in outcome.words.items():
            print(f"{outcome.client}, {outcome.settings}, {outcome.fault}: {count} x {words}", file=sys.stderr)
    if chosen.write:
        before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}", "utf-8")
    exact = {
        (client.name, settings) for client in clients for settings, is_exact in client.settings.items() if is_exact
    }
    wrong = [o for o in outcomes if o.lost or (o.excess and (o.client, o.settings) in exact)]
    for outcome in wrong:
        print(f"WRONG: {outcome}", file=sys.stderr)
    return 1 if wrong else 0


async def _measure(clients: list[Client], folder: Path) -> list[Outcome]:
    outcomes: list[Outcome] = []
    slots = trio.CapacityLimiter(AT_ONCE)

    async def one(number: int, client: Client) -> None:
        async with slots:
            base = folder / str(number)
            base.mkdir()
            try:
                environment = await trio.to_thread.run_sync(client.install, base / "client")
            except Missing as missing:
                print(f"left out: {missing}", file=sys.stderr)
                return
            for settings in client.settings:
                outcomes.extend(await measure(client, settings, environment, base / settings))

    async with trio.open_nursery() as nursery:
        for number, client in enumerate(clients):
            nursery.start_soon(one, number, client)
    return outcomes


def table(clients: list[Client], outcomes: list[Outcome]) -> str:
    """A row for each client and settings, a column for each fault."""
    rows = [["client", "settings", *(fault.name for fault in FAULTS)], ["---"] * (2 + len(FAULTS))]
    for client in clients:
        for settings in client.settings:
            of = {o.fault: o for o in outcomes if (o.client, o.settings) == (client.name, settings)}
            if of:
                name = f"{client.name} ({next(iter(of.values())).version})"
                rows.append([name, settings, *(cell(of[fault.name]) for fault in FAULTS)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def cell(outcome: Outcome) -> str:
    """The answers that the client got, and what was counted."""
    told = [f"{outcome.ok} ok"]
    told += [f"{outcome.error} error"] if outcome.error else []
    told += [f"{outcome.unknown} unknown{' and still waiting' if outcome.hung else ''}"] if outcome.unknown else []
    text = f"{', '.join(told)}: {outcome.counted}"
    return f"{text}, **{outcome.excess} too many**" if outcome.excess else text


if __name__ == "__main__":
    sys.exit(main())
