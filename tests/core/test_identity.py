"""Whether a start may go on under the incarnation that its disk remembers."""

from gcount.core.state.identity import IncarnationClaim


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
