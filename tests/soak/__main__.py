"""`bin/soak`: real nodes under every fault for minutes or hours, and a report of the results."""

from __future__ import annotations

import random
import time
from pathlib import Path

import click
import trio

from tests.harness.namespaces import why_not
from tests.soak.history import History
from tests.soak.report import HISTORY, PAGE, TIMELINE, Verdict, write
from tests.soak.run import Wish, run

REPORTS = Path("data") / "soak"


@click.command(context_settings={"max_content_width": 110})
@click.option("--minutes", type=click.FloatRange(0.1), default=5.0, show_default=True, help="How long faults happen.")
@click.option("--nodes", type=click.Choice(["3", "5"]), default="3", show_default=True, help="How many nodes.")
@click.option("--seed", type=int, help="Seed of the faults and of the clients' choices; by default a random one.")
@click.option("--pace", type=click.FloatRange(1), default=20.0, show_default=True, help="Increments/s on each node.")
@click.option("--window", type=click.IntRange(60), default=60, show_default=True, help="The nodes' retry window, in s.")
@click.option("--report", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the report [in data/soak]")
@click.option(
    "--check", type=click.Path(path_type=Path, exists=True), metavar="FILE", help="Only judge this history again."
)
def main(
    minutes: float, nodes: str, seed: int | None, pace: float, window: int, report: Path | None, check: Path | None
) -> None:
    """Run nodes in network namespaces under load and under faults, and judge all their answers.

    Nodes are killed, paused and cut off, and their disks fill up. Each increment has an id, and is sent to another node
    after each error. At the end the soak waits until all ids are settled. This needs root, for the namespaces. It
    writes a page, a picture and the history. The exit code is 0 only if no law was broken, and if every node whose
    process and disk were up took every increment.
    """
    if check is not None:
        raise SystemExit(_judge(History.load(check), report))
    if reason := why_not():
        raise SystemExit(f"soak: error: {reason}")
    seed = random.randrange(2**32) if seed is None else seed
    folder = report or REPORTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{nodes}-nodes-seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    click.echo(f"seed {seed}, report in {folder}")
    wish = Wish(int(nodes), minutes * 60, seed, pace, window)
    interrupted = False
    with (folder / HISTORY).open("w") as file:
        history = History(file)
        try:
            trio.run(_run, wish, history, folder)
        except* KeyboardInterrupt:
            interrupted = True
    if interrupted:
        click.echo(f"\ninterrupted; the history until then is in {folder / HISTORY}")
    raise SystemExit(130 if interrupted else _judge(history, folder))


async def _run(wish: Wish, history: History, folder: Path) -> None:
    with click.progressbar(length=round(wish.seconds), label="seconds", item_show_func=lambda text: text) as bar:
        began = time.monotonic()
        doing = "start"

        def on_step(text: str) -> None:
            nonlocal doing
            doing = text

        async def show() -> None:
            while True:
                await trio.sleep(1)
                seconds = round(time.monotonic() - began)
                bar.update(max(0, min(seconds, round(wish.seconds)) - bar.pos), doing)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(show)
            await run(wish, history, folder, on_step)
            nursery.cancel_scope.cancel()


def _judge(history: History, folder: Path | None) -> int:
    verdict = Verdict(history)
    click.echo("\n" + "\n".join(verdict.lines()))
    if folder is not None:
        write(verdict, folder)
        click.echo(f"{folder / PAGE}, {folder / TIMELINE}, {folder / HISTORY}")
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    main(prog_name="bin/soak")
