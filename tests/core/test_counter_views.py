"""What a node knows of a counter's ids beside what another one tells, and what it still has to learn."""

from gcount.core.protocol.counter_views import Ahead, join_cells
from tests.core.histories import incarnation
from tests.core.views import found, own

ME, A, B = incarnation(1), incarnation(2), incarnation(3)


def test_join_is_the_pointwise_maximum_and_changes_neither() -> None:
    one, other = {ME: 1, A: 5}, {A: 3, B: 2}
    assert join_cells(one, other) == join_cells(other, one) == {ME: 1, A: 5, B: 2}
    assert (one, other) == ({ME: 1, A: 5}, {A: 3, B: 2})


def test_an_entry_is_known_when_the_digest_reaches_the_version_in_which_it_changed() -> None:
    here = own({}, digest={A: 3})
    assert here.knows(found({}, changed={A: 3}))
    assert not here.knows(found({}, changed={A: 4}))
    assert not here.knows(found({}, changed={B: 1}))


def test_a_settled_id_is_known_when_no_part_is_larger_elsewhere() -> None:
    here = own({}, {A: 3}, {A: 9, B: 9})
    assert here.knows(found({}, {A: 3}))
    assert here.knows(found({}))
    assert not here.knows(found({}, {A: 4}))
    assert not here.knows(found({}, {B: 1}))


def test_cells_of_another_node_are_no_ids() -> None:
    assert own({}).knows(found({A: 7}))


def test_what_is_to_be_learned_is_over_when_all_of_it_is_known() -> None:
    ahead = Ahead([found({}, changed={A: 2}), found({}, {B: 5})], 7.0)
    assert (bool(ahead), ahead.until) == (True, 7.0)
    ahead.look(own({}, digest={A: 2}))
    assert (bool(ahead), ahead.until) == (True, 7.0)
    ahead.look(own({}, {B: 5}))
    assert (bool(ahead), ahead.until) == (False, 0.0)


def test_nothing_to_be_learned_makes_nobody_wait() -> None:
    assert (bool(Ahead([], 7.0)), Ahead([], 7.0).until) == (False, 0.0)
