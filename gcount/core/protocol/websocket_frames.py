"""The frames of a websocket whose handshake is over (RFC 6455, sections 5 to 7, without extensions).

      0                1                2 to 9               4 bytes, or none
    +---+-----+------+--------+-------+-------------------+-----------------+---------------------
    |FIN| 000 |opcode| masked | size  | size in 2 bytes,  | mask            | payload, each byte
    | 1 |  3  |  4   |   1    |   7   | if the 7 bits are | (only from the  | XORed with that of
    |bit| bits| bits |  bit   | bits  | 126; 8 if 127     | end that dialled| the mask at i mod 4
    +---+-----+------+--------+-------+-------------------+-----------------+---------------------

Why gcount does not use a library for this: a general one takes longer for a frame than the node takes for the message
in it, and a consistent read waits for two messages of each member.
"""

import struct
from typing import Final

from gcount.core.limits import MAX_MESSAGE_BYTES
from gcount.errors import ProtocolError

PART: Final = 0x0  # a later fragment of a message
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
MASK_BYTES: Final = 4
NORMAL_CLOSURE: Final = struct.pack("!H", 1000)

_OPCODES: Final = frozenset({PART, BINARY, CLOSE, PING, PONG})
_FINAL: Final = 0x80
_MASKED: Final = 0x80
_SMALL: Final = 125  # bytes; the largest payload of a control frame
_XORED: Final = tuple(bytes(byte ^ key for byte in range(256)) for key in range(256))


def frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """A whole message in one frame.

    Args:
        opcode: BINARY, CLOSE, PING or PONG.
        payload: at most 125 bytes for CLOSE, PING and PONG.
        mask: 4 random bytes at the end that dialled; empty at the end that accepted.
    """
    size, masked = len(payload), _MASKED if mask else 0
    if size <= _SMALL:
        head = bytes((_FINAL | opcode, masked | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FINAL | opcode, masked | 126, size)
    else:
        head = struct.pack("!BBQ", _FINAL | opcode, masked | 127, size)
    return head + mask + _xored(payload, mask) if mask else head + payload


class Frames:
    """Cuts the bytes that the other end sends into messages.

    Args:
        masked: whether the other end dialled. Then RFC 6455 requires it to mask its frames.
    """

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._data = bytearray()
        self._start = 0  # where the bytes begin that were not returned yet
        self._opcode = PART  # of the message whose fragments are being gathered; PART when there is none
        self._message = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes that were received."""
        del self._data[: self._start]
        self._start = 0
        self._data += data

    def next(self) -> tuple[int, bytes] | None:
        """The next control frame or whole message.

        Returns:
            Opcode and payload. The opcode is BINARY for a whole message, CLOSE, PING or PONG for a control frame, or
            PART with an empty payload for a fragment that completes no message. None when more bytes are needed.

        Raises:
            ProtocolError: the other end may not send such a frame, or the message would be too long.
        """
        found = self._head()
        if found is None:
            return None
        final, opcode, start, size = found
        end = start + size
        if len(self._data) < end:
            return None
        payload = bytes(self._data[start:end])
        if self._masked:
            payload = _xored(payload, self._data[start - MASK_BYTES : start])
        self._start = end
        if final and (opcode >= CLOSE or (opcode != PART and self._opcode == PART)):
            return opcode, payload
        return self._join(final, opcode, payload)

    def _head(self) -> tuple[bool, int, int, int] | None:
        """The head of the next frame: whether it ends its message, its opcode, where its payload begins, its size."""
        data, start = self._data, self._start
        if len(data) < start + 2:
            return None
        final, opcode = data[start] >= _FINAL, data[start] & ~_FINAL
        masked, size = data[start + 1] >= _MASKED, data[start + 1] & ~_MASKED
        if opcode not in _OPCODES:
            raise ProtocolError("a frame has an opcode that no link uses, or a bit of an extension")
        if masked != self._masked:
            raise ProtocolError("a frame has to be masked if it comes from the end that dialled, and only then")
        if opcode >= CLOSE and (size > _SMALL or not final):
            raise ProtocolError(f"a control frame has more than {_SMALL} bytes, or is fragmented")
        start += 2
        if size > _SMALL:
            begin, start = start, start + (2 if size == 126 else 8)
            if len(data) < start:
                return None
            size = int.from_bytes(data[begin:start])
        if opcode < CLOSE and size + len(self._message) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"a message has more than the {MAX_MESSAGE_BYTES} bytes that are allowed")
        return final, opcode, start + (MASK_BYTES if masked else 0), size

    def _join(self, final: bool, opcode: int, payload: bytes) -> tuple[int, bytes]:
        if (opcode == PART) != (self._opcode != PART):
            raise ProtocolError("a message begins inside another one, or goes on without having begun")
        self._opcode = self._opcode or opcode
        self._message += payload
        if not final:
            return PART, b""
        whole = self._opcode, bytes(self._message)
        self._opcode, self._message = PART, bytearray()
        return whole


def _xored(payload: bytes, mask: bytes | bytearray) -> bytes:
    """The payload masked, or unmasked: eight passes in C cost less than one in Python."""
    data = bytearray(payload)
    for place in range(4):
        data[place::4] = data[place::4].translate(_XORED[mask[place]])
    return bytes(data)
