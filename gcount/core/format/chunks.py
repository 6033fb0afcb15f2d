"""Cuts deltas of any size into chunks of a bounded size, and puts them together again.

A message or a frame of the log is bounded; a delta is not. A *piece* of a delta must never be joined by itself. It
carries the versions of the whole delta, and if cells ran ahead of the digest or behind it, a later incarnation would
vanish under a maximum. So a receiver buffers the pieces and joins all of them in one step when it has the last one.

(A delta could be cut along versions instead. But a cell that changed again since comes only with a later piece, while
an earlier piece claims the version at which it first changed. If the sender died in between, no other node would ever
offer that cell.)
"""

from collections.abc import Iterable, Iterator

from gcount.core.state.counters import Delta

_DELTA_OVERHEAD = 64  # bytes, at most: array header, incarnation, two versions, map header
_CELL_OVERHEAD = 12  # bytes, at most: string header and a 64-bit value


def pack(deltas: Iterable[Delta], size: int, most: int) -> Iterator[list[Delta]]:
    """Cut deltas into chunks of at most about `size` encoded bytes each.

    Args:
        deltas: whole deltas, or pieces of them; they are only taken when the chunk before is full.
        size: of a chunk, in bytes. Only a chunk of a single cell may be larger.
        most: deltas in a chunk. Pieces that had to be searched for may be small, or empty.

    Returns:
        At least one chunk, which is empty when there are no deltas.
    """
    chunk: list[Delta] = []
    free = size  # bytes that are left in the chunk
    for delta in deltas:
        piece: dict[str, int] = {}
        if chunk and (free < _DELTA_OVERHEAD or len(chunk) >= most):
            yield chunk
            chunk, free = [], size
        free -= _DELTA_OVERHEAD
        for name, n in delta.cells.items():
            cost = len(name.encode()) + _CELL_OVERHEAD
            if cost > free and (piece or chunk):  # a cell that fits into no chunk gets one of its own
                if piece:
                    chunk.append(_part(delta, piece))
                yield chunk
                chunk, piece, free = [], {}, size - _DELTA_OVERHEAD
            piece[name] = n
            free -= cost
        chunk.append(_part(delta, piece))
    yield chunk


def _part(delta: Delta, cells: dict[str, int]) -> Delta:
    return Delta(delta.incarnation, delta.after, delta.upto, cells)


class Assembly:
    """Puts deltas together from chunks that come in the order in which they were cut.

    Args:
        transfer: the id of the transfer, with which another link can continue it; 0 when none can.

    Attributes:
        cells: how many cells are buffered; the caller limits them.
        chunks: how many chunks are buffered.
    """

    def __init__(self, transfer: int = 0) -> None:
        self.transfer = transfer
        self._whole: list[Delta] = []
        self.cells = 0
        self.chunks = 0

    def __len__(self) -> int:
        return len(self._whole)

    def __iter__(self) -> Iterator[Delta]:
        return iter(self._whole)

    def add(self, chunk: Iterable[Delta]) -> None:
        """Buffer one chunk. Its deltas are copied, so that the caller's stay as they are."""
        self.chunks += 1
        for piece in chunk:
            self.cells += len(piece.cells)
            last = self._whole[-1] if self._whole else None
            same = last and (last.incarnation, last.after, last.upto) == (piece.incarnation, piece.after, piece.upto)
            if last and same:
                last.cells.update(piece.cells)
            else:
                self._whole.append(_part(piece, dict(piece.cells)))

    def take(self) -> list[Delta]:
        """The whole deltas, after the last chunk. The assembly is empty afterwards."""
        whole, self._whole, self.cells, self.chunks = self._whole, [], 0, 0
        return whole
