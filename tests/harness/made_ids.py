"""Ids of increments, as clients make them: in all three forms that a node takes."""

from __future__ import annotations

import random

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def made_id(rng: random.Random, now: float) -> str:
    """A new id.

    Args:
        rng: chooses the form, and makes the id differ from all others.
        now: seconds since 1970.
    """
    milliseconds, form = int(now * 1000), rng.randrange(3)
    if form == 0:
        return f"{int(now)}-{rng.getrandbits(64):016x}"
    if form == 1:
        return "".join(
            _CROCKFORD[(milliseconds << 80 | rng.getrandbits(80)) >> 5 * at & 31] for at in range(25, -1, -1)
        )
    bits = rng.getrandbits(74)
    digits = f"{milliseconds:012x}7{bits >> 62:03x}{0x8000000000000000 | bits & (1 << 62) - 1:016x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
