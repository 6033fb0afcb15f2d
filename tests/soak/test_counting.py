"""Increments of a soak: sent until they are acknowledged, with one id, and none after the retry window."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.soak import counting
from tests.soak.counting import Counting
from tests.soak.history import Increment, Outcome


class Client:
    """A caller whose nodes answer as they are told to."""

    answers: dict[str, Outcome]
    sent: list[tuple[str, str]]

    def __init__(self, machine: str) -> None:
        self.machine = machine

    async def increment(self, name: str, amount: int, id_: str) -> Increment:
        self.sent.append((self.machine, id_))
        return Increment(1, name, amount, 0.0, 0.0, self.answers[self.machine], id=id_)

    def close(self) -> None:
        pass


async def send(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Outcome], window: float) -> list[tuple[str, str]]:
    """Send an increment to the node "a"; returns all attempts."""
    monkeypatch.setattr(counting, "Caller", Client)
    monkeypatch.setattr(counting, "AT_ONCE", 0.0)
    monkeypatch.setattr(counting, "AGAIN", 0.0)
    monkeypatch.setattr("time.time", trio.current_time)
    Client.answers, Client.sent = answers, []
    machines: Any = list(answers)
    first: Any = Client("a")
    async with trio.open_nursery() as repeats:
        assert (await Counting(machines, window, 1, repeats).count(first, "x", 1)).outcome == answers["a"]
    assert len({id_ for _, id_ in Client.sent}) == 1
    return Client.sent


async def test_an_increment_is_sent_once_when_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [node for node, _ in await send(monkeypatch, {"a": "ok", "b": "ok"}, 60)] == ["a"]


async def test_after_an_error_an_increment_goes_to_another_node(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    assert [node for node, _ in await send(monkeypatch, {"a": "unknown", "b": "ok"}, 60)] == ["a", "b"]


async def test_an_increment_is_not_sent_until_its_id_is_too_old(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    nodes = [node for node, _ in await send(monkeypatch, {"a": "unknown", "b": "unsent"}, 2)]
    assert 5 <= len(nodes) <= 12
    assert set(nodes) == {"a", "b"}
