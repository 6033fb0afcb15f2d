"""The checker of traces: it reads what strace writes, lets the right order pass and catches a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcount.core.format.log_records import Header, encode_batch
from gcount.core.protocol import messages
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.membership import Membership
from tests.harness.order import Answer, Durable, departures, violations
from tests.harness.strace import Call, parse, without
from tests.harness.websocket import BINARY, frame, upgrade

DIRECTORY = Path("/data/1")
LIVE = DIRECTORY / "00000001.log"
FRESH = DIRECTORY / "00000001.log.new"
OWN = b"o" * 16
HEADER = Header(b"n" * 16, OWN, 1, 1).encode()
FIRST = encode_batch(Batch(1, [Delta(OWN, 0, 1, {"x": 3})]))
SECOND = encode_batch(Batch(2, [Delta(OWN, 1, 2, {"x": 8})]))
CLIENT = "TCP:[127.0.0.1:7777->127.0.0.1:40000]"
CALLER = "TCP:[127.0.0.1:7777->127.0.0.2:40001]"
DIALLED = "TCP:[127.0.0.1:40002->127.0.0.2:7777]"
THREAD = 100


def escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def told(fd: int, what: Path | str) -> str:
    return f"{fd}<{what if isinstance(what, str) else escaped(str(what).encode())}>"


def quoted(text: str) -> str:
    return f'"{escaped(text.encode())}"'


def line(call: str, *, thread: int = THREAD) -> str:
    return f"{thread} 1700000000.000001 {call}"


def write(path: Path, data: bytes) -> str:
    return line(f'write({told(3, path)}, "{escaped(data)}", {len(data)}) = {len(data)}')


def sync(path: Path, result: str = "0") -> str:
    return line(f"fdatasync({told(3, path)}) = {result}")


def send(to: str, data: bytes) -> str:
    return line(f'sendto({told(7, to)}, "{escaped(data)}", {len(data)}, 0, NULL, 0) = {len(data)}', thread=99)


def receive(of: str, data: bytes) -> str:
    return line(f'recvfrom({told(7, of)}, "{escaped(data)}", 65536, 0, NULL, NULL) = {len(data)}', thread=99)


START = [
    write(FRESH, HEADER + FIRST),
    sync(FRESH),
    line(f"renameat({told(4, DIRECTORY)}, {quoted(FRESH.name)}, {told(4, DIRECTORY)}, {quoted(LIVE.name)}) = 0"),
    line(f"fsync({told(4, DIRECTORY)}) = 0"),
]
WRITE, SYNC = write(LIVE, SECOND), sync(LIVE)
ASKED = receive(CLIENT, b"POST /counter/x HTTP/1.1\r\nContent-Length: 1\r\n\r\n5")
ANSWER = send(CLIENT, b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\n8\n")


def found(*lines: str) -> list[str]:
    calls = parse("\n".join(lines))
    return violations(departures(calls), Durable(calls, DIRECTORY))


def link(message: messages.Message) -> list[str]:
    """The message on a link that this node dialled."""
    return [send(DIALLED, upgrade("/link", "127.0.0.2")), send(DIALLED, frame(BINARY, messages.encode(message)))]


def accepted(message: messages.Message, asked: messages.Message) -> list[str]:
    """The message on a link that this node accepted; the question before it came in two pieces."""
    question = frame(BINARY, messages.encode(asked))
    return [
        receive(CALLER, upgrade("/link", "127.0.0.1")),
        send(CALLER, b"HTTP/1.1 101 \r\nupgrade: websocket\r\n\r\n"),
        receive(CALLER, question[:3]),
        receive(CALLER, question[3:]),
        send(CALLER, frame(BINARY, messages.encode(message), masked=False)),
    ]


def hello(version: int) -> messages.Hello:
    return messages.Hello(messages.PROTOCOL, "", b"n" * 16, b"b" * 16, OWN, [], Membership(), {OWN: version})


TELLING = {
    "an answer": [ASKED, ANSWER],
    "a hello": link(hello(2)),
    "a version in a push": link(messages.Push(1, True, [Delta(OWN, 1, 2, {"x": 3})])),
    "a cell in a push": link(messages.Push(1, True, [Delta(OWN, 0, 1, {"x": 8})])),
    "an acknowledgement": accepted(messages.Ack(1, {OWN: 2}), messages.Push(1, True, [])),
    "a heartbeat": accepted(messages.HeartbeatAck({OWN: 2}), messages.Heartbeat()),
    "an answer to a read": accepted(messages.CellsReply(4, {OWN: 8}), messages.ReadCells(4, "x", False)),
}
HARMLESS = {
    "an answer": [ASKED, send(CLIENT, b"HTTP/1.1 503 \r\ncontent-length: 2\r\n\r\n8\n")],
    "a hello": link(hello(1)),
    "a push": link(messages.Push(1, True, [Delta(OWN, 0, 1, {"x": 3})])),
    "an answer to a read": accepted(messages.CellsReply(4, {OWN: 3}), messages.ReadCells(4, "x", False)),
}


@pytest.mark.parametrize("what", TELLING)
def test_messages_after_the_sync_pass_and_messages_before_it_are_caught(what: str) -> None:
    telling = TELLING[what]
    assert found(*START, WRITE, SYNC, *telling) == []
    assert len(found(*START, WRITE, *telling, SYNC)) == 1
    assert len(found(*START, *telling, WRITE, SYNC)) == 1
    assert len(found(*START, WRITE, sync(LIVE, "-1 EIO (Input/output error) (INJECTED)"), *telling)) == 1
    assert len(found(*START, WRITE, *telling)) == 1


@pytest.mark.parametrize("what", HARMLESS)
def test_durable_increments_may_be_sent_at_any_time(what: str) -> None:
    assert found(*START, WRITE, *HARMLESS[what], SYNC) == []


def test_a_sync_covers_only_what_was_written_before_it_began() -> None:
    began = line(f"fdatasync({told(3, LIVE)} <unfinished ...>", thread=101)
    ended = line("<... fdatasync resumed>) = 0", thread=101)
    assert found(*START, WRITE, began, ended, ASKED, ANSWER) == []
    assert len(found(*START, began, WRITE, ended, ASKED, ANSWER)) == 1
    assert len(found(*START, WRITE, began, ASKED, ANSWER, ended)) == 1


def test_a_message_counts_from_its_first_byte() -> None:
    answer = b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\n8\n"
    early = [send(CLIENT, answer[:20]), SYNC, send(CLIENT, answer[20:])]
    assert len(found(*START, WRITE, ASKED, *early)) == 1


def test_bytes_that_were_not_taken_did_not_leave() -> None:
    answer = b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\n8\n"
    refused = line(f'sendto({told(7, CLIENT)}, "{escaped(answer)}", {len(answer)}, 0, NULL, 0) = -1 EAGAIN (busy)')
    assert found(*START, WRITE, ASKED, refused, SYNC, ANSWER) == []


def test_a_record_that_was_written_in_two_pieces_counts_when_both_are_synced() -> None:
    pieces = [write(LIVE, SECOND[:9]), SYNC, write(LIVE, SECOND[9:])]
    assert len(found(*START, *pieces, ASKED, ANSWER, SYNC)) == 1
    assert found(*START, *pieces, SYNC, ASKED, ANSWER) == []


@pytest.mark.parametrize("missing", range(len(START)))
def test_a_start_counts_for_nothing_without_any_of_its_steps(missing: int) -> None:
    steps = [step for index, step in enumerate(START) if index != missing]
    three = [ASKED, send(CLIENT, b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\n3\n")]
    assert found(*START, *three) == []
    if missing:  # without the write there is no file to speak of
        assert len(found(*steps, *three)) == 1
    assert len(found(*three, *START)) == 1


def test_a_start_is_durable_with_the_sync_of_its_directory() -> None:
    calls = parse("\n".join(START))
    assert Durable(calls, DIRECTORY).since == calls[-1].ended
    for call in calls[1:]:
        assert Durable(without(calls, call), DIRECTORY).since is None


def test_calls_are_read_however_strace_interleaves_them() -> None:
    text = [
        line("execve_is_not_shown() = 0"),
        line("--- SIGCHLD {si_signo=SIGCHLD} ---"),
        line(f"recvfrom({told(7, CLIENT)},  <unfinished ...>", thread=99),
        SYNC,
        line('<... recvfrom resumed>"' + escaped(b"GET") + '", 65536, 0, NULL, NULL) = 3', thread=99),
        line(f"fdatasync({told(3, LIVE)} <unfinished ...>"),
        line("???()           = ?", thread=99),
        line("+++ killed by SIGKILL +++"),
    ]
    assert parse("\n".join(text))[1:] == [
        Call("recvfrom", CLIENT, (b"GET",), 3, 2, 4),
        Call("fdatasync", str(LIVE), (), 0, 3, 3),
        Call("fdatasync", str(LIVE), (), None, 5, None),
    ]


def test_calls_under_way_at_a_kill_may_have_sent_their_bytes() -> None:
    answer = b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\n8\n"
    waiting = line(f"recvfrom({told(7, DIALLED)},  <unfinished ...>", thread=98)
    sending = f'sendto({told(7, CLIENT)}, "{escaped(answer)}", {len(answer)}, 0, NULL, 0 <unfinished ...>'
    assert len(found(*START, WRITE, ASKED, waiting, line(sending, thread=99))) == 1
    assert found(*START, WRITE, SYNC, ASKED, waiting, line(sending, thread=99)) == []


def test_an_answer_is_shown_with_its_request() -> None:
    left = departures(parse("\n".join([ASKED, ANSWER, ASKED, ANSWER])))
    assert [one.what for one in left] == [Answer("POST", "/counter/x", 200, b"8\n")] * 2
    assert [one.at for one in left] == [1, 3]


def test_a_trace_that_can_not_be_read_is_an_error() -> None:
    for text in (
        line(f'sendto({told(7, CLIENT)}, "{escaped(b"GET")}"..., 3, 0, NULL, 0) = 3'),
        line(f"sendmsg({told(7, CLIENT)}, NULL, 0) = 3"),
        "strace: Process 7 attached",
    ):
        with pytest.raises(AssertionError):
            departures(parse(text))
