"""What clients write, read strictly: names, amounts, timeouts. Every refusal says what is allowed."""

import math
import re
from urllib.parse import unquote_to_bytes

from gcount.core.limits import MAX_CELL, MAX_NAME_BYTES, valid_name
from gcount.errors import BadRequest

MAX_READ_TIMEOUT = 60.0  # seconds

_AMOUNT = re.compile(rb"[ \t\r\n\v\f]*([0-9]+)[ \t\r\n\v\f]*\Z")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?\Z")
_MAX_DIGITS = len(str(MAX_CELL))


def parse_name(quoted: str) -> str:
    """The counter's name in a path segment.

    Args:
        quoted: the segment as it was sent, percent-encoded.

    Raises:
        BadRequest: it is not a name.
    """
    try:
        name = unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        raise BadRequest("the counter's name is not UTF-8 after percent-decoding") from None
    if not valid_name(name):
        allowed = f"1 to {MAX_NAME_BYTES} bytes of UTF-8, no control characters and no '/'"
        raise BadRequest(f"the counter's name is not allowed: {allowed}")
    return name


def parse_amount(body: bytes) -> int:
    """The amount in a request's body: ASCII digits, white space around them allowed.

    Raises:
        BadRequest: it is something else, or above 2^64-1.
    """
    match = _AMOUNT.match(body)
    if match is None:
        raise BadRequest("the body must be a non-negative integer in ASCII digits, 0 to 2^64-1, and nothing else")
    digits = match[1].lstrip(b"0") or b"0"  # int() is asked only for what has a bounded length
    if len(digits) > _MAX_DIGITS or (amount := int(digits)) > MAX_CELL:
        raise BadRequest("the amount is above 2^64-1")
    return amount


def parse_timeout(text: str | None) -> float | None:
    """The timeout of a consistent read, in seconds; None when it was not given.

    Raises:
        BadRequest: it is not a decimal number above 0, and 60 at most.
    """
    if text is None:
        return None
    seconds = float(text) if _SECONDS.match(text) else math.nan
    if not 0 < seconds <= MAX_READ_TIMEOUT:
        raise BadRequest(f"timeout must be a number of seconds above 0, {MAX_READ_TIMEOUT:g} at most")
    return seconds
