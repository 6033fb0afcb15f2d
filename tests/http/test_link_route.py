"""The route for links: callers that misbehave are disconnected, with one line in the log if they are at fault."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from structlog.testing import capture_logs

from gcount.cluster.links import acceptor, channel
from gcount.core.limits import MAX_MESSAGE_BYTES
from gcount.core.protocol import messages
from gcount.core.protocol.websocket_frames import BINARY, CLOSE, NORMAL_CLOSURE, PART, PING, Frames
from gcount.core.state.counters import Delta
from gcount.net.stream import Stream
from tests.fakes.caller import HELLO
from tests.harness.websocket import TEXT, frame, upgrade
from tests.http.served_node import PATHS, PATIENCE, Served, get, served, statuses, until

UPGRADE = upgrade("/link", "h")
HELLO_FRAME = frame(BINARY, messages.encode(HELLO))
GOODBYE = (CLOSE, NORMAL_CLOSURE)
KIB = 1024


class Peer:
    """A caller with an open connection: it sees the answer to its upgrade, then frames."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._frames = Frames(masked=False)

    async def open(self) -> None:
        """Upgrade the connection."""
        await self.stream.send_all(UPGRADE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await self.stream.receive_some(1)
        assert head.startswith(b"HTTP/1.1 101")

    async def greet(self) -> None:
        """Send a hello, and receive one."""
        await self.stream.send_all(HELLO_FRAME)
        assert isinstance(await self.message(), messages.Hello)

    async def message(self) -> messages.Message:
        opcode, payload = await self.next()
        assert opcode == BINARY
        return messages.decode(payload)

    async def next(self) -> tuple[int, bytes]:
        while (found := self._frames.next()) is None:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError
            self._frames.feed(data)
        return found

    async def say_until_cut(self, data: bytes) -> None:
        """Send the same bytes until the node has closed the connection."""
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await self.stream.send_all(data)

    async def end(self) -> list[tuple[int, bytes]]:
        """All messages until the node closes."""
        found = []
        try:
            while True:
                found.append(await self.next())
        except (EOFError, trio.BrokenResourceError):
            return found

    async def rest(self) -> bytes:
        """All bytes until the node closes; those that a reset has dropped are missing."""
        received = b""
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await self.stream.receive_some():
                received += data
        return received


@asynccontextmanager
async def node(path: str = "fast path", *, refused: str | None = "") -> AsyncIterator[Served]:
    """A node that still serves at the end, has closed all connections, and logged one refusal or none (None: both)."""
    with capture_logs() as logs, trio.fail_after(2 * PATIENCE):
        async with served(path) as made:
            yield made
            await until(lambda: not made.connections.links)
            if not made.shutdown.is_set():
                client = await made.dial()
                await client.send(get(b"/ping"))
                assert statuses(await client.answer()) == [200]
                await client.stream.aclose()
            await until(lambda: not len(made.connections))
    warnings = [(line["event"], line.get("reason")) for line in logs if line["log_level"] in ("warning", "error")]
    assert len(warnings) <= 1 if refused is None else len(warnings) == bool(refused), warnings
    for event, reason in warnings:
        assert event == "link refused"
        assert refused is None or refused in str(reason)


async def dial(server: Served) -> Peer:
    return Peer(await server.connect())


async def opened(server: Served, *, greeted: bool = False) -> Peer:
    peer = await dial(server)
    await peer.open()
    if greeted:
        await peer.greet()
    return peer


# Before the handshake is answered

WAITS = range(0, 40, 2)
"""How many visits to the scheduler come before the next step, so that the node is met in each of its own."""
EARLY = {"a byte": b"x", "a hello": HELLO_FRAME, "many frames": frame(PING, b"") * 5000, "HTTP": get(b"/ping")}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("title", EARLY)
async def test_an_upgrade_request_with_bytes_behind_it_is_refused(path: str, title: str) -> None:
    async with node(path) as server:
        peer = await dial(server)
        await peer.stream.send_all(UPGRADE + EARLY[title])
        assert statuses(await peer.rest()) in ([400], [])
        await peer.stream.aclose()


async def asking(server: Served, wait: int) -> Peer:
    """A caller that has asked for an upgrade, some visits to the scheduler ago."""
    peer = await dial(server)
    await peer.stream.send_all(UPGRADE)
    for _ in range(wait):
        await trio.lowlevel.checkpoint()
    return peer


@pytest.mark.parametrize("title", EARLY)
async def test_a_caller_that_does_not_wait_for_the_answer_to_its_upgrade_request_is_disconnected(
    title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be at any moment: the node may have called the application already, or just have answered."""
    monkeypatch.setattr(acceptor, "HELLO_TIMEOUT", 0.05)  # half a frame is silence
    monkeypatch.setattr(channel, "SILENCE", 0.05)  # and so is what follows a hello
    async with node(refused=None) as server:
        for wait in WAITS:
            peer = await asking(server, wait)
            with contextlib.suppress(trio.BrokenResourceError):
                await peer.stream.send_all(EARLY[title])
                if wait % 4:  # else it waits for what the node does
                    await peer.stream.send_eof()
            await peer.rest()
            await peer.stream.aclose()


def is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    return f"content-length: {len(body)}".encode() in head.lower()


@pytest.mark.parametrize("along", [b"", b"x"])
async def test_input_during_the_refusal_of_an_upgrade_leaves_the_answer_whole(along: bytes) -> None:
    """The application was called already, or has begun to answer. The node logs nothing."""
    async with node() as server:
        for wait in WAITS:
            peer = await dial(server)
            await peer.stream.send_all(upgrade("/nothing", "h") + along)
            for _ in range(wait):
                await trio.lowlevel.checkpoint()
            answer = b""
            with contextlib.suppress(trio.BrokenResourceError):  # a reset may have thrown away some of it
                await peer.stream.send_all(b"x")
                while data := await peer.stream.receive_some():
                    answer += data
                assert is_whole(answer), answer
            await peer.stream.aclose()


async def test_malformed_input_while_the_application_answers_gets_a_whole_problem() -> None:
    """If the application has begun to answer, its answer is cut short instead."""
    async with node() as server:
        for wait in range(2 * max(WAITS)):
            peer = await dial(server)
            await peer.stream.send_all(b"GET /ping HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(wait):
                await trio.lowlevel.checkpoint()
            answer = b""
            with contextlib.suppress(trio.BrokenResourceError):
                await peer.stream.send_all(b"no chunk\r\n")
                while data := await peer.stream.receive_some():
                    answer += data
                assert is_whole(answer) or not answer.startswith(b"HTTP/1.1 400"), answer
            await peer.stream.aclose()


async def test_a_caller_that_finishes_sending_with_its_upgrade_request_is_disconnected() -> None:
    async with node() as server:
        for wait in WAITS:
            peer = await asking(server, wait)
            await peer.stream.send_eof()
            await peer.rest()


async def test_a_caller_may_leave_during_the_handshake() -> None:
    async with node() as server:
        for wait in WAITS:
            peer = await asking(server, wait)
            peer.stream.close(reset=wait % 2 == 1)


# After it


@pytest.mark.parametrize("path", PATHS)
async def test_a_hello_that_follows_the_answer_at_once_is_answered(path: str) -> None:
    async with node(path) as server:
        for _ in range(20):
            peer = await opened(server, greeted=True)
            await peer.stream.send_all(
                frame(BINARY, messages.encode(messages.ReadCells(7, "x", False))) + frame(CLOSE, b"")
            )
            collected = await peer.message()
            assert isinstance(collected, messages.CellsReply)
            assert collected.round == 7
            assert await peer.end() == [GOODBYE]


FAULTS: dict[str, tuple[str, Sequence[bytes]]] = {
    "text": ("opcode", [frame(TEXT, messages.encode(HELLO))]),
    "unmasked": ("masked", [frame(BINARY, messages.encode(HELLO), masked=False)]),
    "300 KB": ("262144", [frame(BINARY, bytes(300_000))]),
    "a claim of 300 KB": ("262144", [frame(BINARY, b"", claim=300_000)]),
    "a long ping": ("control frame", [frame(PING, bytes(126))]),
    "a stray fragment": ("goes on", [frame(PART, b"x")]),
    "300 KB in fragments": ("262144", [frame(BINARY, b"", final=False)] + [frame(PART, bytes(KIB), final=False)] * 300),
    "no message": ("", [frame(BINARY, b"\xc1")]),
    "nothing": ("", [frame(BINARY, b"")]),
}


@pytest.mark.parametrize("greeted", [False, True], ids=["as a hello", "after the hello"])
@pytest.mark.parametrize("title", FAULTS)
async def test_messages_that_no_node_sends_end_the_link_with_one_line_that_names_them(
    title: str, greeted: bool
) -> None:
    reason, frames = FAULTS[title]
    async with node(refused=reason or "m") as server:
        peer = await opened(server, greeted=greeted)
        with contextlib.suppress(trio.BrokenResourceError):  # it may be closed before everything was sent
            for one in frames:
                await peer.stream.send_all(one)
        assert await peer.end() in ([GOODBYE], [])


@pytest.mark.parametrize("size", [0, 1000], ids=["empty", "full"])
async def test_fragments_without_end_are_cut_off(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "HELLO_TIMEOUT", 0.1)  # it is silence, as long as nothing is whole
    async with node(refused="262144" if size else "") as server:
        peer = await opened(server)
        await peer.stream.send_all(frame(BINARY, b"", final=False))
        await peer.say_until_cut(frame(PART, bytes(size), final=False) * 100)


async def test_a_flood_of_pings_from_one_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "HELLO_TIMEOUT", 0.1)
    async with node() as server:
        peer = await opened(server)
        await peer.say_until_cut(frame(PING, bytes(125)) * 500)


@pytest.mark.parametrize("pieces", [1, 2, 1000])
async def test_a_large_message_is_taken_in_one_frame_and_in_many(pieces: int) -> None:
    async with node() as server:
        peer = await opened(server, greeted=True)
        cells = {f"{number:0200}": 1 for number in range(1000)}
        push = messages.encode(messages.Push(1, True, [Delta(HELLO.incarnation, 0, 1000, cells)]))
        assert 200_000 < len(push) <= MAX_MESSAGE_BYTES
        size = len(push) // pieces + 1
        for begin in range(0, len(push), size):
            end = begin + size
            await peer.stream.send_all(frame(PART if begin else BINARY, push[begin:end], final=end >= len(push)))
        ack = await peer.message()
        assert isinstance(ack, messages.Ack)
        assert not ack.refused
        await peer.stream.send_all(frame(CLOSE, b""))
        assert await peer.end() == [GOODBYE]


@pytest.mark.parametrize("greeted", [False, True])
@pytest.mark.parametrize("how", ["close", "end", "reset", "abort"])
async def test_a_link_ends_without_a_line_when_either_side_closes(how: str, greeted: bool) -> None:
    async with node() as server:
        peer = await opened(server, greeted=greeted)
        match how:
            case "close":
                await peer.stream.send_all(frame(CLOSE, NORMAL_CLOSURE))
                assert await peer.end() == [GOODBYE]
            case "end":
                await peer.stream.send_eof()
                assert await peer.end() == [GOODBYE]
            case "reset":
                peer.stream.close(reset=True)
            case "abort":
                server.connections.abort_all()
                assert await peer.end() == []


async def test_at_the_end_of_the_server_links_are_closed() -> None:
    async with node() as server:
        peers = [await opened(server, greeted=number % 2 == 0) for number in range(4)]
        for connection in server.all():
            assert connection.become_link()
        server.shutdown.set()
        for peer in peers:
            assert await peer.end() == []
        await server.stopped.wait()


async def test_before_the_node_has_recovered_a_link_is_rejected() -> None:
    async with served(recovered=False) as server:
        peer = await dial(server)
        await peer.stream.send_all(UPGRADE)
        answer = await peer.rest()
        assert statuses(answer) == [503]
        assert b"has not finished its start" in answer
