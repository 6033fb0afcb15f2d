"""Deltas cut into chunks and put together again."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.format.chunks import Assembly, pack
from gcount.core.options import DEFAULTS
from gcount.core.state.counters import Delta
from gcount.core.state.keyed import Keyed, Settlement
from tests.core.histories import incarnation

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
cells = st.dictionaries(names, st.integers(1, 2**64 - 1), min_size=1, max_size=20)


entries = st.dictionaries(names.map("1-x {}".format), st.tuples(*[st.integers(2**32, 2**64 - 1)] * 2), max_size=9)
settlements = st.builds(Settlement, *[st.integers(2**32, 2**62)] * 2, cells | st.just({}))
keyed = st.builds(Keyed, entries, st.dictionaries(st.integers(0, 9).map(incarnation), settlements, max_size=3))


@st.composite
def deltas(draw: st.DrawFn) -> list[Delta]:
    made = []
    for number in range(draw(st.integers(0, 4))):
        after = draw(st.integers(0, 2**61))
        told = draw(st.none() | keyed) or None
        made.append(Delta(incarnation(number), after, after + draw(st.integers(1, 2**61)), draw(cells), told))
    return made


@given(deltas(), st.integers(1, 400))
def test_an_assembly_gives_back_the_whole_deltas(made: list[Delta], size: int) -> None:
    assembly = Assembly()
    chunks = list(pack(made, size, DEFAULTS.chunk_deltas))
    for chunk in chunks:
        assembly.add(chunk)
    assert assembly.cells >= sum(delta.size for delta in made)
    assert len(chunks) > 1 or assembly.cells == sum(delta.size for delta in made)
    assert assembly.take() == made
    assert (assembly.take(), assembly.cells) == ([], 0)


@given(deltas(), st.integers(200, 500))
def test_a_chunk_is_never_bigger_than_asked_for(made: list[Delta], size: int) -> None:
    for chunk in pack(made, size, DEFAULTS.chunk_deltas):
        assert len(msgspec.msgpack.encode(chunk)) <= size  # one cell and its delta's head need less than 200 bytes


@given(deltas(), st.integers(1, 400))
def test_each_piece_carries_the_versions_of_its_whole_delta(made: list[Delta], size: int) -> None:
    wholes = {delta.incarnation: delta for delta in made}
    for chunk in pack(made, size, DEFAULTS.chunk_deltas):
        for piece in chunk:
            whole = wholes[piece.incarnation]
            assert (piece.after, piece.upto) == (whole.after, whole.upto)
            assert piece.cells.items() <= whole.cells.items()
            assert piece.keyed is None or (whole.keyed is not None and whole.keyed.contains(piece.keyed))


def test_nothing_makes_one_empty_chunk() -> None:
    assert list(pack([], 100, 16)) == [[]]


def test_a_chunk_has_so_many_deltas_at_most_however_small_they_are() -> None:
    pieces = [Delta(incarnation(1), 0, 1, {}) for _ in range(3 * 16)]
    assert [len(chunk) for chunk in pack(pieces, 10**6, 16)] == [16] * 3


def test_what_fits_is_not_cut() -> None:
    made = [Delta(incarnation(1), 0, 1, {"a": 1}), Delta(incarnation(2), 0, 1, {"a": 1})]
    assert list(pack(made, 1000, 16)) == [made]


def test_a_cell_that_is_bigger_than_a_chunk_goes_alone() -> None:
    big = Delta(incarnation(1), 0, 1, {"x" * 250: 1, "y" * 250: 1})
    assert [[list(piece.cells) for piece in chunk] for chunk in pack([big], 100, 16)] == [
        [["x" * 250]],
        [["y" * 250]],
    ]


def test_entries_and_parts_are_cut_where_a_chunk_is_full() -> None:
    whole = Keyed(
        {f"1-{n} a": (1, 1) for n in range(4)}, {incarnation(2): Settlement(1, 1, {f"n{n}": 1 for n in range(4)})}
    )
    made = [Delta(incarnation(1), 0, 1, {"a": 1}, whole)]
    chunks = [[piece.keyed for piece in chunk] for chunk in pack(made, 64 + 48 + 2 * 14, 16)]
    assert [(len(one.entries), sum(len(of.parts) for of in one.settled.values())) for (one,) in chunks if one] == [
        (2, 0),
        (2, 0),
        (0, 2),
        (0, 2),
    ]
    assert list(pack(made, 1000, 16)) == [made]


def test_a_settlement_without_parts_is_not_lost_where_a_chunk_is_full() -> None:
    made = [Delta(incarnation(1), 0, 1, {"a": 1}, Keyed(settled={incarnation(2): Settlement(1, 1, {})}))]
    assert [[(len(one.cells), one.keyed is None) for one in chunk] for chunk in pack(made, 100, 16)] == [
        [(1, True)],
        [(0, False)],
    ]


def test_each_chunk_of_a_long_settlement_repeats_its_head_within_its_size() -> None:
    whole = Keyed(settled={incarnation(2): Settlement(2**62, 2**62, {f"{n:040}": 2**64 - 1 for n in range(99)})})
    size = 64 + 5 * (40 + 12)
    chunks = [*pack([Delta(incarnation(1), 2**62, 2**62, {}, whole)], size, 16)]
    assert max(len(msgspec.msgpack.encode(chunk)) for chunk in chunks) <= size
    assert all(piece.keyed and piece.keyed.settled[incarnation(2)].until == 2**62 for (piece,) in chunks)


def test_an_assembly_does_not_change_the_chunks_that_it_was_given() -> None:
    one, two = Delta(incarnation(1), 0, 1, {"a": 1}), Delta(incarnation(1), 0, 1, {"b": 1})
    assembly = Assembly()
    assembly.add([one])
    assembly.add([two])
    assert (one.cells, two.cells) == ({"a": 1}, {"b": 1})
    assert assembly.take() == [Delta(incarnation(1), 0, 1, {"a": 1, "b": 1})]
    first, second = (Delta(incarnation(1), 0, 1, {}, Keyed({f"1-{n} a": (1, 1)})) for n in range(2))
    assembly.add([one])
    assembly.add([first])
    assembly.add([second])
    assert [len(keyed.entries) for keyed in (first.keyed, second.keyed) if keyed] == [1, 1]
    assert assembly.take() == [Delta(incarnation(1), 0, 1, {"a": 1}, Keyed({f"1-{n} a": (1, 1) for n in range(2)}))]
