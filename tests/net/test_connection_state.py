"""The tables of a connection's states: they are complete, and reject events that can't happen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from gcount.net.connection import Connection
from gcount.net.connection_pool import ConnectionPool
from gcount.net.connection_state import (
    PHASES,
    RECEPTION,
    SENDING,
    Inbound,
    Outbound,
    Phase,
    Reception,
    Sending,
    Use,
    after,
)
from tests.net.test_connection_pool import connected


def test_each_event_has_a_row() -> None:
    assert [*PHASES] == [*Use]
    assert [*RECEPTION] == [*Reception]
    assert [*SENDING] == [*Sending]


def test_events_that_may_happen_at_any_time_have_a_next_state_in_each_state() -> None:
    """Requests and responses use the rows directly; the other events may come when a connection ends."""
    for use in (Use.REQUEST, Use.RESPONSE, Use.ABORT):
        assert [*PHASES[use]] == [*Phase]
    assert [*RECEPTION[Reception.WAKE]] == [*Inbound]
    assert [*SENDING[Sending.END]] == [*Outbound]


def test_the_end_is_the_end() -> None:
    assert {row[Phase.CLOSED] for row in PHASES.values() if Phase.CLOSED in row} == {Phase.CLOSED}
    assert {row[Phase.CLOSING] for row in PHASES.values() if Phase.CLOSING in row} == {Phase.CLOSING, Phase.CLOSED}
    taken = [row[Inbound.TAKEN_OVER] for row in RECEPTION.values() if Inbound.TAKEN_OVER in row]
    assert {*taken} == {Inbound.TAKEN_OVER}
    assert {row[Outbound.ENDED] for row in SENDING.values()} == {Outbound.ENDED}


def test_a_link_stays_one_until_it_is_closed() -> None:
    links = {Phase.IDLE_LINK, Phase.BUSY_LINK}
    for use, row in PHASES.items():
        for link in links & row.keys():
            assert row[link] in links or use in (Use.CLOSE, Use.ABORT)


def test_an_event_that_can_not_happen_is_an_error_that_names_it() -> None:
    with pytest.raises(AssertionError, match=r"RECEIVE.* can't happen .*WATCHED"):
        after(RECEPTION, Reception.RECEIVE, Inbound.WATCHED)
    with pytest.raises(AssertionError, match=r"PROMOTE.* can't happen .*CLOSED"):
        after(PHASES, Use.PROMOTE, Phase.CLOSED)


# The laws, asked of a connection


async def _twice(connection: Connection, receive: Callable[[], object]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(AssertionError, match="RECEIVING"):
            await receive()  # type: ignore[misc]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("second", ["a task", "the reactor"])
async def test_there_is_one_receiver_at_a_time(second: str) -> None:
    async with connected(ConnectionPool(1)) as (connection, peer):
        if second == "a task":
            await _twice(connection, connection.receive_some)
        else:
            await _twice(connection, lambda: connection.receive_unanswered(lambda data: True))
        assert connection.inbound is Inbound.FREE
        await peer.send_all(b"x")
        assert await connection.receive_some() == b"x"


async def test_nothing_receives_beside_the_link_that_took_over() -> None:
    async with connected(ConnectionPool(1)) as (connection, _):
        connection.take_over()
        with pytest.raises(AssertionError, match="TAKEN_OVER"):
            await connection.receive_some()


async def test_nothing_is_sent_after_the_end() -> None:
    async with connected(ConnectionPool(1)) as (connection, peer):
        await connection.send_eof()
        with pytest.raises(BrokenPipeError, match="after the end"):
            connection.send_now(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await connection.send_all(b"x")
        await connection.send_eof()
        assert await peer.receive_some() == b""


async def test_an_answer_that_was_begun_before_the_end_is_still_sent() -> None:
    async with connected(ConnectionPool(1)) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_all, bytes(10_000_000))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(connection.send_all, b"the second")  # waits for the first
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await connection.send_eof()
        assert connection.outbound is Outbound.ENDING
        received = 0
        while received < 10_000_000 + len(b"the second"):
            received += len(await peer.receive_some())


async def test_an_answer_that_comes_after_the_abort_changes_nothing() -> None:
    async with connected(ConnectionPool(1)) as (connection, _):
        connection.set_busy(True)
        connection.abort()
        with pytest.raises(OSError, match="descriptor"):
            connection.send_now(b"late")
        connection.set_busy(False)
        assert (connection.phase, connection.busy, connection.closing) == (Phase.CLOSED, False, True)
