"""The reactor: one task receives for many connections, and wakes their tasks only for input that it can't answer."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from gcount.net.connection import Connection
from gcount.net.connection_pool import ConnectionPool
from gcount.net.stream import PlainStream
from tests.http.served_node import until
from tests.net.test_connection_pool import connected

PATIENCE = 20.0


class Refused(Exception):
    """An answer failed."""


@dataclass
class Sleeper:
    """A connection whose task sleeps. Input that begins with a question mark is unusual."""

    connection: Connection
    peer: trio.SocketStream
    on_input: Callable[[bytes], None] = lambda data: None
    answered: list[bytes] = field(default_factory=list)
    woken: list[bytes | Exception | None] = field(default_factory=list)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def answer(self, data: bytes) -> bool:
        self.on_input(data)
        if data.startswith(b"?"):
            return False
        self.answered.append(data)
        return True

    async def sleep(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self.scope:
            task_status.started()
            try:
                self.woken.append(await self.connection.receive_unanswered(self.answer))
            except Exception as error:
                self.woken.append(error)

    async def gets(self, data: bytes) -> None:
        """Send usual input, and check that it is answered."""
        before = len(self.answered)
        await self.peer.send_all(data)
        await until(lambda: len(self.answered) > before)
        assert b"".join(self.answered[before:]) == data

    async def wakes(self) -> bytes | Exception | None:
        await until(lambda: bool(self.woken))
        [found] = self.woken
        return found


class Bench:
    """A reactor, and the tasks that sleep in it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.ended = trio.Event()
        self.connections = ConnectionPool(1000)
        self.reactor = self.connections.reactor
        self.nursery = nursery
        self.peers: list[trio.SocketStream] = []

    async def react(self) -> None:
        await self.reactor.run()
        self.ended.set()

    def pair(self, number: int = -1) -> Sleeper:
        """A connection over a pair of sockets; a socket with that descriptor is the server's."""
        accepted, dialled = trio.socket.socketpair()
        if dialled.fileno() == number:
            accepted, dialled = dialled, accepted
        connection = self.connections.admit(PlainStream(trio.SocketStream(accepted)))
        assert connection is not None
        self.peers.append(trio.SocketStream(dialled))
        return Sleeper(connection, self.peers[-1])

    def close(self) -> None:
        """Close all connections, at both ends."""
        for peer in self.peers:
            peer.socket.close()
        self.connections.abort_all()

    async def asleep(self, sleeper: Sleeper | None = None) -> Sleeper:
        sleeper = sleeper or self.pair()
        await self.nursery.start(sleeper.sleep)
        await until(lambda: sleeper.connection.stream.descriptor in self.reactor._selector.get_map())
        return sleeper


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            made = Bench(nursery)
            nursery.start_soon(made.react)
            try:
                yield made
            finally:
                made.close()
                made.reactor.stop()


async def test_usual_input_wakes_no_task_and_the_first_unusual_input_does() -> None:
    async with bench() as made:
        sleeper = await made.asleep()
        for data in (b"one", b"two", b"x" * 1000):
            await sleeper.gets(data)
        assert sleeper.woken == []
        await sleeper.peer.send_all(b"?three")
        assert await sleeper.wakes() == b"?three"
        assert sleeper.connection.stream.bytes_in == 1012


async def test_a_task_that_was_woken_receives_alone_until_it_sleeps_again() -> None:
    async with bench() as made:
        sleeper, other = await made.asleep(), await made.asleep()
        await sleeper.peer.send_all(b"?")
        await sleeper.wakes()
        await sleeper.peer.send_all(b"later")
        await other.gets(b"meanwhile")
        assert sleeper.answered == []
        await made.asleep(sleeper)
        await until(lambda: sleeper.answered == [b"later"])


async def test_the_end_of_the_input_wakes() -> None:
    async with bench() as made:
        sleeper = await made.asleep()
        await sleeper.gets(b"last")
        await sleeper.peer.aclose()
        assert await sleeper.wakes() == b""


async def test_a_reset_wakes_with_what_is_wrong() -> None:
    async with bench() as made, connected(made.connections) as (connection, peer):
        sleeper = await made.asleep(Sleeper(connection, peer))
        peer.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        peer.socket.close()
        error = await sleeper.wakes()
        assert isinstance(error, trio.BrokenResourceError)
        assert str(error) == os.strerror(errno.ECONNRESET)


async def test_wake_wakes_the_task_without_input() -> None:
    async with bench() as made:
        sleeper = await made.asleep()
        sleeper.connection.wake()
        sleeper.connection.wake()
        assert await sleeper.wakes() is None


async def test_a_task_that_is_woken_by_its_own_answer_gets_no_input_twice() -> None:
    async with bench() as made:
        sleeper = made.pair()
        sleeper.on_input = lambda data: sleeper.connection.wake()
        await made.asleep(sleeper)
        await sleeper.gets(b"usual")
        assert await sleeper.wakes() is None


async def test_a_connection_that_is_closed_elsewhere_wakes_and_can_be_slept_on_no_more() -> None:
    async with bench() as made:
        sleeper = await made.asleep()
        sleeper.connection.abort()
        assert isinstance(await sleeper.wakes(), trio.ClosedResourceError)
        with pytest.raises(trio.ClosedResourceError):
            await sleeper.connection.receive_unanswered(sleeper.answer)


async def test_an_error_in_an_answer_wakes_only_its_own_task() -> None:
    def refuse(data: bytes) -> None:
        raise Refused(data)

    async with bench() as made:
        others = [await made.asleep() for _ in range(3)]
        bad = made.pair()
        bad.on_input = refuse
        await made.asleep(bad)
        await bad.peer.send_all(b"usual")
        error = await bad.wakes()
        assert isinstance(error, Refused)
        for other in others:
            await other.gets(b"usual")
        assert [other.woken for other in others] == [[], [], []]


async def test_a_number_that_is_used_again_gets_its_own_input_only() -> None:
    """The descriptor's last owner was found readable in the same round as the connection that closed it."""
    async with bench() as made:
        closed, closer, followers = await made.asleep(), made.pair(), list[Sleeper]()

        def replace(data: bytes) -> None:
            number = closed.connection.stream.descriptor
            closed.connection.abort()
            pairs = (made.pair(number) for _ in range(100))  # others may have closed something with a lower number
            followers.append(next(pair for pair in pairs if pair.connection.stream.descriptor == number))
            made.nursery.start_soon(followers[0].sleep)

        closer.on_input = replace
        await made.asleep(closer)
        for sleeper in (closer, closed):  # no await in between
            os.write(sleeper.peer.socket.fileno(), b"old")
        await until(lambda: bool(followers))
        await followers[0].gets(b"new")
        assert (closer.answered, followers[0].answered, followers[0].woken) == ([b"old"], [b"new"], [])
        assert [type(found) for found in closed.woken] == [trio.ClosedResourceError]


async def test_all_of_many_that_are_ready_at_once_are_answered_and_others_run_meanwhile() -> None:
    async with bench() as made:
        sleepers = [await made.asleep() for _ in range(200)]
        turns: list[int] = []

        async def count_turns() -> None:
            while (answered := sum(len(sleeper.answered) for sleeper in sleepers)) < 200:
                turns.append(answered)
                await trio.lowlevel.checkpoint()

        for sleeper in sleepers:
            os.write(sleeper.peer.socket.fileno(), b"usual")
        await count_turns()
        assert [sleeper.answered for sleeper in sleepers] == [[b"usual"]] * 200
        assert max(turns) > 0


async def test_some_of_many_that_are_closed_before_their_turn_are_passed_over() -> None:
    async with bench() as made:
        sleepers = [await made.asleep() for _ in range(200)]

        def close_all_others(data: bytes) -> None:
            for other in sleepers:
                if not other.answered and data == b"first" and other is not sleepers[100]:
                    other.connection.abort()

        sleepers[100].on_input = close_all_others
        for sleeper in (sleepers[100], *sleepers[:100], *sleepers[101:]):
            os.write(sleeper.peer.socket.fileno(), b"first" if sleeper is sleepers[100] else b"usual")
        await until(lambda: sum(bool(sleeper.woken) for sleeper in sleepers) + len(sleepers[100].answered) == 200)
        await sleepers[100].gets(b"usual")
        woken = [found for sleeper in sleepers if not sleeper.answered for found in sleeper.woken]
        assert [type(found) for found in woken] == [trio.ClosedResourceError] * 199


async def test_a_cancelled_sleeper_leaves_the_others_and_may_come_again() -> None:
    async with bench() as made:
        sleeper, other = await made.asleep(), await made.asleep()
        sleeper.scope.cancel()
        await until(lambda: sleeper.scope.cancelled_caught)
        assert sleeper.woken == []
        await other.gets(b"usual")
        await made.asleep(sleeper)
        await sleeper.gets(b"usual")


async def test_input_that_comes_together_with_the_stop_does_no_harm() -> None:
    """A task that is already woken is not cancelled before it waits again; chance decides which task runs first."""
    for _ in range(30):
        async with bench() as made:
            sleeper, stopper = await made.asleep(), made.pair()
            for pair in (sleeper, stopper):  # no await in between
                os.write(pair.peer.socket.fileno(), b"usual")
            await trio.lowlevel.wait_readable(stopper.connection.stream.descriptor)
            made.reactor.stop()
            await made.ended.wait()


@pytest.mark.parametrize("ending", ["cancelled", "aborted"])
async def test_tasks_that_sleep_when_the_reactor_ends_wake_without_an_error(ending: str) -> None:
    """All are cancelled at once when the node fails, in any order."""
    async with bench() as made:
        sleeper = await made.asleep()
        made.reactor.stop()
        if ending == "cancelled":
            sleeper.scope.cancel()
        else:
            sleeper.connection.abort()
        await made.ended.wait()
        await until(lambda: not made.nursery.child_tasks)
