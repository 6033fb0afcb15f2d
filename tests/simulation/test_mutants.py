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
    "live-segment-not-written-anew": (1, 2),
    "partial-write-not-cut-back": (0, 2),
    "torn-tail-accepted": (2, 3),
    "totals-merged": (0, 1),
    "absolute-values-of-the-staging": (0, 1),
    "amounts-replayed": (0, 1),
    "relayed-without-its-version": (1, 2),
    "answers-joined-into-the-state": (1, 2),
    "identity-kept-on-an-older-disk": (12, 16),
    "identity-kept-unconfirmed": (13, 24),
    "identity-kept-on-a-lost-disk": (6, 16),
    "hello-before-the-former-life-is-settled": (16, 28),
    "former-life-goes-on": (184, 565),
    "membership-by-order-of-arrival": (5, 8),
    "answered-with-the-batchs-total": (0, 1),
    "view-taken-after-the-gather": (1, 2),
    "own-cells-not-read-again": (4, 13),
    "round-under-way-joined": (9, 10),
    "majority-is-enough": (0, 1),
    "hold-outlives-its-release": (0, 1),
}
"""Seeds to try first; after any change of the code it may be others that catch a mutant."""


@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_caught(name: str) -> None:
    with planted(name):
        assert any(run_seed(seed).violations for seed in chain(KNOWN_TO_CATCH.get(name, ()), CI_SEEDS))
