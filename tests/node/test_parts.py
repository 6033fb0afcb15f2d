"""What a commit sets off, and in which order."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

import pytest

from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership
from gcount.node.parts import Parts

OWN, OTHER = b"i" * 16, b"o" * 16
ME = Identity(b"n" * 16, OWN)


class Part:
    """Notes what is called on it."""

    def __init__(self, name: str, calls: list[str], **answers: object) -> None:
        self._name = name
        self._calls = calls
        self.__dict__.update(answers)

    def __getattr__(self, method: str) -> Any:
        return lambda *_: self._calls.append(f"{self._name}.{method}")


def committed(batch: Batch, *, missed: bool = False, unheard: bool = False, detached: bool = False) -> list[str]:
    """What is called when a batch becomes visible."""
    calls: list[str] = []
    replica = Part("replica", calls, identity=ME, next_batch=batch.number + 1, detached=detached)
    context = Part("context", calls, replica=replica, news=Part("news", calls))
    others = {field.name for field in fields(Parts)} - {"context", "guard", "updates"}
    parts = {name: Part(name, calls) for name in others}
    guard = Part("guard", calls, unheard=unheard)

    def adopt_missed() -> bool:
        calls.append("updates.adopt_missed")
        return missed

    updates = Part("updates", calls, adopt_missed=adopt_missed)
    Parts(**cast(dict[str, Any], {**parts, "context": context, "guard": guard, "updates": updates})).committed(batch)
    assert not guard.unheard or missed
    return calls


ALWAYS = ["updates.adopt_missed", "forks.look", "reads.committed"]
HANG_UP = ["peers.hang_up", "acceptor.hang_up"]


def delta(incarnation: bytes) -> Delta:
    return Delta(incarnation, 0, 1, {"x": 1})


@pytest.mark.parametrize(
    ("batch", "first"),
    [
        (Batch(1, [delta(OTHER)]), []),
        (Batch(1, [delta(OWN)]), ["peers.wake"]),
        (Batch(1, [], None, Membership(1, ("a:1",))), ["peers.wake", "guard.members_changed", "reads.learned"]),
        (Batch(1, [], ME), ["guard.minted", *HANG_UP]),
    ],
)
def test_each_batch_sets_off_what_depends_on_it(batch: Batch, first: list[str]) -> None:
    news = ["news.notify"] if batch.membership else []
    assert committed(batch) == [*first, *news, *ALWAYS]


def test_objections_to_the_old_identity_are_dropped_before_the_membership_is_checked() -> None:
    calls = committed(Batch(1, [delta(OWN)], ME, Membership(1, ("a:1",))))
    order = ["peers.wake", "guard.minted", *HANG_UP, "guard.members_changed", "reads.learned", "news.notify", *ALWAYS]
    assert calls == order


def test_members_are_asked_again_only_when_no_membership_is_left_that_came_while_the_disk_was_full() -> None:
    batch = Batch(1, [delta(OTHER)])
    assert committed(batch, unheard=True) == ["updates.adopt_missed", *HANG_UP, *ALWAYS[1:]]
    assert committed(batch, unheard=True, missed=True) == ALWAYS


def test_detached_deltas_are_checked_after_each_commit() -> None:
    assert committed(Batch(1, [delta(OTHER)]), detached=True) == [ALWAYS[0], "news.notify", *ALWAYS[1:]]
