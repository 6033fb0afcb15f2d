"""Processes that run tests at the same time never start their nodes on the same port."""

from __future__ import annotations

import pytest

from tests.harness.cluster import free_port, ports_of

HOST = "127.0.0.1"


def test_each_process_has_many_ports_that_no_other_one_has() -> None:
    shares = [ports_of(f"gw{number}", 3) for number in range(3)]
    assert len(set().union(*shares)) == sum(map(len, shares)) == 20_000


@pytest.mark.parametrize("worker", ["gw0", "gw1"])
def test_a_port_that_one_of_them_prefers_is_the_first_ones(worker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    preferred = free_port([HOST])  # one that is free, at least to this process
    chosen = {free_port([HOST], preferred) for _ in range(5)}
    assert chosen == {preferred} if worker == "gw0" else len(chosen) > 1
    assert all(port in ports_of(worker, 2) for port in chosen)
