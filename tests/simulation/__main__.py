"""`bin/simulate`: one seed with a record of its events (a film), or many seeds on all cores."""

from __future__ import annotations

import inspect
import time
from itertools import count
from pathlib import Path

import click

from tests.simulation.campaign.run import CATALOG, Result, run_seed
from tests.simulation.campaign.seeds import Summary, remember, remembered, run_many
from tests.simulation.mutants import MUTANTS, planted


@click.command(context_settings={"max_content_width": 110})
@click.option("--seed", default=0, show_default=True, help="The first seed.")
@click.option("--seeds", type=click.IntRange(1), help="How many seeds. A single seed prints a line for each event.")
@click.option("--nodes", type=click.IntRange(2, 9), help="How many nodes; by default each seed draws a number.")
@click.option("--mutant", type=click.Choice(list(MUTANTS)), metavar="NAME", help="Plant a bug; see --list-mutants.")
@click.option("--fault", type=click.Choice(list(CATALOG)), metavar="NAME", help="Make this fault frequent.")
@click.option("--ids/--no-ids", default=None, help="Whether clients send ids; by default each seed decides.")
@click.option("--list-mutants", is_flag=True, help="List the bugs that can be planted.")
@click.option("--budget", type=click.FloatRange(1), metavar="SECONDS", help="Run as many seeds as this time allows.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="FILE", help="Keep results here; skip seeds in it.")
@click.option("--jobs", type=click.IntRange(1), help="How many processes; by default one for each core.")
def main(
    seed: int,
    seeds: int | None,
    nodes: int | None,
    mutant: str | None,
    fault: str | None,
    ids: bool | None,
    list_mutants: bool,
    budget: float | None,
    resume: Path | None,
    jobs: int | None,
) -> None:
    """Run whole clusters on simulated disks and networks, under faults that each seed draws, and check the laws.

    The same seed repeats the same run. The exit code is 1 if a seed breaks a law.
    """
    if list_mutants:
        for name, (_, _, change) in MUTANTS.items():
            click.echo(f"{name:<42} {inspect.getdoc(change)}")
        return
    if seeds in (None, 1) and budget is None:
        raise SystemExit(_show(seed, nodes, mutant, fault, ids))
    summary = Summary()
    known: set[int] = set()
    for result in remembered(resume) if resume else ():
        if result.seed not in known and seed <= result.seed < seed + (seeds or 2**63):
            known.add(result.seed)
            summary.add(result)
    wanted = (number for number in (range(seed, seed + seeds) if seeds else count(seed)) if number not in known)
    started = time.monotonic()
    length = seeds - len(known) if seeds else round(budget or 0)
    with click.progressbar(length=length, label="seeds" if seeds else "seconds", show_pos=True) as bar:

        def done(result: Result) -> None:
            summary.add(result)
            if resume:
                remember(resume, result)
            bar.update(1 if seeds else max(0, round(time.monotonic() - started) - bar.pos))

        run_many(wanted, jobs=jobs, nodes=nodes, mutant=mutant, fault=fault, ids=ids, seconds=budget, done=done)
    given = {"nodes": nodes, "mutant": mutant, "fault": fault}
    options = "".join(f" --{name} {value}" for name, value in given.items() if value)
    options += {True: " --ids", False: " --no-ids", None: ""}[ids]
    raise SystemExit(_report(summary, time.monotonic() - started, options))


def _show(seed: int, nodes: int | None, mutant: str | None, fault: str | None, ids: bool | None) -> int:
    with planted(mutant):
        result = run_seed(seed, nodes, fault=fault, ids=ids, rolling=True)
    click.echo("\n".join(result.film))
    click.echo(
        f"\nseed {seed}: {result.increments} acknowledged increments, {result.reads} consistent reads, "
        f"{result.faults.total()} faults, {result.simulated:.1f} simulated seconds; film {result.digest[:16]}"
    )
    for violation in result.violations:
        click.echo(f"BROKEN {violation}")
    return 1 if result.violations else 0


def _report(summary: Summary, seconds: float, options: str) -> int:
    click.echo(f"{summary.text()}\n{seconds:.0f} s")
    for seed, violations in sorted(summary.failed.items()):
        click.echo(f"FAILED, replay with: bin/simulate --seed {seed}{options}")
        for violation in violations:
            click.echo(f"  {violation}")
    return 1 if summary.failed else 0


if __name__ == "__main__":
    main()
