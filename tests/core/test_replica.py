"""The replica: what is replayed equals what was durable, as often as it is replayed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gcount.core.format.log_records import Header, Scan, encode_batch
from gcount.core.options import Options
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.keyed import Keyed, Settlement
from gcount.core.state.membership import Membership
from tests.core.histories import NAMES, History, histories, incarnation
from tests.core.test_writer import ME, commit, writer
from tests.fakes.counting import stage


def test_deltas_that_are_given_back_are_on_disk_when_they_are_joined_or_detached() -> None:
    one, former = writer(), incarnation(1)
    one.replica.identity = Identity(ME.node, ME.incarnation, (former,))
    first, behind = Delta(former, 0, 1, {"a": 1}), Delta(former, 4, 5, {"a": 3})
    for delta in (first, behind):
        assert not one.replica.has_back(delta)
        assert one.stage_delta(delta)
        assert not one.replica.has_back(delta)
        commit(one)
        assert one.replica.has_back(delta)


def test_detached_ids_of_a_former_incarnation_are_told_with_a_version_that_no_digest_reaches() -> None:
    """No consistent read of their counter is answered before they count."""
    one, former, other = writer(), incarnation(1), incarnation(2)
    one.replica.identity = Identity(ME.node, ME.incarnation, (former,))
    entries = Keyed({"1-x a": (3, 5)}, {other: Settlement(9, 1, {"b": 1})})
    assert one.stage_delta(Delta(former, 4, 5, {"c": 3}, entries))
    commit(one)
    assert [one.replica.changed(name) for name in "abcd"] == [{former: 5}, {former: 5}, {}, {}]
    assert one.replica.counters.digest() == {}


Step = tuple[str, str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "peer", "seal", "commit", "abort", "mint", "config"]), st.sampled_from(NAMES)
    ).flatmap(lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.integers(1, 2**40))),
    max_size=40,
)


@given(steps, histories(1), st.integers(40, 300))
@settings(max_examples=80)
def test_replaying_the_log_gives_the_durable_state(made: list[Step], peer: History, frame: int) -> None:
    one, log, sealed = writer(), Header(ME.node, ME.incarnation, 1, 1).encode(), None
    lives, versions = 101, 0
    for kind, name, n in made:
        if kind == "add":
            stage(one, name, n)
        elif kind == "peer":
            known = one.replica.counters.version(peer.incarnation)
            upto = min(len(peer.commits), known + 1 + n % 2)
            if known < upto:
                one.stage_delta(peer.delta(max(0, known - n % 3), upto))
        elif kind == "mint":
            lives += 1
            one.stage_identity(one.replica.identity.reborn(incarnation(lives)))
        elif kind == "config":
            versions += 1
            one.stage_membership(Membership(versions, (f"h{n}:1",)))
        elif kind == "seal" and sealed is None:
            sealed = one.seal()
        elif kind == "abort" and sealed is not None:
            one.abort()
            sealed = None
        elif kind == "commit" and sealed is not None:
            log += encode_batch(sealed, Options(frame_bytes=frame))
            one.commit()
            sealed = None
    scan, again, now = Scan(log, 1), writer().replica, one.replica
    for batch in scan:
        again.apply(batch)
        again.apply(batch)
    assert scan.damage is None
    assert again.counters == now.counters
    assert {name: again.counters.total(name) for name in NAMES} == {name: now.counters.total(name) for name in NAMES}
    assert (again.identity, again.membership, again.next_batch) == (now.identity, now.membership, now.next_batch)
