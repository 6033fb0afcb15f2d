"""The workload of a soak: nodes that end are noticed, and powers of two are used once."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.soak.history import POWERS, History
from tests.soak.machine import Clock, EndedByItself, Machine
from tests.soak.workload import Counters


@pytest.mark.parametrize("method", ["check", "kill", "pause"])
def test_a_node_that_ended_by_itself_is_found_and_recorded(method: str) -> None:
    """It is also found just before a kill, which must not hide it."""
    gone: Any = SimpleNamespace(
        number=2, runs=lambda: False, lines=lambda: ["a sync failed"], process=SimpleNamespace(returncode=1)
    )
    history = History()
    machine = Machine(gone, None, history, Clock())
    machine.ready = True
    with pytest.raises(EndedByItself):
        getattr(machine, method)()
    [moment] = history.moments
    assert (moment.node, moment.what) == (2, "ended")
    assert "with 1: a sync failed" in moment.detail


def test_no_power_of_a_counter_is_handed_out_twice() -> None:
    """Otherwise a read would not show what it contains. And the powers of a counter fit into a node's part of it."""
    counters, rng = Counters(), random.Random(1)
    taken = [counters.take(rng) for _ in range(3000)]
    powers = [(name, amount) for name, amount in taken if name.startswith(POWERS)]
    assert len(powers) == len(set(powers))
    assert {amount for _, amount in powers} == {1 << bit for bit in range(64)}
    assert {counters.look(rng) for _ in range(1000)} <= {name for name, _ in taken}
