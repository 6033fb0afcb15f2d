"""Whether a start may go on under the incarnation that its disk remembers."""

from gcount.core.state.identity import IncarnationClaim


def test_a_minted_incarnation_needs_nobodys_word() -> None:
    assert IncarnationClaim(fresh=True).may_continue(["a:1", "b:1"])


def test_a_lone_node_may_continue_at_once() -> None:
    assert IncarnationClaim(fresh=False).may_continue([])


def test_all_members_have_to_confirm() -> None:
    standing = IncarnationClaim(fresh=False)
    assert not standing.may_continue(["a:1", "b:1"])
    standing.heard("a:1", b"a", knows=3, holds=3)
    assert standing.unconfirmed(["a:1", "b:1"]) == ["b:1"]
    assert not standing.may_continue(["a:1", "b:1"])
    standing.heard("b:1", b"b", knows=0, holds=3)
    assert standing.may_continue(["a:1", "b:1"])
    assert standing.reason is None


def test_the_newest_membership_decides_who_has_to_confirm() -> None:
    standing = IncarnationClaim(fresh=False)
    standing.heard("a:1", b"a", knows=1, holds=1)
    assert not standing.may_continue(["a:1", "new:1"])
    standing.heard("new:1", b"new", knows=1, holds=1)
    assert standing.may_continue(["new:1", "a:1"])


def test_members_are_nodes_so_two_entries_that_lead_to_one_node_are_confirmed_by_one_of_them_only() -> None:
    """A third node, to which one of the two was to lead, may know more."""
    standing = IncarnationClaim(fresh=False)
    standing.heard("a:1", b"a", knows=1, holds=1)
    standing.heard("b:1", b"a", knows=1, holds=1)
    assert not standing.may_continue(["a:1", "b:1"])
    assert standing.unconfirmed(["a:1", "b:1"]) == ["b:1"]
    standing.heard("b:1", b"b", knows=1, holds=1)
    assert standing.may_continue(["a:1", "b:1"])


def test_once_settled_it_stays_settled_for_members_that_come_later() -> None:
    standing = IncarnationClaim(fresh=False)
    assert standing.may_continue([])
    assert standing.may_continue(["late:1"])


def test_a_member_that_knows_more_ends_the_incarnation_whoever_confirmed() -> None:
    standing = IncarnationClaim(fresh=False)
    standing.heard("a:1", b"a", knows=5, holds=5)
    standing.heard("b:1", b"b", knows=6, holds=5)
    assert standing.reason == "b:1 knows 6 commits of this node's incarnation, its disk holds 5"
    assert not standing.may_continue([])
    standing.heard("b:1", b"b", knows=5, holds=5)
    assert not standing.may_continue(["a:1", "b:1"])


def test_even_a_settled_incarnation_ends_when_a_member_knows_more() -> None:
    standing = IncarnationClaim(fresh=True)
    assert standing.may_continue([])
    standing.heard("a:1", b"a", knows=1, holds=0)
    assert not standing.may_continue([])


def test_when_the_time_is_over_the_silent_are_named() -> None:
    standing = IncarnationClaim(fresh=False)
    standing.heard("b:1", b"b", knows=0, holds=0)
    standing.give_up(["c:1", "b:1", "a:1"])
    assert standing.reason == "not confirmed in time by a:1, c:1"
    assert not standing.may_continue(["b:1"])


def test_giving_up_after_all_have_confirmed_changes_nothing() -> None:
    standing = IncarnationClaim(fresh=False)
    standing.heard("a:1", b"a", knows=0, holds=0)
    standing.give_up(["a:1"])
    assert standing.reason is None
    assert standing.may_continue(["a:1"])


def test_giving_up_does_not_hide_why() -> None:
    standing = IncarnationClaim(fresh=False)
    standing.heard("a:1", b"a", knows=2, holds=1)
    standing.give_up(["b:1"])
    assert standing.reason is not None
    assert "a:1 knows 2" in standing.reason


def test_a_doubt_lasts_until_a_new_incarnation_is_minted() -> None:
    standing = IncarnationClaim(fresh=True)
    standing.doubt("two of me")
    assert (standing.reason, standing.may_continue([])) == ("two of me", False)
    standing.minted()
    assert standing.reason is None
    assert standing.may_continue(["a:1", "b:1"])


def test_a_mint_settles_it() -> None:
    standing = IncarnationClaim(fresh=False)
    standing.give_up(["a:1"])
    standing.minted()
    assert standing.reason is None
    assert standing.may_continue(["a:1"])
