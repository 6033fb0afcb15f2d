"""How descriptors are shared out: clients never get those of the node, and too few of them are logged."""

from __future__ import annotations

import resource
import sys

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

from gcount.net import descriptors
from gcount.net.descriptors import FEW, MAX_DIALS, MAX_LINKS, MAX_LOOKUPS, share_out, shares_of_process

OWN = 28  # with one listener
LOOKUP = 4  # descriptors

limits = st.integers(OWN + 10, 5000) | st.just(sys.maxsize)


@given(limits, st.integers(1, 100_000), st.integers(1, 4))
def test_all_shares_together_leave_the_node_its_own(limit: int, wanted: int, listeners: int) -> None:
    limit += 2 * listeners
    shares = share_out(limit, wanted, listeners)
    taken = shares.connections + shares.dials + shares.lookups * LOOKUP
    assert taken <= limit - OWN - 2 * (listeners - 1)
    assert 1 <= shares.connections <= wanted
    assert 1 <= shares.links <= max(1, shares.connections // 2)
    assert shares.dials >= 1
    assert shares.lookups >= 1


@given(st.integers(800, 100_000), st.integers(1, 100_000))
def test_a_limit_of_some_hundred_leaves_links_all_that_they_may_need(limit: int, wanted: int) -> None:
    shares = share_out(limit, wanted)
    assert (shares.dials, shares.lookups) == (MAX_DIALS, MAX_LOOKUPS)
    assert shares.links == min(MAX_LINKS, max(1, shares.connections // 2))


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_higher_limit_never_makes_a_share_smaller(limit: int, more: int) -> None:
    low, high = share_out(limit, 10_000), share_out(limit + more, 10_000)
    assert (low.connections, low.links) <= (high.connections, high.links)
    assert low.lookups <= high.lookups
    assert low.dials + low.lookups * LOOKUP <= high.dials + high.lookups * LOOKUP


@pytest.mark.parametrize(
    ("limit", "connections", "links", "dials"),
    [(64, 18, 9, 14), (256, 114, 57, 86), (1024, 644, 256, 288), (4096, 3716, 256, 288), (2**20, 10_000, 256, 288)],
)
def test_the_shares_with_common_limits(limit: int, connections: int, links: int, dials: int) -> None:
    """As docs/operations/install.md says."""
    shares = share_out(limit, 10_000)
    assert (shares.connections, shares.links, shares.dials) == (connections, links, dials)


def test_with_the_limit_that_is_asked_for_nothing_is_less_than_it_could_be() -> None:
    wanted = share_out(1024, 5000).wanted
    shares = share_out(wanted, 5000)
    assert (shares.connections, shares.dials, shares.lookups) == (5000, MAX_DIALS, MAX_LOOKUPS)
    assert share_out(wanted - 1, 5000).connections == 4999


@pytest.mark.parametrize(
    ("limit", "connections", "few"), [(1024, 10_000, True), (4096, 10_000, False), (1024, 100, False), (256, 200, True)]
)
def test_too_few_descriptors_are_logged_once(
    limit: int, connections: int, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "raise_limit", lambda: limit)
    with structlog.testing.capture_logs() as lines:
        shares = shares_of_process(connections, 1)
    assert [line["event"] for line in lines] == ["open-file limit is low"] * few
    for line in lines:
        assert (line["limit"], line["connections"], line["dials"]) == (limit, shares.connections, shares.dials)
        assert f"raise the hard limit to {shares.wanted}" in line["remedy"]
    assert few == (shares.connections < min(connections, FEW))


async def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    program = (
        "import resource;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 500));"
        "from gcount.net.descriptors import raise_limit;"
        "print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    run = await trio.run_process([sys.executable, "-c", program], capture_stdout=True)
    assert run.stdout.split() == [b"500", b"500", b"500"]


def test_a_limit_that_is_not_granted_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*limit: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (500, 1000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert descriptors.raise_limit() == 500
