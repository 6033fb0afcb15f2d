"""Checks a trace of a node for the order on which all its promises depend: durable before visible.

The content of the log's files at each successful sync is replayed from the bytes that were written. Answers to clients
and messages to peers are read from the bytes that were sent. None of them may show more than was durable before its
first byte was sent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gcount.core.format.log_records import HEADER_BYTES, Scan, decode_header
from gcount.core.protocol import messages as wire
from gcount.core.state.counters import Delta
from tests.harness.strace import Call

_UNFINISHED = ".new"
_SENDS = frozenset(("write", "sendto"))
_RECEIVES = frozenset(("read", "recvfrom"))
_OTHER_SENDS = frozenset(("writev", "sendmsg", "sendmmsg", "sendfile"))


class Heights:
    """A number that only grows, and when it grew."""

    def __init__(self) -> None:
        self._at: list[int] = []
        self._height: list[int] = []

    def raise_to(self, height: int, at: int) -> None:
        if height > (self._height[-1] if self._height else 0):
            self._at.append(at)
            self._height.append(height)

    def before(self, at: int) -> int:
        """Its height before line `at` of the trace."""
        index = bisect_left(self._at, at)
        return self._height[index - 1] if index else 0


class Durable:
    """The certain content of the data directory at each line of a trace, which has to begin with the process's start.

    Args:
        calls: the trace.
        directory: the data directory. It must have only the live segment, as other files are not seen.
    """

    def __init__(self, calls: Sequence[Call], directory: Path) -> None:
        self.since: int | None = None  # the line at which the first segment was durable under its name
        self.batches = 0
        self._cells: dict[tuple[bytes, str], Heights] = defaultdict(Heights)
        self._versions: dict[bytes, Heights] = defaultdict(Heights)
        self._directory = str(directory)
        self._written: dict[str, bytes] = defaultdict(bytes)
        self._synced: dict[str, int] = {}  # how many bytes of each file are synced
        self._named: set[str] = set()  # files of which the present name is durable too
        self._replay(calls)

    def cell(self, incarnation: bytes, name: str, at: int) -> int:
        return self._cells[incarnation, name].before(at) if (incarnation, name) in self._cells else 0

    def total(self, name: str, at: int) -> int:
        return sum(heights.before(at) for (_, other), heights in self._cells.items() if other == name)

    def version(self, incarnation: bytes, at: int) -> int:
        return self._versions[incarnation].before(at) if incarnation in self._versions else 0

    def _replay(self, calls: Sequence[Call]) -> None:
        """Replay the calls. A write counts when it has returned; a sync covers what was written before it began."""
        pending: dict[int, tuple[int, set[str]]] = {}
        for line, is_end, call in _events(calls):
            path = call.fd
            if call.name == "renameat" and is_end and call.result == 0:
                self._rename(*(f"{path}/{string.decode()}" for string in call.strings))
            elif path != self._directory and not path.startswith(self._directory + "/"):
                continue
            elif call.name == "ftruncate":
                raise AssertionError(f"line {line}: the checker can't read a file that was cut back")
            elif call.name == "write" and is_end:
                self._written[path] += call.data
            elif call.name in ("fdatasync", "fsync") and not is_end:
                pending[call.began] = len(self._written[path]), set(self._written) - {self._directory}
            elif call.name in ("fdatasync", "fsync") and call.result == 0:
                size, names = pending[call.began]
                if path == self._directory:
                    self._named |= names & set(self._written)
                else:
                    self._synced[path] = size
                self._learn(line)

    def _rename(self, old: str, new: str) -> None:
        if old in self._written:
            self._written[new] = self._written.pop(old)
            self._synced[new] = self._synced.pop(old, 0)
            self._named.discard(new)

    def _learn(self, line: int) -> None:
        for path in self._named:
            size = self._synced.get(path, 0)
            if path.endswith(_UNFINISHED) or size < HEADER_BYTES:
                continue
            self.since = line if self.since is None else self.since
            data = self._written[path][:size]
            batches = list(Scan(data, decode_header(data).first_batch))
            self.batches = max(self.batches, len(batches))
            for delta in (delta for batch in batches for delta in batch.deltas):
                self._versions[delta.incarnation].raise_to(delta.upto, line)
                for name, cell in delta.cells.items():
                    self._cells[delta.incarnation, name].raise_to(cell, line)


def _events(calls: Sequence[Call]) -> list[tuple[int, bool, Call]]:
    """The beginnings and ends of calls, in their order; a call without interruption has both on one line."""
    events = [(call.began, False, call) for call in calls]
    events += [(call.ended, True, call) for call in calls if call.ended is not None]
    return sorted(events, key=lambda event: event[:2])


@dataclass
class Stream:
    """The bytes of one direction of a connection, and on which line each of them left or came."""

    data: bytes = b""
    _starts: list[int] = field(default_factory=list)
    _lines: list[int] = field(default_factory=list)

    def add(self, call: Call) -> None:
        self._starts.append(len(self.data))
        self._lines.append(call.began)
        self.data += call.data

    def line(self, offset: int) -> int:
        return self._lines[bisect_left(self._starts, offset + 1) - 1]


@dataclass(frozen=True)
class Answer:
    """An answer to a request of a client."""

    method: str
    path: str
    status: int
    body: bytes


@dataclass(frozen=True)
class Cells:
    """A CellsReply, with the name of the counter that was asked for."""

    name: str
    cells: dict[bytes, int]


@dataclass(frozen=True)
class Left:
    """Something that left the process; `at` is the line on which its first byte was sent."""

    at: int
    what: Answer | Cells | wire.Message


def departures(calls: Sequence[Call]) -> list[Left]:
    """All answers and messages that left over TCP, in order."""
    sent: dict[str, Stream] = defaultdict(Stream)
    received: dict[str, Stream] = defaultdict(Stream)
    for call in calls:
        if not call.fd.startswith("TCP"):
            continue
        assert call.name not in _OTHER_SENDS, f"line {call.began}: the checker can't read {call.name}"
        if call.name in _SENDS:
            sent[call.fd].add(call)
        elif call.name in _RECEIVES:
            received[call.fd].add(call)
    left: list[Left] = []
    for connection, stream in sent.items():
        dialled = stream.data.startswith(b"GET /link ")
        left += _dialled(stream) if dialled else _accepted(stream, received[connection])
    return sorted(left, key=lambda one: one.at)


def _dialled(stream: Stream) -> Iterator[Left]:
    end = stream.data.find(b"\r\n\r\n")
    if end >= 0:
        yield from _messages(stream, end + 4)


def _accepted(stream: Stream, requests: Stream) -> Iterator[Left]:
    offset, asked = 0, 0
    while offset < len(stream.data):
        method, path, asked = _request(requests.data, asked)
        end = stream.data.find(b"\r\n\r\n", offset)
        if end < 0:
            return
        head = stream.data[offset:end]
        status = int(head.split(b" ")[1])
        size = _content_length(head)
        yield Left(stream.line(offset), Answer(method, path, status, stream.data[end + 4 : end + 4 + size]))
        offset = end + 4 + size
        if status == 101:
            asked_for = [one.what for one in _messages(requests, asked)]
            names = {collect.round: collect.name for collect in asked_for if isinstance(collect, wire.ReadCells)}
            for left in _messages(stream, offset):
                if isinstance(left.what, wire.CellsReply):
                    yield Left(left.at, Cells(names[left.what.round], left.what.cells))
                else:
                    yield left
            return


def _request(data: bytes, offset: int) -> tuple[str, str, int]:
    end = data.index(b"\r\n\r\n", offset)
    head = data[offset:end]
    method, path = head.split(b" ")[:2]
    return method.decode(), path.decode(), end + 4 + _content_length(head)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    assert b"transfer-encoding" not in head.lower(), f"the checker can't read {head!r}"
    return 0


def _messages(stream: Stream, offset: int) -> Iterator[Left]:
    """The messages in a stream of websocket frames; each is one frame."""
    data = stream.data
    while offset + 2 <= len(data):
        began = offset
        opcode, masked, size = data[offset] & 0x0F, data[offset + 1] & 0x80, data[offset + 1] & 0x7F
        offset += 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[offset : offset + width], "big")
            offset += width
        mask = data[offset : offset + 4] if masked else bytes(4)
        offset += len(mask) if masked else 0
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data[offset : offset + size]))
        offset += size
        if offset > len(data):
            return  # the process ended in the middle of the message
        if opcode == 0x2:
            assert data[began] & 0x80, "the checker can't read a message in several frames"
            yield Left(stream.line(began), wire.decode(payload))


def violations(left: Sequence[Left], durable: Durable) -> list[str]:
    """Everything that left before it was durable, as texts."""
    return [f"line {one.at}: {wrong}" for one in left for wrong in _wrong(one, durable)]


def _wrong(one: Left, durable: Durable) -> Iterator[str]:
    at, what = one.at, one.what
    match what:
        case Answer(path=path, status=200, body=body) if _local_value(path):
            name = path.split("/")[2]
            if int(body) > durable.total(name, at):
                yield f"{what.method} {path} was answered {int(body)}, durable were {durable.total(name, at)}"
        case wire.Hello(digest=digest) | wire.Ack(digest=digest) | wire.HeartbeatAck(digest=digest):
            for incarnation, version in digest.items():
                if version > durable.version(incarnation, at):
                    yield f"{type(what).__name__} tells version {version} of {incarnation.hex()}"
        case wire.Push(deltas=deltas):
            for delta in deltas:
                yield from _wrong_delta(delta, at, durable)
        case Cells(name=name, cells=cells):
            for incarnation, cell in cells.items():
                if cell > durable.cell(incarnation, name, at):
                    yield f"CellsReply tells cell {cell} of {name} and {incarnation.hex()}"


def _local_value(path: str) -> bool:
    parts = path.split("/")
    return parts[1] == "counter" and (len(parts) == 3 or parts[3] == "value")


def _wrong_delta(delta: Delta, at: int, durable: Durable) -> Iterator[str]:
    if delta.upto > durable.version(delta.incarnation, at):
        yield f"Push tells version {delta.upto} of {delta.incarnation.hex()}"
    for name, cell in delta.cells.items():
        if cell > durable.cell(delta.incarnation, name, at):
            yield f"Push tells cell {cell} of {name} and {delta.incarnation.hex()}"
