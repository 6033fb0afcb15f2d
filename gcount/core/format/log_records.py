"""The bytes of the log: the headers of its files, and batches in frames.

    segment = header | frame | frame | ...
    header  = magic 8 | format u16 | zero u16 | crc u32 | node 16 | incarnation 16 | sequence u64 | first batch u64
    payload = MessagePack of [batch, part, parts, deltas, identity, membership, floor, needs]    (see frames.py)

Needs are left out if there are none. Versions before needs never wrote them, and pass over them when they read.

Format 1, which former versions wrote, has neither floor nor needs, and no entries and settlements in its deltas. It is
read, but never continued: a former version would not see these. So a directory that may hold them always has a file of
format 2, which a former version refuses.

A batch is what one write and one sync made durable. A big batch takes several frames, its parts. It counts only when
all its parts are there, in order.
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from zlib import crc32

import msgspec

from gcount.core.format.chunks import Assembly, pack
from gcount.core.format.frames import MARK, frame, read_frame
from gcount.core.options import DEFAULTS, Options
from gcount.core.state.batch import Batch, Needs
from gcount.core.state.counters import Delta
from gcount.core.state.identity import Identity
from gcount.core.state.membership import Membership

MAGIC = b"gcount\r\n"
CHECKPOINT_MAGIC = b"gc-chk\r\n"
FORMAT = 2
FORMER = 1  # is read, too
_HEADER = struct.Struct("<8sHHI16s16sQQ")
HEADER_BYTES = _HEADER.size


class Header(msgspec.Struct, frozen=True):
    """The head of a segment, or of a checkpoint.

    Args:
        node: the id of the node that wrote it.
        incarnation: the node's incarnation when the file was begun.
        sequence: the segment's number, from 1. For a checkpoint, the number of the first segment that it does not
            cover.
        first_batch: the number of the first batch in that segment.
    """

    node: bytes
    incarnation: bytes
    sequence: int
    first_batch: int

    def encode(self, magic: bytes = MAGIC) -> bytes:
        """The header's bytes. The magic bytes say which kind of file it is."""
        rest = (self.node, self.incarnation, self.sequence, self.first_batch)
        crc = crc32(_HEADER.pack(magic, FORMAT, 0, 0, *rest))
        return _HEADER.pack(magic, FORMAT, 0, crc, *rest)


class _Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One frame of a batch: number `part` of `parts`, from 1. The last part holds all that is not in the deltas."""

    number: int
    part: int
    parts: int
    deltas: list[Delta]
    identity: Identity | None
    membership: Membership | None
    floor: int | None = None


class _PartThatNeeds(_Part, frozen=True, array_like=True, gc=False):
    """The same with what the batch needs. This is left out of all other frames, so that they cost nothing more."""

    needs: Needs | None = None


class Damage(msgspec.Struct, frozen=True):
    """Where reading a segment stopped before its end, and why.

    Args:
        offset: of the first byte that is not part of a whole batch.
        reason: what is wrong there, in words.
        torn: whether an interrupted write explains it: no record of a later batch follows.
    """

    offset: int
    reason: str
    torn: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_PartThatNeeds)


def encode_batch(batch: Batch, options: Options = DEFAULTS) -> bytes:
    """The bytes of all frames of a batch of any size, to be written at once."""
    chunks = list(pack(batch.deltas, options.frame_bytes, options.chunk_deltas))
    out = bytearray()
    parts = len(chunks)
    assert parts == 1 or _numbers(chain(*chunks)) == _numbers(batch.deltas), "a batch is cut without loss"
    for part, chunk in enumerate(chunks, start=1):
        out += frame(_encoder.encode(_part(batch, part, parts, chunk)))
    return bytes(out)


def _part(batch: Batch, part: int, parts: int, chunk: list[Delta]) -> _Part:
    if part < parts:
        return _Part(batch.number, part, parts, chunk, None, None)
    rest = batch.identity, batch.membership, batch.floor
    if batch.needs is None:
        return _Part(batch.number, part, parts, chunk, *rest)
    return _PartThatNeeds(batch.number, part, parts, chunk, *rest, batch.needs)


def _numbers(deltas: Iterable[Delta]) -> int:
    """How many cells, entries and parts there are."""
    count = 0
    for delta in deltas:
        count += len(delta.cells)
        if delta.keyed is not None:
            count += len(delta.keyed.entries) + sum(len(one.parts) for one in delta.keyed.settled.values())
    return count


def decode_header(data: bytes, magic: bytes = MAGIC) -> Header:
    """The header at the start of a segment, or of another kind of file.

    Raises:
        ValueError: the bytes are no such header, or changed since they were written.
    """
    kind = "checkpoint" if magic == CHECKPOINT_MAGIC else "segment"
    if len(data) < HEADER_BYTES:
        raise ValueError(f"the {kind}'s header is cut off after {len(data)} bytes")
    found, version, zero, crc, *rest = _HEADER.unpack_from(data)
    if found != magic:
        raise ValueError(f"this is not a {kind} of a gcount log")
    if version not in (FORMAT, FORMER):
        reads = f"this gcount reads formats {FORMER} and {FORMAT}"
        raise ValueError(f"the {kind} has format {version}, {reads}. Use the version that wrote it")
    if zero != 0 or crc != crc32(_HEADER.pack(magic, version, 0, 0, *rest)):
        raise ValueError(f"the {kind}'s header does not match its checksum")
    return Header(*rest)


def is_newer_format(data: bytes) -> bool:
    """Whether a file surely has another format: the checksum of its header is right, so that it has not rotted."""
    if len(data) < HEADER_BYTES:
        return False
    magic, version, zero, crc, *rest = _HEADER.unpack_from(data)
    other = version not in (FORMAT, FORMER)
    return other and bool(crc == crc32(_HEADER.pack(magic, version, zero, 0, *rest)))


def is_former_format(data: bytes) -> bool:
    """Whether a file whose header can be read has the former format, so that nothing may be appended to it."""
    return bool(_HEADER.unpack_from(data)[1] == FORMER)


class Scan:
    """Reads the whole batches in a segment's bytes, and reports where and why it stopped.

    Iterating yields the batches.

    Args:
        data: the whole segment, header included.
        first_batch: the number that the first batch must have.

    Attributes:
        end: afterwards, the offset after the last whole batch.
        next_batch: afterwards, the number of the batch that would follow.
        damage: afterwards, what is wrong at `end`; None when the segment ends there.
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
            yield Batch(part.number, deltas, part.identity, part.membership, part.floor, part.needs)
        if self.end < offset:
            self.damage = self._damage("the batch has no last frame")

    def _misplaced(self, part: _Part, due: int) -> str:
        if part.number != self.next_batch:
            return f"batch {part.number} stands where batch {self.next_batch} should"
        return f"part {part.part} of batch {part.number} stands where part {due} should"

    def _damage(self, reason: str) -> Damage:
        """The damage at `end`, and whether it is a torn tail.

        An interrupted write can only have torn the newest batch. So a record of any later batch proves rot: what is
        damaged before it had been synced.
        """
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
    """All whole batches in any bytes, in their order, whatever is before, between and after them.

    This is for damaged segments only: a record that is found so is vouched for by nothing but its own checksum.
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
        # A batch must never be put together without one of its parts: a part that does not follow drops the batch.
        if part.part != 1 and (part.number, part.part) != due:
            due = (0, 0)
            continue
        if part.part == 1:
            assembly = Assembly()
        assembly.add(part.deltas)
        due = (part.number, part.part + 1)
        if part.part == part.parts:
            yield Batch(part.number, assembly.take(), part.identity, part.membership, part.floor, part.needs)
            due = (0, 0)


def _decode_payload(payload: bytes) -> _PartThatNeeds:
    part = _decoder.decode(payload)  # msgspec's errors are ValueErrors
    identity = part.identity
    if identity and not identity.valid():
        raise ValueError("a record holds an identity of a wrong length")
    return part
