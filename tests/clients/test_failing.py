"""The clients that docs/clients.md names: the outcome of their increments, and what the node has counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.clients.failing import Outcome, measure
from tests.clients.known import CLIENTS, Client
from tests.clients.tools import skipping


@pytest.fixture(params=CLIENTS, ids=[client.name for client in CLIENTS])
def client(request: pytest.FixtureRequest) -> Client:
    chosen: Client = request.param
    return chosen


@pytest.fixture
def environment(client: Client, tmp_path: Path) -> dict[str, str]:
    """The environment of the client's program; skips the test if the client can't be installed."""
    with skipping():
        return client.install(tmp_path / "client")


async def test_a_client_was_told_what_is_counted(tmp_path: Path, client: Client, environment: dict[str, str]) -> None:
    """No acknowledged increment is missing, and increments are counted twice only if the page says so."""
    outcomes: list[Outcome] = []

    async def one(settings: str) -> None:
        outcomes.extend(await measure(client, settings, environment, tmp_path / settings))

    async with trio.open_nursery() as nursery:
        for settings in client.settings:
            nursery.start_soon(one, settings)
    for outcome in outcomes:
        print(outcome)
        assert outcome.lost == 0, outcome
        assert outcome.settings != "advised" or not outcome.hung, outcome
    for settings, exact in client.settings.items():
        twice = [outcome for outcome in outcomes if outcome.settings == settings and outcome.excess]
        assert bool(twice) is not exact, twice or f"{settings}: nothing was counted twice; the page says otherwise"
