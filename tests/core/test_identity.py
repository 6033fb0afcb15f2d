"""Whether a start may go on under the incarnation that its disk remembers; and the identity of a repaired node."""

import pytest

from gcount.core.state.identity import Identity, IdentityHistory, IncarnationClaim
from tests.core.histories import incarnation


def test_a_new_incarnation_needs_no_confirmation() -> None:
    assert IncarnationClaim(fresh=True).may_continue(["a:1", "b:1"])


def test_a_lone_node_may_continue_at_once() -> None:
    assert IncarnationClaim(fresh=False).may_continue([])


def test_all_members_have_to_confirm() -> None:
    claim = IncarnationClaim(fresh=False)
    assert not claim.may_continue(["a:1", "b:1"])
    claim.heard("a:1", b"a", knows=3, holds=3)
    assert claim.unconfirmed(["a:1", "b:1"]) == ["b:1"]
    assert not claim.may_continue(["a:1", "b:1"])
    claim.heard("b:1", b"b", knows=0, holds=3)
    assert claim.may_continue(["a:1", "b:1"])
    assert claim.reason is None


def test_the_newest_membership_decides_which_members_have_to_confirm() -> None:
    claim = IncarnationClaim(fresh=False)
    claim.heard("a:1", b"a", knows=1, holds=1)
    assert not claim.may_continue(["a:1", "new:1"])
    claim.heard("new:1", b"new", knows=1, holds=1)
    assert claim.may_continue(["new:1", "a:1"])


def test_members_are_nodes_so_two_entries_that_lead_to_one_node_are_confirmed_by_one_of_them_only() -> None:
    """A third node, to which one of the two was to lead, may know more."""
    claim = IncarnationClaim(fresh=False)
    claim.heard("a:1", b"a", knows=1, holds=1)
    claim.heard("b:1", b"a", knows=1, holds=1)
    assert not claim.may_continue(["a:1", "b:1"])
    assert claim.unconfirmed(["a:1", "b:1"]) == ["b:1"]
    claim.heard("b:1", b"b", knows=1, holds=1)
    assert claim.may_continue(["a:1", "b:1"])


def test_once_settled_it_stays_settled_for_members_that_come_later() -> None:
    claim = IncarnationClaim(fresh=False)
    assert claim.may_continue([])
    assert claim.may_continue(["late:1"])


def test_a_member_that_knows_more_ends_the_incarnation_though_others_confirmed() -> None:
    claim = IncarnationClaim(fresh=False)
    claim.heard("a:1", b"a", knows=5, holds=5)
    claim.heard("b:1", b"b", knows=6, holds=5)
    assert claim.reason == "b:1 knows 6 commits of this node's incarnation, its disk holds 5"
    assert not claim.may_continue([])
    claim.heard("b:1", b"b", knows=5, holds=5)
    assert not claim.may_continue(["a:1", "b:1"])


def test_even_a_settled_incarnation_ends_when_a_member_knows_more() -> None:
    claim = IncarnationClaim(fresh=True)
    assert claim.may_continue([])
    claim.heard("a:1", b"a", knows=1, holds=0)
    assert not claim.may_continue([])


def test_when_the_time_is_over_the_silent_are_named() -> None:
    claim = IncarnationClaim(fresh=False)
    claim.heard("b:1", b"b", knows=0, holds=0)
    assert claim.overdue(["c:1", "b:1", "a:1"]) == ["a:1", "c:1"]
    assert not claim.settled


def test_giving_up_after_all_have_confirmed_changes_nothing() -> None:
    claim = IncarnationClaim(fresh=False)
    claim.heard("a:1", b"a", knows=0, holds=0)
    assert claim.overdue(["a:1"]) == []
    assert claim.reason is None
    assert claim.may_continue(["a:1"])


def test_giving_up_does_not_hide_why() -> None:
    claim = IncarnationClaim(fresh=False)
    claim.heard("a:1", b"a", knows=2, holds=1)
    assert claim.overdue(["b:1"]) == []
    assert claim.reason is not None
    assert "a:1 knows 2" in claim.reason


def test_a_doubt_lasts_until_a_new_incarnation_is_minted() -> None:
    claim = IncarnationClaim(fresh=True)
    claim.doubt("two of me")
    assert (claim.reason, claim.may_continue([])) == ("two of me", False)
    claim.minted()
    assert claim.reason is None
    assert claim.may_continue(["a:1", "b:1"])


def test_a_mint_settles_it() -> None:
    claim = IncarnationClaim(fresh=False)
    claim.doubt("not confirmed")
    claim.minted()
    assert claim.reason is None
    assert claim.may_continue(["a:1"])


def test_the_newest_identity_stays_and_remembers_all_incarnations_seen() -> None:
    history = IdentityHistory()
    history.found(Identity(incarnation(1), incarnation(2)))
    history.found(Identity(incarnation(1), incarnation(5), (incarnation(2), incarnation(3))))
    history.found(Identity(incarnation(1), incarnation(5)))
    reborn = history.reborn(incarnation(9), incarnation(8), incarnation(7))
    assert (reborn.node, reborn.incarnation) == (incarnation(1), incarnation(9))
    assert set(reborn.retired) == {incarnation(2), incarnation(3), incarnation(5)}


def lives(*numbers: int) -> Identity:
    """An identity of which these are the incarnations."""
    *retired, last = map(incarnation, numbers)
    return Identity(incarnation(100), last, tuple(retired))


@pytest.mark.parametrize(
    ("found", "order"),
    [
        ([lives(3), lives(1, 2, 3, 4)], (1, 2, 3, 4)),  # of a checkpoint only the header can be read
        ([lives(1, 2, 3, 4), lives(1, 2)], (1, 2, 3, 4)),  # a segment begins before its checkpoint
        ([lives(1), lives(3), lives(2, 3, 4), lives(4)], (1, 2, 3, 4)),
        ([lives(1), lives(2), lives(4)], (1, 2, 4)),  # only headers
        ([lives(2, 3), lives(1, 3, 4)], (2, 1, 3, 4)),  # no record says which of the two is older
        ([lives(2, 1), lives(1, 2)], (1, 2)),  # they contradict each other
    ],
)
def test_a_repaired_node_has_its_former_lives_in_their_order_whichever_record_names_them_first(
    found: list[Identity], order: tuple[int, ...]
) -> None:
    history = IdentityHistory()
    for identity in found:
        history.found(identity)
    assert history.reborn(incarnation(9), incarnation(8), incarnation(7)).retired == tuple(map(incarnation, order))


def test_a_node_of_whose_former_lives_none_is_found_still_knows_that_it_had_some() -> None:
    reborn = IdentityHistory().reborn(incarnation(9), incarnation(8), incarnation(7))
    assert reborn == Identity(incarnation(8), incarnation(9), (incarnation(7),))
