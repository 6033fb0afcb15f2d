"""What an increment waits for: the holds of all its counters that were in force when it came, and for nothing else."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from gcount.cluster.hold_gate import HoldGate
from gcount.core.options import DEFAULTS
from gcount.core.protocol.write_holds import MAX_HOLD
from gcount.errors import ReadUnavailable
from tests.fakes.cluster import open_cluster
from tests.fakes.counting import add, add_one_to_each
from tests.fakes.process import run_simulated

NAMES = "abcd"
TICK = 0.02  # seconds

Step = tuple[str, str, int]
steps = st.lists(st.tuples(st.sampled_from(["ask", "release"]), st.sampled_from(NAMES), st.integers(0, 6)), max_size=60)


@settings(max_examples=50, deadline=None)
@given(steps, st.sets(st.sampled_from(NAMES), min_size=1), st.integers(1, 60))
def test_an_increment_waits_for_the_holds_in_force_when_it_came(changes: list[Step], names: set[str], at: int) -> None:
    """Whatever holds come and go meanwhile: when the last of those is over, it goes on."""
    run_simulated(partial(come_and_go, changes, names, at * TICK))


async def come_and_go(changes: list[Step], names: set[str], at: float) -> None:
    gate = HoldGate(DEFAULTS)

    async def hold() -> None:
        for action, name, ticks in changes:
            if action == "ask":
                gate.ask(name, "reader")
            else:
                gate.release(name, "reader")
            await trio.sleep(ticks * TICK)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await trio.sleep(at + TICK / 2)  # never at the same instant as a change
        arrived = trio.current_time()
        held = gate.holds.in_force(names, arrived)
        await gate.wait_unheld(names)
        went_on = trio.current_time()
    ends = [hold.until() if hold.ended is None else hold.ended for hold in held]
    assert went_on == pytest.approx(max([arrived, *ends]))
    assert went_on <= arrived + MAX_HOLD


async def test_an_increment_of_many_counters_that_are_all_read_waits_for_one_hold(autojump_clock: MockClock) -> None:
    names = [f"n{number}" for number in range(20)]
    delay = 0.05
    async with open_cluster(2, delay=(delay / 3, delay)) as cluster:
        node, random, reads, waits = cluster[1].node, Random(0), 0, []

        async def read(name: str) -> None:
            nonlocal reads
            while True:
                await trio.sleep(random.uniform(0, 0.02))
                await cluster[2].node.consistent_value(name)
                reads += 1

        async def write(name: str) -> None:
            while True:
                await trio.sleep(random.uniform(0, 0.02))
                await add(node, name, 1)

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(read, name)
                nursery.start_soon(write, name)
            for _ in range(10):
                await trio.sleep(random.uniform(0, 0.2))
                started = trio.current_time()
                await add_one_to_each(node, names)
                waits.append(trio.current_time() - started)
            nursery.cancel_scope.cancel()
        assert 0.01 < max(waits) < MAX_HOLD + 0.02  # the disk takes its part
        assert reads > len(names)


async def test_reads_end_while_batches_that_waited_go_on_under_their_holds(autojump_clock: MockClock) -> None:
    """What comes through a hold, as it waited for an older one of another counter, delays its reads and no more."""
    names = [f"n{number}" for number in range(8)]
    async with open_cluster(3, delay=(0.005, 0.02)) as cluster:
        failed: list[ReadUnavailable] = []

        async def count(number: int) -> None:
            while True:
                await add_one_to_each(cluster[number].node, names)

        async def read(name: str) -> None:
            for _ in range(10):
                try:
                    await cluster[1].node.consistent_value(name)
                except ReadUnavailable as error:
                    failed.append(error)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in (1, 2, 3):
                    for _ in range(4):
                        nursery.start_soon(count, number)
                async with trio.open_nursery() as reading:
                    for name in names:
                        reading.start_soon(read, name)
                nursery.cancel_scope.cancel()
        assert not failed
