"""When the time to confirm an incarnation is over."""

from __future__ import annotations

from random import Random
from typing import cast

import pytest

from gcount.cluster.context import Context
from gcount.cluster.forks import Forks
from gcount.cluster.identity_guard import IdentityGuard
from gcount.cluster.members import Members
from gcount.cluster.minting import Minting
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.identity import Identity, IncarnationClaim
from gcount.core.state.membership import Membership
from gcount.core.state.replica import Replica
from gcount.core.writes.id_rules import NO_IDS
from gcount.core.writes.known_ids import KnownIds
from gcount.core.writes.pending import Pending
from gcount.errors import IncarnationLimitReached
from gcount.events import News, Stopping
from gcount.observe.metrics import Metrics
from gcount.storage.group_commit import Committer


def make_guard(*actors: str, options: Options = DEFAULTS) -> IdentityGuard:
    replica = Replica(Identity(b"n" * 16, b"i" * 16), 1000, options)
    replica.membership = Membership(1, actors)
    committer = cast(Committer, None)  # nothing is minted here
    pending = Pending(replica)
    ids = KnownIds(replica, pending, NO_IDS)
    context = Context("", b"b" * 16, replica, pending, committer, Random(0), Metrics(), News(), Stopping(), ids)
    claim, members = IncarnationClaim(fresh=False), Members(replica)
    return IdentityGuard(context, claim, members, Minting(context, claim), Forks(replica, members))


async def test_the_silent_members_are_the_reason_for_a_new_incarnation() -> None:
    guard = make_guard("a:1", "b:1", "c:1")
    guard.heard("b:1", b"b", 0)
    guard.give_up()
    assert guard.claim.reason == "not confirmed in time by a:1, c:1"
    assert not guard.may_continue


async def test_when_all_have_confirmed_there_is_no_reason() -> None:
    guard = make_guard("a:1")
    guard.heard("a:1", b"a", 0)
    guard.give_up()
    assert guard.claim.reason is None
    assert guard.may_continue


async def test_a_reason_that_there_is_already_stays() -> None:
    guard = make_guard("a:1")
    guard.claim.doubt("two of me")
    guard.give_up()
    assert guard.claim.reason == "two of me"


async def test_without_space_for_a_new_incarnation_members_may_still_confirm() -> None:
    guard = make_guard("a:1", options=Options(reborn_below=1))
    with pytest.raises(IncarnationLimitReached, match="not confirmed by a:1"):
        guard.give_up()
    assert guard.claim.reason is None
    guard.heard("a:1", b"a", 0)
    assert guard.may_continue
