"""What today's code writes, as a version that knew no ids wrote it: format 1, without the fields that were added.

Nothing here imports gcount: the positions of the fields are part of what the recordings hold fast.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any
from zlib import crc32

import msgspec

CHECKPOINT_MAGIC = b"gc-chk\r\n"
HEADER_BYTES = 64
GROWN = ("Hello", "Push", "Beaten", "Collect", "Collected")  # the messages that have more fields now
MESSAGES = {1: 15, 3: 6, 6: 4, 7: 4, 8: 4}  # how many elements they had, with the tag
PUSH = 3
DELTA = 4
PART = 6
RECORDS = {1: 6, 4: 3, 5: 4}  # of a checkpoint: the head, what is detached, the end
DETACHED = 4


def message(data: bytes) -> bytes:
    """A message in its former form."""
    fields = msgspec.msgpack.decode(data)
    if fields[0] == PUSH:
        fields[3] = [_without(delta, DELTA) for delta in fields[3]]
    return msgspec.msgpack.encode(_without(fields, MESSAGES.get(fields[0], len(fields))))


def header(data: bytes) -> bytes:
    """A header in its former form."""
    bare = data[:8] + struct.pack("<HHI", 1, 0, 0) + data[16:HEADER_BYTES]
    return bare[:12] + struct.pack("<I", crc32(bare)) + bare[16:]


def batches(data: bytes) -> bytes:
    """Frames of a log in their former form."""
    return _reframed(data, _part)


def file(data: bytes) -> bytes:
    """A segment or a checkpoint in its former form."""
    record = _record if data.startswith(CHECKPOINT_MAGIC) else _part
    return header(data) + _reframed(data[HEADER_BYTES:], record)


def _part(fields: list[Any]) -> list[Any]:
    fields[3] = [_without(delta, DELTA) for delta in fields[3]]
    return _without(fields, PART)


def _record(fields: list[Any]) -> list[Any]:
    if fields[0] == DETACHED:
        fields[1] = [_without(delta, DELTA) for delta in fields[1]]
    return _without(fields, RECORDS.get(fields[0], len(fields)))


def _without(fields: list[Any], length: int) -> list[Any]:
    """The fields without those that were added, of which none says anything."""
    assert not any(fields[length:]), fields
    return fields[:length]


def _reframed(data: bytes, change: Callable[[list[Any]], list[Any]]) -> bytes:
    out, at = b"", 0
    while at < len(data):
        mark, length, _ = struct.unpack_from("<4sII", data, at)
        payload = msgspec.msgpack.encode(change(msgspec.msgpack.decode(data[at + 12 : at + 12 + length])))
        size = struct.pack("<I", len(payload))
        out += mark + size + struct.pack("<I", crc32(payload, crc32(size))) + payload
        at += 12 + length
    return out
