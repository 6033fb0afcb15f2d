"""Replicas without a disk, for tests of what two of them send to each other."""

from __future__ import annotations

from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.replica import Replica
from gcount.core.writes.writer import Writer
from tests.core.histories import incarnation
from tests.fakes.counting import stage


def replica(number: int) -> Replica:
    return Replica(Identity(incarnation(number), incarnation(number)), 1000)


def add(one: Replica, *names: str) -> None:
    writer = Writer(one)
    for name in names:
        stage(writer, name, 1)
    writer.seal()
    writer.commit()


def take(one: Replica, deltas: list[Delta]) -> None:
    writer = Writer(one)
    for delta in deltas:
        writer.stage_delta(delta)
    writer.seal()
    writer.commit()
