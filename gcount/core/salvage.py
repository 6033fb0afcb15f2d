"""What can be kept of a log that is damaged.

Every batch that is whole is kept. Those behind the damage do not follow on what is known, so their versions can't be claimed, but
their cells are true: they are joined without raising the version, under which the peers then send all that is missing.
"""

from collections.abc import Iterator

from gcount.core.parcels import Assembly
from gcount.core.records import HEADER_BYTES, MARK, Batch, decode_payload, read_frame


def whole_batches(data: bytes) -> Iterator[Batch]:
    """All batches of a segment whose every frame is whole, whatever lies between them."""
    assembly, number = Assembly(), 0
    offset = data.find(MARK, HEADER_BYTES)
    while offset >= 0:
        try:
            payload, end = read_frame(data, offset)
            batch = decode_payload(payload)
        except ValueError:
            assembly.take()
            offset = data.find(MARK, offset + 1)
            continue
        if batch.number != number:
            assembly.take()
            number = batch.number
        assembly.add(batch.deltas)
        if batch.last:
            yield Batch(batch.number, True, assembly.take(), batch.identity, batch.membership)
        offset = data.find(MARK, end)
