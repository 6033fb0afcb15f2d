"""The two forms of a column: what it holds is the same in both, and what it costs follows what it holds."""

from array import array
from sys import getsizeof
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.format.checkpoint import Capture, Cells, encode_record
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.columns import Column, Frozen
from gcount.core.state.counters import Counters, Delta
from gcount.core.state.replica import Replica
from tests.core.histories import incarnation
from tests.core.test_checkpoint import LIVE, ME, encoded, restored

Model = dict[int, tuple[int, int]]
"""Cell and stamp by index."""

INDEXES = st.one_of(st.integers(0, 15), st.integers(0, 400))
SOME_CELLS = st.dictionaries(INDEXES, st.integers(0, 2**64 - 1), max_size=25)


def small_columns(recent: int) -> Options:
    """So that a few cells turn a column from one form to the other."""
    least = min(recent, DEFAULTS.column_recent_least)
    return Options(column_small=8, column_span=2, column_piece=5, column_recent_least=least, column_recent_most=recent)


def read(frozen: Frozen, size: int, into: Model) -> bool:
    """Whether anything was left."""
    first = frozen._next
    indexes, cells, stamps = frozen.read(size)
    for index, n, stamp in zip(indexes or range(first, first + len(cells)), cells, stamps, strict=True):
        if stamp:
            assert index not in into
            into[index] = n, stamp
    return bool(cells)


def words(column: Column) -> int:
    return len(column.cells) + len(column.stamps) + len(column.indexes) + len(column.slots or ())


class Pair:
    """A column and the plain dict that it has to equal."""

    def __init__(self, options: Options = DEFAULTS) -> None:
        self.options = options
        self.column = Column(options)
        self.model: Model = {}
        self.totals = [0] * 10_000

    def join(self, cells: dict[int, int], *, one_by_one: bool, summed: bool) -> None:
        totals = self.totals if summed else None
        for part in [{index: n} for index, n in cells.items()] if one_by_one else [cells]:
            upto = self.column.version + 1
            if one_by_one:
                for index, n in part.items():
                    self.column.join_one(index, n, upto, totals)
            else:
                self.column.join(tuple(part), part.values(), upto, totals)
            for index, n in part.items():
                self.model[index] = max(n, self.model.get(index, (0, 0))[0]), upto
        if not summed:
            for index, (n, _) in self.model.items():
                self.totals[index] = n

    def check(self) -> None:
        column, model = self.column, self.model
        assert [column.get(index) for index in range(450)] == [model.get(index, (0, 0))[0] for index in range(450)]
        assert self.totals[:450] == [model.get(index, (0, 0))[0] for index in range(450)]
        for version in range(column.version + 1):
            most, pieces = column.newer(version)
            changed = [cell for piece in pieces for cell in piece]
            assert len(changed) == len(dict(changed)) <= most
            assert dict(changed) == {index: n for index, (n, stamp) in model.items() if stamp > version}
        assert words(column) <= 2 * max(self.options.column_small, 2 * self.options.column_span * len(model))


@given(st.data())
def test_a_column_that_changes_its_form_is_a_dict_and_what_was_frozen_stays_as_it_was(data: st.DataObject) -> None:
    pair = Pair(small_columns(data.draw(st.integers(1, 40))))
    frozen, model, found = pair.column.freeze(), dict[int, tuple[int, int]](), dict[int, tuple[int, int]]()
    for _ in range(data.draw(st.integers(0, 12))):
        pair.join(data.draw(SOME_CELLS), one_by_one=data.draw(st.booleans()), summed=data.draw(st.booleans()))
        read(frozen, data.draw(st.integers(0, 20)), found)
        if data.draw(st.integers(0, 2)) == 0:
            while read(frozen, 7, found):
                pass
            assert found == model
            pair.column.frozen = None
            frozen, model, found = pair.column.freeze(), pair.model.copy(), {}
        pair.check()
    while read(frozen, 7, found):
        pass
    assert found == model
    assert frozen._before == {}


@given(st.data())
def test_what_is_newer_stays_as_it_was_when_it_was_asked_for(data: st.DataObject) -> None:
    pair = Pair(small_columns(data.draw(st.integers(1, 40))))
    for _ in range(data.draw(st.integers(1, 6))):
        pair.join(data.draw(SOME_CELLS), one_by_one=data.draw(st.booleans()), summed=True)
    version, then = data.draw(st.integers(0, pair.column.version)), pair.model.copy()
    _, pieces = pair.column.newer(version)
    told = dict(next(pieces))
    for piece in pieces:
        pair.join(data.draw(SOME_CELLS), one_by_one=data.draw(st.booleans()), summed=True)
        told.update(piece)
    assert told == {index: n for index, (n, stamp) in then.items() if stamp > version}


def test_what_is_newer_comes_in_pieces_of_a_bounded_size() -> None:
    column = Column()
    column.join(range(100_000), range(100_000), 1, None)
    most, pieces = column.newer(0)
    assert most == 100_000
    assert [len(piece) for piece in pieces] == [DEFAULTS.column_piece] * 12 + [100_000 - 12 * DEFAULTS.column_piece]


@pytest.mark.parametrize("becomes", ["dense", "sparse"])
def test_what_is_frozen_can_be_read_when_the_column_takes_the_other_form_halfway(becomes: str) -> None:
    pair = Pair()
    few = {index: index + 1 for index in (range(0, 9 * 300, 9) if becomes == "dense" else range(300))}
    pair.join(few, one_by_one=False, summed=True)
    frozen, model, found = pair.column.freeze(), pair.model.copy(), dict[int, tuple[int, int]]()
    read(frozen, 100, found)
    pair.join(dict.fromkeys([*few][50:150], 2**64 - 1), one_by_one=False, summed=True)
    assert (pair.column.slots is not None) == (becomes == "dense")
    more = range(1, 500, 2) if becomes == "dense" else [9999]
    pair.join(dict.fromkeys(more, 1), one_by_one=False, summed=True)
    assert (pair.column.slots is None) == (becomes == "dense")
    read(frozen, 100, found)
    pair.join(dict.fromkeys(few, 2**64 - 1), one_by_one=False, summed=True)
    while read(frozen, 100, found):
        pass
    assert found == model


def test_a_column_that_counts_most_names_is_dense_in_whatever_order_it_counts_them() -> None:
    for indexes in (range(10_000), range(9_999, -1, -1), range(0, 10_000, 2)):
        pair = Pair()
        pair.join(dict.fromkeys(indexes, 1), one_by_one=True, summed=True)
        assert pair.column.slots is None
        assert len(pair.column.cells) == max(indexes) + 1


@pytest.mark.parametrize("before", [0, 1, DEFAULTS.column_small, 5000])
def test_a_cell_costs_the_same_whatever_its_name_and_whatever_was_counted_before(before: int) -> None:
    column = Column()
    column.join(range(before), range(before), 1, None)
    column.join_one(999_999, 7, 2, None)
    assert size(column) < 4096 + 200 * before
    assert column.get(999_999) == 7


def test_the_cells_of_a_dense_column_are_counted_seldom_while_it_grows_also_after_a_start() -> None:
    with patch.object(Column, "_stays_dense", autospec=True, side_effect=Column._stays_dense) as counting:
        column = Column()
        for index in range(10_000):
            column.join_one(index, 1, index + 1, None)
        assert counting.call_count == 2  # at 256 and sixteen times as many
        again = Column()
        again.restore(10_000, *column.freeze().read(10_000))
        for index in range(10_000, 20_000):
            again.join_one(index, 1, index + 1, None)
        assert counting.call_count == 2


def test_the_order_of_changes_reaches_as_far_back_after_a_start_as_the_column_is_long() -> None:
    column = Column()
    column.restore(1, array("Q"), array("Q", [1] * 1000), array("Q", [1] * 1000))
    for version in range(2, 1002):
        column.join_one(version % 1000, 1, version, None)
    with patch.object(column, "stamps", {index: column.stamps[index] for index in range(1000)}):  # no pass over it
        assert [*column.newer(999)[1]] == [[(1, 1), (0, 1)]]


@pytest.mark.parametrize("index", [0, 999_999])
def test_a_cell_that_changes_often_costs_no_more_than_one_that_changes_once(index: int) -> None:
    column = Column()
    column.join_one(index, 1, 1, None)
    once = size(column)
    for version in range(2, 5000, 2):
        column.join_one(index, version, version, None)
        column.join((index,), [version], version + 1, None)
        assert [*column.newer(version)[1]] == [[(index, version)]]
    assert size(column) <= once + 2048  # bytes
    column.join(tuple(range(2000)), range(2000), 9999, None)
    column.join(tuple(range(2000)), range(2000), 10_000, None)
    assert size(column) < 150 * 2000


def size(column: Column) -> int:
    """Its bytes, but for the numbers in the dicts."""
    return sum(
        getsizeof(getattr(column, part)) for part in ("cells", "stamps", "indexes", "slots", "_changed", "_when")
    )


def test_thousands_of_incarnations_with_one_cell_each_cost_some_megabytes_in_memory_and_little_in_a_checkpoint() -> (
    None
):
    replica, names = Replica(ME, 10**6), [f"n{n}" for n in range(50_000)]
    replica.apply(Batch(1, [Delta(bytes(16), 0, 1, dict.fromkeys(names, 1))]))
    made_up = [n.to_bytes(16, "big") for n in range(1, 2001)]
    replica.apply(Batch(2, [Delta(who, 0, 1, {names[-1]: 3}) for who in made_up]))
    capture = Capture(replica, LIVE)
    records = [record for record in capture.records() if isinstance(record, Cells) and record.incarnation in made_up]
    capture.close()
    assert len(records) == len(made_up)
    assert sum(len(encode_record(record)) for record in records) < 100 * len(made_up)
    again = restored(encoded(Capture(replica, LIVE)))
    for counters in (replica.counters, again.counters):
        assert sum(size(counters._columns[who]) for who in made_up) < 5_000_000
    list(again.counters.sum_up())
    assert again.counters.total(names[-1]) == replica.counters.total(names[-1]) == 6001
    assert again.counters.cells(names[-1]) == replica.counters.cells(names[-1])
    assert again.counters.digest() == replica.counters.digest()


@pytest.mark.parametrize("wrong", ["twice", "no such name", "dense, then sparse", "sparse, then dense", "too few"])
def test_sparse_cells_that_are_not_as_they_have_to_be_are_refused(wrong: str) -> None:
    counters, who = Counters(), incarnation(1)
    counters.restore_names(["a", "b", "c"])
    one, two = array("Q", [1]), array("Q", [2])
    if wrong == "too few":
        with pytest.raises(ValueError, match="found where 2 were expected"):
            Cells(who, 1, 0, 2, bytes(16), bytes(16), bytes(8)).words()
        return
    first = array("Q") if wrong == "dense, then sparse" else one
    then = {"twice": one, "no such name": array("Q", [3]), "sparse, then dense": array("Q")}.get(wrong, two)
    counters.restore_cells(who, 1, 0, first, one, one)
    with pytest.raises(ValueError, match="incarnation"):
        counters.restore_cells(who, 1, 1, then, one, one)


def test_a_column_is_never_brought_to_a_version_that_is_not_newer() -> None:
    column = Column()
    column.join([0], [5], 3, None)
    for upto in (2, 3):
        with pytest.raises(AssertionError, match="never falls"):
            column.join([0], [6], upto, None)
        with pytest.raises(AssertionError, match="never falls"):
            column.join_one(0, 6, upto, None)
    assert (column.version, column.get(0)) == (3, 5)
