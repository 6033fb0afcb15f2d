"""The parts of a websocket client that a misbehaving peer needs: the upgrade, and frames of any bytes."""

from __future__ import annotations

import os
import struct

import trio

from tests.harness.client import Address

TEXT, BINARY, CLOSE, PING = 0x1, 0x2, 0x8, 0x9


def upgrade(path: str, host: str) -> bytes:
    """A correct upgrade request."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, claim: int | None = None) -> bytes:
    """One frame; `claim` lies about its length."""
    length = len(payload) if claim is None else claim
    head = bytes([(0x80 if final else 0) | opcode])
    mask_bit = 0x80 if masked else 0
    if length < 126:
        head += bytes([mask_bit | length])
    elif length < 1 << 16:
        head += bytes([mask_bit | 126]) + struct.pack(">H", length)
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", length)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    repeated = mask * (len(payload) // 4 + 1)
    number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[: len(payload)], "big")
    return head + mask + number.to_bytes(len(payload), "big")


async def open_link(address: Address, path: str = "/link") -> trio.SocketStream:
    """A connection upgraded to a websocket."""
    stream = await address.connect()
    try:
        await stream.send_all(upgrade(path, address.host))
        head = b""
        while b"\r\n\r\n" not in head:
            data = await stream.receive_some(4096)
            assert data, f"closed during the upgrade after {head!r}"
            head += data
        assert head.startswith(b"HTTP/1.1 101"), head
    except BaseException:
        stream.socket.close()
        raise
    return stream


async def read_to_end(stream: trio.SocketStream, within: float) -> bytes | None:
    """All input until the other side closes; None if it does not close in time."""
    received = b""
    try:
        with trio.fail_after(within):
            while data := await stream.receive_some(65536):
                received = (received + data)[-65536:]
    except trio.TooSlowError:
        return None
    except trio.BrokenResourceError:
        pass
    return received
