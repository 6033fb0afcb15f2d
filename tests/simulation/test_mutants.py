"""Each planted bug is caught within the seeds that CI runs: the laws find what they have to find."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from unittest.mock import patch

import pytest

from gcount.cluster.consistent_reads import ConsistentReads
from gcount.cluster.links.acceptor import Acceptor
from gcount.core.protocol.consistent_read import Answer, Round
from gcount.core.protocol.replication import DeltaReceiver
from gcount.core.state.identity import Identity
from gcount.core.writes import writer
from gcount.storage.checkpoints import Checkpoints
from tests.simulation.campaign.run import run_seed
from tests.simulation.mutants import MUTANTS, ids, planted
from tests.simulation.mutants.stopped import STOPPED_BY

CI_SEEDS = range(150)
KNOWN_TO_CATCH: dict[str, tuple[int, ...]] = {
    "visible-before-durable": (1, 2),
    "acknowledged-before-own-sync": (0, 1),
    "acknowledged-before-the-peers-sync": (0, 1),
    "live-segment-not-written-anew": (0, 6),
    "partial-write-not-cut-back": (19, 25),
    "torn-tail-accepted": (0, 4),
    "totals-merged": (3, 5),
    "absolute-values-of-the-staging": (4, 12),
    "amounts-replayed": (0, 1),
    "relayed-without-its-version": (3, 7),
    "answers-joined-into-the-state": (0, 1),
    "identity-kept-on-an-older-disk": (15,),
    "identity-kept-unconfirmed": (10, 15),
    "identity-kept-on-a-lost-disk": (3, 4),
    "hello-before-the-former-life-is-settled": (7, 20),
    "former-life-goes-on": (50, 3),
    "membership-by-order-of-arrival": (5,),
    "answered-with-the-batchs-total": (0, 1),
    "view-taken-after-the-gather": (14, 15),
    "own-cells-not-read-again": (11, 14),
    "round-under-way-joined": (14, 17),
    "majority-is-enough": (0, 1),
    "hold-outlives-its-release": (10, 11),
    "segments-removed-before-the-rename-is-durable": (49,),
    "leftovers-removed-before-the-directory-is-synced": (32,),
    "checkpoint-renamed-before-it-is-synced": (0, 2),
    "versions-of-the-end-recorded": (2, 6),
    "staged-cells-captured": (49,),
    "log-goes-on-where-the-capture-ended": (2, 4),
    "repair-stops-at-the-first-damage": (11, 16),
    "repair-keeps-the-incarnation": (22, 11),
    "repair-forgets-former-lives": (11, 16),
    "half-a-column-passes-for-the-whole": (23, 51),
    "detached-left-out-of-reads": (11, 23),
    "detached-of-others-counts": (23,),
    "detached-left-out-of-checkpoints": (16, 21),
    "detached-dropped-when-its-gap-is-filled": (52, 55),
    "gap-closed-at-the-highest-version": (41,),
    "only-the-first-gap-closed": (52,),
    "gap-closed-over-what-a-member-has": (22, 24),
    "gaps-never-closed": (11,),
    "one-counter-too-many": (1, 4),
    "known-counters-refused-at-the-limit": (4, 59),
    "request-in-two-commits": (0, 1),
    "held-when-its-first-chunk-is": (2, 3),
    "held-as-the-former-link-said": (3, 10),
    "own-value-at-once": (4, 6),
    "chunk-joined-by-itself": (0, 1),
    "pieces-of-one-delta-only": (0, 1),
    "cell-at-the-seam-left-out": (0, 1),
    "batch-taken-without-its-last-frame": (21, 106),
    "order-grows-and-drops-unseen": (2, 22),
    "order-trusted-beyond-its-reach": (0, 1),
    "segment-without-its-name-on-disk": (0, 1),
    "column-without-its-end": (19, 21),
    "repair-forgets-who-it-became": (11, 16),
    "gap-of-one-version-overlooked": (11, 16),
    "only-the-first-run-absorbed": (52,),
    "never-looked-behind-a-gap": (11, 16),
    "nothing-given-back": (0,),
    "taken-for-given-back-already": (0,),
    "closed-without-all-members": (9, 20),
    "closed-before-all-is-given-back": (41, 52),
    "detached-changed-while-it-is-read": (127,),
    "floor-forgotten-after-a-start": (0, 2),
    "order-trusted-one-too-far": (0, 1),
    "change-of-the-next-version-left-out": (0, 1),
    "refused-push-gone-on-with": (41, 56),
    "chunk-under-way-held-to-be-there": (46, 51),
    "own-entry-for-ever": (10, 17),
    "round-counts-addresses": (36,),
    "asked-again-in-the-same-round": (30, 46),
    "held-one-version-early": (0, 1),
    "copy-named-by-its-own-config": (31, 40),
    "copy-let-in-for-good": (123,),
    "seen-without-rumours": (346,),
    "only-the-last-life-remembered": (11, 22),
    "one-life-too-many": (0, 19),
    "number-of-a-refused-batch-left-out": (2, 4),
    "sum-of-a-refused-batch-kept": (2, 4),
    "two-who-commit": (5, 7),
    "version-behind-the-join": (0, 1),
    "whole-cell-added-to-the-total": (1, 2),
    "commit-of-two-versions": (0, 1),
    "push-acknowledged-as-it-comes-and-when-synced": (0, 1),
    "one-chunk-too-many-kept": (20, 23),
    "own-cells-looked-up-once": (4, 6),
    "told-before-it-is-visible": (0, 1),
    "two-who-make-checkpoints": (0, 2),
    "sum-over-columns": (0, 2),
    "parts-added-up": (6, 0),
    "settled-entries-kept": (2, 0),
    "promise-not-kept": (2, 0),
    "clock-not-asked": (2, 0),
    "accepts-until-the-promise-is-durable": (2, 3),
    "no-lag": (8, 21),
    "promise-told-before-durable": (0, 3),
    "promises-not-awaited": (2, 0),
    "digests-not-awaited": (2, 9),
    "digest-older-than-the-promise": (1,),
    "one-node-stands-for-two-members": (9, 1),
    "sum-when-settling": (2, 0),
    "own-column-only": (2, 0),
    "settled-in-two-commits": (2, 0),
    "covers-later-versions": (2, 0),
    "needs-not-checked": (0, 1),
    "entries-not-compared": (0, 3),
    "settled-parts-not-compared": (22,),
    "keyed-part-taken-at-the-end": (9, 18),
    "only-versions-told": (0, 1),
    "told-ids-count-again": (0, 2),
    "contained-settlements-count": (4574,),
    "parts-of-others-not-taken-over": (7, 32),
    "closed-without-a-lost-settlement": (1208,),
    "needs-not-written": (5896,),
}
"""Seeds to try first. After any change of the code, other seeds may be needed to catch a mutant."""
OFTEN = {
    "column-without-its-end": "repaired_rot",
    "gap-closed-over-what-a-member-has": "repaired_rot_of_two",
    "nothing-given-back": "repaired_rot_of_two",
    "closed-without-all-members": "repaired_rot_of_two",
    "taken-for-given-back-already": "repaired_rot_of_two",
    "digest-older-than-the-promise": "reached_by_nobody",
    "digests-not-awaited": "reached_by_nobody",
    "own-column-only": "reached_by_nobody",
    "needs-not-checked": "lost_directory",
    "sum-when-settling": "reached_by_nobody",
    "parts-added-up": "reached_by_nobody",
    "promise-not-kept": "clock_steps_back",
    "accepts-until-the-promise-is-durable": "clock_steps_back",
    "one-node-stands-for-two-members": "address_moves",
    "keyed-part-taken-at-the-end": "slow_network",
}
"""The fault that has to be frequent so that few seeds are enough to catch a mutant."""


def violations(name: str) -> Iterator[list[str]]:
    """The violations of each run with a planted bug. Only for bugs of ids do clients send ids."""
    with_ids = MUTANTS[name][2].__module__ == ids.__name__
    for seed in chain(KNOWN_TO_CATCH.get(name, ()), CI_SEEDS):
        yield run_seed(seed, fault=OFTEN.get(name), ids=with_ids).violations


@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_caught(name: str) -> None:
    with planted(name):
        assert any(violations(name))


@pytest.mark.parametrize("name", STOPPED_BY)
def test_a_law_that_the_product_asserts_ends_the_run_at_the_step_that_breaks_it(name: str) -> None:
    with planted(name):
        first = next(filter(None, violations(name)))
    assert len(first) == 1
    assert first[0].startswith("the run broke: ")
    assert re.search(f"AssertionError: {STOPPED_BY[name]}", first[0])


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("visible-before-durable", [(writer, "check_own"), (writer, "check_visible")]),
        ("totals-merged", [(writer, "check_own"), (writer, "check_visible")]),
        ("own-cells-not-read-again", [(Round, "check_expectation")]),
        ("round-under-way-joined", [(Answer, "check_order"), (ConsistentReads, "_check_value")]),
        ("majority-is-enough", [(Round, "check_answers")]),
        ("round-counts-addresses", [(Round, "check_answers")]),
        ("acknowledged-before-the-peers-sync", [(DeltaReceiver, "_check_news")]),
        ("staged-cells-captured", [(Checkpoints, "_check")]),
        ("log-goes-on-where-the-capture-ended", [(Checkpoints, "_check"), (Checkpoints, "_check_recovered")]),
        ("leftovers-removed-before-the-directory-is-synced", [(Checkpoints, "_check_recovered")]),
        ("former-life-goes-on", [(Acceptor, "_check_starts")]),
        ("only-the-last-life-remembered", [(Identity, "continues")]),
        ("gap-closed-at-the-highest-version", [(writer, "_check_closing")]),
    ],
)
def test_without_the_assertion_a_law_catches_the_bug(name: str, checks: list[tuple[object, str]]) -> None:
    with ExitStack() as switched_off:
        for holder, check in checks:
            switched_off.enter_context(patch.object(holder, check))
        switched_off.enter_context(planted(name))
        first = next(filter(None, violations(name)))
    assert not any("AssertionError" in violation for violation in first)
