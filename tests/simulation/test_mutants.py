"""Each planted bug is caught within the seeds that CI runs, so the laws see what they are to see."""

from itertools import chain

import pytest

from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.run import run_seed

CI_SEEDS = range(150)
KNOWN_TO_CATCH: dict[str, tuple[int, ...]] = {
    "visible-before-durable": (0, 1),
    "acknowledged-before-own-sync": (0, 1),
    "acknowledged-before-the-peers-sync": (0, 1),
    "live-segment-not-written-anew": (0, 4),
    "partial-write-not-cut-back": (4, 7),
    "torn-tail-accepted": (4, 8),
    "totals-merged": (0, 1),
    "absolute-values-of-the-staging": (0, 1),
    "amounts-replayed": (0, 1),
    "relayed-without-its-version": (5, 7),
    "answers-joined-into-the-state": (1, 2),
    "identity-kept-on-an-older-disk": (11, 19),
    "identity-kept-unconfirmed": (4, 13),
    "identity-kept-on-a-lost-disk": (2, 6),
    "hello-before-the-former-life-is-settled": (19, 33),
    "former-life-goes-on": (183, 291),
    "membership-by-order-of-arrival": (5, 8),
    "answered-with-the-batchs-total": (1, 2),
    "view-taken-after-the-gather": (10, 13),
    "own-cells-not-read-again": (2, 6),
    "round-under-way-joined": (7, 15),
    "majority-is-enough": (0, 1),
    "hold-outlives-its-release": (0, 1),
    "segments-removed-before-the-rename-is-durable": (49, 98),
    "leftovers-removed-before-the-directory-is-synced": (61, 132),
    "checkpoint-renamed-before-it-is-synced": (0, 2),
    "versions-of-the-end-recorded": (0, 3),
    "staged-cells-captured": (1, 9),
    "log-goes-on-where-the-capture-ended": (0, 2),
    "repair-stops-at-the-first-damage": (1, 9),
    "repair-keeps-the-incarnation": (1, 12),
    "repair-forgets-former-lives": (1, 12),
    "half-a-column-passes-for-the-whole": (13,),
    "aside-left-out-of-reads": (15, 16),
    "aside-of-others-counts": (1, 13),
    "aside-left-out-of-checkpoints": (12, 13),
    "aside-dropped-when-its-gap-is-filled": (15, 16),
    "gap-closed-at-the-highest-version": (20,),
    "only-the-first-gap-closed": (20,),
    "gap-closed-over-what-a-member-has": (19,),
    "gaps-never-closed": (15,),
    "one-counter-too-many": (3,),
    "known-counters-refused-at-the-limit": (58,),
}
"""Seeds to try first; after any change of the code it may be others that catch a mutant."""


@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_caught(name: str) -> None:
    with planted(name):
        assert any(run_seed(seed).violations for seed in chain(KNOWN_TO_CATCH.get(name, ()), CI_SEEDS))
