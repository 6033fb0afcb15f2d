"""The clients that docs/clients.md speaks of: what they say of their increments, and what the node has counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.clients.failing import Outcome, measure
from tests.clients.known import CLIENTS, Client, Missing

RUNS = [(client, settings) for client in CLIENTS for settings in client.settings]


@pytest.mark.parametrize("client", [pytest.param(client, id=client.name) for client in CLIENTS])
async def test_what_is_counted_is_what_a_client_was_told(tmp_path: Path, client: Client) -> None:
    """Nothing that was acknowledged is missing; with the settings of the page nothing is counted twice."""
    try:
        environment = client.install(tmp_path / "client")
    except Missing as missing:
        pytest.skip(str(missing))
    outcomes: list[Outcome] = []

    async def one(settings: str) -> None:
        outcomes.extend(await measure(client, settings, environment, tmp_path / settings))

    async with trio.open_nursery() as nursery:
        for settings in client.settings:
            nursery.start_soon(one, settings)
    for outcome in outcomes:
        print(outcome)
        assert outcome.lost == 0, outcome
        if client.settings[outcome.settings]:
            assert outcome.excess == 0, outcome
        if outcome.settings == "advised":
            assert not outcome.hung, outcome
