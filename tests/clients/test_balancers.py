"""A balancer in front of several nodes: its effect on reads, and what the answers of increments mean then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.clients.fronts import front
from tests.clients.proxy import opened
from tests.harness.client import Address, once
from tests.harness.cluster import free_port, running, values_are
from tests.harness.processes import Node

HOST = "127.0.0.1"


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
async def test_value_goes_back_between_nodes_and_the_consistent_value_does_not(tmp_path: Path, kind: str) -> None:
    """While the first node can't reach the second, which reaches the first."""
    if not shutil.which(kind):
        pytest.skip(f"{kind} is not installed (Debian: haproxy, nginx-light)")
    first, second = (Node(number, HOST, free_port([HOST]), tmp_path / f"data-{number}") for number in (1, 2))
    async with running(first, second), front(kind, tmp_path / "front", [first.port, second.port]) as port:
        balanced = Address(HOST, port)
        async with opened(second.port) as road:
            members = json.dumps({"actors": [f"{HOST}:{first.port}", f"{HOST}:{road.port}"]})
            assert (await first.post("/config", members.encode())).status == 200
            assert await first.add("x", 1) == 1
            await values_are([first, second], {"x": 1}, within=10)
        assert await first.add("x", 4) == 5

        read = [(await once(balanced, "GET", "/counter/x/value")).number() for _ in range(8)]
        assert set(read) == {1, 5}
        assert sorted(read) != read, "it never went back"
        for _ in range(4):
            consistent = await once(balanced, "GET", "/counter/x/consistent_value?timeout=0.5")
            assert consistent.status == 503 or consistent.number() == 5

        assert await second.add("x", 4) == 5, "two increments with one answer"
        async with opened(second.port, road.port):
            await values_are([first, second], {"x": 9}, within=15)
            assert (await once(balanced, "GET", "/counter/x/consistent_value?timeout=10")).number() == 9
