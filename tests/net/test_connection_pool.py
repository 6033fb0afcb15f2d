"""The pool of connections: which ones are displaced and which never are, and the deadlines inside a connection."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from gcount.net.connection import Connection
from gcount.net.connection_pool import ConnectionPool
from gcount.net.connection_state import Inbound
from gcount.net.options import ConnectionOptions
from gcount.net.stream import PlainStream
from tests.http.served_node import until


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """Two ends of a connection over loopback: the accepted end and the dialling end."""
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as listener:
        port = listener.socket.getsockname()[1]
        dialled = await trio.open_tcp_stream("127.0.0.1", port)
        async with dialled, await listener.accept() as accepted:
            yield accepted, dialled


@asynccontextmanager
async def connected(connections: ConnectionPool) -> AsyncIterator[tuple[Connection, trio.SocketStream]]:
    async with pair() as (accepted, dialled):
        connection = connections.admit(PlainStream(accepted))
        assert connection is not None
        yield connection, dialled


async def receive_all(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        pass


def is_open(connection: Connection) -> bool:
    return connection.stream.descriptor != -1


async def test_a_newcomer_at_the_limit_displaces_the_client_idle_for_longest() -> None:
    connections = ConnectionPool(2)
    async with connected(connections) as (first, _), connected(connections) as (second, _):
        first.set_busy(True)
        first.set_busy(False)  # used after second was accepted
        async with connected(connections) as (third, _):
            assert (is_open(first), is_open(second), is_open(third)) == (True, False, True)
            assert len(connections) == 2
            assert connections.displaced == 1


async def test_bytes_that_dribble_in_are_no_use_of_a_connection() -> None:
    connections = ConnectionPool(2)
    async with connected(connections) as (first, dribbler), connected(connections) as (second, _):
        await dribbler.send_all(b"G")
        assert await first.receive_some() == b"G"
        assert first.stream.bytes_in == 1
        async with connected(connections):
            assert not is_open(first)
            assert is_open(second)


async def test_a_busy_client_is_displaced_only_if_none_is_idle() -> None:
    connections = ConnectionPool(2)
    async with connected(connections) as (busy, _), connected(connections) as (idle, _):
        busy.set_busy(True)
        async with connected(connections) as (newcomer, _):
            assert is_open(busy)
            assert not is_open(idle)
            newcomer.set_busy(True)
            async with connected(connections):
                assert not is_open(busy)
                assert is_open(newcomer)


async def test_a_link_is_never_displaced_and_a_newcomer_is_refused_when_there_are_only_links() -> None:
    connections = ConnectionPool(1)
    async with connected(connections) as (link, _):
        assert link.become_link()
        async with pair() as (accepted, _):
            assert connections.admit(PlainStream(accepted)) is None
            assert accepted.socket.fileno() == -1
        assert is_open(link)
        assert connections.refused == 1
        link.set_busy(False)  # whatever its websocket does, it stays a link
        assert not connections.displace()


async def test_no_more_connections_become_links_than_allowed() -> None:
    connections = ConnectionPool(5, max_links=1)
    async with connected(connections) as (first, _), connected(connections) as (second, _):
        assert first.become_link()
        assert first.become_link()
        assert not second.become_link()
        assert not second.is_link
        assert (connections.links, connections.clients) == (1, 1)
        first.abort()
        assert second.become_link()


async def test_a_closed_connection_does_not_become_a_link() -> None:
    connections = ConnectionPool(5)
    async with connected(connections) as (connection, _):
        connection.abort()
        assert not connection.become_link()
        assert len(connections) == 0


async def test_only_clients_without_a_request_are_closed_when_unused() -> None:
    connections = ConnectionPool(5)
    client = connected(connections)
    async with client as (idle, _), connected(connections) as (busy, _), connected(connections) as (link, _):
        busy.set_busy(True)
        link.become_link()
        connections.close_unused(60.0)
        assert is_open(idle)
        connections.close_unused(0.0)
        assert (is_open(idle), is_open(busy), is_open(link)) == (False, True, True)


async def test_a_peer_that_does_not_read_is_aborted_even_under_a_shield() -> None:
    """hypercorn sends under a shield and without a deadline."""
    connections = ConnectionPool(5, options=ConnectionOptions(send_timeout=0.05))
    async with connected(connections) as (connection, _):
        with trio.fail_after(10), trio.CancelScope(shield=True), pytest.raises(trio.BrokenResourceError):
            await connection.send_all(b"x" * 50_000_000)
        assert not is_open(connection)
        assert connection.scope.cancel_called
        assert len(connections) == 0


async def test_a_link_has_its_own_send_timeout() -> None:
    connections = ConnectionPool(5, options=ConnectionOptions(send_timeout=1000.0, link_send_timeout=0.05))
    async with connected(connections) as (connection, _):
        connection.become_link()
        with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
            await connection.send_all(b"x" * 50_000_000)


async def test_abort_ends_a_shielded_send() -> None:
    """hypercorn sends under a shield, so that no cancellation reaches the send."""
    connections = ConnectionPool(5)
    ended = trio.Event()

    async def send(connection: Connection) -> None:
        with trio.CancelScope(shield=True), pytest.raises(trio.ClosedResourceError):
            await connection.send_all(b"x" * 50_000_000)
        ended.set()

    async with connected(connections) as (connection, _), trio.open_nursery() as nursery:
        nursery.start_soon(send, connection)
        await trio.testing.wait_all_tasks_blocked()
        assert not ended.is_set()
        connection.abort()
        with trio.fail_after(10):
            await ended.wait()


async def test_a_peer_that_is_still_sending_can_read_the_last_response() -> None:
    connections = ConnectionPool(5)
    async with connected(connections) as (connection, peer), trio.open_nursery() as nursery:
        await peer.send_all(b"x" * 100_000)  # never read: closing the socket now would send a reset
        await connection.send_all(b"no")
        await connection.send_eof()
        nursery.start_soon(connection.aclose)
        await trio.testing.wait_all_tasks_blocked()
        await peer.send_all(b"x" * 100_000)
        received = b"".join([chunk async for chunk in peer])
        assert received == b"no"
        await peer.aclose()


async def test_a_peer_that_sends_for_ever_is_cut_off_after_the_last_response() -> None:
    connections = ConnectionPool(5)
    async with connected(connections) as (connection, peer), trio.open_nursery() as nursery:
        await connection.send_eof()
        nursery.start_soon(connection.aclose)
        with trio.fail_after(20), contextlib.suppress(trio.BrokenResourceError):
            while True:
                await peer.send_all(b"x" * 65536)
        assert not is_open(connection)
        assert connection.stream.bytes_in < 4 * 1024 * 1024


async def test_waiting_for_an_idle_connection_ends_with_its_request() -> None:
    connections = ConnectionPool(5)
    async with connected(connections) as (connection, _), trio.open_nursery() as nursery:
        await connection.wait_idle()
        connection.set_busy(True)
        nursery.start_soon(connection.wait_idle)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        connection.set_busy(True)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        connection.set_busy(False)
        with trio.fail_after(20):
            while nursery.child_tasks:
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("how", ["closed", "reset by the peer"])
async def test_waiting_for_an_idle_connection_ends_when_nothing_can_be_sent_any_more(how: str) -> None:
    connections = ConnectionPool(5)
    async with connected(connections) as (connection, peer):
        connection.set_busy(True)

        async def serve() -> None:
            with connection.scope:
                await connection.wait_idle()

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                await trio.testing.wait_all_tasks_blocked()
                if how == "closed":
                    await connection.aclose()
                else:
                    peer.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
                    await trio.aclose_forcefully(peer)
                    with contextlib.suppress(trio.BrokenResourceError):
                        while True:
                            await connection.send_all(b"x")


@pytest.mark.parametrize("busy", [False, True])
async def test_a_peer_that_does_not_read_sees_a_reset(busy: bool) -> None:
    """The kernel must not keep what could not be sent, whether or not the connection was noted as busy."""
    connections = ConnectionPool(5, options=ConnectionOptions(send_timeout=0.05))
    async with connected(connections) as (connection, peer):
        connection.set_busy(busy)
        with pytest.raises(trio.BrokenResourceError):
            await connection.send_all(b"x" * 50_000_000)
        with trio.fail_after(20), pytest.raises(trio.BrokenResourceError):
            await receive_all(peer)


async def test_a_connection_knows_that_the_server_ends_and_does_not_linger_then() -> None:
    connections = ConnectionPool(5, options=ConnectionOptions(linger_seconds=3600.0))
    async with connected(connections) as (connection, _):
        found = [connection.stopping]
        connections.stopping = True
        assert [*found, connection.stopping] == [False, True]
        await connection.send_eof()
        with trio.fail_after(20):
            await connection.aclose()


# Taking over: from then on somebody else receives, and the application server does not


async def refused_to_server(connection: Connection) -> None:
    await connection.receive_for_server()
    pytest.fail("it returned")


@pytest.mark.parametrize("when", ["before it receives", "while it receives"])
async def test_after_a_takeover_the_link_receives_everything_and_the_server_nothing(when: str) -> None:
    async with connected(ConnectionPool(1)) as (connection, dialled), trio.open_nursery() as nursery:
        if when == "before it receives":
            connection.take_over()
        nursery.start_soon(refused_to_server, connection)
        await trio.testing.wait_all_tasks_blocked()
        connection.take_over()
        await dialled.send_all(b"first")
        assert await connection.stream.receive_some(100) == b"first"
        await dialled.send_eof()
        assert await connection.stream.receive_some(100) == b""
        assert is_open(connection)
        nursery.cancel_scope.cancel()


async def test_a_server_that_is_at_work_when_it_is_taken_over_does_not_receive_afterwards() -> None:
    async with connected(ConnectionPool(1)) as (connection, dialled), trio.open_nursery() as nursery:
        await dialled.send_all(b"request")
        assert await connection.receive_for_server() == b"request"
        connection.take_over()
        await dialled.send_all(b"first")
        nursery.start_soon(refused_to_server, connection)
        assert await connection.stream.receive_some(100) == b"first"
        nursery.cancel_scope.cancel()


async def test_input_from_before_the_taking_over_is_never_skipped() -> None:
    """It came before the handshake was answered. Whichever task wakes first, only one gets it, or all is over."""
    for _ in range(20):
        async with connected(ConnectionPool(1)) as (connection, dialled), trio.open_nursery() as nursery:
            received: list[bytes] = []
            nursery.start_soon(serve_once, connection, received)
            nursery.start_soon(take_over_when_readable, connection)
            await trio.testing.wait_all_tasks_blocked()
            await dialled.send_all(b"early")
            await until(lambda: connection.inbound is Inbound.TAKEN_OVER)
            await trio.testing.wait_all_tasks_blocked()
            if is_open(connection) and not received:
                received.append(await connection.stream.receive_some(100))
            assert received == ([b"early"] if is_open(connection) else [])
            nursery.cancel_scope.cancel()


async def serve_once(connection: Connection, received: list[bytes]) -> None:
    received.append(await connection.receive_for_server())


async def take_over_when_readable(connection: Connection) -> None:
    with os.fdopen(os.dup(connection.stream.descriptor)) as twin:
        await trio.lowlevel.wait_readable(twin)
    connection.take_over()


@pytest.mark.parametrize("end", ["abort", "aclose"])
async def test_the_end_of_the_connection_wakes_the_link_that_took_over(end: str) -> None:
    """It does not wait for the peer, as only one task could do that."""
    async with connected(ConnectionPool(1)) as (connection, _), trio.open_nursery() as nursery:
        connection.take_over()

        @nursery.start_soon
        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await connection.stream.receive_some(100)

        await trio.testing.wait_all_tasks_blocked()
        if end == "abort":
            connection.abort()
        else:
            await connection.send_eof()
            await connection.aclose()
        assert not is_open(connection)


async def test_a_takeover_closes_a_connection_at_once_that_is_being_closed() -> None:
    async with connected(ConnectionPool(1)) as (connection, _), trio.open_nursery() as nursery:
        await connection.send_eof()
        nursery.start_soon(connection.aclose)  # waits for the peer to finish
        await trio.testing.wait_all_tasks_blocked()
        assert is_open(connection)
        connection.take_over()
        assert not is_open(connection)
        with pytest.raises(trio.ClosedResourceError):
            await connection.stream.receive_some(100)
