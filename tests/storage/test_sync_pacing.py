"""Where the disk is waited for: in the event loop while it is fast, in a worker thread for a while when it is not."""

from __future__ import annotations

import errno
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gcount.errors import DiskFull
from gcount.storage import disk as room
from gcount.storage.disk import RealDisk
from gcount.storage.sync_pacing import MAX_TYPICAL, RETRY, SHARE, SyncPacing

FAST, SLOW = 0.9 * MAX_TYPICAL, 20 * MAX_TYPICAL
AWHILE = SHARE * SLOW


def test_a_fast_disk_is_always_waited_for_in_the_loop() -> None:
    pace = SyncPacing()
    for number in range(1000):
        assert pace.in_loop(number * MAX_TYPICAL)
        pace.took(FAST, number * MAX_TYPICAL)


def test_one_write_that_is_a_little_slow_changes_nothing_and_many_do() -> None:
    pace = SyncPacing()
    pace.took(2 * MAX_TYPICAL, 10.0)
    assert pace.in_loop(10.0)
    for _ in range(10):
        pace.took(FAST, 10.0)
    assert pace.in_loop(10.0)
    for _ in range(10):
        pace.took(2 * MAX_TYPICAL, 10.0)
    assert not pace.in_loop(10.0)


def test_after_a_slow_one_threads_wait_for_a_while_and_then_the_loop_tries_again() -> None:
    pace = SyncPacing()
    pace.took(SLOW, 10.0)
    assert not pace.in_loop(10.0)
    assert not pace.in_loop(10.0 + AWHILE - 1e-6)
    assert pace.in_loop(10.0 + AWHILE)
    pace.took(FAST, 10.0 + AWHILE)
    assert pace.in_loop(10.0 + AWHILE)  # the past is forgotten
    pace.took(11 * MAX_TYPICAL / 2, 20.0)
    assert pace.in_loop(20.0)
    pace.took(11 * MAX_TYPICAL, 20.0)
    assert not pace.in_loop(20.0 + max(RETRY, SHARE * 11 * MAX_TYPICAL) - 1e-6)
    assert pace.in_loop(20.0 + max(RETRY, SHARE * 11 * MAX_TYPICAL))


@pytest.mark.parametrize("sync", [SLOW, 0.5, 2.0])
def test_a_slow_disk_holds_the_loop_once_in_a_while_and_for_a_hundredth_of_the_time(sync: float) -> None:
    """However slow: a link is dead after a second of silence."""
    pace, now, held = SyncPacing(), 0.0, 0
    while now < 1000 * sync:
        in_loop = pace.in_loop(now)
        now += sync
        if in_loop:
            held += 1
            pace.took(sync, now)
    assert 9 <= held <= 10


class Clocked:
    """A real disk with a clock of its own, whose operations say whether they ran in the loop's thread."""

    def __init__(self, path: Path) -> None:
        self.disk = RealDisk(path)
        self.now = 100.0
        self._loop = threading.get_ident()

    async def runs_in_loop(self, seconds: float = 0.0, *, brief: bool = True) -> bool:
        def operation() -> bool:
            self.now += seconds
            return threading.get_ident() == self._loop

        return await self.disk.run(operation, brief=brief)


@asynccontextmanager
async def clocked(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clocked]:
    made = Clocked(path)
    monkeypatch.setattr(room, "perf_counter", lambda: made.now)
    yield made
    made.disk.close()


async def test_brief_operations_run_in_the_loop_while_the_disk_is_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with clocked(tmp_path, monkeypatch) as clock:
        assert [await clock.runs_in_loop(FAST) for _ in range(20)] == [True] * 20
        assert await clock.runs_in_loop(SLOW)
        assert [await clock.runs_in_loop(FAST) for _ in range(20)] == [False] * 20
        clock.now += AWHILE
        assert await clock.runs_in_loop(FAST)


async def test_operations_that_are_not_brief_never_run_in_the_loop_and_are_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with clocked(tmp_path, monkeypatch) as clock:
        assert not await clock.runs_in_loop(SLOW, brief=False)
        assert await clock.runs_in_loop()


@pytest.mark.parametrize("in_loop", [True, False])
async def test_errors_come_through_and_count_as_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_loop: bool
) -> None:
    async with clocked(tmp_path, monkeypatch) as clock:
        if not in_loop:
            await clock.runs_in_loop(SLOW)

        def fail() -> None:
            clock.now += SLOW
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(DiskFull):
            await clock.disk.attempt(fail, brief=True)
        assert not await clock.runs_in_loop()
