"""The words of columns as bytes: 64 bits each, little endian. See columns.py."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from gcount.core.state.columns import Frozen

_SWAPPED = sys.byteorder == "big"


class Words(NamedTuple):
    """Some cells of a column, or parts, with what belongs to them."""

    indexes: array[int]
    cells: array[int]
    stamps: array[int]


class Piece(NamedTuple):
    """The same as bytes. The indexes are empty for a dense column; cells and stamps also when all of them are 0."""

    first: int
    size: int
    indexes: bytes
    cells: bytes
    stamps: bytes


def pieces(column: Frozen, size: int) -> Iterator[Piece]:
    """A column in pieces of at most `size` cells. An empty column is one piece, too."""
    first = 0
    while first < column.length or first == 0:
        indexes, cells, stamps = column.read(size)
        yield Piece(first, len(cells), _bytes(indexes), _bytes_unless_blank(cells), _bytes_unless_blank(stamps))
        first += max(1, len(cells))


def unpack(count: int, indexes: bytes, cells: bytes, stamps: bytes) -> Words:
    """The words of a piece.

    Raises:
        ValueError: their number is not `count`.
    """
    blank = bytes(8 * count)
    found = Words(_words(indexes), _words(cells or blank), _words(stamps or blank))
    if not len(found.cells) == len(found.stamps) == count or len(found.indexes) not in (0, count):
        raise ValueError(
            f"{len(found.cells)} cells and {len(found.stamps)} stamps were found where {count} were expected"
        )
    return found


def _words(data: bytes) -> array[int]:
    """Words of this machine's byte order."""
    words = array("Q", data)
    if _SWAPPED:
        words.byteswap()
    return words


def _bytes_unless_blank(words: array[int]) -> bytes:
    return _bytes(words) if any(words) else b""


def _bytes(words: array[int]) -> bytes:
    if _SWAPPED:
        words = words[:]
        words.byteswap()
    return words.tobytes()
