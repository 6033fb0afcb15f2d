"""The words of columns as bytes: what was cut into pieces of any size is read as it was, on every machine."""

from array import array
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcount.core.format import words as room
from gcount.core.format.words import pieces, unpack
from gcount.core.options import Options
from gcount.core.state.columns import Column
from tests.core.histories import forms_of_columns

numbers = st.dictionaries(st.integers(0, 20), st.integers(1, 2**64 - 1), max_size=12)


def column_of(cells: dict[int, int], form: Options) -> Column:
    column = Column(form)
    for version, (index, n) in enumerate(cells.items(), start=1):
        column.join([index], [n], version, None)
    return column


@given(numbers, forms_of_columns, st.integers(1, 9), st.booleans())
def test_a_column_in_pieces_is_read_as_it_was(
    cells: dict[int, int], form: Options, size: int, big_endian: bool
) -> None:
    column = column_of(cells, form)
    again = Column(form)
    with patch.object(room, "_SWAPPED", big_endian):
        for piece in pieces(column.freeze(), size):
            assert (piece.first, piece.size <= size) == (len(again.cells), True)
            again.restore(column.version, *unpack(piece.size, piece.indexes, piece.cells, piece.stamps))
    assert (again.indexes, again.cells, again.stamps) == (column.indexes, column.cells, column.stamps)
    assert again.version == column.version


def test_an_empty_column_is_one_piece(forms: Options) -> None:
    assert [*pieces(Column(forms).freeze(), 8)] == [(0, 0, b"", b"", b"")]


def test_words_are_little_endian_and_take_no_bytes_where_all_are_zero() -> None:
    assert unpack(2, b"", b"\x01" + bytes(14) + b"\x01", b"") == (
        array("Q"),
        array("Q", [1, 1 << 56]),
        array("Q", [0, 0]),
    )


@pytest.mark.parametrize("changed", ["indexes", "cells", "stamps"])
def test_another_number_of_words_than_was_announced_is_refused(changed: str) -> None:
    sound = {"indexes": bytes(16), "cells": bytes(16), "stamps": bytes(16)}
    unpack(2, **sound)
    with pytest.raises(ValueError, match=r"expected|length"):
        unpack(2, **{**sound, changed: bytes(24)})
    with pytest.raises(ValueError, match=r"expected|length|size"):
        unpack(2, **{**sound, changed: bytes(7)})
