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
from gcount.core.state.keyed import Keyed, Settlement

_DELTA_OVERHEAD = 64  # bytes, at most: array headers, incarnation, two versions, map headers
_CELL_OVERHEAD = 12  # bytes, at most: string header and a 64-bit value
_ENTRY_OVERHEAD = 24  # bytes, at most: string header, array header and two 64-bit values
_SETTLEMENT_OVERHEAD = 48  # bytes, at most: incarnation, array header, two 64-bit values, map header


def pack(deltas: Iterable[Delta], size: int, most: int) -> Iterator[list[Delta]]:
    """Cut deltas into chunks of at most about `size` encoded bytes each.

    Args:
        deltas: whole deltas, or pieces of them; they are only taken when the chunk before is full.
        size: of a chunk, in bytes. Only a chunk of a single cell, entry or part may be larger.
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
                    chunk.append(_part(delta, piece, None))
                yield chunk
                chunk, piece, free = [], {}, size - _DELTA_OVERHEAD
            piece[name] = n
            free -= cost
        if delta.keyed is None:
            chunk.append(_part(delta, piece, None))
            continue
        cut = _cut(delta.keyed, free, size - _DELTA_OVERHEAD, alone=not (piece or chunk))
        keyed, free = next(cut)
        for following, left in cut:
            if piece or keyed:
                chunk.append(_part(delta, piece, keyed))
            yield chunk
            chunk, piece, keyed, free = [], {}, following, left
        chunk.append(_part(delta, piece, keyed))
    yield chunk


def _cut(keyed: Keyed, free: int, size: int, *, alone: bool) -> Iterator[tuple[Keyed, int]]:
    """Cut entries and settlements.

    Args:
        keyed: the whole.
        free: bytes that are left in the first chunk.
        size: bytes in each further one.
        alone: whether nothing else is in the first chunk, so that it has to take something.

    Returns:
        What goes into each chunk, which is nothing if the first one is full; and the bytes that are left in it then.
    """
    entries: dict[str, tuple[int, int]] = {}
    for key, entry in keyed.entries.items():
        cost = len(key.encode()) + _ENTRY_OVERHEAD
        if cost > free and (entries or not alone):
            yield Keyed(entries), free
            entries, free, alone = {}, size, True
        entries[key] = entry
        free -= cost
    settled: dict[bytes, Settlement] = {}
    for column, whole in keyed.settled.items():
        cost = _SETTLEMENT_OVERHEAD
        for part in [{name: n} for name, n in whole.parts.items()] or [{}]:
            cost += sum(len(name.encode()) + _CELL_OVERHEAD for name in part)
            if cost > free and (entries or settled or not alone):
                yield Keyed(entries, settled), free
                cost += 0 if column not in settled else _SETTLEMENT_OVERHEAD  # a further chunk repeats the head
                entries, settled, free, alone = {}, {}, size, True
            if column not in settled:
                settled[column] = Settlement(whole.until, whole.version, {})
            settled[column].parts.update(part)
            free -= cost
            cost = 0
    yield Keyed(entries, settled), free


def _part(delta: Delta, cells: dict[str, int], keyed: Keyed | None) -> Delta:
    return Delta(delta.incarnation, delta.after, delta.upto, cells, keyed or None)


class Assembly:
    """Puts deltas together from chunks that come in the order in which they were cut.

    Args:
        transfer: the id of the transfer, with which another link can continue it; 0 when none can.

    Attributes:
        cells: how many cells, entries and parts are buffered, at least; the caller limits them.
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
            self.cells += piece.size
            last = self._whole[-1] if self._whole else None
            same = last and (last.incarnation, last.after, last.upto) == (piece.incarnation, piece.after, piece.upto)
            if last and same:
                last.cells.update(piece.cells)
                if piece.keyed is not None and last.keyed is not None:
                    last.keyed.merge(piece.keyed)
                elif piece.keyed is not None:
                    self._whole[-1] = Delta(last.incarnation, last.after, last.upto, last.cells, piece.keyed.copy())
            else:
                self._whole.append(piece.copy())

    def take(self) -> list[Delta]:
        """The whole deltas, after the last chunk. The assembly is empty afterwards."""
        whole, self._whole, self.cells, self.chunks = self._whole, [], 0, 0
        return whole
