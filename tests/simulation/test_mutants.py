"""Each planted bug is caught within the seeds that CI runs, so the laws see what they are to see."""

from itertools import chain

import pytest

from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.run import run_seed

CI_SEEDS = range(150)
KNOWN_TO_CATCH: dict[str, tuple[int, ...]] = {
    "visible-before-durable": (1, 2),
    "acknowledged-before-own-sync": (0, 1),
    "acknowledged-before-the-peers-sync": (0, 1),
    "live-segment-not-written-anew": (5, 7),
    "partial-write-not-cut-back": (8, 14),
    "torn-tail-accepted": (1, 2),
    "totals-merged": (0, 1),
    "absolute-values-of-the-staging": (5, 9),
    "amounts-replayed": (0, 1),
    "relayed-without-its-version": (2, 3),
    "answers-joined-into-the-state": (0, 1),
    "identity-kept-on-an-older-disk": (0, 1),
    "identity-kept-unconfirmed": (20, 32),
    "identity-kept-on-a-lost-disk": (0, 5),
    "hello-before-the-former-life-is-settled": (7, 55),
    "former-life-goes-on": (9, 374),
    "membership-by-order-of-arrival": (8, 30),
    "answered-with-the-batchs-total": (0, 1),
    "view-taken-after-the-gather": (2, 13),
    "own-cells-not-read-again": (0, 3),
    "round-under-way-joined": (50, 70),
    "majority-is-enough": (0, 1),
    "hold-outlives-its-release": (0, 1),
    "segments-removed-before-the-rename-is-durable": (41, 50),
    "leftovers-removed-before-the-directory-is-synced": (24, 37),
    "checkpoint-renamed-before-it-is-synced": (0, 2),
    "versions-of-the-end-recorded": (0, 2),
    "staged-cells-captured": (14, 41),
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
    "request-in-two-commits": (0, 1),
    "held-when-its-first-parcel-is": (2, 3),
    "held-as-the-former-link-said": (0, 8),
    "own-value-at-once": (0, 1),
    "parcel-joined-by-itself": (0, 1),
    "pieces-of-one-delta-only": (0, 1),
    "cell-at-the-seam-left-out": (0, 1),
    "batch-taken-without-its-last-frame": (22, 23),
    "order-grows-and-drops-unseen": (32, 34),
    "order-trusted-beyond-its-reach": (0, 1),
}
"""Seeds to try first; after any change of the code it may be others that catch a mutant."""


@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_caught(name: str) -> None:
    with planted(name):
        assert any(run_seed(seed).violations for seed in chain(KNOWN_TO_CATCH.get(name, ()), CI_SEEDS))
