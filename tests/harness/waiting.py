"""Waiting for conditions that have no event."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import trio


async def eventually(check: Callable[[], Awaitable[str | None]], within: float) -> float:
    """Call `check` until it returns None; before, it returns what is still wrong. Returns the seconds that it took."""
    began = time.monotonic()
    while (wrong := await check()) is not None:
        assert time.monotonic() - began < within, f"after {within} s: {wrong}"
        await trio.sleep(0.02)
    return time.monotonic() - began
