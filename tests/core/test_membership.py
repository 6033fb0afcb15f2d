"""The membership register and the one spelling of addresses."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.limits import MAX_MEMBERS, MAX_VERSION
from gcount.core.state.membership import Membership, normalise_address, parse_actors, split_address
from gcount.errors import BadRequest

addresses = st.sampled_from([f"{host}:{port}" for host in ("10.0.0.1", "[::1]", "host", "a.b") for port in (1, 7777)])
actor_sets = st.sets(addresses, min_size=1, max_size=4)
memberships = st.just(Membership()) | st.builds(
    lambda version, chosen: Membership(version, tuple(sorted(chosen))), st.integers(1, 5), actor_sets
)


@given(memberships, memberships, memberships)
def test_merge_is_commutative_associative_and_idempotent(x: Membership, y: Membership, z: Membership) -> None:
    assert x.merge(y) == y.merge(x)
    assert x.merge(y).merge(z) == x.merge(y.merge(z))
    assert x.merge(x) == x
    assert x.merge(y) in (x, y)


@given(st.lists(memberships, min_size=1, max_size=4))
def test_any_order_of_arrival_ends_in_the_same_membership(arrived: list[Membership]) -> None:
    results = set()
    for order in permutations(arrived):
        merged = Membership()
        for one in order:
            merged = merged.merge(one)
        results.add(merged)
    assert len(results) == 1
    assert results.pop().version == max(one.version for one in arrived)


@given(memberships, actor_sets, st.integers(0, 10))
def test_a_post_wins_over_what_was_known_and_the_same_set_changes_nothing(
    known: Membership, chosen: set[str], now_ms: int
) -> None:
    posted = known.post(sorted(chosen, reverse=True), now_ms)
    assert posted.actors == tuple(sorted(chosen))
    assert known.merge(posted) == posted == posted.merge(known)
    if set(known.actors) == chosen:
        assert posted == known
    else:
        assert posted.version == max(known.version + 1, now_ms)
    assert posted.post([*posted.actors, *posted.actors], now_ms + 100) == posted
    assert posted.valid()


@given(memberships, memberships)
def test_only_equal_memberships_rank_alike(x: Membership, y: Membership) -> None:
    assert (x.rank() == y.rank()) == (x == y)


def test_of_conflicting_posts_the_newer_wins_where_clocks_agree() -> None:
    start = Membership()
    older, newer = start.post(["a:1"], 1000), start.post(["b:1"], 1001)
    assert older.merge(newer) == newer == newer.merge(older)


def test_a_post_is_valid_or_refused_even_after_a_hostile_version() -> None:
    """Else one bad hello would make every later membership of this node unreadable for all others."""
    assert Membership(MAX_VERSION - 1, ("a:1",)).post(["b:1"], 1000).valid()
    hostile = Membership(MAX_VERSION, ("a:1",))
    assert hostile.post(["a:1"], 1000) == hostile
    with pytest.raises(BadRequest, match="can't grow"):
        hostile.post(["b:1"], 1000)


def test_what_is_not_a_well_formed_membership_is_not_valid() -> None:
    assert Membership().valid()
    assert Membership(1, ("[::1]:1", "a:1")).valid()
    for actors in [("b:1", "a:1"), ("a:1", "a:1"), ("a",), ("A:1",), ("a:0",), ("a:01",), ("[::0]:1",), ("",), ()]:
        assert not Membership(1, actors).valid(), actors
    assert not Membership(0, ("a:1",)).valid()
    assert not Membership(-1, ("a:1",)).valid()
    assert not Membership(MAX_VERSION + 1, ("a:1",)).valid()
    assert not Membership(1, tuple(sorted(f"h{n}:1" for n in range(MAX_MEMBERS + 1)))).valid()


ACCEPTED = {
    "1.2.3.4": "1.2.3.4:7777",
    "1.2.3.4:80": "1.2.3.4:80",
    "  1.2.3.4\n": "1.2.3.4:7777",
    "0.0.0.0:65535": "0.0.0.0:65535",
    "1.2.3.4:00080": "1.2.3.4:80",
    "[::1]": "[::1]:7777",
    "[::1]:1": "[::1]:1",
    "[0:0:0:0:0:0:0:1]": "[::1]:7777",
    "[2001:DB8::A]:443": "[2001:db8::a]:443",
    "[fe80::1%eth0]": "[fe80::1%eth0]:7777",
    "localhost": "localhost:7777",
    "LOCALHOST:5": "localhost:5",
    "a.b-c.Example.": "a.b-c.example:7777",
    "host_1": "host_1:7777",
    "xn--bcher-kva.example": "xn--bcher-kva.example:7777",
    "3com.example": "3com.example:7777",
    "x" * 63: "x" * 63 + ":7777",
    ".".join(["x" * 49] * 5): ".".join(["x" * 49] * 5) + ":7777",
}


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted_addresses(text: str) -> None:
    normal = normalise_address(text, 7777)
    assert normal == ACCEPTED[text]
    assert normalise_address(normal, 1) == normal
    assert Membership(1, (normal,)).valid()


REFUSED: list[object] = [
    *["", " ", ":", ":80", "a:", "a:0", "a:65536", "a:-1", "a:+1", "a:1_0", "a: 1", "a:1a", "a:123456", "a:٣"],
    *["1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4/8", "1", "127.1", "\uff11.2.3.4"],
    *["::1", "[", "[]", "[::1", "::1]", "[::1]x", "[::1]:", "[::1]:0", "[1.2.3.4]", "[::g]", "[host]", "[::1%]"],
    *["[fe80::1%a%b]", "a..b", ".a", ".", "-a", "a-", "a b", "a/b", "http://a", "a:1:2", "x" * 64, "bücher", "a\x00b"],
    *["user@host", "a,b", "a\u00a0b", "*", "a\nb", ".".join(["x" * 50] * 5)],
    *[None, 1, 1.5, True, ["a"], {"host": "a"}, b"1.2.3.4"],
]


@pytest.mark.parametrize("actor", REFUSED, ids=ascii)
def test_refused_addresses(actor: object) -> None:
    with pytest.raises(BadRequest):
        normalise_address(actor, 7777)


@pytest.mark.parametrize(
    "scope",
    ["\ud800", "x" * 300, "\n", "\x00", "a b", "é", "a/b", "[", "x [", "-\u202e", "\ud800["],
    ids=lambda scope: ascii(scope)[:9],
)
def test_a_scope_that_no_interface_can_have_is_refused(scope: str) -> None:
    """It would be kept in the membership and travel in each hello."""
    with pytest.raises(BadRequest):
        normalise_address(f"[fe80::1%{scope}]", 7777)


@given(st.text() | st.text(alphabet="[]:.%0123456789abcx-_ \ud800", max_size=20))
def test_any_text_is_refused_or_has_one_valid_spelling(text: str) -> None:
    try:
        normal = normalise_address(text, 7777)
    except BadRequest:
        return
    assert normalise_address(normal, 1) == normal
    assert Membership(1, (normal,)).rank()
    host, port = split_address(normal)
    assert 1 <= port <= 65535
    assert host


def test_one_spelling_of_an_ipv4_address_inside_ipv6_on_every_python() -> None:
    """Newer Pythons print it with dots: members of different ones would refuse each other's memberships."""
    assert normalise_address("[::ffff:1.2.3.4]", 1) == normalise_address("[::ffff:102:304]", 1) == "[::ffff:1.2.3.4]:1"


def test_an_address_splits_into_host_and_port() -> None:
    assert split_address("1.2.3.4:80") == ("1.2.3.4", 80)
    assert split_address("[fe80::1%eth0]:7777") == ("fe80::1%eth0", 7777)


def test_a_posted_config_is_a_list_of_addresses() -> None:
    assert parse_actors({"actors": ["1.2.3.4", "a:5", "1.2.3.4"], "more": 1}, 9) == ["1.2.3.4:9", "a:5", "1.2.3.4:9"]
    assert len(parse_actors({"actors": ["a"] * MAX_MEMBERS}, 9)) == MAX_MEMBERS


BAD_ACTORS: list[object] = [None, [], {}, "a", [1], [None], ["a", ""], ["a"] * (MAX_MEMBERS + 1)]
BAD_BODIES: list[object] = [None, [], ["a"], "a", 1, {}, {"Actors": ["a"]}, *({"actors": bad} for bad in BAD_ACTORS)]


@pytest.mark.parametrize(
    ("actor", "reason"),
    [
        *((text, "every address") for text in ["0.0.0.0", "0.0.0.0:80", "[::]", "[0::0]:80", "[::ffff:0.0.0.0]"]),
        *((text, "many machines") for text in ["224.0.0.1", "239.255.255.255:80", "[ff02::1]", "[ff02::1%eth0]"]),
        *((text, "many machines") for text in ["[::ffff:224.0.0.1]", "255.255.255.255"]),
    ],
)
def test_an_address_that_no_single_node_can_have_is_refused(actor: str, reason: str) -> None:
    """Each node would find itself at 0.0.0.0, and take it for its own."""
    with pytest.raises(BadRequest, match=reason):
        parse_actors({"actors": ["1.2.3.4", actor]}, 7777)


def test_addresses_beside_those_are_taken() -> None:
    taken = ["223.255.255.255:1", "240.0.0.1:1", "[::1]:1", "[fe80::1%eth0]:1", "[::ffff:1.2.3.4]:1"]
    assert parse_actors({"actors": taken}, 7777) == taken


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: ascii(body)[:30])
def test_a_bad_config_is_refused(body: object) -> None:
    with pytest.raises(BadRequest):
        parse_actors(body, 7777)
