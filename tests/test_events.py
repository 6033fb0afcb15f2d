"""News, and the end of the process."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from gcount.events import News, Stopping


async def test_news_wakes_all_that_wait_and_is_not_kept() -> None:
    news, woken = News(), list[int]()

    async def wait(number: int) -> None:
        await news.wait()
        woken.append(number)

    async with trio.open_nursery() as nursery:
        news.notify()
        nursery.start_soon(wait, 1)
        nursery.start_soon(wait, 2)
        await wait_all_tasks_blocked()
        assert woken == []
        news.notify()
        await wait_all_tasks_blocked()
        assert sorted(woken) == [1, 2]


async def test_stopping_ends_all_waits_that_there_are_and_each_later_one(autojump_clock: MockClock) -> None:
    stopping, ended = Stopping(), list[float]()

    async def wait() -> None:
        with stopping.ends(trio.current_time() + 5):
            await trio.Event().wait()
        ended.append(trio.current_time())

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert not stopping.event.is_set()
        stopping.set()
    await wait()
    assert stopping.is_set
    assert ended == [began + 1] * 3


async def test_a_wait_ends_at_its_deadline_if_nothing_stops_it(autojump_clock: MockClock) -> None:
    stopping, began = Stopping(), trio.current_time()
    with stopping.ends(began + 5):
        await trio.Event().wait()
    assert trio.current_time() == began + 5


async def test_an_error_in_a_wait_is_raised_and_leaves_no_waiter() -> None:
    stopping = Stopping()
    with pytest.raises(ValueError, match="mine"), stopping.ends():
        raise ValueError("mine")
    assert not stopping._waits
