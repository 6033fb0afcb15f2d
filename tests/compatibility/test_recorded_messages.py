"""What nodes of commit bb4ef53 say on a link, and what they understand: every byte of it.

Today's messages have some fields behind those of that version, which it ignores (formerly.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.compatibility import formerly
from tests.compatibility.exchange import HungUp, Talk, accept
from tests.compatibility.names import TODAY
from tests.compatibility.observe import node_on, status, target
from tests.compatibility.samples import FORMER_LENGTHS, MESSAGES
from tests.harness.cluster import running
from tests.harness.processes import Node
from tests.harness.waiting import eventually
from tests.harness.websocket import open_link

HERE = Path(__file__).parent
RECORDED: Mapping[str, Mapping[str, str]] = json.loads((HERE / "messages.json").read_text("utf-8"))
EXCHANGE: Mapping[str, Any] = json.loads((HERE / "exchange.json").read_text("utf-8"))
COUNTED: Mapping[str, int] = EXCHANGE["counted"]
SAID = [(who, bytes.fromhex(data)) for who, data in EXCHANGE["messages"]]
KINDS = {"Hello", "Refused", "Push", "Ack", "Beat", "Beaten", "Collect", "Collected", "Release", "Members"}
LATE = 20.0  # seconds


def said(who: str, kind: str) -> Iterator[bytes]:
    """The recorded messages of one end that are of a kind."""
    return (data for by, data in SAID if by == who and isinstance(TODAY.decode(data), TODAY.classes[kind]))


def test_every_kind_of_message_is_recorded() -> None:
    assert {sample.kind for sample in MESSAGES.values()} == KINDS
    assert RECORDED["whole"].keys() == RECORDED["later"].keys() == MESSAGES.keys()
    assert RECORDED["former"].keys() == FORMER_LENGTHS.keys()
    assert {type(TODAY.decode(data)) for _, data in SAID} == {
        TODAY.classes[kind] for kind in KINDS - {"Refused", "Release"}
    }


def test_the_protocol_has_the_number_that_it_had() -> None:
    assert TODAY.protocol == 1


@pytest.mark.parametrize("label", MESSAGES)
def test_a_message_is_encoded_to_the_bytes_that_were_recorded(label: str) -> None:
    assert formerly.message(TODAY.encode(TODAY.build(MESSAGES[label]))).hex() == RECORDED["whole"][label]


@pytest.mark.parametrize("sent", ["whole", "former", "later"])
def test_recorded_bytes_are_decoded_to_what_was_meant(sent: str) -> None:
    """Also without the fields that were added later, and with one that this version does not know."""
    for label, data in RECORDED[sent].items():
        if sent == "later" and MESSAGES[label].kind in formerly.GROWN:
            continue  # what was unknown has a meaning now
        assert TODAY.decode(bytes.fromhex(data)) == TODAY.build(MESSAGES[label]), label


@pytest.mark.parametrize("label", MESSAGES)
def test_a_message_with_a_field_that_this_version_does_not_know_is_understood(label: str) -> None:
    message = TODAY.build(MESSAGES[label])
    fields = msgspec.msgpack.decode(TODAY.encode(message))
    assert TODAY.decode(msgspec.msgpack.encode([*fields, {"unknown": b"?"}])) == message


def test_all_messages_of_two_nodes_are_encoded_to_the_same_bytes_again() -> None:
    for _, data in SAID:
        assert formerly.message(TODAY.encode(TODAY.decode(data))) == data


# Over real websockets


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return node_on(tmp_path / "data")


async def ask(talk: Talk, data: bytes, kind: str) -> Any:
    """The next answer of a kind; heartbeats' answers may come before it."""
    await talk.send(data)
    while True:
        answer = TODAY.decode(await talk.receive())
        if isinstance(answer, TODAY.classes[kind]):
            return answer
        assert isinstance(answer, TODAY.classes["Beaten"]), answer


async def beat(talk: Talk) -> None:
    """Send heartbeats, however long a request to the node takes meanwhile."""
    while True:
        await talk.send(next(said("dials", "Beat")))
        await trio.sleep(0.25)


async def test_a_node_answers_a_recorded_caller(node: Node) -> None:
    """Its hello, pushes, heartbeat, question and membership."""
    hello = next(said("dials", "Hello"))
    incarnation = TODAY.get(TODAY.decode(hello), "Hello", "incarnation")
    async with running(node):
        stream = await open_link(node.address)
        async with stream, trio.open_nursery() as nursery:
            talk = Talk(stream, dialled=True)
            answer = await ask(talk, hello, "Hello")
            assert TODAY.get(answer, "Hello", "node").hex() == (await status(node))["node"]
            assert TODAY.get(answer, "Hello", "challenge") == TODAY.get(TODAY.decode(hello), "Hello", "challenge")
            nursery.start_soon(beat, talk)
            for push in said("dials", "Push"):
                ack = await ask(talk, push, "Ack")
                assert TODAY.get(ack, "Ack", "number") == TODAY.get(TODAY.decode(push), "Push", "number")
                assert not TODAY.get(ack, "Ack", "refused")
            assert TODAY.get(ack, "Ack", "digest")[incarnation] == len(COUNTED)
            for name, total in COUNTED.items():
                assert await node.value(target(name)) == total
            await ask(talk, next(said("dials", "Beat")), "Beaten")
            collect = next(said("dials", "Collect"))
            collected = await ask(talk, collect, "Collected")
            name = TODAY.get(TODAY.decode(collect), "Collect", "name")
            assert TODAY.get(collected, "Collected", "round") == TODAY.get(TODAY.decode(collect), "Collect", "round")
            assert TODAY.get(collected, "Collected", "cells") == {incarnation: COUNTED[name]}
            members = list(said("dials", "Members"))[-1]
            await talk.send(members)
            membership = TODAY.get(TODAY.decode(members), "Members", "membership")
            expected = list(TODAY.get(membership, "Membership", "actors"))

            async def check() -> str | None:
                actors = (await node.config())["actors"]
                return None if actors == expected else f"{actors}, not {expected}"

            await eventually(check, LATE)
            nursery.cancel_scope.cancel()


class RecordedMember:
    """A member that has nothing to say but what one of commit bb4ef53 said.

    Attributes:
        beats: how many heartbeats it has answered.
    """

    def __init__(self) -> None:
        self.beats = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer a node that dialled, until that hangs up."""
        try:
            talk = await accept(stream)
            while True:
                answer = self._answer(TODAY.decode(await talk.receive()))
                if answer is not None:
                    await talk.send(answer)
        except (HungUp, trio.BrokenResourceError):
            return

    def _answer(self, message: Any) -> bytes | None:
        """What was recorded, under the number that was asked for."""
        match next(kind for kind in KINDS if type(message) is TODAY.classes[kind]):
            case "Hello":
                return next(said("accepts", "Hello"))
            case "Beat":
                self.beats += 1
                return next(said("accepts", "Beaten"))
            case "Push":
                return numbered(next(said("accepts", "Ack")), "Ack", "number", TODAY.get(message, "Push", "number"))
            case "Collect":
                asked = TODAY.get(message, "Collect", "round")
                return numbered(next(said("accepts", "Collected")), "Collected", "round", asked)
        return None


def numbered(data: bytes, kind: str, field: str, number: int) -> bytes:
    """A recorded message with another number."""
    name = TODAY.fields.get(kind, {}).get(field, field)
    return TODAY.encode(msgspec.structs.replace(TODAY.decode(data), **{name: number}))


async def test_a_node_links_with_a_recorded_member_and_believes_its_answers(node: Node) -> None:
    """Its hello, heartbeats and acknowledgements keep the link up; what it collected is in a consistent value."""
    name = TODAY.get(TODAY.decode(next(said("dials", "Collect"))), "Collect", "name")
    member = RecordedMember()
    async with running(node), trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, member.serve, 0, host="127.0.0.1"))
        entries = [f"127.0.0.1:{port}" for port in (node.port, listeners[0].socket.getsockname()[1])]
        assert (await node.post("/config", json.dumps({"actors": entries}).encode())).status == 200

        async def linked() -> str | None:
            up = await node.metric(f'gcount_link_up{{peer="{entries[1]}"}}') == 1
            return None if up and member.beats > 8 else f"{member.beats} heartbeats; {node.stderr()}"

        await eventually(linked, LATE)
        await node.add(target(name), 7)
        assert (await node.consistent(target(name))).number() == COUNTED[name] + 7
        assert await linked() is None
        nursery.cancel_scope.cancel()
