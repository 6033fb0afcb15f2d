r"""The patterns of KEYS and SCAN, as in Redis: `*`, `?`, `[a-z]`, `[^a]`, and a backslash before any of these."""

import re
from typing import Final

MAX_PATTERN_BYTES: Final = 255  # as long as a name can be

_STAR: Final = b"(?>.*?"


def compile_glob(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a pattern, to be matched against a whole name.

    Args:
        pattern: up to `MAX_PATTERN_BYTES` bytes; any bytes are a pattern.

    Returns:
        A regular expression. With any pattern, the time of a match grows at most with the square of a name's length.
    """
    parts: list[bytes] = []
    at, open_star = 0, False
    while at < len(pattern):
        if pattern[at : at + 1] == b"*":
            # The group is atomic. The first place at which the part up to the next star fits is as good as any other,
            # so there is no need to try others, and a pattern of many stars takes no more than quadratic time.
            parts.append(b"" if parts and parts[-1] == _STAR else (b")" if open_star else b"") + _STAR)
            open_star = True
            at += 1
            continue
        part, at = _part(pattern, at)
        parts.append(part)
    if open_star:
        last = max(n for n, part in enumerate(parts) if part.endswith(_STAR))
        parts[last] = parts[last].removesuffix(_STAR) + b".*"
    return re.compile(b"".join(parts), re.DOTALL)


def _part(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The regular expression of one element other than a star, and the position of the next element."""
    byte = pattern[at : at + 1]
    if byte == b"?":
        return b".", at + 1
    if byte == b"\\" and at + 1 < len(pattern):
        return re.escape(pattern[at + 1 : at + 2]), at + 2
    if byte != b"[":
        return re.escape(byte), at + 1
    return _choice(pattern, at + 1)


def _choice(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The regular expression of a choice in brackets, and the position of the next element.

    Args:
        pattern: the whole pattern.
        at: the position behind the opening bracket.
    """
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: list[bytes] = []
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            at += 1
        low = pattern[at : at + 1]
        at += 1
        if pattern[at : at + 1] == b"-" and at + 1 < len(pattern):
            low, high = sorted([low, pattern[at + 1 : at + 2]])
            at += 2
            members.append(b"\\x%02x-\\x%02x" % (low[0], high[0]))
        else:
            members.append(b"\\x%02x" % low[0])
    if not members:
        return (b"." if negated else b"(?!)"), at + 1
    return b"[" + b"^" * negated + b"".join(members) + b"]", at + 1
