"""The report of a run: a page, a picture, and the history from which both are made."""

from __future__ import annotations

from pathlib import Path

from tests.soak.figures import HEADINGS, Figures
from tests.soak.history import History
from tests.soak.judge import LAWS, violations
from tests.soak.picture import Picture

PAGE, TIMELINE, HISTORY = "report.md", "timeline.svg", "history.jsonl"
MOST_SHOWN = 50
EXPLANATION = (
    "Attempts are those on nodes whose process and disk were up from the request to its answer. Where faults overlap,",
    "an attempt counts for each of them. The last four columns show how soon all was well after the end of the faults:",
    "until a consistent read was answered on every node, and until every `/value` was the same; median and worst.",
)


class Verdict:
    """The verdict on a history; `passed` if there are no objections."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.figures = Figures(history)
        self.violations = violations(history)

    @property
    def passed(self) -> bool:
        return not self.violations and not self.figures.unavailable

    @property
    def headline(self) -> str:
        """One line: passed or failed, and whether it healed as promised."""
        word = "PASSED" if self.passed else "FAILED"
        healed = "" if self.figures.healed_as_promised else "; it healed later than promised (2 s at the median, 5 s)"
        unavailable = len(self.figures.unavailable)
        not_taken = f"{unavailable} increments not taken by nodes that were up"
        return f"{word}: {len(self.violations)} violations, {not_taken}{healed}"

    def against(self) -> list[str]:
        """All objections."""
        return [*self.violations, *(f"not taken by a node that was up: {each}" for each in self.figures.unavailable)]

    def lines(self) -> list[str]:
        """The verdict, for a terminal."""
        against = self.against()
        more = [f"... and {len(against) - MOST_SHOWN} more"] if len(against) > MOST_SHOWN else []
        return [*self.figures.lines(), "", *self.history.soak.notes, *against[:MOST_SHOWN], *more, self.headline]


def write(verdict: Verdict, folder: Path) -> None:
    """Write the page and the picture into the folder that has the history."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TIMELINE).write_text(Picture(verdict.history).svg())
    (folder / PAGE).write_text(_page(verdict))


def _page(verdict: Verdict) -> str:
    soak = verdict.history.soak
    head, *rows = [list(HEADINGS), *(row.cells() for row in verdict.figures.rows)]
    table = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    laws = [f"- {law.__name__.replace('_', ' ')}" for law in LAWS]
    against = verdict.against() or ["Nothing speaks against it."]
    lines = [
        f"# Soak: {verdict.headline}",
        "",
        f"`bin/soak --minutes {soak.seconds / 60:g} --nodes {soak.nodes} --seed {soak.seed} --pace {soak.pace:g}`; the "
        f"same verdict again, from the history: `bin/soak --check {HISTORY}`.",
        "",
        *(f"- {line}" for line in verdict.figures.summary()),
        *(f"- {note}" for note in soak.notes),
        "",
        f"![timeline]({TIMELINE})",
        "",
        "## Increments under each kind of fault",
        "",
        *(f"| {' | '.join(row)} |" for row in table),
        "",
        *EXPLANATION,
        "",
        "## What was checked",
        "",
        *laws,
        "",
        "## Objections",
        "",
        *([f"- {line}" for line in against[:MOST_SHOWN]]),
        "",
    ]
    return "\n".join(lines)
