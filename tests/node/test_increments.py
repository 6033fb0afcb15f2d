"""The one way in for increments: which are answered at once, what others wait for, and their position."""

from __future__ import annotations

import errno
from unittest.mock import patch

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from gcount.core.limits import MAX_CELL
from gcount.core.options import DEFAULTS
from gcount.core.protocol.write_holds import MAX_HOLD
from gcount.core.writes.increments import Add, Asked, Outcome, Peek, Repeat, Together
from gcount.core.writes.pending import Pending
from gcount.errors import DiskFull, IncarnationLimitReached, PartLimitReached, Recovering
from gcount.node.node import Node
from tests.fakes.cluster import open_cluster
from tests.fakes.counting import add

NOTHING: list[Asked] = [[], [Add("x", 0)], [Peek("x")], [Together([Peek("x"), Add("y", 0)])], Repeat(["x", "x"], 0)]


def submitted(node: Node, asked: Asked) -> list[Outcome]:
    """What was told by the time at which it was taken."""
    told: list[Outcome] = []
    assert node.submit(asked, told.append)
    return told


async def test_submit_and_run_give_the_same_outcome(autojump_clock: MockClock) -> None:
    every: list[Asked] = [
        [Add("x", 2), Peek("x"), Add("x", 0), Add("x", MAX_CELL), Peek("y"), Add("y", 1)],
        [Together([Add("x", 1), Peek("x"), Add("y", 5)]), Together([Add("y", 1), Add("x", MAX_CELL)]), Peek("y")],
        Repeat(["x", "y", "x"], 3),
        Repeat(["x"], 7),
    ]
    found: list[list[object]] = []
    for waits in (True, False):
        async with open_cluster(1) as cluster:
            node, outcomes = cluster[1].node, list[Outcome]()
            for asked in every:
                if waits:
                    outcomes.append(await node.count(asked))
                else:
                    told = submitted(node, asked)
                    assert told == []
                    await node.count([Add("other", 1)])
                    outcomes += told
            found.append([[type(each) if isinstance(each, Exception) else each for each in o.values] for o in outcomes])
            assert [outcome.refused for outcome in outcomes] == [True, True, False, False]
    refused = PartLimitReached
    assert found[0] == found[1] == [[2, 2, 2, refused, 0, 1], [3, 3, 6, refused, refused, 6], [6, 9, 9], [16]]


async def test_the_position_is_the_version_of_the_commit_and_every_replica_that_knows_it_holds_the_increment(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster:
        one, two = cluster.hosts
        life = one.node.replica.identity.incarnation
        positions = [(await one.node.count([Add("x", 1)])).position for _ in range(3)]
        assert positions == [{life: 1}, {life: 2}, {life: 3}]
        assert await one.node.peers.wait_held(positions[-1], 1) == 1
        assert two.node.value("x") == 3
        assert one.node.replica.counters.digest() == two.node.replica.counters.digest()


async def test_an_increment_that_is_committed_with_a_new_incarnation_belongs_to_it(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        node = cluster[1].node
        reborn = node.replica.identity.reborn(b"i" * 16)
        told = submitted(node, [Add("x", 1)])
        await node.parts.context.committer.mint(reborn).wait()
        assert told == [Outcome([1], {reborn.incarnation: 1})]


@pytest.mark.parametrize("asked", NOTHING)
async def test_reads_are_answered_at_once_though_increments_wait(asked: Asked, autojump_clock: MockClock) -> None:
    """Neither a hold, nor a right to the incarnation that is not confirmed, nor the disk keeps it waiting."""
    async with open_cluster(2) as cluster:
        host, parts = cluster[1], cluster[1].node.parts
        await add(host.node, "x", 4)
        known = {host.node.replica.identity.incarnation: 1}
        values = {"x": 4, "y": 0}
        shape = {0: [], 1: [values["x"]], 2: [values["x"]], 3: [values["x"], values["y"]], 4: [4, 4]}
        assert parts.gate.ask("x", "reader")
        parts.guard.claim.doubt("a test")
        host.disk.latency = (5.0, 5.0)
        started = trio.current_time()
        assert submitted(host.node, asked) == [Outcome(shape[NOTHING.index(asked)], known)]
        assert (await host.node.count(asked)).position == known
        assert trio.current_time() == started


async def test_a_hold_is_waited_for_and_one_that_begins_meanwhile_is_not(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        node, holds = cluster[1].node, cluster[1].node.parts.gate.holds
        assert holds.ask("x", "reader", trio.current_time())
        assert not node.submit([Peek("y"), Together([Add("x", 1)])], lambda outcome: None)
        assert not node.submit(Repeat(["y", "x"], 1), lambda outcome: None)
        assert submitted(node, [Peek("x")])[0].values == [0]
        assert submitted(node, [Add("y", 1), Peek("x")]) == []  # what is only read need not wait
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(add, node, "x", 1)
            await wait_all_tasks_blocked()
            assert "x" not in node.parts.context.pending
            await trio.sleep(0.9 * MAX_HOLD)
            assert holds.ask("z", "reader", trio.current_time())
        assert MAX_HOLD <= trio.current_time() - started < 1.5 * MAX_HOLD


async def test_in_a_start_the_members_confirmations_are_waited_for(autojump_clock: MockClock) -> None:
    async with open_cluster(2) as cluster:
        await cluster[2].kill()
        before = cluster[1].node.replica.identity.incarnation
        node = await cluster[1].restart()
        started = trio.current_time()
        assert not node.submit([Add("x", 1)], lambda outcome: None)
        outcome = await node.count([Add("x", 1)])
        assert trio.current_time() - started >= 0.9 * DEFAULTS.confirm_within
        minted = node.replica.identity.incarnation
        assert minted != before
        assert outcome == Outcome([1], {minted: 1})


async def test_a_refusal_is_a_value_and_reads_beside_it_are_answered(
    autojump_clock: MockClock,
) -> None:
    asked: list[Asked] = [[Peek("x"), Add("x", 1), Add("x", 0), Together([Peek("x"), Add("y", 1)])], Repeat(["x"], 1)]
    async with open_cluster(1) as cluster:
        host, node = cluster[1], cluster[1].node
        await add(node, "x", 4)
        host.disk.fail("write", 0, errno.ENOSPC)
        full = await node.count(asked[0])
        node.parts.guard.claim.doubt("a test")
        with patch.object(Pending, "may_be_reborn", False):
            limited = [await node.count(each) for each in asked]
        for outcome, refusal in ((full, DiskFull), (limited[0], IncarnationLimitReached)):
            kinds = [type(value) if isinstance(value, Exception) else value for value in outcome.values]
            assert kinds == [4, refusal, 4, refusal, refusal]
        assert [type(value) for value in limited[1].values] == [IncarnationLimitReached]
        assert {outcome.refused for outcome in (full, *limited)} == {True}
        assert [outcome.position for outcome in (full, *limited)] == [{}] * 3


async def test_until_the_start_is_over_all_is_refused(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        await cluster[1].stop()
        node = await cluster[1].begin()
        assert not node.recovered
        assert not node.submit([Peek("x")], lambda outcome: None)
        outcome = await node.count([Add("x", 1), Peek("x"), Together([Add("y", 1), Peek("y")])])
        assert [type(value) for value in outcome.values] == [Recovering] * 4
        assert (outcome.position, outcome.refused) == ({}, True)
