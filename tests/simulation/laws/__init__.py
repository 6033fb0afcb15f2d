"""The laws that every run has to keep, each a pure function over its history in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.simulation.campaign.history import History
from tests.simulation.laws import (
    agreement,
    alone,
    availability,
    detached,
    durable_first,
    endings,
    forks,
    healing,
    held,
    linearizable,
    linked,
    memory,
    monotone,
    once,
    one_writer,
    promised,
    refusals,
    settled,
    survival,
    together,
)

LAWS: dict[str, Callable[[History], Iterator[str]]] = {
    "survival": survival.violations,
    "monotone": monotone.violations,
    "one writer": one_writer.violations,
    "durable first": durable_first.violations,
    "agreement": agreement.violations,
    "detached": detached.violations,
    "linearizable": linearizable.violations,
    "alone": alone.violations,
    "together": together.violations,
    "held": held.violations,
    "availability": availability.violations,
    "forks": forks.violations,
    "refusals": refusals.violations,
    "healing": healing.violations,
    "linked": linked.violations,
    "endings": endings.violations,
    "once": once.violations,
    "settled": settled.violations,
    "promised": promised.violations,
    "memory": memory.violations,
}
