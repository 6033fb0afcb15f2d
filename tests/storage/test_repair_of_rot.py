"""Whatever rots, and whenever its repair is interrupted: nothing that was whole is lost, and nothing is invented."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcount.core.format.log_records import HEADER_BYTES
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Counters
from gcount.errors import LogDamaged
from gcount.storage.inspect.corruption import DAMAGED_SUFFIX
from gcount.storage.inspect.survey import holds_log, survey
from tests.core.histories import NAMES, knowing
from tests.fakes.disk import SimDisk, SimulatedCrash
from tests.fakes.process import run_simulated
from tests.storage.commit_store import contents
from tests.storage.written import Written, mend, recovered, write

ROTTEN = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def damages(draw: st.DrawFn, written: Written) -> list[int]:
    """Damage some files; returns the numbers of the batches that are still as they were."""
    intact = set(written.places)
    for name in draw(st.lists(st.sampled_from(written.disk.names()), min_size=1, max_size=3, unique=True)):
        good = written.disk.read(name)
        size = len(good)
        kind = draw(st.sampled_from(["flip", "head", "cut", "missing", "garbage", "deleted", "zeros"]))
        start, end = draw(st.integers(0, size - 1)), size
        if kind in ("flip", "head"):
            start = start if kind == "flip" else start % HEADER_BYTES
            end = start + 1
            bad = good[:start] + bytes([good[start] ^ draw(st.integers(1, 255))]) + good[end:]
        elif kind == "missing":
            start, bad = 0, None
        elif kind == "garbage":
            start, bad = 0, draw(st.binary(max_size=200))
        elif kind == "cut":
            bad = good[:start]
        else:
            end = draw(st.integers(start + 1, size))
            bad = good[:start] + (bytes(end - start) if kind == "zeros" else b"") + good[end:]
        if bad is None:
            written.disk.remove(name)
            written.disk.sync_names()
        else:
            written.disk.poke(name, bad)
        intact -= {
            n for n, (file, first, last) in written.places.items() if file == name and first < end and start < last
        }
    return sorted(intact)


def without_tail(written: Written, intact: list[int]) -> list[int]:
    """A missing segment at the end, as well as a tail cut off, leaves no trace: nothing is behind it."""
    names = set(written.disk.names())
    return [number for number in intact if written.places[number][0] in names]


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([150, 400, 10**6]), st.data())
@ROTTEN
def test_whatever_rots_a_start_refuses_it_or_it_is_whole_and_a_repair_keeps_what_is_untouched(
    seed: int, steps: int, segment: int, data: st.DataObject
) -> None:
    written = write(seed, steps, segment)
    disk = written.disk
    before = run_simulated(partial(recovered, disk)).identity
    intact = without_tail(written, data.draw(damages(written)))
    as_is = contents(disk)
    found = survey(disk)
    assert contents(disk) == as_is
    if not found.corruptions:
        if holds_log(disk):
            written.check(run_simulated(partial(recovered, disk)))
        return
    with pytest.raises(LogDamaged):
        run_simulated(partial(recovered, disk))
    assert contents(disk) == as_is

    moved = mend(disk)
    assert {as_is[name.partition(DAMAGED_SUFFIX)[0]] for name in moved} == {disk.read(name) for name in moved}
    again = survey(disk)
    assert (again.corruptions, again.contradictions) == ([], [])
    replica = run_simulated(partial(recovered, disk))
    written.check(replica)
    written.check_kept(replica, intact)
    known_lives = {batch.identity.incarnation for n in intact if (batch := written.batches[n - 1]).identity}
    assert known_lives <= set(replica.identity.retired)
    assert replica.identity.incarnation not in written.histories
    assert replica.identity.node == before.node or not found.identities.node
    replica.apply(Batch(replica.next_batch, []))
    written.refill(replica)
    assert not replica.detached
    assert replica.counters == knowing([(each, len(each.commits)) for each in written.histories.values()])


@given(st.integers(0, 10**6), st.sampled_from([150, 10**6]), st.data())
@ROTTEN
def test_what_was_repaired_can_rot_and_be_repaired_again(seed: int, segment: int, data: st.DataObject) -> None:
    written = write(seed, 25, segment)
    intact = set(written.places)
    for round_ in range(2):
        names = [name for name in written.disk.names() if name.endswith(".log")]
        first = round_ == 0
        if first:
            intact &= set(without_tail(written, data.draw(damages(written))))
        else:
            name = data.draw(st.sampled_from(names[:-1]))
            good = written.disk.read(name)
            written.disk.poke(name, good[: data.draw(st.integers(0, len(good) - 1))])
        if not survey(written.disk).corruptions:
            return
        mend(written.disk, seed=round_)
        replica = run_simulated(partial(recovered, written.disk))
        written.check(replica)
        if first:
            written.check_kept(replica, sorted(intact))
    assert len(replica.identity.retired) == len(set(replica.identity.retired))


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("kind", ["flip", "missing", "garbage", "first and last"])
def test_a_repair_that_is_interrupted_anywhere_leaves_a_log_that_is_refused_or_repaired(kind: str, power: bool) -> None:
    """Never one that starts under the old incarnation, and never one that has less than the whole repair keeps."""

    base = write(7, 30, 300).disk
    names = base.names()
    for name in names[1:3] if kind != "first and last" else [names[0], names[-1]]:
        good = base.read(name)
        base.poke(name, b"junk" if kind == "garbage" else good[:100] + bytes([good[100] ^ 1]) + good[101:])
    if kind == "missing":
        base.remove(names[1])
        base.sync_names()

    def rotten(seed: int) -> SimDisk:
        disk = base.copy()
        disk.random = Random(seed)
        return disk

    def state(disk: SimDisk) -> tuple[Counters, dict[str, dict[bytes, int]], set[bytes]]:
        replica = run_simulated(partial(recovered, disk))
        return replica.counters, {name: replica.cells(name) for name in NAMES}, set(replica.identity.retired)

    whole = rotten(0)
    damaged_bytes = {
        whole.read(name) for name in {corruption.file for corruption in survey(whole).corruptions} & set(whole.names())
    }
    mend(whole)
    expected = state(whole)
    refused = done = 0
    for seed in range(400):
        disk = rotten(seed)
        disk.crash_after(seed // 8 if power else seed)
        try:
            mend(disk)
        except SimulatedCrash:
            if power:
                disk.crash()
            else:
                disk.restart()
        else:
            break
        assert damaged_bytes <= set(contents(disk).values())  # nothing is thrown away, at no moment
        if not survey(disk).corruptions:
            done += 1
            assert state(disk) == expected
            continue
        with pytest.raises(LogDamaged):
            state(disk)
        refused += 1
        mend(disk, seed=2)
        counters, cells, retired = state(disk)
        assert (counters, cells) == expected[:2]
        assert expected[2] <= retired
    else:
        pytest.fail("the repair never came to its end")
    assert refused > 10
    assert done > 0
