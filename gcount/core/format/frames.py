"""The frames of logs and checkpoints, which make a record of any bytes and let a reader find it again.

    frame = mark 4 | length u32 | crc u32 | payload            (crc over length and payload; all little endian)

The mark begins with two bytes that never occur in UTF-8 text, so that a name can't look like a frame.
"""

import struct
from zlib import crc32

from gcount.core.limits import MAX_FRAME_BYTES

MARK = b"\xff\xfegc"
_FRAME = struct.Struct("<4sII")
_LENGTH = struct.Struct("<I")
FRAME_HEAD_BYTES = _FRAME.size


def frame(payload: bytes) -> bytes:
    """The frame of a payload.

    Raises:
        ValueError: the payload is longer than `MAX_FRAME_BYTES`, so that no start would read it.
    """
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a record of {len(payload)} bytes")
    length = _LENGTH.pack(len(payload))
    return MARK + length + _LENGTH.pack(crc32(payload, crc32(length))) + payload


def read_frame(data: bytes, offset: int) -> tuple[bytes, int]:
    """The payload of the frame that begins at an offset, and the offset after the frame.

    Raises:
        ValueError: no whole frame begins there, or its bytes do not match its checksum.
    """
    start = offset + FRAME_HEAD_BYTES
    if start > len(data):
        raise ValueError("a record's head is cut off")
    mark, length, crc = _FRAME.unpack_from(data, offset)
    if mark != MARK:
        raise ValueError("no record begins here")
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a record claims {length} bytes; at most {MAX_FRAME_BYTES} are allowed")
    end = start + length
    payload = data[start:end]
    if len(payload) < length:
        raise ValueError("a record is cut off")
    if crc != crc32(payload, crc32(data[offset + 4 : offset + 8])):
        raise ValueError("a record does not match its checksum")
    return payload, end
