"""The part of a socket that the clients of the tests and of bench/ need."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol


class Socket(Protocol):
    """A socket of trio, or something that behaves like it."""

    def send(self, data: bytes, /) -> Awaitable[int]:
        """Send some of the bytes; returns how many."""

    def recv(self, most: int, /) -> Awaitable[bytes]:
        """Receive some bytes; none at the end."""
