"""What clients of every protocol may say: names, amounts, timeouts, read strictly. A refusal says what is allowed.

How a protocol writes them (percent-encoding, query parameters, words of a command) is that protocol's own affair.
"""

import math
import re
from typing import Final

from gcount.core.limits import MAX_CELL, MAX_NAME_BYTES, valid_name
from gcount.errors import BadAmount, BadName, BadParameter

MAX_READ_TIMEOUT: Final = 60.0  # seconds

_AMOUNT = re.compile(rb"[ \t\r\n\v\f]*([0-9]+)[ \t\r\n\v\f]*\Z")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?\Z")
_MAX_DIGITS = len(str(MAX_CELL))


def parse_name(raw: bytes) -> str:
    """A counter's name.

    Args:
        raw: its UTF-8, without any encoding of a protocol.

    Raises:
        BadName: it is not a name.
    """
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        name = ""
    if not valid_name(name):
        allowed = f"1 to {MAX_NAME_BYTES} bytes of UTF-8 and no control characters"
        raise BadName(f"the counter's name is not allowed: {allowed}")
    return name


def parse_amount(text: bytes, called: str) -> int:
    """An amount: ASCII digits, white space around them allowed.

    Args:
        text: as the client wrote it.
        called: what the client knows it as, for the refusal.

    Raises:
        BadAmount: it is something else, or above 2^64-1.
    """
    match = _AMOUNT.match(text)
    if match is None:
        raise BadAmount(f"{called} must be a non-negative integer in ASCII digits, 0 to 2^64-1, and nothing else")
    digits = match[1].lstrip(b"0") or b"0"  # int() is asked only for what has a bounded length
    if len(digits) > _MAX_DIGITS or (amount := int(digits)) > MAX_CELL:
        raise BadAmount("the amount is above 2^64-1")
    return amount


def parse_timeout(text: str) -> float:
    """The timeout of a consistent read, in seconds.

    Raises:
        BadParameter: it is not a decimal number above 0, and 60 at most.
    """
    seconds = float(text) if _SECONDS.match(text) else math.nan
    if not 0 < seconds <= MAX_READ_TIMEOUT:
        raise BadParameter(f"timeout must be a number of seconds above 0, {MAX_READ_TIMEOUT:g} at most")
    return seconds
