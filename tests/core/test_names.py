"""Names get indexes in the order in which they become known."""

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.state.names import Names

some = st.lists(st.sampled_from("abcdef"), unique=True)


@given(st.lists(some), st.booleans())
def test_each_name_has_one_index(asked: list[list[str]], one_by_one: bool) -> None:
    names = Names()
    for some_names in asked:
        indexes = tuple(map(names.index, some_names)) if one_by_one else names.indexes_of(some_names)
        assert [names.listed[index] for index in indexes] == some_names
    assert names.listed == [*dict.fromkeys(name for some_names in asked for name in some_names)]
    assert names.indexes == {name: index for index, name in enumerate(names.listed)}


def test_a_copy_goes_on_by_itself() -> None:
    names = Names()
    names.restore(["a", "b"])
    copied = deepcopy(names)
    assert copied.indexes_of(["c", "a"]) == (2, 0)
    assert (copied.listed, names.listed) == (["a", "b", "c"], ["a", "b"])


def test_a_name_is_not_restored_twice() -> None:
    names = Names()
    names.restore(["a"])
    with pytest.raises(ValueError, match="twice"):
        names.restore(["b", "a"])
