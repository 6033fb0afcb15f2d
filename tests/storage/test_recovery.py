"""A start: a checkpoint and the log behind it bring a replica to where it was, whatever the two overlap in."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from gcount.core.options import DEFAULTS
from gcount.core.state.identity import Identity
from gcount.errors import DiskFull, LogDamaged
from gcount.storage.checkpoints import checkpoint_name
from gcount.storage.log import segment_name
from tests.fakes.process import run_simulated
from tests.storage.checkpointed import NAMES, SMALL, Store, opened, segments, written
from tests.storage.commit_store import ME, contents, sim_disk

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, len(NAMES) - 1)),
        st.tuples(st.just("add"), st.integers(0, len(NAMES) - 1)),
        st.tuples(st.just("checkpoint"), st.just(0)),
        st.tuples(st.just("start"), st.sampled_from([0, 3, 1000])),
    ),
    max_size=40,
)


@given(steps, st.integers(0, 2**32))
@settings(max_examples=40)
def test_any_start_finds_what_was_committed_whatever_checkpoints_and_starts_there_were(
    made: list[tuple[str, int]], seed: int
) -> None:
    async def run() -> None:
        disk = sim_disk(seed)
        store = await opened(disk)
        for kind, number in made:
            if kind == "add":
                await store.add(NAMES[number])
            elif kind == "checkpoint":
                await store.make()
            else:
                store.log.close()
                disk.crash()
                again = await opened(disk, replace(SMALL, merge_cells=number, replay_slice=number))
                assert again.replica.counters == store.replica.counters
                assert again.replica.next_batch == store.replica.next_batch
                store.check(again.replica.counters)
                store = again
        store.log.close()

    run_simulated(run)


async def test_totals_are_summed_up_when_a_start_is_over(autojump_clock: MockClock) -> None:
    disk, _ = await written()
    again = await opened(disk)
    assert [again.replica.counters.total(name) for name in NAMES] == [2] * len(NAMES)
    await again.add("n1")
    assert again.replica.counters.total("n1") == 3


async def test_an_empty_directory_has_no_header_and_what_was_begun_there_has_one(autojump_clock: MockClock) -> None:
    disk = sim_disk()
    await opened(disk)
    again = Store(disk)
    await again.open()
    header = again.log.live
    assert Identity(header.node, header.incarnation) == ME
    assert (header.sequence, header.first_batch) == (1, 1)


@pytest.mark.parametrize("damaged", [False, True])
async def test_unfinished_checkpoints_are_gone_after_a_start_whether_it_succeeds_or_not(
    autojump_clock: MockClock, damaged: bool
) -> None:
    disk, store = await written()
    store.log.close()
    unfinished = checkpoint_name(99) + ".new"
    disk.poke(unfinished, b"half of one")
    if damaged:
        first = segments(disk)[0]
        disk.poke(first, disk.read(first)[:-1])
        with pytest.raises(LogDamaged):
            await opened(disk)
    else:
        await opened(disk)
    assert unfinished not in disk.names()


async def test_what_a_checkpoint_covers_is_removed_only_when_the_log_is_durable_anew(autojump_clock: MockClock) -> None:
    """Until then nobody knows whether the checkpoint's own name is."""
    disk, store = await written()
    store.log.close()
    leftover = segment_name(1)
    assert leftover not in disk.names()
    disk.poke(leftover, b"covered long ago")
    disk.history.clear()
    await opened(disk)
    history = list(disk.history)
    assert leftover not in disk.names()
    removed = history.index(f"remove {leftover}")
    assert "sync_names" in [step.split()[0] for step in history[:removed]]
    assert any(step.split()[0] == "sync" for step in history[:removed])
    assert "sync_names" in [step.split()[0] for step in history[removed:]]


@pytest.mark.parametrize("was_on", [True, False])
@pytest.mark.parametrize("fails", [False, True])
async def test_the_collector_of_cycles_is_as_it_was_when_a_start_is_over(
    autojump_clock: MockClock, was_on: bool, fails: bool
) -> None:
    disk, store = await written()
    store.log.close()
    states, stepped = list[bool](), disk.stepped
    disk.stepped = lambda operation, name: states.append(gc.isenabled())
    enabled = gc.isenabled()
    try:
        (gc.enable if was_on else gc.disable)()
        if fails:
            disk.capacity = 10**12 - disk.free_bytes()
            with pytest.raises(DiskFull):
                await opened(disk)
        else:
            await opened(disk)
        assert gc.isenabled() is was_on
    finally:
        (gc.enable if enabled else gc.disable)()
    disk.stepped = stepped
    assert states
    assert not any(states)


async def test_a_start_that_finds_no_space_changes_nothing_and_can_be_tried_again(autojump_clock: MockClock) -> None:
    disk, store = await written()
    store.log.close()
    before = contents(disk)
    disk.capacity = disk.capacity - disk.free_bytes()
    for _ in range(2):
        with pytest.raises(DiskFull):
            await opened(disk)
        assert contents(disk) == before
    disk.capacity = 10**12
    assert (await opened(disk)).replica.counters == store.replica.counters


async def test_a_start_reads_a_directory_that_was_written_with_other_options(autojump_clock: MockClock) -> None:
    disk, store = await written()
    for options in (DEFAULTS, replace(SMALL, column_small=0, column_span=1, checkpoint_read_bytes=1), SMALL):
        store.log.close()
        again = await opened(disk, options)
        assert again.replica.counters == store.replica.counters
        await again.add("n1")
        await again.make()
        store = again
