"""Deltas of any size in pieces of a bounded size, and back.

A message or a log frame is bounded, a delta is not. A piece of a delta must never be joined by itself: it carries its
whole delta's versions, and cells that run ahead of or behind the digest make a later life vanish under a maximum. So
the pieces of a parcel are buffered and joined in one step with the last one. (Cutting along versions instead would
let a piece claim a version whose cells, changed again since, come only with a later piece: if the sender died in
between, another node that holds them would never offer them.)
"""

from collections.abc import Iterable, Iterator

from gcount.core.state.counters import Delta

_DELTA_OVERHEAD = 64  # bytes, at most: array header, incarnation, two versions, map header
_CELL_OVERHEAD = 12  # bytes, at most: string header and a 64-bit value


def pack(deltas: Iterable[Delta], size: int, most: int) -> Iterator[list[Delta]]:
    """Cut deltas into parcels of at most about `size` encoded bytes each; at least one parcel, maybe empty.

    Args:
        deltas: the whole ones, made when they are asked for.
        size: of a parcel, in bytes.
        most: deltas in a parcel: pieces that had to be searched for may be small, or empty.
    """
    parcel: list[Delta] = []
    room = size
    for delta in deltas:
        piece: dict[str, int] = {}
        if parcel and (room < _DELTA_OVERHEAD or len(parcel) >= most):
            yield parcel
            parcel, room = [], size
        room -= _DELTA_OVERHEAD
        for name, n in delta.cells.items():
            cost = len(name.encode()) + _CELL_OVERHEAD
            if cost > room and (piece or parcel):
                if piece:
                    parcel.append(_part(delta, piece))
                yield parcel
                parcel, piece, room = [], {}, size - _DELTA_OVERHEAD
            piece[name] = n
            room -= cost
        parcel.append(_part(delta, piece))
    yield parcel


def _part(delta: Delta, cells: dict[str, int]) -> Delta:
    return Delta(delta.incarnation, delta.after, delta.upto, cells)


class Assembly:
    """Puts the pieces of parcels together again, in the order in which they were cut.

    Args:
        transfer: names the parcels, so that another link can go on with them; 0: none can.

    Attributes:
        cells: how many are buffered, for the caller's limit.
        parcels: how many are buffered.
    """

    def __init__(self, transfer: int = 0) -> None:
        self.transfer = transfer
        self._whole: list[Delta] = []
        self.cells = 0
        self.parcels = 0

    def __len__(self) -> int:
        return len(self._whole)

    def __iter__(self) -> Iterator[Delta]:
        return iter(self._whole)

    def add(self, parcel: Iterable[Delta]) -> None:
        """Buffer one parcel."""
        self.parcels += 1
        for piece in parcel:
            self.cells += len(piece.cells)
            last = self._whole[-1] if self._whole else None
            same = last and (last.incarnation, last.after, last.upto) == (piece.incarnation, piece.after, piece.upto)
            if last and same:
                last.cells.update(piece.cells)
            else:
                self._whole.append(_part(piece, dict(piece.cells)))

    def take(self) -> list[Delta]:
        """The whole deltas; the assembly is empty afterwards."""
        whole, self._whole, self.cells, self.parcels = self._whole, [], 0, 0
        return whole
