"""The log's bytes: the headers of its files, and batches inside frames.

    segment = header | frame | frame | ...
    header  = magic 8 | format u16 | zero u16 | crc u32 | node 16 | incarnation 16 | sequence u64 | first batch u64
    payload = MessagePack of [batch, part, parts, deltas, identity, membership]          (of a frame, see framing.py)

A batch is what one write and one sync made durable. A big one takes several frames, its parts; it counts only when all
of them are there, in order.
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from zlib import crc32

import msgspec

from gcount.core.format.chunks import Assembly, pack
from gcount.core.format.frames import MARK, frame, read_frame
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership

MAGIC = b"gcount\r\n"
CHECKPOINT_MAGIC = b"gc-chk\r\n"
FORMAT = 1
_HEADER = struct.Struct("<8sHHI16s16sQQ")
HEADER_BYTES = _HEADER.size


class Header(msgspec.Struct, frozen=True):
    """The head of a segment, or of a checkpoint.

    Args:
        node: who wrote it.
        incarnation: under which life the file was begun.
        sequence: the segment's number, from 1; a checkpoint's is that of the first segment that it does not cover.
        first_batch: the number of the first batch in that segment.
    """

    node: bytes
    incarnation: bytes
    sequence: int
    first_batch: int

    def encode(self, magic: bytes = MAGIC) -> bytes:
        """The header's bytes; the magic ones say what kind of file it is."""
        rest = (self.node, self.incarnation, self.sequence, self.first_batch)
        crc = crc32(_HEADER.pack(magic, FORMAT, 0, 0, *rest))
        return _HEADER.pack(magic, FORMAT, 0, crc, *rest)


class _Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a frame holds of a batch: `part` of `parts`, counted from 1; identity and membership are in the last."""

    number: int
    part: int
    parts: int
    deltas: list[Delta]
    identity: Identity | None
    membership: Membership | None


class Damage(msgspec.Struct, frozen=True):
    """Where reading a segment stopped before its end, and why.

    Args:
        offset: of the first byte that is not part of a whole batch.
        reason: in words.
        torn: whether an interrupted write explains it: nothing that was written later follows.
    """

    offset: int
    reason: str
    torn: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Part)


def encode_batch(batch: Batch, options: Options = DEFAULTS) -> bytes:
    """All frames of a batch of any size, to be written at once."""
    parcels = list(pack(batch.deltas, options.frame_bytes, options.chunk_deltas))
    out = bytearray()
    parts = len(parcels)
    assert parts == 1 or _cells(chain(*parcels)) == _cells(batch.deltas), "a batch is cut without a loss"
    for part, parcel in enumerate(parcels, start=1):
        extra = (batch.identity, batch.membership) if part == parts else (None, None)
        out += frame(_encoder.encode(_Part(batch.number, part, parts, parcel, *extra)))
    return bytes(out)


def _cells(deltas: Iterable[Delta]) -> int:
    return sum(len(delta.cells) for delta in deltas)


def decode_header(data: bytes, magic: bytes = MAGIC) -> Header:
    """The header at the start of a segment, or of another kind of file.

    Raises:
        ValueError: it is not one, or its bytes changed since it was written.
    """
    kind = "checkpoint" if magic == CHECKPOINT_MAGIC else "segment"
    if len(data) < HEADER_BYTES:
        raise ValueError(f"the {kind}'s header is cut off after {len(data)} bytes")
    found, version, zero, crc, *rest = _HEADER.unpack_from(data)
    if found != magic:
        raise ValueError(f"this is not a {kind} of a gcount log")
    if version != FORMAT:
        raise ValueError(f"the {kind} has format {version}, this gcount reads format {FORMAT}")
    if zero != 0 or crc != crc32(_HEADER.pack(magic, FORMAT, 0, 0, *rest)):
        raise ValueError(f"the {kind}'s header does not match its checksum")
    return Header(*rest)


def is_newer_format(data: bytes) -> bool:
    """Whether a file has another format for sure, and not just a header that has rotted."""
    if len(data) < HEADER_BYTES:
        return False
    magic, version, zero, crc, *rest = _HEADER.unpack_from(data)
    return version != FORMAT and bool(crc == crc32(_HEADER.pack(magic, version, zero, 0, *rest)))


class Scan:
    """Reads the whole batches of a segment's bytes and says where and why it stopped.

    Args:
        data: the whole segment, header included.
        first_batch: the number that the first batch must have.

    Iterating yields batches; afterwards `end` is the offset after the last whole one, `next_batch` the number that
    would follow, and `damage` is None or says what is wrong there.
    """

    def __init__(self, data: bytes, first_batch: int) -> None:
        self._data = data
        self.next_batch = first_batch
        self.end = HEADER_BYTES
        self.damage: Damage | None = None

    def __iter__(self) -> Iterator[Batch]:
        data, size, offset = self._data, len(self._data), HEADER_BYTES
        assembly, due = Assembly(), 1
        while offset < size:
            try:
                payload, offset = read_frame(data, offset)
                part = _decode_payload(payload)
                if part.number != self.next_batch or part.part != due:
                    raise ValueError(self._misplaced(part, due))
            except ValueError as error:
                self.damage = self._damage(str(error))
                return
            deltas = part.deltas
            if part.parts != 1:
                assembly.add(deltas)
                if part.part != part.parts:
                    due += 1
                    continue
                deltas, due = assembly.take(), 1
            self.end = offset
            self.next_batch += 1
            yield Batch(part.number, deltas, part.identity, part.membership)
        if self.end < offset:
            self.damage = self._damage("the batch has no last frame")

    def _misplaced(self, part: _Part, due: int) -> str:
        if part.number != self.next_batch:
            return f"batch {part.number} stands where batch {self.next_batch} should"
        return f"part {part.part} of batch {part.number} stands where part {due} should"

    def _damage(self, reason: str) -> Damage:
        """A write that was interrupted can only have torn the newest batch: anything of a later one proves rot."""
        offset = self._data.find(MARK, self.end)
        while offset >= 0:
            try:
                payload, _ = read_frame(self._data, offset)
                later = _decode_payload(payload).number > self.next_batch
            except ValueError:
                later = False
            if later:
                return Damage(self.end, f"{reason}, and whole records follow at offset {offset}", torn=False)
            offset = self._data.find(MARK, offset + 1)
        return Damage(self.end, reason, torn=True)


def find_batches(data: bytes) -> Iterator[Batch]:
    """All whole batches in any bytes, in their order, whatever stands before, between and behind them.

    For damaged segments only: nothing but its own checksum speaks for what is found.
    """
    assembly, due = Assembly(), (0, 0)
    offset = data.find(MARK)
    while offset >= 0:
        try:
            payload, end = read_frame(data, offset)
            part = _decode_payload(payload)
        except ValueError:
            offset = data.find(MARK, offset + 1)
            continue
        offset = data.find(MARK, end)
        if part.part != 1 and (part.number, part.part) != due:
            due = (0, 0)
            continue
        if part.part == 1:
            assembly = Assembly()
        assembly.add(part.deltas)
        due = (part.number, part.part + 1)
        if part.part == part.parts:
            yield Batch(part.number, assembly.take(), part.identity, part.membership)
            due = (0, 0)


def _decode_payload(payload: bytes) -> _Part:
    part = _decoder.decode(payload)  # msgspec's errors are ValueErrors
    identity = part.identity
    if identity and not identity.valid():
        raise ValueError("a record holds an identity of a wrong length")
    return part
