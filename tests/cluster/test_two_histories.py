"""Two histories of one incarnation: they are said if members show them; what a caller makes up is no alarm."""

from contextlib import suppress

import pytest
import structlog
import trio
from trio.testing import MockClock

from gcount.core.protocol import messages
from gcount.core.state.counters import Delta
from gcount.errors import LinkClosed
from gcount.node.status import status
from tests.cluster.impostor import joined_by_impostor, linked
from tests.cluster.test_identity import incarnation, retired
from tests.fakes.caller import HELLO, call, hello
from tests.fakes.cluster import open_cluster
from tests.fakes.counting import add

CLAIMED = ("warning", "two histories claimed")


async def test_a_question_of_a_former_process_makes_no_two_histories(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster, call(cluster, cluster[2]) as caller:
        await add(cluster[1].node, "x", 1)
        await cluster.converged("x", 1)
        identity = cluster[1].node.replica.identity
        await cluster[1].kill()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster[1].start)
            answer = await caller.ask(hello(node=identity.node, incarnation=identity.incarnation))
        assert isinstance(answer, messages.Refused)  # whoever it was may dial again
        assert status(cluster[2].node)["two_histories"] == []


def said(logs: list[structlog.typing.EventDict]) -> list[tuple[str, str]]:
    """What was said of two histories, and how loud."""
    return [(line["log_level"], line["event"]) for line in logs if line["event"].startswith("two histories")]


@pytest.mark.parametrize("member", [True, False])
async def test_a_delta_with_less_than_is_known_shows_two_histories_if_a_member_has_made_it(
    autojump_clock: MockClock, *, member: bool
) -> None:
    """Cells only grow, so a later version with a lower cell is of another history."""
    with structlog.testing.capture_logs() as logs:
        async with open_cluster(2) as cluster:
            if member:
                await joined_by_impostor(cluster)
            async with call(cluster, cluster[2]) as caller:
                await caller.ask(HELLO)
                await caller.ask(messages.Push(1, True, [Delta(HELLO.incarnation, 0, 3, {"x": 5})]))
                await caller.ask(messages.Push(2, True, [Delta(HELLO.incarnation, 2, 4, {"x": 4})]))
                assert cluster[2].node.value("x") == 5
                await add(cluster[2].node, "y", 1)
                shown = status(cluster[2].node)["two_histories"]
                assert shown == ([{"incarnation": HELLO.incarnation.hex(), "from_version": 4}] if member else [])
    assert said(logs)[:1] == [("error", "two histories of one incarnation") if member else CLAIMED]
    assert len(said(logs)) == 1 or member  # the other node may hear of it, too


async def test_a_caller_with_an_identity_made_of_what_status_shows_raises_no_alarm(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_cluster(2) as cluster:
            one = cluster[1]
            await add(one.node, "x", 1)
            await cluster.converged("x", 1)
            for start_id in (b"y" * 16, b"z" * 16):
                identity = one.node.replica.identity
                async with call(cluster, one) as caller:
                    await caller.ask(hello(node=identity.node, start_id=start_id, incarnation=identity.incarnation))
                    await caller.send(messages.Heartbeat())
                    await trio.sleep(1)
                await add(one.node, "x", 1)
            assert status(one.node)["two_histories"] == []
    assert said(logs) == [CLAIMED]  # once a minute at most


@pytest.mark.parametrize("has_it", [True, False])
async def test_a_caller_that_counts_under_a_nodes_incarnation_is_believed_if_it_is_a_member_that_has_had_it(
    autojump_clock: MockClock, *, has_it: bool
) -> None:
    """It may have begun a new one by the time when it is dialled."""
    async with open_cluster(1) as cluster:
        one = cluster[1]
        impostor = await joined_by_impostor(cluster)
        await add(one.node, "x", 1)
        life = incarnation(one)
        impostor.hello = hello(retired=[life] if has_it else [])
        async with call(cluster, one) as caller:
            await caller.ask(hello(incarnation=life))
            await caller.send(messages.Heartbeat())
            await cluster.eventually(lambda: retired(one) == (life,))
        await trio.sleep(1)
        assert linked(one, impostor.address)
        assert one.node.parts.forks.shown == ({life: 1} if has_it else {})


async def test_a_refused_copy_makes_no_two_histories(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_cluster(2) as cluster, call(cluster, cluster[2]) as caller:
            await add(cluster[1].node, "x", 1)
            await cluster.converged("x", 1)
            identity = cluster[1].node.replica.identity
            past = {"node": identity.node, "incarnation": identity.incarnation, "digest": {identity.incarnation: 9}}
            assert isinstance(await caller.ask(hello(**past)), messages.Refused)
            assert status(cluster[2].node)["two_histories"] == []
    assert said(logs) == []


@pytest.mark.parametrize("counted", [True, False])
async def test_a_directory_of_before_the_first_config_that_was_counted_on_has_two_histories(
    autojump_clock: MockClock, *, counted: bool
) -> None:
    async with open_cluster(3, configured=False) as cluster:
        one = cluster[1]
        await add(one.node, "x", 1)
        copy, life = one.copy_disk(), incarnation(one)
        await cluster.configure()
        await add(one.node, "x", 2)
        await cluster.converged("x", 3)
        await one.kill()
        one.put_disk(copy)
        for host in cluster.hosts[1:]:
            cluster.network.cut(one.address, host.address)
        await one.start()
        if counted:
            await add(one.node, "y", 10)
        cluster.network.heal()
        await cluster.eventually(lambda: cluster.linked(one) and retired(one) == (life,))
        assert one.node.parts.forks.shown == ({life: 2} if counted else {})


async def test_a_caller_that_knows_a_node_without_a_config_raises_no_alarm(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_cluster(1, configured=False) as cluster:
            await add(cluster[1].node, "x", 1)
            await cluster[1].restart()
            await add(cluster[1].node, "x", 1)
            async with call(cluster, cluster[1]) as caller:
                with suppress(LinkClosed):  # all links begin anew with the new incarnation
                    await caller.ask(hello(digest={incarnation(cluster[1]): 9}))
            assert status(cluster[1].node)["two_histories"] == []
    assert said(logs) == [CLAIMED]


async def test_a_member_that_knows_more_of_an_incarnation_that_was_counted_under_is_said(
    autojump_clock: MockClock,
) -> None:
    """As when a machine is set back with its memory: nothing is asked, as nothing was started."""
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        await add(one.node, "x", 1)
        await cluster.converged("x", 1)
        life = incarnation(one)
        one.node.parts.guard.heard(two.address, b"two".ljust(16), 7)
        assert one.node.parts.forks.shown == {life: 1}
        assert status(one.node)["two_histories"] == [{"incarnation": life.hex(), "from_version": 1}]
        await add(one.node, "x", 1)
        assert retired(one) == (life,)
