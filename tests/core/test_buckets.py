"""A bucket knows what its ids come to, and can be read while it changes."""

from hypothesis import given
from hypothesis import strategies as st

from gcount.core.state.buckets import Bucket, Shared
from gcount.core.state.keyed import Entry
from tests.core.histories import incarnation

HOLDERS = [*map(incarnation, (1, 2))]
puts = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(HOLDERS), st.integers(0, 3)), max_size=20)


def put(bucket: Bucket, id_: int, holder: bytes, total: int) -> int:
    """One of four ids, each two of which belong to a counter; none when the total is 0."""
    key = f"1-{id_} n{id_ % 2}"
    old, new = bucket.ids.get(key), Entry(holder, total, 1) if total else None
    return bucket.put(key, id_ % 2, old, new) if old or new else 0


@given(puts)
def test_its_sums_are_those_of_its_ids(made: list[tuple[int, bytes, int]]) -> None:
    bucket, grown = Bucket(), 0
    for id_, holder, total in made:
        grown += put(bucket, id_, holder, total)
    sums = dict[tuple[bytes, int], int]()
    for key, entry in bucket.ids.items():
        at = entry.holder, int(key[-1])
        sums[at] = sums.get(at, 0) + entry.total
    assert {(holder, index): n for holder, of in bucket.sums.items() for index, n in of.items()} == sums
    assert (grown, bucket.size) == (sum(sums.values()), len(sums))
    assert [index in bucket for index in range(3)] == [any(index == at[1] for at in sums) for index in range(3)]


@given(puts, puts)
def test_a_snapshot_stays_as_it_is(before: list[tuple[int, bytes, int]], after: list[tuple[int, bytes, int]]) -> None:
    bucket = Bucket()
    for one in before:
        put(bucket, *one)
    ids, first, second = dict(bucket.ids), bucket.snapshot(), bucket.snapshot()
    assert first is second
    for one in after:
        put(bucket, *one)
    assert first.ids == ids
    assert dict(item for part in Shared([first]).slices(2) for item in part) == ids


def test_it_is_freed_in_steps_that_forget_each_counter_once() -> None:
    bucket, forgotten = Bucket(), list[int]()
    for id_, holder in enumerate([*HOLDERS, *HOLDERS[::-1]]):
        put(bucket, id_, holder, 1)
    assert bucket.size == 4
    steps = 0
    while not bucket.free(3, forgotten.append):
        steps += 1
    assert (steps, sorted(forgotten), bucket.ids, bucket.sums) == (2, [0, 1], {}, {})


def test_it_is_read_while_a_snapshot_is_in_use() -> None:
    bucket = Bucket()
    put(bucket, 1, HOLDERS[0], 1)
    snapshot = bucket.snapshot()
    assert bucket.is_read
    del snapshot
    assert not bucket.is_read
