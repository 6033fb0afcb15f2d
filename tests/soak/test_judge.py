"""Each law accepts a right history, and catches a lie that is planted in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.figures import Figures, share
from tests.soak.history import Ending, Final, Healing, History, Ids, Increment, Look, Moment, Outcome, Query, Soak
from tests.soak.judge import violations
from tests.soak.report import Verdict, write

NODES = (1, 2, 3)


def right() -> History:
    """A right history: three nodes increment both kinds of counters once each, one is killed meanwhile, all agree."""
    history = History()
    history.add(Soak(seed=1, nodes=3, seconds=10, pace=1, window=60))
    for node in NODES:
        history.add(Moment(node, 0.0, "ready"))
    for node in NODES:  # powers 1, 2, 4 at 1.0, 2.0, 3.0; the plain counter is raised by 10 each time
        history.add(Increment(node, "powers-0", 1 << (node - 1), node, node + 0.2, "ok", 200, (1 << node) - 1))
        history.add(Increment(node, "plain", 10, node + 0.3, node + 0.4, "ok", 200, 10 * node))
        history.add(Look(node, "plain", node + 0.5, node + 0.6, 10 * node))
        history.add(Query(node, "powers-0", node + 0.5, node + 0.6, "ok", 200, (1 << node) - 1))
        history.add(Query(node, "plain", node + 0.5, node + 0.6, "ok", 200, 10 * node))
    history.add(Moment(3, 4.5, "killed"))
    history.add(Increment(3, "plain", 100, 4.4, 4.6, "unknown"))
    history.add(Increment(3, "plain", 1000, 4.7, 4.7, "unsent"))
    history.add(Moment(3, 5.5, "ready"))
    history.add(Moment(2, 6.0, "full"))
    history.add(Increment(2, "plain", 10000, 6.1, 6.2, "refused", 503, 0, "the disk is full"))
    history.add(Moment(2, 6.5, "room"))
    history.add(Healing(1, "plain", 6.5, 0.1, 0.2))
    history.add(sent(3, "a", 4.4, 4.6, "unknown"))
    history.add(sent(1, "a", 4.7, 4.8, "ok"))
    history.add(sent(1, "a", 5.0, 5.1, "ok", replayed=True))
    history.add(sent(2, "a", 5.0, 5.1, "ok"))
    history.add(sent(2, "b", 6.1, 6.2, "refused"))
    for node in NODES:
        history.add(Final(node, "powers-0", 7, 7))
        history.add(Final(node, "plain", 130, 130))
        history.add(Final(node, "once", 5, 5))
        history.add(Ids(node, 5.0, 1, 0))
        history.add(Ids(node, 9.0, 0, 5, last=True))
        history.add(Ids(node, 9.1, 0, 5))  # of a look that was on its way
        history.add(Ending(node, 0, 0, 5, 1, 0))
    return history


def sent(node: int, id_: str, start: float, end: float, outcome: Outcome, *, replayed: bool = False) -> Increment:
    """An attempt to increment a counter by 5 with an id."""
    status = 503 if outcome == "refused" else 200 if outcome == "ok" else 0
    reason = "the disk is full" if outcome == "refused" else ""
    return Increment(node, "once", 5, start, end, outcome, status, 5, reason, id_, replayed)


def judged(history: History) -> set[str]:
    """The laws that were broken."""
    return {violation.split(":")[0] for violation in violations(history)}


def test_a_right_history_passes() -> None:
    assert violations(right()) == []
    assert Verdict(right()).passed


def look_down(history: History) -> None:
    history.add(Look(1, "plain", 7.0, 7.1, 30))
    history.add(Look(1, "plain", 7.2, 7.3, 29))


def look_down_over_a_restart(history: History) -> None:
    history.add(Look(3, "plain", 5.6, 5.7, 29))


def answer_too_small(history: History) -> None:
    history.increments.append(Increment(2, "plain", 10, 7.0, 7.1, "ok", 200, 29))


def stale_read(history: History) -> None:
    history.add(Query(1, "powers-0", 4.0, 4.1, "ok", 200, 3))


def gather_and_sum(history: History) -> None:
    history.add(Query(1, "powers-0", 0.9, 3.5, "ok", 200, 6))


def two_reads_that_contradict(history: History) -> None:
    history.add(Increment(1, "powers-1", 1, 5.0, 6.0, "unknown"))
    history.add(Increment(1, "powers-1", 2, 5.0, 6.0, "unknown"))
    history.add(Query(1, "powers-1", 5.0, 5.5, "ok", 200, 1))
    history.add(Query(2, "powers-1", 5.0, 5.5, "ok", 200, 2))
    for node in NODES:
        history.add(Final(node, "powers-1", 3, 3))


def lost_increment(history: History) -> None:
    for at, final in enumerate(history.finals):
        if final.name == "plain":
            history.finals[at] = replace(final, consistent=29, value=29)


def invented_increment(history: History) -> None:
    for at, final in enumerate(history.finals):
        if final.name == "plain":
            history.finals[at] = replace(final, consistent=131, value=131)


def refused_and_yet_counted(history: History) -> None:
    for at, final in enumerate(history.finals):
        if final.name == "plain":
            history.finals[at] = replace(final, consistent=10030, value=10030)


def plain_read_too_low(history: History) -> None:
    history.add(Query(1, "plain", 4.0, 4.1, "ok", 200, 29))


def value_before_it_was_sent(history: History) -> None:
    history.add(Look(1, "plain", 2.0, 2.1, 11))


def counted_twice(history: History) -> None:
    for at, final in enumerate(history.finals):
        if final.name == "once":
            history.finals[at] = replace(final, consistent=10, value=10)


def id_that_nobody_acknowledged(history: History) -> None:
    history.add(sent(3, "c", 4.4, 4.6, "unknown"))


def repeat_that_was_not_told(history: History) -> None:
    history.add(sent(1, "a", 5.2, 5.3, "ok"))


def new_id_told_as_known(history: History) -> None:
    history.add(sent(1, "d", 6.0, 6.1, "ok", replayed=True))
    for at, final in enumerate(history.finals):
        if final.name == "once":
            history.finals[at] = replace(final, consistent=10, value=10)


def too_old_to_be_known(history: History) -> None:
    history.add(replace(sent(1, "a", 5.2, 5.3, "refused"), status=410))


def live_ids_in_the_end(history: History) -> None:
    history.ids[-1] = replace(history.ids[-1], live=1)


def never_settled(history: History) -> None:
    history.ids[:] = [replace(each, live=0) for each in history.ids]


def settled_once_only(history: History) -> None:
    history._of(Soak)[0] = replace(history.soak, seconds=1000.0)


def nodes_differ(history: History) -> None:
    history.finals[-1] = replace(history.finals[-1], value=30)


def value_differs_from_the_consistent_one(history: History) -> None:
    for at, final in enumerate(history.finals):
        if final.name == "plain":
            history.finals[at] = replace(final, value=30)


def final_missing(history: History) -> None:
    history.finals.pop()


def never_finished(history: History) -> None:
    history.finals.clear()


def ended_by_itself(history: History) -> None:
    history.add(Moment(1, 6.6, "ended", "ended by itself with 1"))


def wrong_exit_code(history: History) -> None:
    history.endings[0] = replace(history.endings[0], code=1)


def hung_at_the_end(history: History) -> None:
    history.endings[0] = replace(history.endings[0], code=None)


def not_stopped(history: History) -> None:
    history.endings.pop()


def traceback(history: History) -> None:
    history.endings[0] = replace(history.endings[0], tracebacks=1)


def damaged_directory(history: History) -> None:
    history.endings[0] = replace(history.endings[0], verified=1)


def no_checkpoint(history: History) -> None:
    history.endings[0] = replace(history.endings[0], checkpoints=0)


def server_error(history: History) -> None:
    history.add(Query(1, "plain", 7.0, 7.1, "unknown", 500))


def full_disk_without_the_reason(history: History) -> None:
    history.add(Increment(2, "plain", 10, 6.1, 6.2, "refused", 503, 0, "Service Unavailable"))


def never_exact(history: History) -> None:
    history.add(Healing(2, "plain", 6.6, None, None))


def never_equal(history: History) -> None:
    history.add(Healing(2, "plain", 6.6, 0.1, None))


def no_reads(history: History) -> None:
    history.queries[:] = [query for query in history.queries if query.node != 2]


def no_looks(history: History) -> None:
    history.looks[:] = [look for look in history.looks if look.node != 2]


def nothing_acknowledged(history: History) -> None:
    for at, increment in enumerate(history.increments):
        if increment.node == 1:
            history.increments[at] = replace(increment, outcome="unknown")


LIES: dict[Callable[[History], None], str] = {
    look_down: "values_never_go_down",
    look_down_over_a_restart: "values_never_go_down",
    answer_too_small: "values_never_go_down",
    stale_read: "consistent_reads_are_linearizable",
    gather_and_sum: "consistent_reads_are_linearizable",
    two_reads_that_contradict: "consistent_reads_are_linearizable",
    lost_increment: "values_are_within_bounds",
    invented_increment: "values_are_within_bounds",
    refused_and_yet_counted: "values_are_within_bounds",
    plain_read_too_low: "values_are_within_bounds",
    value_before_it_was_sent: "values_are_within_bounds",
    counted_twice: "every_id_counts_once",
    id_that_nobody_acknowledged: "every_id_counts_once",
    repeat_that_was_not_told: "repeats_are_told",
    new_id_told_as_known: "repeats_are_told",
    too_old_to_be_known: "refusals_say_why",
    live_ids_in_the_end: "ids_are_settled",
    never_settled: "ids_are_settled",
    settled_once_only: "ids_are_settled",
    nodes_differ: "nodes_agree_in_the_end",
    value_differs_from_the_consistent_one: "nodes_agree_in_the_end",
    final_missing: "nodes_agree_in_the_end",
    never_finished: "nodes_agree_in_the_end",
    ended_by_itself: "no_node_ends_by_itself",
    wrong_exit_code: "no_node_ends_by_itself",
    hung_at_the_end: "no_node_ends_by_itself",
    not_stopped: "no_node_ends_by_itself",
    traceback: "no_node_wrote_a_traceback",
    damaged_directory: "directories_are_whole",
    no_checkpoint: "something_was_tried",
    server_error: "refusals_say_why",
    full_disk_without_the_reason: "refusals_say_why",
    never_exact: "every_fault_heals",
    never_equal: "every_fault_heals",
    no_reads: "something_was_tried",
    no_looks: "something_was_tried",
    nothing_acknowledged: "something_was_tried",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_planted_lie_is_caught(lie: Callable[[History], None]) -> None:
    """The right law catches it."""
    history = right()
    lie(history)
    assert LIES[lie] in judged(history)
    assert not Verdict(history).passed


@pytest.mark.parametrize("outcome", ["refused", "unknown", "unsent"])
def test_an_increment_that_is_not_taken_by_a_node_that_is_up_is_found(outcome: str) -> None:
    """No law of counting is broken, but the run fails."""
    history = right()
    history.add(Increment(1, "plain", 10, 7.0, 7.1, outcome))  # type: ignore[arg-type]
    assert violations(history) == []
    assert len(Figures(history).unavailable) == 1
    assert not Verdict(history).passed


@pytest.mark.parametrize(
    ("node", "start", "end", "counts"),
    [
        pytest.param(3, 4.0, 4.4, True, id="before the kill"),
        pytest.param(3, 4.4, 4.6, False, id="over the instant of the kill"),
        pytest.param(3, 4.6, 5.4, False, id="while it is dead"),
        pytest.param(3, 5.4, 5.6, False, id="while it starts"),
        pytest.param(3, 5.6, 9.0, True, id="after it was ready again"),
        pytest.param(2, 5.9, 6.1, False, id="while the disk fills"),
        pytest.param(2, 6.1, 6.4, False, id="while the disk is full"),
        pytest.param(2, 6.4, 6.6, False, id="while room is made"),
        pytest.param(2, 6.6, 6.7, True, id="with room again"),
        pytest.param(1, 7.4, 7.6, False, id="over a whole pause"),
        pytest.param(1, 7.55, 7.6, True, id="after the pause"),
    ],
)
def test_only_attempts_on_nodes_that_were_up_all_the_time_count(
    node: int, start: float, end: float, counts: bool
) -> None:
    """There is one failed attempt, at different moments of a node's life."""
    history = right()
    history.add(Moment(1, 7.45, "paused"))
    history.add(Moment(1, 7.5, "resumed"))
    attempt = Increment(node, "plain", 0, start, end, "unknown")
    history.add(attempt)
    assert (attempt in Figures(history).unavailable) == counts


def test_a_share_is_100_percent_only_when_it_is_all() -> None:
    assert share(10, 10) == "100 %"
    assert share(9_999_999, 10_000_000) == "99.999 %"
    assert share(0, 0) == "-"


def test_a_history_is_judged_alike_from_its_file(tmp_path: Path) -> None:
    """The history has numbers of more than 64 bits; an incomplete last line is ignored."""
    path = tmp_path / "history.jsonl"
    history = right()
    history.add(Look(1, "plain", 7.0, 7.1, 2**70))
    with path.open("w") as file:
        written = History(file)
        for records in history._records.values():
            for record in records:
                written.add(record)
    with path.open("a") as file:
        file.write('{"is": "look", "node"')
    assert violations(History.load(path)) == violations(history) != []


def test_the_report_has_the_verdict_the_figures_and_the_picture(tmp_path: Path) -> None:
    history = right()
    traceback(history)
    write(Verdict(history), tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert "FAILED: 1 violations" in page
    assert "no_node_wrote_a_traceback: node 1" in page
    assert "bin/soak --check history.jsonl" in page
    assert (tmp_path / "timeline.svg").read_text().startswith("<svg ")
