"""Links over real sockets: order, full buffers, cancelled calls, and every way in which a connection ends."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from prometheus_client import CollectorRegistry, Counter

from gcount.cluster.links.channel import Channel
from gcount.cluster.links.websocket import RECEIVE_BYTES, WebsocketLink
from gcount.core.limits import MAX_MESSAGE_BYTES
from gcount.core.protocol import messages as wire
from gcount.core.protocol.websocket_frames import BINARY, CLOSE, PING, PONG, Frames
from gcount.errors import LinkClosed, ProtocolError
from gcount.net.stream import Stream
from tests.fakes.streams import chosen
from tests.harness.websocket import TEXT, frame

PATIENCE = 30.0  # seconds
KIB = 1024


@asynccontextmanager
async def streams() -> AsyncIterator[tuple[Stream, Stream]]:
    """The dialled end and the accepted end of a connection."""
    with trio.fail_after(PATIENCE):
        async with (
            (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as listener,
            await trio.testing.open_stream_to_socket_listener(listener) as dialled,
            await listener.accept() as accepted,
        ):
            for stream in (dialled, accepted):  # little room, so that it is soon full
                stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 128 * KIB)
                stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 128 * KIB)
            both = chosen.wrap(dialled), chosen.wrap(accepted)
            await shake_hands(*both)
            yield both


async def shake_hands(*both: Stream) -> None:
    """Each end has sent something and received something, as when a link is opened."""
    async with trio.open_nursery() as nursery:
        for stream in both:
            nursery.start_soon(stream.send_all, b"x")
            nursery.start_soon(stream.receive_some, 1)


@asynccontextmanager
async def links() -> AsyncIterator[tuple[WebsocketLink, WebsocketLink]]:
    """Both ends of a link, that which dialled first."""
    async with streams() as (dialled, accepted):
        yield WebsocketLink(dialled, dialled=True), WebsocketLink(accepted, dialled=False)


@asynccontextmanager
async def accepted_link() -> AsyncIterator[tuple[WebsocketLink, Stream]]:
    """An accepted end, and the stream of somebody who may send it any bytes."""
    async with streams() as (dialled, accepted):
        yield WebsocketLink(accepted, dialled=False), dialled


def message(number: int, size: int) -> bytes:
    return (number.to_bytes(4) * (size // 4 + 1))[:size]


def fill(link: WebsocketLink, size: int, more: int = 3) -> list[bytes]:
    """Post until the kernel takes no more, and some messages on top of that."""
    posted: list[bytes] = []
    while more:
        posted.append(message(len(posted), size))
        link.post(posted[-1])
        more -= link.unsent > 0
    return posted


async def receive_all(link: WebsocketLink, count: int) -> list[bytes]:
    return [await link.receive() for _ in range(count)]


async def end_of(link: WebsocketLink) -> str:
    try:
        while True:
            await link.receive()
    except LinkClosed as closed:
        return str(closed)


# Messages


async def test_messages_arrive_in_order_both_ways_at_once() -> None:
    sizes = [0, 1, 125, 126, 65_535, 65_536, MAX_MESSAGE_BYTES] * 3
    sent = [message(number, size) for number, size in enumerate(sizes)]

    async def send(link: WebsocketLink) -> None:
        for one in sent:
            link.post(one)
            await link.flush()

    async def expect(link: WebsocketLink) -> None:
        assert await receive_all(link, len(sent)) == sent

    async with links() as both, trio.open_nursery() as nursery:
        for link in both:
            nursery.start_soon(send, link)
            nursery.start_soon(expect, link)


@pytest.mark.parametrize("dialled", [True, False])
async def test_what_the_kernel_does_not_take_keeps_its_order_and_is_sent_by_flush(dialled: bool) -> None:
    async with links() as both:
        here, there = both if dialled else reversed(both)
        posted = fill(here, 50 * KIB)
        unsent = here.unsent
        here.post(b"small, though there might be room for it by now")
        posted.append(b"small, though there might be room for it by now")
        assert here.unsent > unsent
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.flush)
            assert await receive_all(there, len(posted)) == posted
        assert here.unsent == 0


async def test_flush_is_done_with_what_was_posted_before_it_was_called() -> None:
    """Whatever others post meanwhile, so that a deadline can be put on it."""
    async with links() as (here, there), trio.open_nursery() as nursery:
        posted = fill(here, 50 * KIB)
        received: list[bytes] = []
        flushed = trio.Event()

        @nursery.start_soon
        async def flush() -> None:
            await here.flush()
            flushed.set()

        await trio.testing.wait_all_tasks_blocked()
        for number in range(80):
            posted.append(message(number, 50 * KIB))
            here.post(posted[-1])
        while not flushed.is_set():
            received.append(await there.receive())
        assert here.unsent > 0
        nursery.start_soon(here.flush)
        assert received + await receive_all(there, len(posted) - len(received)) == posted


@pytest.mark.parametrize("dialled", [True, False])
async def test_a_cancelled_flush_loses_nothing_and_doubles_nothing(dialled: bool) -> None:
    async with links() as both:
        here, there = both if dialled else reversed(both)
        posted = fill(here, 100 * KIB, more=20)
        received: list[bytes] = []

        async def receive() -> None:
            received.extend(await receive_all(there, len(posted)))

        cancelled = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            while here.unsent:
                before = here.unsent
                with trio.CancelScope() as scope:
                    nursery.start_soon(cancel_when, scope, lambda then=before: here.unsent < then)
                    await here.flush()
                cancelled += scope.cancelled_caught
        assert cancelled > 1
        assert received == posted


async def cancel_when(scope: trio.CancelScope, condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.lowlevel.checkpoint()
    scope.cancel()


@pytest.mark.parametrize("size", [1, 200, 100 * KIB])
async def test_a_receive_that_is_cancelled_again_and_again_loses_nothing(size: int) -> None:
    """Each comes to its first checkpoint and no further; `Channel.receive_first` gives up four times."""
    async with links() as (here, there), trio.open_nursery() as nursery:
        posted = [message(number, size) for number in range(60)]

        @nursery.start_soon
        async def send() -> None:
            for one in posted:
                here.post(one)
                await here.flush()

        received: list[bytes] = []
        cancelled = 0
        while len(received) < len(posted):
            for _ in range(3):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    received.append(await there.receive())
                cancelled += scope.cancelled_caught
            received.append(await there.receive())
        assert received == posted
        assert cancelled >= 3 * len(posted)


async def test_a_message_that_has_come_is_not_lost_when_the_time_for_it_is_over() -> None:
    """The process was held up: each slice of a silence is over before what came with the last message is read."""
    counter = Counter("bytes", "Bytes.", ["peer", "direction"], registry=CollectorRegistry())
    async with links() as (here, there):
        talk = Channel(there, counter, "x")
        for number in range(50):
            here.post(wire.encode(wire.ReadCells(number, "x", False)))
        for number in range(50):
            assert await talk.receive() == wire.ReadCells(number, "x", False)
            with pytest.raises(LinkClosed, match="silent"):
                await talk.receive_first(0.0)


# Control frames


async def test_a_ping_is_answered_with_its_payload_between_messages() -> None:
    async with accepted_link() as (link, caller):
        await caller.send_all(frame(PING, b"a") + frame(BINARY, b"one") + frame(PING, b"") + frame(BINARY, b"two"))
        assert await receive_all(link, 2) == [b"one", b"two"]
        link.post(b"three")
        assert await spoken(caller, 3) == [(PONG, b"a"), (PONG, b""), (BINARY, b"three")]


async def test_a_ping_inside_a_message_is_answered_and_a_pong_says_nothing() -> None:
    async with accepted_link() as (link, caller):
        begun = frame(BINARY, b"on", final=False) + frame(PONG, b"x") + frame(PING, b"now")
        await caller.send_all(begun + frame(0, b"e"))
        assert await link.receive() == b"one"
        assert await spoken(caller, 1) == [(PONG, b"now")]


async def spoken(caller: Stream, count: int) -> list[tuple[int, bytes]]:
    """The next frames of the accepting end."""
    frames = Frames(masked=False)
    found: list[tuple[int, bytes]] = []
    while len(found) < count:
        if (one := frames.next()) is None:
            frames.feed(await caller.receive_some())
        else:
            found.append(one)
    return found


async def test_a_peer_that_pings_and_does_not_read_does_not_fill_the_memory() -> None:
    async with accepted_link() as (link, caller), trio.open_nursery() as nursery:
        most = 0

        @nursery.start_soon
        async def ping() -> None:
            for _ in range(200):
                await caller.send_all(frame(PING, b"x" * 125) * 200)
            await caller.send_all(frame(BINARY, b"end"))

        @nursery.start_soon
        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, link.unsent)
                await trio.lowlevel.checkpoint()

        assert await link.receive() == b"end"
        nursery.cancel_scope.cancel()
    assert 0 < most < 1000


@pytest.mark.parametrize(
    "tiny", [frame(PING, b""), frame(PONG, b""), frame(0, b"", final=False)], ids=["pings", "pongs", "fragments"]
)
async def test_a_flood_of_tiny_frames_lets_other_tasks_run(tiny: bytes) -> None:
    """However many of them come in one piece: there is a visit to the scheduler for each."""
    async with accepted_link() as (link, caller), trio.open_nursery() as nursery:
        turns = 0
        count = RECEIVE_BYTES // len(tiny) // 2
        await caller.send_all(frame(BINARY, b"first") + frame(BINARY, b"", final=False) + tiny * count)
        assert await link.receive() == b"first"

        @nursery.start_soon
        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        @nursery.start_soon
        async def end() -> None:
            await caller.send_all(frame(0, b"end"))

        assert await link.receive() == b"end"
        nursery.cancel_scope.cancel()
    assert turns >= count


async def test_messages_that_came_together_let_other_tasks_run() -> None:
    async with links() as (here, there), trio.open_nursery() as nursery:
        turns = 0

        @nursery.start_soon
        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        for _ in range(1000):
            here.post(b"x")
        await receive_all(there, 1000)
        nursery.cancel_scope.cancel()
    assert turns >= 999


# The end


async def test_the_close_comes_after_all_messages() -> None:
    async with links() as (here, there):
        here.post(b"last")
        here.close()
        assert await there.receive() == b"last"
        assert await end_of(there) == "the other end hung up"


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x03\xe8", b"\x03\xe9going"])
async def test_a_close_frame_is_the_end_whatever_it_says(payload: bytes) -> None:
    async with accepted_link() as (link, caller):
        await caller.send_all(frame(CLOSE, payload) + frame(BINARY, b"late"))
        with pytest.raises(LinkClosed, match="hung up"):
            await link.receive()


@pytest.mark.parametrize("cut", [0, 1, 5])
async def test_the_end_of_the_stream_is_the_end_even_inside_a_frame(cut: int) -> None:
    async with accepted_link() as (link, caller):
        await caller.send_all(frame(BINARY, b"whole") + frame(BINARY, b"half")[:cut])
        await caller.send_eof()
        assert await link.receive() == b"whole"
        for _ in range(2):
            assert await end_of(link) == "the connection was lost"


async def test_a_reset_ends_receives_and_flushes() -> None:
    async with links() as (here, there):
        fill(here, 50 * KIB)
        reset(there)
        with pytest.raises(LinkClosed, match="lost"):
            await here.flush()
        assert await end_of(here) == "the connection was lost"
        here.post(b"into the void")
        with pytest.raises(LinkClosed, match="lost"):
            await here.flush()
        here.close()


async def test_a_reset_wakes_all_tasks_that_wait() -> None:
    async with links() as (here, there), trio.open_nursery() as nursery:
        fill(here, 50 * KIB)
        nursery.start_soon(end_of, here)

        @nursery.start_soon
        async def flush() -> None:
            with pytest.raises(LinkClosed):
                await here.flush()

        await trio.testing.wait_all_tasks_blocked()
        reset(there)


def reset(link: WebsocketLink) -> None:
    link._stream.close(reset=True)


async def test_closing_the_own_socket_wakes_receives_and_flushes() -> None:
    """So does `Connection.abort`."""
    async with links() as (here, _), trio.open_nursery() as nursery:
        fill(here, 50 * KIB)
        nursery.start_soon(end_of, here)

        @nursery.start_soon
        async def flush() -> None:
            with pytest.raises(LinkClosed):
                await here.flush()

        await trio.testing.wait_all_tasks_blocked()
        here._stream.close()


async def test_after_the_own_socket_was_closed_everything_says_so() -> None:
    """And no other connection that got the same descriptor meanwhile notices anything."""
    async with links() as (here, _):
        fill(here, 50 * KIB)
        here._stream.close()
        async with links() as (other, other_end):
            for _ in range(2):  # an earlier call leaves nothing behind
                with pytest.raises(LinkClosed):
                    await here.flush()
                with pytest.raises(LinkClosed):
                    await here.receive()
            here.post(b"astray")
            here.close()
            other.post(b"hello")
            assert await other_end.receive() == b"hello"
        assert here._stream.descriptor == -1


async def test_a_socket_that_the_kernel_cannot_watch_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # epoll_ctl(2): too many watches

    async with links() as (link, _):
        monkeypatch.setattr(trio.lowlevel, "wait_readable", refuse)
        assert await end_of(link) == "the connection was lost"


async def test_a_socket_that_is_closed_when_it_has_just_become_readable_is_the_end() -> None:
    """Nobody is told then: whoever receives was woken already, and finds no descriptor."""
    async with links() as (here, there), trio.open_nursery() as nursery:
        nursery.start_soon(end_of, there)
        await trio.testing.wait_all_tasks_blocked()
        here.post(b"x")
        with os.fdopen(os.dup(there._stream.descriptor)) as twin:
            await trio.lowlevel.wait_readable(twin)
        there._stream.close()


@pytest.mark.parametrize(
    "refused",
    [frame(TEXT, b"x"), frame(BINARY, b"x", masked=False), frame(BINARY, b"", claim=MAX_MESSAGE_BYTES + 1)],
    ids=["text", "unmasked", "too-long"],
)
async def test_what_is_no_frame_of_a_link_is_a_protocol_error_after_what_came_before(refused: bytes) -> None:
    async with accepted_link() as (link, caller):
        await caller.send_all(frame(BINARY, b"fine") + refused)
        assert await link.receive() == b"fine"
        with pytest.raises(ProtocolError):
            await link.receive()


async def test_a_dialled_end_does_not_take_what_another_dialled_end_sends() -> None:
    async with streams() as (one, two):
        first, second = WebsocketLink(one, dialled=True), WebsocketLink(two, dialled=True)
        first.post(b"x")
        with pytest.raises(ProtocolError, match="masked"):
            await second.receive()


async def test_sending_now_takes_what_fits_and_waiting_to_send_ends_with_the_socket() -> None:
    async with streams() as (here, _):
        data = bytes(64 * KIB)
        while here.write_now(data) == len(data):
            pass
        assert here.write_now(data) == 0
        here.close()
        with pytest.raises(OSError, match="descriptor"):
            here.write_now(data)
        for _ in range(2):
            with pytest.raises(trio.ClosedResourceError):
                await here.wait_writable()
            with pytest.raises(trio.ClosedResourceError):
                await here.receive_some(1)
