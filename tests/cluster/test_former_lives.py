"""Nothing of a node's former life arrives once its next one was told what is known: the orders that this needs."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from gcount.cluster.links.transport import Link
from gcount.core.options import DEFAULTS
from gcount.core.protocol import messages
from gcount.core.state.counters import Delta
from gcount.core.state.membership import Membership
from tests.cluster.impostor import joined_by_impostor
from tests.fakes.caller import HELLO, call, hello
from tests.fakes.cluster import Host, open_cluster
from tests.fakes.counting import add

PUSH = messages.Push(1, True, [Delta(HELLO.incarnation, 0, 7, {"x": 7})])
SETTLED = 100 * DEFAULTS.piggyback_delay  # seconds after which a push that was taken is on disk


class Direct(Link):
    """What is said is with the receiver at once, and can't be held back any more when the link is ended."""

    remote, unsent = "direct", 0

    def __init__(self) -> None:
        self._said, self._to_receive = trio.open_memory_channel[bytes](9)
        self._answers, self._to_hear = trio.open_memory_channel[bytes](9)

    def say(self, message: messages.Message) -> None:
        self._said.send_nowait(messages.encode(message))

    async def hear(self) -> messages.Message:
        with trio.fail_after(5):
            return messages.decode(await self._to_hear.receive())

    def post(self, data: bytes) -> None:
        self._answers.send_nowait(data)

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self) -> bytes | str | None:
        return await self._to_receive.receive()


def known(host: Host) -> int:
    return host.node.replica.counters.version(HELLO.incarnation)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("first", ["push", "hello"])
async def test_a_push_that_came_with_the_next_processs_hello_is_settled_before_the_answer_or_never_taken(
    autojump_clock: MockClock, first: str, seed: int
) -> None:
    async with open_cluster(1, seed=seed) as cluster, trio.open_nursery() as nursery:
        former, newer = Direct(), Direct()
        for link in (former, newer):
            nursery.start_soon(cluster[1].node.accept, link, "a test", lambda: True)
        former.say(HELLO)
        assert isinstance(await former.hear(), messages.Hello)
        await trio.sleep(0.1)
        sends: list[tuple[Direct, messages.Message]] = [(former, PUSH), (newer, hello(start_id=b"2" * 16))]
        for link, message in sends if first == "push" else reversed(sends):
            link.say(message)
        answer = await newer.hear()
        assert isinstance(answer, messages.Hello)
        await trio.sleep(SETTLED)
        assert answer.digest.get(HELLO.incarnation, 0) == known(cluster[1])
        nursery.cancel_scope.cancel()


async def test_what_a_member_relays_until_the_callers_config_removes_it_is_settled_before_the_answer(
    autojump_clock: MockClock,
) -> None:
    """So the config is put in force first: what came meanwhile is settled then, and nothing comes any more."""
    async with open_cluster(1) as cluster, call(cluster, cluster[1]) as relay, call(cluster, cluster[1], 8) as caller:
        await joined_by_impostor(cluster)
        await relay.ask(HELLO)
        known_here = cluster[1].node.replica.membership
        without = Membership().post(cluster.addresses, known_here.version + 1)
        life = b"c" * 16
        cluster[1].disk.latency = (0.1, 0.1)
        await caller.send(hello(node=b"o" * 16, start_id=b"2" * 16, incarnation=life, membership=without))
        await trio.sleep(0.05)
        await relay.send(messages.Push(1, True, [Delta(life, 0, 7, {"x": 7})]))
        answer = await caller.receive()
        assert isinstance(answer, messages.Hello)
        await trio.sleep(SETTLED)
        counters = cluster[1].node.replica.counters
        assert answer.digest.get(life, 0) == counters.version(life) == 7


async def test_a_push_on_a_link_that_was_lost_at_once_is_reported_though_it_is_not_on_disk(
    autojump_clock: MockClock,
) -> None:
    """A hello waits for what was staged before it only; an owner that has forgotten the rest would count it anew."""
    async with open_cluster(1) as cluster, call(cluster, cluster[1], 8) as caller, trio.open_nursery() as nursery:
        await joined_by_impostor(cluster)
        life = b"c" * 16
        async with call(cluster, cluster[1]) as relay:
            await relay.ask(HELLO)
            cluster[1].disk.latency = (0.1, 0.1)
            nursery.start_soon(add, cluster[1].node, "y", 1)
            await trio.sleep(0.02)
            await caller.send(hello(node=b"o" * 16, start_id=b"2" * 16, incarnation=life))
            await trio.sleep(0.02)
            await relay.send(messages.Push(1, True, [Delta(life, 0, 7, {"x": 7})]))
            await trio.sleep(0.02)
        answer = await caller.receive()
        assert isinstance(answer, messages.Hello)
        assert (answer.digest.get(life), answer.seen.get(life)) == (None, 7)
